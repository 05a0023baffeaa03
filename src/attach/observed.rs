//! What the kernel has of an attachment, as plain data: filled in by `kernel::inspect`, judged by
//! [`differences`](super::differences).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use quantum_config::ids::{LinkIndex, Mac};
use quantum_config::sysctl::SysctlName;

/// What there is of one attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The host's end of the pair, if a link of that name exists.
    pub host: Option<HostSeen>,
    /// The bridge, if a link of that name exists and is a bridge.
    pub bridge: Option<BridgeSeen>,
    /// The container's end, if there is a namespace to look into and an interface of that name.
    pub inside: Option<InsideSeen>,
    /// What its traffic is held to, if that was looked at.
    pub shape: Option<ShapeSeen>,
    /// Settings that are off, and without which the host does not forward for it.
    pub off: Vec<String>,
    /// The container's end waits on the host: nobody has taken it, or it was given back.
    pub waits: bool,
}

/// What an attachment's traffic is held to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShapeSeen {
    /// The bucket of the port.
    pub ingress: Option<BucketSeen>,
    /// The bucket of the shaper, if there is one, it is up, and what comes in by the port is led to it.
    pub egress: Option<BucketSeen>,
}

/// A bucket as the kernel tells it. Its burst is part of the limit; the kernel has it as a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketSeen {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may wait.
    pub limit: u32,
}

/// The host's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSeen {
    /// Its index, which tells it from a namesake that was made later.
    pub index: LinkIndex,
    /// Its alias.
    pub alias: String,
    /// The name of the bridge it is a port of.
    pub bridge: Option<String>,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Its MTU.
    pub mtu: u32,
    /// It is up.
    pub up: bool,
    /// Frames may leave by the port they came in.
    pub hairpin: bool,
    /// No frames to and from other isolated ports.
    pub isolated: bool,
    /// Its VLANs, if somebody wanted to know.
    pub vlans: Option<VlansSeen>,
}

/// The VLANs of a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VlansSeen {
    /// What comes in without a tag belongs to it.
    pub native: Option<u16>,
    /// All that it is in.
    pub members: BTreeSet<u16>,
}

/// The bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSeen {
    /// Its index.
    pub index: LinkIndex,
    /// It is up.
    pub up: bool,
    /// It takes every frame, whoever it is for.
    pub promisc: bool,
    /// What it hands to the rules for packets of what stays on it, IPv4 and IPv6; none if the kernel
    /// has no br_netfilter.
    pub filters: Option<[bool; 2]>,
    /// The addresses of the link that has the gateways': its own, or those of its VLAN's gateway.
    pub addresses: Vec<IpNetwork>,
}

/// The container's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsideSeen {
    /// Its index in the container.
    pub index: LinkIndex,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Its MTU.
    pub mtu: u32,
    /// It is up.
    pub up: bool,
    /// It takes every frame, whoever it is for.
    pub promisc: bool,
    /// It takes every multicast frame.
    pub all_multicast: bool,
    /// How many packets may wait to be sent.
    pub tx_queue: u32,
    /// The settings that the record speaks of, as far as there are such and they can be read.
    pub sysctls: HashMap<SysctlName, String>,
    /// Its addresses, the link-local one included.
    pub addresses: Vec<IpNetwork>,
    /// The unicast routes over it, of all tables.
    pub routes: Vec<RouteSeen>,
}

/// A route as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSeen {
    /// Where to.
    pub destination: IpNetwork,
    /// The next hop; none if the destination is on the link.
    pub next_hop: Option<IpAddr>,
    /// The routing table.
    pub table: u32,
    /// The lower, the sooner it is taken; IPv4 tells none for 0.
    pub priority: Option<u32>,
    /// The longest packet that goes there, if that is set.
    pub mtu: Option<u32>,
    /// The segment size that TCP advertises there, if that is set.
    pub advmss: Option<u32>,
    /// `rtm_scope`.
    pub scope: u8,
}
