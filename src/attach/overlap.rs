//! Whether the subnets of a network get in the way of what the host has already. The gateway's address brings a
//! route of the host's own to its subnet, so whatever the host sent there before goes to the containers then.
//!
//! | the host has, on another link than the network's                | a new gateway's subnet |
//! |------------------------------------------------------------------|------------------------|
//! | an address in the subnet, or on a link whose prefix covers it     | is refused             |
//! | a route to a part of the subnet, or to all of it                  | is refused             |
//! | a route to more than the subnet, that came with an address (on the link) | is refused      |
//! | any other route to more than the subnet                           | is told                |
//! | a route that leads (almost) everywhere, as those of a VPN          | is fine                |
//!
//! Link-local, loopback and multicast addresses are fine: the link is part of them, or they never leave.
//! A gateway's address that its link has already is fine, too: nothing changes by it.

use std::fmt;

use ipnetwork::IpNetwork;
use quantum_config::cni::Definition;
use quantum_config::ids::NetworkName;

use super::network::{Stances, home};

/// Prefixes shorter than these, of IPv4 and IPv6, are taken for a way to everywhere, such as the two halves
/// `0.0.0.0/1` and `128.0.0.0/1` that VPNs set.
const SHORTEST: [u8; 2] = [8, 16];

/// What the host has that a subnet may get in the way of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostNetworks {
    /// The addresses of its links, each with the prefix length of its subnet.
    pub addresses: Vec<HostAddress>,
    /// The unicast routes of its main table.
    pub routes: Vec<HostRoute>,
}

/// An address of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAddress {
    /// It, with its prefix length.
    pub address: IpNetwork,
    /// The link that has it.
    pub on: OnLink,
}

/// A route of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoute {
    /// Where to.
    pub destination: IpNetwork,
    /// It came with an address of the link, or the router's word that the prefix is on it.
    pub is_connected: bool,
    /// The link it leads over.
    pub on: OnLink,
}

/// A link, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnLink {
    /// Its name; empty if the route tells none.
    pub name: String,
    /// The bridge it is a port of.
    pub bridge: Option<String>,
}

/// The subnet of a network gets in the way of something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the subnet of gateway {gateway} of network {network} overlaps {of}: what the host sends there would go to the containers; choose another subnet, or remove the {}",
    of.noun()
)]
pub struct Overlap {
    /// The network.
    pub network: NetworkName,
    /// Its gateway, with the prefix length.
    pub gateway: IpNetwork,
    /// What it overlaps.
    pub of: Overlapped,
}

/// What a subnet overlaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlapped {
    /// An address.
    Address {
        /// It, with its prefix length.
        address: IpNetwork,
        /// The link.
        link: String,
        /// The networks of ours whose link it is.
        networks: Vec<NetworkName>,
    },
    /// A route.
    Route {
        /// Where to.
        destination: IpNetwork,
        /// The link.
        link: String,
    },
}

impl Overlapped {
    /// The link whose address it is.
    pub fn address_of(&self) -> Option<&str> {
        match self {
            Self::Address { link, .. } => Some(link),
            Self::Route { .. } => None,
        }
    }

    fn noun(&self) -> &'static str {
        match self {
            Self::Address { .. } => "address",
            Self::Route { .. } => "route",
        }
    }
}

impl fmt::Display for Overlapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { address, link, networks } if networks.is_empty() => {
                write!(f, "{address}, an address of {link}")
            }
            Self::Address { address, link, networks } => {
                let names: Vec<&str> = networks.iter().map(NetworkName::as_str).collect();
                write!(f, "{address}, the gateway on {link} of network {}", names.join(", "))
            }
            Self::Route { destination, link } if link.is_empty() => {
                write!(f, "the route to {destination}")
            }
            Self::Route { destination, link } => {
                write!(f, "the route to {destination} over {link}")
            }
        }
    }
}

