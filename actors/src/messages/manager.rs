//! The Manager's mailbox.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use actix::{Message, Recipient};
use quantum_cni::attach::{Claimed, Class, Dropping, Trouble};
use quantum_config::cni::{CniError, Definition};
use quantum_config::ids::{IfName, NetworkName};

use super::network::NetworkMailbox;
use crate::board::NetworkStatus;
use crate::caller::Caller;

/// Lets a request in and tells it where to go. Waits at the door as long as the caller does.
#[derive(Debug, Message)]
#[rtype(result = "Result<Admitted, CniError>")]
pub(crate) struct Admit {
    /// The network.
    pub(crate) network: NetworkName,
    /// What the request is to the door.
    pub(crate) class: Class,
    /// The definition that the request brought along; none if it only names its network.
    pub(crate) definition: Option<Arc<Definition>>,
    /// Who waits.
    pub(crate) caller: Caller,
}

/// A request that was let in.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// Where to go; nowhere if the network has no attachment and none is to be made.
    pub(crate) network: Option<NetworkMailbox>,
    /// What the network is: as the request said, or as `config_dir` does.
    pub(crate) definition: Option<Arc<Definition>>,
    #[expect(dead_code, reason = "dropped when the request is done")]
    pub(crate) permit: Permit,
}

/// A place inside. Dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Permit {
    pub(crate) network: NetworkName,
    pub(crate) door: Recipient<Left>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.door.do_send(Left(self.network.clone()));
    }
}

/// Releases attachments that hold what an ADD wants and whose link is destroyed; how many there were. Others
/// that hold it are left alone.
#[derive(Debug, Message)]
#[rtype(result = "Result<usize, CniError>")]
pub(crate) struct Reclaim(pub(crate) Claimed);

/// Event: a request that was let in is done.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Left(pub(crate) NetworkName);

/// Event: how a network is now.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Changed {
    pub(crate) network: NetworkName,
    pub(crate) status: NetworkStatus,
}

/// Event: how the rules of the host are, as far as they concern us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) struct Looked {
    /// Why our tables are not what they should be, if they are not.
    pub(crate) unruled: Option<String>,
    /// Chains of others that may drop what containers send.
    pub(crate) dropping: Vec<Dropping>,
    /// What the kernel does not have, and what we do instead.
    pub(crate) missing: Vec<String>,
    /// Links of ours, or forwarding, that are not as they should be.
    pub(crate) troubles: Vec<Trouble>,
}

/// Event: these addresses hold so many connections, each so many, that they begin no new ones.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Crowded(pub(crate) BTreeMap<IpAddr, u64>);

/// Event: this link, a bridge of ours or what has its gateways' addresses, is not as it should be.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct BridgeHarmed(pub(crate) IfName);

/// The network is no more, and its actor ends. An error if it is in use.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), CniError>")]
pub(crate) struct Retire(pub(crate) Arc<Definition>);

/// Reads `config_dir` again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Reload;

/// Carries the DELs of the spool out.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Replay;

/// Opens the networks that have attachments already, each as `config_dir` defines it or else as given
/// here: their bridges are seen to, and it is known how full they are.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Warm(pub(crate) Vec<Definition>);

/// Requests up to this class are let in from now on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Open(pub(crate) Class);
