//! The daemon's settings: the five of the module document's `CniServerConfig`, with its defaults,
//! and what running the daemon needs besides. A TOML file gives them, flags overrule the file, and
//! whatever is wrong is said with file, key and reason.

mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;
use toml::{Table, Value};

use self::value::{boolean, path, shown, string, strings};
use crate::prefixes::Prefixes;
use crate::sysctl::SysctlPatterns;

/// The longest path of our socket, in bytes: a Unix socket's can have 107 (`sun_path` less the
/// closing NUL, unix(7)), and ours has four more until it is named.
const SOCKET_PATH_MAX: usize = 103;
/// A day. Who wants more wants 0.
const ORPHAN_SECONDS_MAX: u32 = 86_400;
/// More cached endpoints than this are a typing error: a bridge holds 1023.
const CACHE_MAX: i64 = 1_000_000;

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniServerConfig {
    /// Where the plugin finds the daemon.
    pub socket_path: String,
    /// Whose members may ask how the daemon and policy are, besides root, and change nothing: a group's name or
    /// number. None: root alone.
    pub reader_group: Option<String>,
    /// Network definitions: `*.conf`, `*.conflist` and `*.json`.
    pub config_dir: String,
    /// Documents of network policy: `*.yaml`, `*.yml` and `*.json`. None: `policy.d` beside
    /// `config_dir`, see [`CniServerConfig::policy_dir`].
    pub policy_dir: Option<PathBuf>,
    /// How many endpoint records are kept in memory.
    pub cache_size: usize,
    /// The least important records that are logged.
    pub log_level: LogLevel,
    /// Serve `/metrics`.
    pub metrics_enabled: bool,
    /// What must survive the daemon.
    pub state_dir: PathBuf,
    /// What does not outlive the host's boot and must not share the fate of `state_dir`. None: the folder of
    /// `socket_path`, see [`CniServerConfig::runtime_dir`].
    pub runtime_dir: Option<PathBuf>,
    /// Where the plugin leaves the DELs that found no daemon.
    pub spool_dir: PathBuf,
    /// Where dockerd finds its network and IPAM driver; Docker is not served if none.
    pub docker_socket: Option<PathBuf>,
    /// How log records are written.
    pub log_format: LogFormat,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub http_listen: SocketAddr,
    /// The kernel's settings that networks may set in their containers.
    pub sysctl_allowlist: SysctlPatterns,
    /// Destinations that see containers' own addresses, also where these are masqueraded.
    pub non_masquerade_cidrs: Prefixes,
    /// After how many seconds without its interface an attachment is released that no DEL came for; 0:
    /// never.
    pub orphan_seconds: u32,
    /// Our nftables tables belong to the daemon while it runs, so that nobody else changes or flushes them
    /// (Linux 6.9; without effect before).
    pub own_tables: bool,
    /// How many tracked connections an address of a container may have begun before it begins no new ones;
    /// 0: a sixteenth of what the kernel can track, but only while that is three quarters full.
    pub container_connections: u32,
    /// A host whose forwarding we turn on forwards between its own links, too, which it did not before.
    pub forward_between_links: bool,
    /// A port is not published at which a process of the host listens.
    pub refuse_ports_in_use: bool,
}

impl Default for CniServerConfig {
    fn default() -> Self {
        Self {
            socket_path: crate::wire::DEFAULT_SOCKET.to_owned(),
            reader_group: None,
            config_dir: "/etc/quantum/cni/net.d".to_owned(),
            policy_dir: None,
            cache_size: 1000,
            log_level: LogLevel::Info,
            metrics_enabled: true,
            state_dir: PathBuf::from("/var/lib/quantum/cni"),
            runtime_dir: None,
            spool_dir: PathBuf::from(crate::spool::DEFAULT_DIR),
            docker_socket: None,
            log_format: LogFormat::Terminal,
            http_listen: SocketAddr::from(([127, 0, 0, 1], 9641)),
            sysctl_allowlist: SysctlPatterns::default(),
            non_masquerade_cidrs: Prefixes::default(),
            orphan_seconds: 300,
            own_tables: true,
            container_connections: 0,
            forward_between_links: false,
            refuse_ports_in_use: false,
        }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("{text:?} is not one of {}", [$($word),+].join(", "))),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }
    };
}

