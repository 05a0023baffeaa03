//! What can go wrong with the entries of connections.

use nix::errno::Errno;

use crate::kernel::fault::Fault;
use crate::kernel::netfilter::SocketError;

/// What went wrong. Some of the entries may be gone; to repeat is always right. It can be copied, because
/// one attempt is made for many containers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConntrackError {
    /// The socket failed.
    #[error("cannot {doing} the conntrack socket: {why}")]
    Socket {
        /// What was being done.
        doing: &'static str,
        /// Why.
        why: String,
    },
    /// The kernel refused.
    #[error(
        "cannot {doing}: {errno}: it is tried again; 'conntrack -L' shows what is left, 'conntrack -D' removes it"
    )]
    Refused {
        /// What was being done to which entries.
        doing: String,
        /// The kernel's error.
        errno: Errno,
    },
    /// The kernel's answer cannot be read.
    #[error("cannot read what the kernel answered to '{doing}': {why}")]
    Decode {
        /// What had been asked.
        doing: String,
        /// Why.
        why: String,
    },
    /// The table of connections changed under every attempt to list it.
    #[error("cannot {doing}: the table changed while it was being listed: repeat it")]
    Torn {
        /// What was being done.
        doing: String,
    },
    /// The kernel's answer was lost, so it is not known what is gone.
    #[error("the kernel's answer to '{doing}' was lost: repeat it")]
    NoAnswer {
        /// What had been asked.
        doing: String,
    },
    /// A test made it fail.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<SocketError> for ConntrackError {
    fn from(SocketError { doing, source }: SocketError) -> Self {
        Self::Socket { doing, why: source.to_string() }
    }
}
