//! A Pool's mailbox.

use std::sync::Arc;

use actix::{Message, MessageResponse};
use quantum_cni::attach::Assigned;
use quantum_cni::ipam::LeaseError;
use quantum_config::cni::{Definition, Wanted};
use quantum_config::ids::AttachmentKey;

/// Leases addresses: of the network's sets, or those that are given.
#[derive(Debug, Message)]
#[rtype(result = "Result<Leased, LeaseError>")]
pub(crate) struct Lease {
    pub(crate) owner: AttachmentKey,
    /// The network as the owner's call means it. The pool may have been told another one meanwhile.
    pub(crate) network: Arc<Definition>,
    pub(crate) wanted: Wanted,
}

/// What was leased.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) addresses: Vec<Assigned>,
    pub(crate) level: Level,
}

/// Gives an owner's addresses back; the time is milliseconds since boot.
#[derive(Debug, Message)]
#[rtype(result = "Level")]
pub(crate) struct Release {
    pub(crate) owner: AttachmentKey,
    pub(crate) now: u64,
}

/// The network was defined anew.
#[derive(Debug, Message)]
#[rtype(result = "Level")]
pub(crate) struct Reshape {
    pub(crate) network: Arc<Definition>,
}

/// How full a pool is.
#[derive(Debug, Clone, Default, PartialEq, Eq, MessageResponse)]
pub(crate) struct Level {
    /// Counts the changes of the pool: of two levels the one with the higher turn is the newer.
    pub(crate) turn: u64,
    /// Addresses that are leased.
    pub(crate) held: u128,
    /// Addresses of the scarcest set that are free.
    pub(crate) free: u128,
    /// The first set that has none left, as its subnets.
    pub(crate) exhausted: Option<String>,
}
