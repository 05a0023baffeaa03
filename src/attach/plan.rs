//! The plan of an attachment: what the kernel is to be told, as a value. Making it decides
//! everything; carrying it out decides nothing.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use quantum_config::ids::{IfName, LinkIndex, Mac};

use super::Record;

/// Everything one ADD changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The host's end of the pair.
    pub link: LinkPlan,
    /// The container's end.
    pub inside: InsidePlan,
    /// Elements of our nftables sets.
    pub netfilter: Vec<Element>,
    /// What is kept when all of it is done.
    pub record: Record,
}

/// The veth pair, seen from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPlan {
    /// Name of the host's end.
    pub host: IfName,
    /// Index chosen for both ends, each in its own namespace.
    pub index: LinkIndex,
    /// Hardware address of the host's end, set so that no udev policy rewrites it.
    pub mac: Mac,
    /// The bridge.
    pub bridge: LinkIndex,
    /// MTU of both ends; the kernel's default if none.
    pub mtu: Option<u32>,
    /// Link group that marks what is ours.
    pub group: u32,
    /// The attachment's key, put into the link's alias so that the kernel alone can tell whose it is.
    pub alias: String,
    /// Bridge port flag.
    pub hairpin: bool,
}

/// The container's end and what is configured on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsidePlan {
    /// Name inside the container.
    pub ifname: IfName,
    /// Its hardware address.
    pub mac: Mac,
    /// Addresses, each with the prefix length of its subnet.
    pub addresses: Vec<IpNetwork>,
    /// Routes: destination and next hop. Without a next hop the destination is on the link.
    pub routes: Vec<(IpNetwork, Option<IpAddr>)>,
}

/// Something an endpoint has in our nftables sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// Traffic from `address` is masqueraded unless it leaves by `bridge`.
    Masquerade {
        /// The container's address.
        address: IpAddr,
        /// The bridge of its network.
        bridge: IfName,
    },
}