/// Compares the gateways of a network with what the host has. Gives what is only to be told.
pub fn overlaps(
    network: &Definition,
    host: &HostNetworks,
    stances: &Stances,
) -> Result<Vec<Overlap>, Overlap> {
    let own = home(network);
    let is_own = |on: &OnLink| {
        let names = [Some(&on.name), on.bridge.as_ref()];
        names.into_iter().flatten().any(|name| name == own.as_str())
    };
    let has = |gateway: &IpNetwork| {
        host.addresses.iter().any(|a| a.on.name == own.as_str() && a.address == *gateway)
    };
    let mut told = Vec::new();
    for gateway in network.gateway_addresses().into_iter().filter(|gateway| !has(gateway)) {
        let found = |of| Overlap { network: network.name.clone(), gateway, of };
        for HostAddress { address, on } in host.addresses.iter().filter(|a| !is_own(&a.on)) {
            let is_covered = covers(*address, gateway) && !leads_everywhere(*address);
            if is_routed(*address) && (is_covered || gateway.contains(address.ip())) {
                let (address, link) = (*address, on.name.clone());
                let networks = stances.of(&link);
                return Err(found(Overlapped::Address { address, link, networks }));
            }
        }
        for HostRoute { destination, is_connected, on } in
            host.routes.iter().filter(|r| !is_own(&r.on) && is_routed(r.destination))
        {
            let of = || {
                let (destination, link) = (*destination, on.name.clone());
                found(Overlapped::Route { destination, link })
            };
            if covers(gateway, *destination) {
                return Err(of());
            }
            if covers(*destination, gateway) && !leads_everywhere(*destination) {
                if *is_connected {
                    return Err(of());
                }
                told.push(of());
            }
        }
    }
    Ok(told)
}

/// Whether all of `small` is in `large`.
fn covers(large: IpNetwork, small: IpNetwork) -> bool {
    large.prefix() <= small.prefix() && large.contains(small.network())
}

fn leads_everywhere(prefix: IpNetwork) -> bool {
    match prefix {
        IpNetwork::V4(prefix) => prefix.prefix() < SHORTEST[0],
        IpNetwork::V6(prefix) => prefix.prefix() < SHORTEST[1],
    }
}

/// Whether its link is no part of it, and it can be sent to from elsewhere.
fn is_routed(prefix: IpNetwork) -> bool {
    match prefix {
        IpNetwork::V4(prefix) => {
            let ip = prefix.ip();
            !(ip.is_loopback() || ip.is_link_local() || ip.is_multicast())
        }
        IpNetwork::V6(prefix) => {
            let ip = prefix.ip();
            !(ip.is_loopback() || ip.is_unicast_link_local() || ip.is_multicast())
        }
    }
}

#[cfg(test)]
mod tests {
    use quantum_config::cni::Call;

    use super::*;

    fn network(name: &str, bridge: &str, subnets: &[&str]) -> Definition {
        let ranges: Vec<_> =
            subnets.iter().map(|subnet| format!(r#"[{{"subnet":"{subnet}"}}]"#)).collect();
        let text = format!(
            r#"{{"cniVersion":"1.0.0","name":"{name}","bridge":"{bridge}","isGateway":true,
            "ipam":{{"type":"host-local","ranges":[{}]}}}}"#,
            ranges.join(",")
        );
        Call::parse(text.as_bytes()).and_then(|call| call.definition()).expect("valid")
    }

    fn on(link: &str) -> OnLink {
        OnLink { name: link.to_owned(), bridge: None }
    }

