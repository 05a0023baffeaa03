//! What can go wrong with hearing of denied packets.

use nix::errno::Errno;

use crate::kernel::netfilter::{SocketError, is_missing};

/// Why nothing is heard of denied packets. They are denied all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NflogError {
    /// The kernel does not have it.
    #[error(
        "the kernel has no nfnetlink_log (CONFIG_NETFILTER_NETLINK_LOG): what policy denies is not listed; load the module and start the daemon again"
    )]
    Missing,
    /// Somebody else has the group, or we may not have it.
    #[error(
        "cannot listen to the log group {group}: {errno}: another program listens to it (see /proc/net/netfilter/nfnetlink_log, or is a second daemon running?), or CAP_NET_ADMIN is missing"
    )]
    Taken {
        /// The group.
        group: u16,
        /// The kernel's error.
        errno: Errno,
    },
    /// The kernel refused.
    #[error("cannot listen to the log group {group}: {errno}")]
    Refused {
        /// The group.
        group: u16,
        /// The kernel's error.
        errno: Errno,
    },
    /// The kernel did not answer.
    #[error("the kernel did not answer to the request to listen to the log group {group}")]
    NoAnswer {
        /// The group.
        group: u16,
    },
    /// The socket failed.
    #[error("cannot {doing} the socket for the log group {group}: {why}")]
    Socket {
        /// What was being done.
        doing: &'static str,
        /// The group.
        group: u16,
        /// Why.
        why: String,
    },
}

impl NflogError {
    pub(super) fn of_socket(group: u16, SocketError { doing, source }: SocketError) -> Self {
        if is_missing(source.raw_os_error()) {
            return Self::Missing;
        }
        Self::Socket { doing, group, why: source.to_string() }
    }

    pub(super) fn of_answer(group: u16, errno: Errno) -> Self {
        match errno {
            Errno::EPERM | Errno::EBUSY | Errno::EEXIST => Self::Taken { group, errno },
            errno if is_missing(Some(errno as i32)) => Self::Missing,
            errno => Self::Refused { group, errno },
        }
    }
}