words!(
    /// How important a log record is.
    LogLevel {
        /// The daemon cannot go on.
        Critical = "critical",
        /// A request failed, or something was lost.
        Error = "error",
        /// Something an operator should look at.
        Warning = "warning",
        /// What was done.
        Info = "info",
        /// How it was done.
        Debug = "debug",
    }
);

words!(
    /// How log records are written.
    LogFormat {
        /// For people.
        Terminal = "terminal",
        /// One JSON object a line.
        Json = "json",
    }
);

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{origin}: {key}: {reason}")]
pub struct SettingsError {
    /// The file, or `command line`.
    pub origin: String,
    /// The key; `(file)` if it is the file as a whole.
    pub key: String,
    /// Why it will not do.
    pub reason: String,
}

impl CniServerConfig {
    /// Takes settings from the text of a TOML file. `origin` is its name, for messages.
    pub fn merge_toml(mut self, origin: &str, text: &str) -> Result<Self, SettingsError> {
        let table: Table = text.parse().map_err(|e: toml::de::Error| SettingsError {
            origin: origin.to_owned(),
            key: "(file)".to_owned(),
            reason: format!("is not valid TOML: {}", e.to_string().trim_end()),
        })?;
        for (key, value) in &table {
            self.set(key, value).map_err(|reason| SettingsError {
                origin: origin.to_owned(),
                key: key.clone(),
                reason,
            })?;
        }
        Ok(self)
    }

    /// Where the documents of network policy are.
    pub fn policy_dir(&self) -> PathBuf {
        let beside = || Path::new(&self.config_dir).with_file_name("policy.d");
        self.policy_dir.clone().unwrap_or_else(beside)
    }

    /// Where what does not outlive the host's boot is kept: `/run/quantum`, if nothing else is said.
    pub fn runtime_dir(&self) -> PathBuf {
        let of_socket = || Path::new(&self.socket_path).parent().unwrap_or(Path::new("/"));
        self.runtime_dir.clone().unwrap_or_else(|| of_socket().to_owned())
    }

