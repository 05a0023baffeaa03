//! The Cache's mailbox: what is known of attachments and networks, and stays known.

use std::net::IpAddr;
use std::sync::Arc;

use actix::{Message, MessageResponse};
use quantum_cni::attach::{Assigned, Record};
use quantum_cni::ipam::Known;
use quantum_cni::store::{StoreError, Stored};
use quantum_config::cni::Definition;
use quantum_config::ids::{AttachmentKey, ContainerId, IfName, NetworkName};

/// What is known of an attachment.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<Arc<Stored>>, StoreError>")]
pub(crate) struct Lookup(pub(crate) AttachmentKey);

/// Keeps a record. Answered when it would survive the daemon.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub(crate) struct Remember(pub(crate) Box<Record>);

/// Marks an attachment as being detached, so that it is finished even if the daemon dies.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub(crate) struct Leave(pub(crate) AttachmentKey);

/// Keeps the record of an ADD that could not be undone as one that is leaving: its addresses are held
/// until the kernel lets go.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub(crate) struct Abandon {
    pub(crate) record: Box<Record>,
    /// Something of it is left in the kernel, so that this daemon has to know it though it cannot be
    /// written.
    pub(crate) is_left: bool,
}

/// Drops the record and releases its addresses.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub(crate) struct Forget {
    pub(crate) key: AttachmentKey,
    /// Milliseconds since boot.
    pub(crate) now: u64,
}

/// The attachment of this container and interface, whatever its network is called; none if there are
/// several.
#[derive(Debug, Message)]
#[rtype(result = "Option<AttachmentKey>")]
pub(crate) struct Find {
    pub(crate) container: ContainerId,
    pub(crate) ifname: IfName,
}

/// The keys of a network's attachments, also of those that only have addresses.
#[derive(Debug, Message)]
#[rtype(result = "Listed")]
pub(crate) struct List(pub(crate) NetworkName);

/// A network's attachments.
#[derive(Debug, Clone, Default, MessageResponse)]
pub(crate) struct Listed {
    pub(crate) keys: Vec<AttachmentKey>,
    /// Those of them that a DEL has been asked for and not finished.
    pub(crate) leaving: Vec<AttachmentKey>,
}

/// The keys of all attachments that no DEL has been asked for, whatever their network.
#[derive(Debug, Message)]
#[rtype(result = "Vec<AttachmentKey>")]
pub(crate) struct Attached;

/// The addresses of a network that somebody has or had.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Known>, StoreError>")]
pub(crate) struct Addresses(pub(crate) NetworkName);

/// The addresses that are held for an attachment without a record.
#[derive(Debug, Message)]
#[rtype(result = "Vec<IpAddr>")]
pub(crate) struct Held(pub(crate) AttachmentKey);

/// Holds addresses for an attachment of another plugin, without a record.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub(crate) struct Hold {
    pub(crate) key: AttachmentKey,
    pub(crate) addresses: Vec<Assigned>,
}

/// Takes over what the network's `dataDir` holds, if nothing is known of the network's addresses.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub(crate) struct TakeOver(pub(crate) Arc<Definition>);

/// Every record.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Stored>, StoreError>")]
pub(crate) struct All;

/// Keeps a network's definition.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub(crate) struct Define(pub(crate) Arc<Definition>);

/// Every network that was ever defined, as it was defined last.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Definition>, StoreError>")]
pub(crate) struct Defined;

/// Keeps the records that the kernel gave back of what the store lacked, all or none: from here on it is an
/// ordinary one.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub(crate) struct Rebuild(pub(crate) Vec<Record>);