    /// `10.0.0.1/24 eth0` is an address; `10.0.0.0/24 kernel eth0` and `10.0.0.0/24 via eth0` are routes.
    fn host(lines: &[&str]) -> HostNetworks {
        let mut host = HostNetworks::default();
        for line in lines {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [address, link] => {
                    let address = address.parse().expect("an address");
                    host.addresses.push(HostAddress { address, on: on(link) });
                }
                [destination, how, link] => host.routes.push(HostRoute {
                    destination: destination.parse().expect("a prefix"),
                    is_connected: how == "kernel",
                    on: on(link),
                }),
                _ => panic!("{line}"),
            }
        }
        host
    }

    fn found(subnet: &str, lines: &[&str]) -> Result<usize, String> {
        let network = network("n", "br0", &[subnet]);
        let found = overlaps(&network, &host(lines), &Stances::default());
        found.map(|told| told.len()).map_err(|overlap| overlap.of.to_string())
    }

    #[test]
    fn what_would_take_the_hosts_traffic_is_refused() {
        for (subnet, line, word) in [
            ("10.88.0.0/16", "10.88.3.4/24 eth1", "10.88.3.4/24, an address of eth1"),
            ("10.88.0.0/16", "10.88.3.4/32 lo", "of lo"),
            ("10.88.0.0/16", "10.0.0.5/8 eth0", "of eth0"),
            ("10.88.0.0/16", "10.88.0.1/16 br1", "of br1"),
            ("10.88.0.0/16", "10.88.7.0/24 via wg0", "the route to 10.88.7.0/24 over wg0"),
            ("10.88.0.0/16", "10.88.0.0/16 via eth0", "route"),
            ("10.88.0.0/16", "10.88.0.9/32 via eth0", "route"),
            ("10.88.0.0/16", "10.0.0.0/8 kernel eth0", "route"),
            ("fd00:1::/64", "fd00:1::5/64 eth0", "fd00:1::5/64, an address of eth0"),
            ("fd00:1::/64", "fd00:1::/48 kernel eth0", "route"),
            ("fd00:1::/64", "fd00:1:0:0:8000::/65 via eth0", "route"),
        ] {
            let said = found(subnet, &[line]).expect_err(line);
            assert!(said.contains(word), "{line}: {said}");
        }
    }

    #[test]
    fn what_leads_further_is_told_and_what_leads_everywhere_is_fine() {
        for (subnet, line, told) in [
            ("10.88.0.0/16", "10.0.0.0/8 via eth0", 1),
            ("fd00:1::/64", "fd00::/16 via eth0", 1),
            ("10.88.0.0/16", "0.0.0.0/0 via eth0", 0),
            ("10.88.0.0/16", "0.0.0.0/1 kernel tun0", 0),
            ("200.1.0.0/16", "128.0.0.0/1 via tun0", 0),
            ("10.88.0.0/16", "8.0.0.5/5 eth0", 0),
            ("fd00:1::/64", "::/0 via eth0", 0),
            ("fd00:1::/64", "fc00::/7 via eth0", 0),
            ("10.88.0.0/16", "10.89.0.5/16 eth0", 0),
            ("10.88.0.0/16", "10.89.0.0/16 kernel eth0", 0),
            ("10.88.0.0/16", "127.0.0.1/8 lo", 0),
            ("169.254.0.0/16", "169.254.3.4/16 eth0", 0),
            ("fd00:1::/64", "fe80::1/64 eth0", 0),
            ("10.88.0.0/16", "fd00:1::5/64 eth0", 0),
        ] {
            assert_eq!(found(subnet, &[line]), Ok(told), "{subnet} {line}");
        }
    }

    #[test]
    fn its_own_link_is_no_other() {
        assert_eq!(found("10.88.0.0/16", &["10.88.0.7/16 br0", "10.88.0.0/16 kernel br0"]), Ok(0));
        let mut port = host(&["10.88.0.7/16 eth0"]);
        port.addresses[0].on.bridge = Some("br0".to_owned());
        let network = network("n", "br0", &["10.88.0.0/16"]);
        assert_eq!(overlaps(&network, &port, &Stances::default()), Ok(Vec::new()));
    }

    #[test]
    fn a_gateway_that_is_there_changes_nothing_and_a_second_one_does() {
        let there = ["10.88.0.1/16 br0", "10.88.3.4/24 eth1"];
        assert_eq!(found("10.88.0.0/16", &there), Ok(0));
        let both = network("n", "br0", &["10.88.0.0/16", "fd00:1::/64"]);
        let host = host(&["10.88.0.1/16 br0", "10.88.3.4/24 eth1", "fd00:1::5/64 eth1"]);
        let overlap = overlaps(&both, &host, &Stances::default()).expect_err("the IPv6 one");
        assert_eq!(overlap.gateway.to_string(), "fd00:1::1/64");
    }

    #[test]
    fn of_another_network_both_are_named() {
        let mut stances = Stances::default();
        stances.enter(&network("one", "br1", &["10.88.0.0/24"]));
        let two = network("two", "br2", &["10.88.0.0/16"]);
        let host = host(&["10.88.0.1/24 br1", "10.88.0.0/24 kernel br1"]);
        let said = overlaps(&two, &host, &stances).expect_err("they overlap").to_string();
        for part in ["10.88.0.1/16 of network two", "10.88.0.1/24", "br1 of network one"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn without_a_gateway_there_is_no_route() {
        let mut switch = network("n", "br0", &["10.88.0.0/16"]);
        switch.gateway = false;
        let host = host(&["10.88.3.4/24 eth1"]);
        assert_eq!(overlaps(&switch, &host, &Stances::default()), Ok(Vec::new()));
    }
}
