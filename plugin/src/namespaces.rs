//! The namespaces of a call. The plugin opens them, because only here are the paths known to mean
//! what the runtime means; the daemon gets descriptors and never opens a path.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use quantum_config::cni::{CniError, Code, Command, Environment};
use quantum_config::wire::Descriptor;

/// Our own namespace, and the container's where there is one.
pub(crate) struct Namespaces {
    host: Option<File>,
    container: Option<File>,
}

impl Namespaces {
    /// What the descriptors are, in the order of [`Namespaces::descriptors`].
    pub(crate) fn roles(&self) -> Vec<Descriptor> {
        let host = self.host.iter().map(|_| Descriptor::Host);
        host.chain(self.container.iter().map(|_| Descriptor::Container)).collect()
    }

    /// The descriptors to send.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        self.host.iter().chain(&self.container).map(File::as_raw_fd).collect()
    }
}

/// Opens what the verb needs. A DEL goes on without the container's namespace: it may be long gone.
pub(crate) fn open(env: &Environment, command: Command) -> Result<Namespaces, CniError> {
    let container = match command {
        Command::Add | Command::Check => Some(open_path(&env.netns).map_err(|e| {
            CniError::new(Code::InvalidNetns, format!("opening CNI_NETNS {:?}", env.netns))
                .with_details(e.to_string())
        })?),
        Command::Del if !env.netns.is_empty() => open_path(&env.netns).ok(),
        _ => None,
    };
    let host = match command {
        Command::Add | Command::Check | Command::Del => {
            Some(open_path("/proc/thread-self/ns/net").map_err(|e| {
                CniError::new(Code::Io, "opening the plugin's own network namespace")
                    .with_details(e.to_string())
            })?)
        }
        _ => None,
    };
    Ok(Namespaces { host, container })
}

/// Without `O_NONBLOCK` a path to a FIFO would hang the runtime.
fn open_path(path: &str) -> std::io::Result<File> {
    File::options().read(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits()).open(path)
}
