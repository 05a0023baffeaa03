//! In what an attachment can differ from what ADD left, in words for whoever reads the answer to CHECK.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{Element, VlansSeen};

/// One way in which an attachment is not as ADD left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The host's end is gone.
    HostLinkGone(String),
    /// A link of that name is there and is another one.
    HostLinkForeign(String),
    /// It is down.
    HostLinkDown(String),
    /// It is no port of its bridge.
    Unplugged(String, String),
    /// Hairpin mode was switched off.
    HairpinOff(String),
    /// The port is isolated and should not be, or the other way about.
    Isolation(String, bool),
    /// The port is in other VLANs than it was given: those it is in, those it should be in.
    Vlans(String, VlansSeen, VlansSeen),
    /// An end has another MTU than was asked for: the one it has, the one it should have.
    Mtu(String, u32, u32),
    /// There is no such bridge.
    BridgeGone(String),
    /// It is down.
    BridgeDown(String),
    /// A setting is off without which the host does not forward for the container.
    NotForwarding(String),
    /// The bridge takes every frame and should not, or the other way about.
    Promiscuity(String, bool),
    /// Packets that stay on the bridge do not come before the rules: those of which family.
    NotFiltered(String, &'static str),
    /// The bridge, or the gateway of the VLAN, lost the gateway's address.
    GatewayGone(String, IpAddr),
    /// The container's end is gone, or another interface has its name.
    InterfaceGone(String),
    /// It is down.
    InterfaceDown(String),
    /// An address is gone.
    AddressGone(IpNetwork),
    /// A route is gone.
    RouteGone(IpNetwork),
    /// A route is there otherwise than it was configured: how.
    RouteChanged(IpNetwork, String),
    /// A setting has another value.
    Setting(String, String),
    /// It does not take every frame.
    NotPromiscuous(String),
    /// It takes every multicast frame and should not, or the other way about.
    AllMulticast(String, bool),
    /// Its queue has another length.
    TxQueue(String, u32),
    /// What the container receives is not held to its limit.
    IngressNotLimited(String, u64),
    /// What it sends is not.
    EgressNotLimited(String, u64),
    /// An address is not masqueraded any more.
    NotMasqueraded(IpAddr),
    /// What its container sends is not looked at any more, or not let through.
    NotGuarded(String),
    /// A port of the host does not lead to it any more.
    NotPublished(String),
    /// Its network is not kept apart from others any more.
    NotIsolated(String),
    /// What policy says of an address is not held to any more.
    NotJudged(String),
    /// Rules of ours are gone or others: of which chain or table.
    RulesChanged(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostLinkGone(name) => write!(f, "host interface {name} is gone"),
            Self::HostLinkForeign(name) => {
                write!(f, "host interface {name} is not the one ADD made")
            }
            Self::HostLinkDown(name) => write!(f, "host interface {name} is down"),
            Self::Unplugged(name, bridge) => {
                write!(f, "host interface {name} is not a port of bridge {bridge}")
            }
            Self::HairpinOff(name) => write!(f, "hairpin mode of {name} is off"),
            Self::Isolation(name, wanted) => {
                write!(f, "port {name} is {}isolated", if *wanted { "not " } else { "" })
            }
            Self::Vlans(name, seen, wanted) => {
                write!(f, "port {name} is in {seen} instead of {wanted}")
            }
            Self::Mtu(name, seen, wanted) => {
                write!(f, "interface {name} has mtu {seen} instead of {wanted}")
            }
            Self::BridgeGone(name) => write!(f, "bridge {name} is gone"),
            Self::BridgeDown(name) => write!(f, "bridge {name} is down"),
            Self::NotForwarding(setting) => {
                write!(f, "{setting} is off: the host does not forward for the container")
            }
            Self::Promiscuity(name, wanted) => {
                write!(f, "bridge {name} is {}promiscuous", if *wanted { "not " } else { "" })
            }
            Self::NotFiltered(name, family) => {
                write!(f, "bridge {name} does not hand {family} packets to the rules any more")
            }
            Self::GatewayGone(name, ip) => write!(f, "{name} has lost the address {ip}"),
            Self::InterfaceGone(name) => write!(f, "interface {name} is gone from the container"),
            Self::InterfaceDown(name) => write!(f, "interface {name} is down in the container"),
            Self::AddressGone(address) => write!(f, "address {address} is gone from the container"),
            Self::RouteGone(dst) => write!(f, "the route to {dst} is gone from the container"),
            Self::RouteChanged(dst, how) => {
                write!(f, "the route to {dst} in the container has {how}")
            }
            Self::Setting(name, wanted) => {
                write!(f, "the setting {name} in the container is not {wanted:?}")
            }
            Self::NotPromiscuous(name) => {
                write!(f, "interface {name} is not promiscuous in the container")
            }
            Self::AllMulticast(name, wanted) => {
                let not = if *wanted { "not " } else { "" };
                write!(f, "interface {name} does {not}take all multicast in the container")
            }
            Self::TxQueue(name, wanted) => {
                write!(f, "interface {name} in the container has another txQLen than {wanted}")
            }
            Self::IngressNotLimited(name, rate) => {
                write!(f, "what {name} receives is not limited to {rate} bits a second any more")
            }
            Self::EgressNotLimited(name, rate) => {
                write!(f, "what {name} sends is not limited to {rate} bits a second any more")
            }
            Self::NotMasqueraded(ip) => write!(f, "address {ip} is not masqueraded any more"),
            Self::NotGuarded(name) => {
                write!(f, "what port {name} may send is not known to the rules any more")
            }
            Self::NotPublished(port) => write!(f, "port {port} of the host leads to it no more"),
            Self::NotIsolated(bridge) => {
                write!(f, "the network of bridge {bridge} is not kept apart any more")
            }
            Self::NotJudged(who) => write!(f, "policy for {who} is not in the rules any more"),
            Self::RulesChanged(of) => write!(f, "the rules of {of} are not as they should be"),
        }
    }
}