    /// Sets one key from the text of a flag.
    pub fn merge_flag(mut self, key: &str, text: &str) -> Result<Self, SettingsError> {
        let value = match key {
            "cache_size" | "orphan_seconds" | "container_connections" => {
                text.parse().map(Value::Integer).ok()
            }
            "metrics_enabled" | "own_tables" | "forward_between_links" | "refuse_ports_in_use" => {
                text.parse().map(Value::Boolean).ok()
            }
            "sysctl_allowlist" | "non_masquerade_cidrs" => {
                let each = text.split(',').filter(|one| !one.is_empty());
                Some(Value::Array(each.map(|one| one.to_owned().into()).collect()))
            }
            _ => None,
        };
        let value = value.unwrap_or_else(|| Value::String(text.to_owned()));
        self.set(key, &value).map_err(|reason| SettingsError {
            origin: "command line".to_owned(),
            key: format!("--{}", key.replace('_', "-")),
            reason,
        })?;
        Ok(self)
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), String> {
        match key {
            "socket_path" => {
                let path = path(value)?;
                if path.len() > SOCKET_PATH_MAX {
                    return Err(format!(
                        "{path:?} is longer than the {SOCKET_PATH_MAX} bytes of a socket's path"
                    ));
                }
                self.socket_path = path;
            }
            "reader_group" => {
                let group = match value {
                    Value::Integer(number) => number.to_string(),
                    _ => string(value)?.to_owned(),
                };
                let number = group.parse::<i64>().ok();
                if group.is_empty() || number.is_some_and(|n| u32::try_from(n).is_err()) {
                    return Err(format!("{group:?} is neither the name of a group nor its number"));
                }
                self.reader_group = Some(group);
            }
            "config_dir" => self.config_dir = path(value)?,
            "policy_dir" => self.policy_dir = Some(path(value)?.into()),
            "cache_size" => match value {
                Value::Integer(n @ 1..=CACHE_MAX) => {
                    self.cache_size = usize::try_from(*n).unwrap_or(1)
                }
                _ => return Err(format!("{} is not a number from 1 to {CACHE_MAX}", shown(value))),
            },
            "log_level" => self.log_level = string(value)?.parse()?,
            "metrics_enabled" => self.metrics_enabled = boolean(value)?,
            "own_tables" => self.own_tables = boolean(value)?,
            "forward_between_links" => self.forward_between_links = boolean(value)?,
            "refuse_ports_in_use" => self.refuse_ports_in_use = boolean(value)?,
            "container_connections" => {
                let most = value.as_integer().and_then(|n| u32::try_from(n).ok());
                self.container_connections = most.ok_or_else(|| {
                    format!("{} is not a number from 0 to {}", shown(value), u32::MAX)
                })?;
            }
            "state_dir" => self.state_dir = path(value)?.into(),
            "runtime_dir" => self.runtime_dir = Some(path(value)?.into()),
            "docker_socket" => {
                let path = path(value)?;
                if path.len() > SOCKET_PATH_MAX {
                    return Err(format!(
                        "{path:?} is longer than the {SOCKET_PATH_MAX} bytes of a socket's path"
                    ));
                }
                self.docker_socket = Some(path.into());
            }
            "spool_dir" => self.spool_dir = path(value)?.into(),
            "log_format" => self.log_format = string(value)?.parse()?,
            "http_listen" => {
                let text = string(value)?;
                self.http_listen = text.parse().map_err(|_| {
                    format!("{text:?} is not an address with a port, as in 127.0.0.1:9641")
                })?;
            }
            "sysctl_allowlist" => {
                self.sysctl_allowlist = SysctlPatterns::new(strings(value)?.into_iter())?;
            }
            "non_masquerade_cidrs" => {
                self.non_masquerade_cidrs = Prefixes::new(strings(value)?.into_iter())?;
            }
            "orphan_seconds" => {
                let seconds = value.as_integer().and_then(|n| u32::try_from(n).ok());
                let within = seconds.filter(|n| *n <= ORPHAN_SECONDS_MAX);
                self.orphan_seconds = within.ok_or_else(|| {
                    format!("{} is not a number from 0 to {ORPHAN_SECONDS_MAX}", shown(value))
                })?;
            }
            _ => return Err("is not a setting".to_owned()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_documents_defaults() {
        let d = CniServerConfig::default();
        assert_eq!(d.socket_path, "/run/quantum/cni.sock");
        assert_eq!(d.config_dir, "/etc/quantum/cni/net.d");
        assert_eq!((d.cache_size, d.log_level, d.metrics_enabled), (1000, LogLevel::Info, true));
    }

    #[test]
    fn the_sample_says_the_defaults() {
        let sample = include_str!("../samples/server.toml");
        let read = CniServerConfig { cache_size: 7, ..CniServerConfig::default() }
            .merge_toml("server.toml", sample)
            .expect("the sample is valid");
        assert_eq!(read, CniServerConfig::default());
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let settings = CniServerConfig::default()
            .merge_toml("f", "cache_size = 5\nlog_level = \"debug\"")
            .and_then(|s| s.merge_flag("cache_size", "9"))
            .expect("valid");
        assert_eq!((settings.cache_size, settings.log_level), (9, LogLevel::Debug));
    }

    #[test]
    fn policies_are_beside_the_networks_unless_told_otherwise() {
        let policy_dir = |text: &str| {
            let read = CniServerConfig::default().merge_toml("f", text).expect("valid");
            read.policy_dir().display().to_string()
        };
        assert_eq!(policy_dir(""), "/etc/quantum/cni/policy.d");
        assert_eq!(policy_dir("config_dir = \"/a/net.d/\""), "/a/policy.d");
        assert_eq!(policy_dir("config_dir = \"/a/net.d\"\npolicy_dir = \"/p\""), "/p");
    }

    #[test]
    fn the_runtime_directory_is_that_of_the_socket_unless_told_otherwise() {
        let runtime_dir = |text: &str| {
            let read = CniServerConfig::default().merge_toml("f", text).expect("valid");
            read.runtime_dir().display().to_string()
        };
        assert_eq!(runtime_dir(""), "/run/quantum");
        assert_eq!(runtime_dir("socket_path = \"/a/b.sock\""), "/a");
        assert_eq!(runtime_dir("socket_path = \"/a/b.sock\"\nruntime_dir = \"/r\""), "/r");
    }

    #[test]
    fn a_list_is_separated_by_commas_in_a_flag() {
        let read = |settings: CniServerConfig| settings.sysctl_allowlist;
        let file = CniServerConfig::default()
            .merge_toml("f", "sysctl_allowlist = [\"net.a.*\", \"net.b\"]")
            .map(read);
        let flag = CniServerConfig::default().merge_flag("sysctl_allowlist", "net.a.*,net.b");
        assert_eq!(file.expect("valid"), flag.map(read).expect("valid"));
        let none = CniServerConfig::default().merge_flag("sysctl_allowlist", "").map(read);
        assert_eq!(none.expect("valid"), SysctlPatterns::new([].into_iter()).expect("none"));
    }

    #[test]
    fn errors_name_file_key_and_reason() {
        let cases = [
            ("colour = 1", "colour", "not a setting"),
            ("cache_size = 0", "cache_size", "number"),
            ("cache_size = \"many\"", "cache_size", "number"),
            ("log_level = \"loud\"", "log_level", "critical, error"),
            ("metrics_enabled = 1", "metrics_enabled", "true nor false"),
            ("config_dir = \"net.d\"", "config_dir", "absolute"),
            ("http_listen = \"9641\"", "http_listen", "port"),
            ("runtime_dir = \"run\"", "runtime_dir", "absolute"),
            ("docker_socket = \"quantum.sock\"", "docker_socket", "absolute"),
            ("socket_path = 1", "socket_path", "string"),
            ("reader_group = \"\"", "reader_group", "name of a group"),
            ("reader_group = -1", "reader_group", "number"),
            ("sysctl_allowlist = \"net.*\"", "sysctl_allowlist", "list"),
            ("sysctl_allowlist = [1]", "sysctl_allowlist", "string"),
            ("sysctl_allowlist = [\"vm.*\"]", "sysctl_allowlist", "vm.*"),
            ("non_masquerade_cidrs = \"::/0\"", "non_masquerade_cidrs", "list"),
            ("non_masquerade_cidrs = [\"10.0.0.1/8\"]", "non_masquerade_cidrs", "10.0.0.0/8"),
            ("orphan_seconds = -1", "orphan_seconds", "0 to 86400"),
            ("orphan_seconds = 86401", "orphan_seconds", "0 to 86400"),
            ("orphan_seconds = true", "orphan_seconds", "number"),
            ("= 3", "(file)", "TOML"),
        ];
        for (text, key, word) in cases {
            let error = CniServerConfig::default().merge_toml("/etc/q.toml", text).expect_err(text);
            assert_eq!((error.origin.as_str(), error.key.as_str()), ("/etc/q.toml", key));
            assert!(error.reason.contains(word), "{error} should say {word}");
        }
        let error = CniServerConfig::default().merge_flag("cache_size", "x").expect_err("bad flag");
        assert_eq!(
            error.to_string(),
            "command line: --cache-size: \"x\" is not a number from 1 to 1000000"
        );
    }
}
