//! One daemon for each network namespace. Two would each take the other's links for leftovers and
//! remove them from running containers, whatever state directories they have.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// An abstract socket: its name belongs to the network namespace, and the kernel drops it with the
/// process, however that ends.
const NAME: &str = "quantum-cnid";

/// How long a daemon that is on its way out is waited for, and how often it is looked for.
const PATIENCE: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(20);

/// Holds the network namespace for as long as it lives.
#[derive(Debug)]
pub struct HostLock(#[allow(dead_code, reason = "held for its name")] UnixDatagram);

/// Somebody else has it, or it cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HostLockError {
    /// A daemon works here already.
    #[error("another quantum-cnid works in this network namespace: stop it first")]
    Taken,
    /// The kernel refused.
    #[error("cannot take the lock of this network namespace: {0}")]
    Refused(#[source] io::Error),
}

impl HostLock {
    /// Takes the network namespace of the calling thread. A daemon that is on its way out is waited
    /// for.
    pub fn take() -> Result<Self, HostLockError> {
        let name = SocketAddr::from_abstract_name(NAME).map_err(HostLockError::Refused)?;
        let mut waited = Duration::ZERO;
        loop {
            match UnixDatagram::bind_addr(&name) {
                Ok(socket) => return Ok(Self(socket)),
                Err(e) if e.kind() != io::ErrorKind::AddrInUse => {
                    return Err(HostLockError::Refused(e));
                }
                Err(_) if waited >= PATIENCE => return Err(HostLockError::Taken),
                Err(_) => {
                    std::thread::sleep(STEP);
                    waited += STEP;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::in_private_netns;

    #[test]
    fn a_namespace_has_one_daemon() {
        in_private_netns(|| {
            let first = HostLock::take().expect("free");
            assert!(matches!(HostLock::take(), Err(HostLockError::Taken)));
            drop(first);
            assert!(HostLock::take().is_ok());
        });
    }
}