impl Difference {
    /// What it means that an element is missing.
    pub fn missing(element: Element) -> Self {
        match element {
            Element::Crowded { address } => Self::NotJudged(address.to_string()),
            Element::Home { address, .. }
            | Element::Masquerade { address }
            | Element::Hairpin { address } => Self::NotMasqueraded(address),
            Element::Port { port, .. }
            | Element::Bound { port, .. }
            | Element::Broadcast { port, .. } => Self::NotGuarded(port.to_string()),
            Element::Apart { link, .. } => Self::NotIsolated(link.to_string()),
            Element::Published { transport, host_port, .. } => {
                Self::NotPublished(format!("{transport}/{host_port}"))
            }
            Element::Network { bridge, .. } | Element::Gateway { bridge, .. } => {
                Self::NotIsolated(bridge.to_string())
            }
            Element::Strangers { mac } => Self::NotIsolated(mac.to_string()),
            Element::Judged { address, .. }
            | Element::Member { address, .. }
            | Element::Named { address, .. }
            | Element::Audited { address } => Self::NotJudged(address.to_string()),
            Element::Policed { .. }
            | Element::Selective { .. }
            | Element::SelectiveOfHost { .. }
            | Element::Epoch(_) => Self::NotJudged("everybody".to_owned()),
        }
    }
}

impl fmt::Display for VlansSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut members = self.members.iter().copied().peekable();
        if members.peek().is_none() {
            return f.write_str("no VLAN");
        }
        let mut separator = "VLANs ";
        while let Some(first) = members.next() {
            let mut last = first;
            while let Some(next) = members.next_if_eq(&(last + 1)) {
                last = next;
            }
            match first == last {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ", ";
        }
        match self.native {
            Some(native) => write!(f, " ({native} untagged)"),
            None => f.write_str(" (none untagged)"),
        }
    }
}
