//! A Network's mailbox: the verbs of the protocol.

use std::sync::Arc;

use actix::{Message, Recipient};
pub(crate) use quantum_cni::attach::Only;
use quantum_cni::attach::{Assigned, Meant, NetnsId, Refusal, Target};
use quantum_cni::kernel::netns::Netns;
use quantum_config::cni::{
    Amendment, CniError, CniResult, Definition, PortMapping, ValidAttachment, Wanted,
};
use quantum_config::ids::AttachmentKey;

use super::Drain;
use crate::caller::Caller;

/// How a Network is reached.
#[derive(Debug, Clone)]
pub(crate) struct NetworkMailbox {
    pub(crate) may_attach: Recipient<MayAttach>,
    pub(crate) attach: Recipient<Attach>,
    pub(crate) lend: Recipient<Lend>,
    pub(crate) amend: Recipient<Amend>,
    pub(crate) detach: Recipient<Detach>,
    pub(crate) check: Recipient<Check>,
    pub(crate) collect: Recipient<Collect>,
    pub(crate) open: Recipient<Open>,
    pub(crate) mend: Recipient<Mend>,
    pub(crate) expose: Recipient<Expose>,
    pub(crate) reserve: Recipient<Reserve>,
    pub(crate) unreserve: Recipient<Unreserve>,
    pub(crate) close: Recipient<Close>,
    pub(crate) drain: Recipient<Drain>,
}

impl NetworkMailbox {
    /// False when the actor has panicked, or was closed.
    pub(crate) fn is_alive(&self) -> bool {
        self.attach.connected()
    }
}

/// Gets the network ready before anybody asks for it. Answered when it is, or with why it cannot be.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), CniError>")]
pub(crate) struct Open(pub(crate) Arc<Definition>);

/// Sees that the bridge of a network that is open is as it was prepared.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Mend;

/// Would an ADD be refused because the attachment exists? Asked before another program gives it
/// addresses: whoever takes those back again would take them from the one that lives.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), CniError>")]
pub(crate) struct MayAttach(pub(crate) Target);

/// ADD.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<CniResult, Refusal>")]
pub(crate) struct Attach {
    pub(crate) target: Target,
    pub(crate) netns: Arc<Netns>,
    /// The network as this call means it.
    pub(crate) definition: Arc<Definition>,
    pub(crate) wanted: Wanted,
    pub(crate) caller: Caller,
}

/// ADD of a plugin that is chained after ours: something about the attachment is to be otherwise.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub(crate) struct Amend {
    pub(crate) key: AttachmentKey,
    pub(crate) netns: Arc<Netns>,
    pub(crate) amendment: Amendment,
    pub(crate) caller: Caller,
}

/// ADD of the plugin `host-local`: addresses for what another plugin attaches.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<CniResult, Refusal>")]
pub(crate) struct Lend {
    pub(crate) key: AttachmentKey,
    /// The network as this call means it.
    pub(crate) definition: Arc<Definition>,
    pub(crate) wanted: Wanted,
    pub(crate) caller: Caller,
}

/// DEL. Needs nothing but the key, and goes on when its caller has left.
#[derive(Debug, Message)]
#[rtype(result = "Result<Detached, CniError>")]
pub(crate) struct Detach {
    pub(crate) key: AttachmentKey,
    /// Only an attachment that was made before this (milliseconds since boot): a tombstone must not
    /// take away what was made later under the same key.
    pub(crate) made_before: Option<u64>,
    /// Only an attachment in this namespace; any if none is given.
    pub(crate) netns: Option<NetnsId>,
    /// Only one of these.
    pub(crate) only: Only,
}

impl Detach {
    /// Which attachments it means.
    pub(crate) fn meant(&self) -> Meant {
        Meant { only: self.only, made_before: self.made_before, netns: self.netns }
    }
}

/// Has these ports of the host lead to an attachment, and no others. Without ports one that is not there is
/// fine.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub(crate) struct Expose {
    pub(crate) key: AttachmentKey,
    pub(crate) ports: Vec<PortMapping>,
}

/// Keeps addresses for somebody who will attach with them. What is kept is not known to the next daemon.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<Assigned>, Refusal>")]
pub(crate) struct Reserve {
    pub(crate) owner: AttachmentKey,
    pub(crate) definition: Arc<Definition>,
    pub(crate) wanted: Wanted,
}

/// Gives back what was kept.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Unreserve(pub(crate) AttachmentKey);

/// The network is no more: its bridge goes, and the actor ends. An error if it has attachments.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), CniError>")]
pub(crate) struct Close(pub(crate) Arc<Definition>);

/// What was detached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Detached {
    /// There was such an attachment, or an attempt to make it that failed.
    pub(crate) found: bool,
    /// The addresses it had; none if there was nothing.
    pub(crate) addresses: Vec<std::net::IpAddr>,
}

/// CHECK.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), CniError>")]
pub(crate) struct Check {
    pub(crate) key: AttachmentKey,
    pub(crate) netns: Arc<Netns>,
    pub(crate) prev_result: CniResult,
}

/// GC: everything that is not valid goes.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), CniError>")]
pub(crate) struct Collect {
    pub(crate) valid: Vec<ValidAttachment>,
}
