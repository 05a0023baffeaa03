//! The Driver's mailbox: everything that touches the kernel.

use std::collections::HashSet;
use std::sync::Arc;

use actix::{Message, Recipient};
use quantum_cni::attach::{
    BridgeEnd, Element, LinksSeen, Observed, Plan, PortWanted, Record, Revision,
};
use quantum_cni::kernel::KernelError;
use quantum_cni::kernel::netns::Netns;
use quantum_cni::kernel::route::OwnedLink;
use quantum_cni::policy::{Changes, LiveFlow, Rules};
use quantum_cni::publish::PortError;
use quantum_config::cni::{Definition, PortMapping};
use quantum_config::ids::{AttachmentKey, IfName, LinkIndex, NetworkName};

use super::manager::{BridgeHarmed, Crowded, Looked};
use super::policy::Refused;

/// Makes a network's bridge, or finds it, and what the network needs besides.
#[derive(Debug, Message)]
#[rtype(result = "Result<BridgeEnd, KernelError>")]
pub(crate) struct Prepare(pub(crate) Arc<Definition>);

/// The same for a network that was prepared, and whose bridge somebody deleted, set down or renamed, or took a
/// gateway's address from. Its ports are plugged in again. Nothing of
/// theirs is removed, whatever the definition says: two networks of one bridge must not go on taking each
/// other's addresses away.
#[derive(Debug, Message)]
#[rtype(result = "Result<BridgeEnd, KernelError>")]
pub(crate) struct Restore(pub(crate) Arc<Definition>);

/// Whom the Driver tells what it learns of by itself.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Inform {
    pub(crate) looked: Recipient<Looked>,
    pub(crate) harmed: Recipient<BridgeHarmed>,
    pub(crate) refused: Recipient<Refused>,
    pub(crate) crowded: Recipient<Crowded>,
}

/// Carries a plan out. On failure nothing of it is left, unless the kernel refuses that as well.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NotApplied>")]
pub(crate) struct Apply {
    pub(crate) plan: Arc<Plan>,
    pub(crate) netns: Arc<Netns>,
}

/// A plan that could not be carried out.
#[derive(Debug)]
pub(crate) struct NotApplied {
    pub(crate) why: KernelError,
    /// Why something of it may be left; none if nothing is.
    pub(crate) left: Option<KernelError>,
}

/// Makes an attachment what a revision says. On failure it is as it was, as far as the kernel lets it.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), KernelError>")]
pub(crate) struct Revise {
    pub(crate) revision: Arc<Revision>,
    pub(crate) netns: Arc<Netns>,
}

/// Brings up a container's loopback.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), KernelError>")]
pub(crate) struct Loopback(pub(crate) Arc<Netns>);

/// Undoes what a record says. What is gone already is fine.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), KernelError>")]
pub(crate) struct Revert(pub(crate) Arc<Record>);

/// Changes which ports of the host lead to an attachment. On failure they are what they were.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), KernelError>")]
pub(crate) struct Republish {
    pub(crate) before: Arc<Record>,
    pub(crate) after: Arc<Record>,
}

/// Takes away what a network without attachments has: its elements, and its bridge if we made it and nobody
/// else is on it.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), KernelError>")]
pub(crate) struct Dismantle(pub(crate) Arc<Definition>);

/// Looks at an attachment.
#[derive(Debug, Message)]
#[rtype(result = "Result<Seen, KernelError>")]
pub(crate) struct Inspect {
    pub(crate) record: Arc<Record>,
    /// The container's namespace; without it only the host is looked at.
    pub(crate) netns: Option<Arc<Netns>>,
    /// What our sets have to hold for it besides what the record says.
    pub(crate) besides: Vec<Element>,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) links: Observed,
    /// Elements of our sets that are missing.
    pub(crate) missing: Vec<Element>,
    /// Chains and tables of ours that are not as they should be.
    pub(crate) rules: Vec<String>,
}

/// Every link of the host.
#[derive(Debug, Message)]
#[rtype(result = "Result<LinksSeen, KernelError>")]
pub(crate) struct Links;

/// Whether an attachment's link is gone for good: neither on the host nor in a namespace it was moved to.
#[derive(Debug, Message)]
#[rtype(result = "Result<bool, KernelError>")]
pub(crate) struct Destroyed(pub(crate) Arc<Record>);

/// The names of a bridge's ports, whoever made them.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<String>, KernelError>")]
pub(crate) struct Ports(pub(crate) LinkIndex);

/// Everything of ours on the host.
#[derive(Debug, Message)]
#[rtype(result = "Result<Scanned, KernelError>")]
pub(crate) struct Scan;

/// What is ours.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) links: Vec<OwnedLink>,
    pub(crate) elements: Vec<Element>,
}

/// Removes the links of ours and the elements of our sets that no record speaks of.
#[derive(Debug, Message)]
#[rtype(result = "Result<Swept, KernelError>")]
pub(crate) struct Sweep {
    /// The host ends that have a record.
    pub(crate) hosts: HashSet<IfName>,
    /// What is swept besides.
    pub(crate) scope: Scope,
}

/// How far a sweep goes.
#[derive(Debug)]
pub(crate) enum Scope {
    /// Every link of ours, and our tables. Only while no ADD runs.
    Host {
        /// What our sets are to hold, apart from what the networks have.
        elements: Vec<Element>,
        /// The networks that are in use.
        networks: Vec<Definition>,
        /// The chains and sets that policy needs.
        rules: Arc<Rules>,
        /// The ports of the attachments.
        ports: Vec<PortWanted>,
    },
    /// The links of one network. Only while no ADD runs in it.
    Network(NetworkName),
}

/// What was swept.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// Links that had no record and are gone now.
    pub(crate) removed: Vec<OwnedLink>,
    /// Host ends with a record that are not there.
    pub(crate) missing: Vec<IfName>,
    /// What could not be removed, and why.
    pub(crate) failed: Vec<String>,
    /// Why our nftables tables are not what they should be, if they are not.
    pub(crate) unruled: Option<String>,
}

/// Changes what policy has in our tables. When it is answered, the change holds.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), KernelError>")]
pub(crate) struct Govern(pub(crate) Changes);

/// Every connection that the kernel knows of.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<LiveFlow>, KernelError>")]
pub(crate) struct Flows;

/// Sees that no process of the host has one of these ports.
#[derive(Debug, Message)]
#[rtype(result = "Result<Result<(), PortError>, KernelError>")]
pub(crate) struct Vacant {
    /// For whom.
    pub(crate) owner: AttachmentKey,
    pub(crate) ports: Vec<PortMapping>,
    /// They are published at 127.0.0.0/8, too.
    pub(crate) loopback: bool,
    /// A process that listens there is a refusal, whatever the settings say.
    pub(crate) strict: bool,
}
