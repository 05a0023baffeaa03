//! What one test stands in: a host with an uplink, an outside beyond it, and containers.
//!
//! ```text
//!   container ── (made by the programs under test) ── host 192.0.2.1 ── 192.0.2.2 outside
//! ```
//!
//! Outside has no route back to any container network, so an answer from there proves masquerade.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use super::binaries;
use super::daemon::{Daemon, Options};
use super::enter::entered;
use super::netns::Netns;
use super::plugin::{Call, Outcome};

/// The host's address on the uplink, which is what outside sees of masqueraded containers.
pub(crate) const HOST: &str = "192.0.2.1";
/// The address of the outside.
pub(crate) const OUTSIDE: &str = "192.0.2.2";
/// The host's interface towards the outside.
pub(crate) const UPLINK: &str = "uplink";

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) host: Netns,
    pub(crate) outside: Netns,
    made: AtomicU32,
    paths: Paths,
    // Last, so that it goes last: the namespaces are mounted in it.
    _dir: TempDir,
}

/// Where the daemon of a world keeps its things.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) root: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) config_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) spool_dir: PathBuf,
    pub(crate) log: PathBuf,
}

impl World {
    /// Makes a world, or says why this machine does not let it be made.
    pub(crate) fn new() -> Result<Self, String> {
        entered()?;
        let dir = tempfile::Builder::new().prefix("quantum-").tempdir().expect("a folder");
        let paths = Paths::below(dir.path());
        std::fs::create_dir(dir.path().join("netns")).expect("a folder");
        std::fs::create_dir(&paths.config_dir).expect("a folder");
        let host = Netns::create(dir.path().join("netns/host"));
        let outside = Netns::create(dir.path().join("netns/outside"));
        host.ip_batch(&format!(
            "link set lo up\n\
             link add {UPLINK} type veth peer name {UPLINK} netns {}\n\
             address add {HOST}/24 dev {UPLINK}\n\
             link set {UPLINK} up\n\
             route add default via {OUTSIDE}\n",
            outside.text()
        ));
        outside.ip_batch(&format!(
            "link set lo up\naddress add {OUTSIDE}/24 dev {UPLINK}\nlink set {UPLINK} up\n"
        ));
        Ok(Self { host, outside, made: AtomicU32::new(0), paths, _dir: dir })
    }

    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// A new namespace for a container, as a runtime makes it.
    pub(crate) fn container(&self) -> Netns {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let name = format!("netns/cni-0d7b1e9c-5a4f-4c1d-9e2a-{number:012x}");
        Netns::create(self.paths.root.join(name))
    }

    /// Starts the daemon on the host and waits until it serves.
    pub(crate) fn daemon(&self) -> Daemon {
        self.daemon_with(Options::default())
    }

    /// The same with other options.
    pub(crate) fn daemon_with(&self, options: Options) -> Daemon {
        let mut daemon = Daemon::start(&self.host, &self.paths, options);
        daemon.wait_ready();
        daemon
    }

    /// Starts the daemon and waits until it serves; it need not be ready, and says so then.
    pub(crate) fn daemon_that_serves(&self) -> Daemon {
        let mut daemon = Daemon::start(&self.host, &self.paths, Options::default());
        assert!(daemon.serves_or_ended(), "it does not start");
        daemon
    }

    /// All that the daemon keeps of what is attached is lost, but for what the kernel has.
    pub(crate) fn forget(&self) {
        std::fs::remove_dir_all(&self.paths.state_dir).expect("the state is lost");
        std::fs::remove_dir_all(self.paths.attachments()).expect("what is beside it, too");
        std::fs::remove_file(self.paths.generation()).expect("what is beside it, too");
    }

    /// The same, and what others break stays broken: what is seen of it can be looked at.
    pub(crate) fn daemon_that_mends_nothing(&self) -> Daemon {
        let broken = ["mending"; 1000].join(",");
        self.daemon_with(Options::without_own_tables().var("QUANTUM_FAIL_AT", &broken))
    }

    /// The same with tables that anybody may change, as on a kernel before 6.9.
    pub(crate) fn daemon_without_own_tables(&self) -> Daemon {
        self.daemon_with(Options::without_own_tables())
    }

    /// Calls the plugin on the host.
    pub(crate) fn call(&self, call: Call) -> Outcome {
        self.call_in(&self.host, call)
    }

    /// Calls the plugin in any namespace.
    pub(crate) fn call_in(&self, host: &Netns, call: Call) -> Outcome {
        let call = if binaries::reference().is_some() { self.for_reference(call) } else { call };
        call.run(self.plugin_command(host))
    }

    /// The plugin, ready to be run with this world's daemon.
    pub(crate) fn plugin_command(&self, host: &Netns) -> std::process::Command {
        let mut command = host.command(binaries::plugin());
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env(quantum_config::wire::SOCKET_VARIABLE, &self.paths.socket);
        command.env(quantum_config::spool::DIR_VARIABLE, &self.paths.spool_dir);
        command
    }

    /// The names of the tombstones in the spool directory.
    pub(crate) fn tombstones(&self) -> Vec<String> {
        names_in(&self.paths.spool_dir)
            .into_iter()
            .filter(|name| name.ends_with(quantum_config::spool::SUFFIX))
            .collect()
    }

    /// The same call with what the reference plugins need: their IPAM beside them and a folder for
    /// its leases.
    fn for_reference(&self, call: Call) -> Call {
        let folder = binaries::reference().expect("the reference's folder");
        let call = match call.get("CNI_PATH") {
            "" => call,
            _ => call.var("CNI_PATH", folder.to_str().expect("UTF-8")),
        };
        let Ok(mut conf) = serde_json::from_slice::<serde_json::Value>(call.input()) else {
            return call;
        };
        if let Some(ipam) = conf.get_mut("ipam") {
            ipam["dataDir"] = self.paths.state_dir.to_str().expect("UTF-8").into();
        }
        call.conf(&conf)
    }
}

impl Drop for World {
    /// Containers may outlive their world by a moment, and a mount that is still there would keep
    /// the folder.
    fn drop(&mut self) {
        let folder = self.paths.root.join("netns");
        for name in names_in(&folder) {
            let _ = umount2(&folder.join(name), MntFlags::MNT_DETACH);
        }
    }
}

impl Paths {
    fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            socket: root.join("cni.sock"),
            config_dir: root.join("net.d"),
            state_dir: root.join("state"),
            spool_dir: root.join("spool"),
            log: root.join("daemon.log"),
        }
    }
}

impl Paths {
    /// Where each attachment has a file beside the store.
    pub(crate) fn attachments(&self) -> PathBuf {
        self.root.join("attachments")
    }

    /// Which store is the newest.
    pub(crate) fn generation(&self) -> PathBuf {
        self.root.join("generation")
    }
}

/// The names in a folder, sorted; none where there is no folder.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
