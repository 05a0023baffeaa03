//! The command line, and how file and flags become settings.

use std::path::PathBuf;

use quantum_config::settings::{CniServerConfig, SettingsError};
use structopt::StructOpt;

/// The daemon of quantum-cni: makes and removes the network of containers.
#[derive(Debug, StructOpt)]
#[structopt(name = "quantum-cnid")]
pub(crate) struct Options {
    /// A TOML file with settings; each of them has a flag, and the flag wins
    #[structopt(long, parse(from_os_str))]
    config: Option<PathBuf>,
    /// Where the plugin finds the daemon [default: /run/quantum/cni.sock]
    #[structopt(long)]
    socket_path: Option<String>,
    /// Whose members may ask and change nothing, besides root: a group's name or number [default: nobody]
    #[structopt(long)]
    reader_group: Option<String>,
    /// Network definitions [default: /etc/quantum/cni/net.d]
    #[structopt(long)]
    config_dir: Option<String>,
    /// Documents of network policy [default: policy.d beside config_dir]
    #[structopt(long)]
    policy_dir: Option<String>,
    /// Endpoint records kept in memory [default: 1000]
    #[structopt(long)]
    cache_size: Option<String>,
    /// critical, error, warning, info or debug [default: info]
    #[structopt(long)]
    log_level: Option<String>,
    /// true or false: serve /metrics [default: true]
    #[structopt(long)]
    metrics_enabled: Option<String>,
    /// What must survive the daemon [default: /var/lib/quantum/cni]
    #[structopt(long)]
    state_dir: Option<String>,
    /// What does not outlive the host's boot [default: the folder of socket_path]
    #[structopt(long)]
    runtime_dir: Option<String>,
    /// DELs that found no daemon [default: /var/lib/quantum/cni/spool]
    #[structopt(long)]
    spool_dir: Option<String>,
    /// Where dockerd finds its network and IPAM driver [default: Docker is not served]
    #[structopt(long)]
    docker_socket: Option<String>,
    /// terminal or json [default: terminal]
    #[structopt(long)]
    log_format: Option<String>,
    /// Where /metrics, /healthz and /readyz are served [default: 127.0.0.1:9641]
    #[structopt(long)]
    http_listen: Option<String>,
    /// Kernel settings that networks may set, separated by commas, with * for any text
    #[structopt(long)]
    sysctl_allowlist: Option<String>,
    /// Destinations that see containers' own addresses, separated by commas [default: none]
    #[structopt(long)]
    non_masquerade_cidrs: Option<String>,
    /// Seconds without its interface after which an attachment is released; 0: never [default: 300]
    #[structopt(long)]
    orphan_seconds: Option<String>,
    /// true or false: nobody else changes our nftables tables while the daemon runs [default: true]
    #[structopt(long)]
    own_tables: Option<String>,
    /// Connections that an address of a container may hold; 0: a share of the table [default: 0]
    #[structopt(long)]
    container_connections: Option<String>,
    /// true or false: the host forwards between its other links, too, when we turn it on [default: false]
    #[structopt(long)]
    forward_between_links: Option<String>,
    /// true or false: a port at which a process of the host listens is not published [default: false]
    #[structopt(long)]
    refuse_ports_in_use: Option<String>,
    /// Prints who asks whom, and exits
    #[structopt(long)]
    pub(crate) graph: bool,
    /// Prints the points at which a debug build can be made to die, and exits
    #[structopt(long)]
    pub(crate) list_crash_points: bool,
}

impl Options {
    /// Defaults, then the file, then the flags.
    pub(crate) fn settings(&self) -> Result<CniServerConfig, SettingsError> {
        let mut settings = CniServerConfig::default();
        if let Some(path) = &self.config {
            let origin = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|e| SettingsError {
                origin: origin.clone(),
                key: "(file)".to_owned(),
                reason: format!("cannot be read: {e}"),
            })?;
            settings = settings.merge_toml(&origin, &text)?;
        }
        let flags = [
            ("socket_path", &self.socket_path),
            ("reader_group", &self.reader_group),
            ("config_dir", &self.config_dir),
            ("policy_dir", &self.policy_dir),
            ("cache_size", &self.cache_size),
            ("log_level", &self.log_level),
            ("metrics_enabled", &self.metrics_enabled),
            ("state_dir", &self.state_dir),
            ("runtime_dir", &self.runtime_dir),
            ("spool_dir", &self.spool_dir),
            ("docker_socket", &self.docker_socket),
            ("log_format", &self.log_format),
            ("http_listen", &self.http_listen),
            ("sysctl_allowlist", &self.sysctl_allowlist),
            ("non_masquerade_cidrs", &self.non_masquerade_cidrs),
            ("orphan_seconds", &self.orphan_seconds),
            ("own_tables", &self.own_tables),
            ("container_connections", &self.container_connections),
            ("forward_between_links", &self.forward_between_links),
            ("refuse_ports_in_use", &self.refuse_ports_in_use),
        ];
        for (key, value) in flags {
            if let Some(value) = value {
                settings = settings.merge_flag(key, value)?;
            }
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_file_is_named() {
        let options = Options::from_iter(["quantum-cnid", "--config", "/nonexistent.toml"]);
        let error = options.settings().expect_err("no such file").to_string();
        assert!(error.starts_with("/nonexistent.toml: (file): cannot be read"), "{error}");
    }

    #[test]
    fn flags_become_settings() {
        let options =
            Options::from_iter(["quantum-cnid", "--metrics-enabled", "false", "--cache-size", "3"]);
        let settings = options.settings().expect("valid");
        assert!(!settings.metrics_enabled);
        assert_eq!(settings.cache_size, 3);
    }
}
