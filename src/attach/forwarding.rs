//! Whether the host forwards packets between its links because of us, and what is to be undone when it
//! need not any more.
//!
//! ```text
//!                 a gateway of ours, and            no gateway of ours
//!                 forwarding is off                 is left
//!   not our doing ───────────────────► our doing ───────────────────► off again, not our doing
//!                                          │
//!                                          └── somebody turned it off, or has come to rely on it: left
//!                                              as it is, not our doing
//! ```
//!
//! A host that forwards IPv6 does not believe router advertisements, unless `accept_ra` of the link is 2
//! (Documentation/networking/ip-sysctl.rst), and loses the routes it had by them at that moment. So the
//! links by which it reaches others get 2 before, and 1 afterwards.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use quantum_config::cni::Family;
use quantum_config::ids::{IfName, LinkIndex};
use serde::{Deserialize, Serialize};

use super::NetnsId;

/// A choice of families.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

impl Families {
    /// Whether a family is one of them.
    pub fn has(self, family: Family) -> bool {
        match family {
            Family::V4 => self.ipv4,
            Family::V6 => self.ipv6,
        }
    }

    /// Those of both.
    pub fn and(self, other: Self) -> Self {
        Self { ipv4: self.ipv4 || other.ipv4, ipv6: self.ipv6 || other.ipv6 }
    }

    /// Those of some addresses.
    pub fn of(addresses: &[IpNetwork]) -> Self {
        Self {
            ipv4: addresses.iter().any(IpNetwork::is_ipv4),
            ipv6: addresses.iter().any(IpNetwork::is_ipv6),
        }
    }
}

/// What was done to one family, and for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnedOn {
    /// The links with the gateways' addresses. As long as one of them exists, it stays on.
    pub gateways: BTreeSet<IfName>,
    /// The links, and `default`, that forwarded by themselves before: what turns it off for all turns it
    /// off for them, too.
    pub before: Vec<IfName>,
    /// `accept_redirects` was on for all links, which turning IPv4 forwarding on takes away, and turning it off
    /// gives whether or not it was.
    pub redirects: bool,
    /// The links whose `accept_ra` was 1 and is 2 because of us.
    pub raised: BTreeSet<IfName>,
    /// The links that did not forward before: the host is no router between these.
    #[serde(default)]
    pub apart: BTreeSet<IfName>,
}

/// What must be known after a restart of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardingNote {
    /// The boot that it is about.
    pub boot: String,
    /// The network namespace that it is about.
    pub netns: NetnsId,
    /// IPv4 is forwarded because of us.
    pub ipv4: Option<TurnedOn>,
    /// IPv6 is.
    pub ipv6: Option<TurnedOn>,
}

impl ForwardingNote {
    /// Nothing is our doing.
    pub fn new(boot: &str, netns: NetnsId) -> Self {
        Self { boot: boot.to_owned(), netns, ipv4: None, ipv6: None }
    }

    /// What was done to a family, if it is forwarded because of us.
    pub fn of(&mut self, family: Family) -> &mut Option<TurnedOn> {
        match family {
            Family::V4 => &mut self.ipv4,
            Family::V6 => &mut self.ipv6,
        }
    }

    /// Which families are forwarded because of us.
    pub fn turned_on(&self) -> Families {
        Families { ipv4: self.ipv4.is_some(), ipv6: self.ipv6.is_some() }
    }
}

/// What kind of link it is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A device, or what is made of devices: a bond, a team, a VLAN.
    Device,
    /// A bridge.
    Bridge,
    /// What hosts have in order to forward to another: a tunnel.
    Tunnel,
    /// Anything else: the end of a pair, a dummy, the loopback.
    Other,
}

/// A link of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLink {
    /// Its index.
    pub index: LinkIndex,
    /// Its name.
    pub name: IfName,
    /// What it is.
    pub kind: LinkKind,
    /// What it is a port of.
    pub master: Option<LinkIndex>,
    /// The host has a route by a router advertisement over it.
    pub is_advertised: bool,
}

/// The links by which the host may learn from routers: those by which it has, devices, and bridges with a
/// device. Never the end of a pair, behind which there may be a container that calls itself a router.
pub fn uplinks(links: &[HostLink]) -> Vec<&HostLink> {
    let has_device = |bridge: &HostLink| {
        let mut ports = links.iter().filter(|port| port.master == Some(bridge.index));
        ports.any(|port| port.kind == LinkKind::Device)
    };
    let learns = |link: &&HostLink| match link.kind {
        _ if link.is_advertised => true,
        _ if link.master.is_some() => false,
        LinkKind::Device => true,
        LinkKind::Bridge => has_device(link),
        LinkKind::Tunnel | LinkKind::Other => false,
    };
    links.iter().filter(learns).collect()
}

/// The links that somebody else may have in order to forward: bridges and tunnels that carry no gateway of
/// ours. What they are for shows by whether they have addresses.
pub fn forwarders<'a>(links: &'a [HostLink], ours: &BTreeSet<IfName>) -> Vec<&'a HostLink> {
    let is_one = |link: &&HostLink| {
        matches!(link.kind, LinkKind::Bridge | LinkKind::Tunnel) && !ours.contains(&link.name)
    };
    links.iter().filter(is_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: LinkKind) -> HostLink {
        let (index, name) = (LinkIndex(index), IfName::new(name).expect("a name"));
        HostLink { index, name, kind, master: None, is_advertised: false }
    }

    fn names(links: Vec<&HostLink>) -> Vec<&str> {
        links.into_iter().map(|link| link.name.as_str()).collect()
    }

    #[test]
    fn a_host_learns_by_devices_and_by_what_it_has_learned_by() {
        let mut links = vec![
            link(1, "lo", LinkKind::Other),
            link(2, "eth0", LinkKind::Device),
            link(3, "eth1", LinkKind::Device),
            link(4, "br-lan", LinkKind::Bridge),
            link(5, "docker0", LinkKind::Bridge),
            link(6, "veth1", LinkKind::Other),
            link(7, "veth2", LinkKind::Other),
            link(8, "wg0", LinkKind::Tunnel),
        ];
        links[2].master = Some(LinkIndex(4));
        links[5].master = Some(LinkIndex(5));
        assert_eq!(names(uplinks(&links)), ["eth0", "br-lan"]);
        links[6].is_advertised = true;
        links[7].is_advertised = true;
        assert_eq!(names(uplinks(&links)), ["eth0", "br-lan", "veth2", "wg0"]);
    }

    #[test]
    fn who_forwards_besides_has_a_bridge_or_a_tunnel() {
        let links = [
            link(2, "eth0", LinkKind::Device),
            link(3, "br0", LinkKind::Bridge),
            link(4, "docker0", LinkKind::Bridge),
            link(5, "wg0", LinkKind::Tunnel),
            link(6, "veth0", LinkKind::Other),
        ];
        let ours = BTreeSet::from([IfName::new("br0").expect("a name")]);
        assert_eq!(names(forwarders(&links, &ours)), ["docker0", "wg0"]);
    }
}
