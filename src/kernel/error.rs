//! Everything that can go wrong behind the door.

use super::conntrack::ConntrackError;
use super::fault::Fault;
use super::inspect::ObserveError;
use super::lane::LaneError;
use super::netns::NetnsError;
use super::nft::NftError;
use super::route::bridge::BridgeError;
use super::route::{Cause, Step, StepError};

/// What the kernel, or the way to it, refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A step on a link, an address or a route.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The bridge of a network.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// Our nftables tables.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// The entries of connections.
    #[error(transparent)]
    Conntrack(#[from] ConntrackError),
    /// A namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The lane that was to do it.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// A test made it fail.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<ObserveError> for KernelError {
    fn from(error: ObserveError) -> Self {
        match error {
            ObserveError::Socket { of, source } => {
                StepError::io(Step::OpenSocket, of, &source).into()
            }
            ObserveError::Netns(error) => error.into(),
            ObserveError::Step(error) => error.into(),
        }
    }
}

impl KernelError {
    /// The chosen index is taken by another link: another one will do.
    pub fn is_index_taken(&self) -> bool {
        matches!(self, Self::Step(e) if e.cause == Some(Cause::IndexTaken))
    }

    /// The bridge is gone, or what has its index now is another link: it must be made again.
    pub fn is_bridge_missing(&self) -> bool {
        matches!(self, Self::Step(e) if e.cause == Some(Cause::BridgeMissing))
    }

    /// Our rules could not be changed, and may be the next time: somebody flushed them in the same moment, or
    /// `nft` failed.
    pub fn is_of_rules(&self) -> bool {
        use NftError::{Kernel, NoAnswer, Refused, SkeletonLost};
        matches!(
            self,
            Self::Nft(Refused { .. } | SkeletonLost { .. } | Kernel { .. } | NoAnswer { .. })
        )
    }

    /// The bridge has as many ports as it can have.
    pub fn is_bridge_full(&self) -> bool {
        matches!(self, Self::Step(e) if e.cause == Some(Cause::BridgeFull))
    }
}
