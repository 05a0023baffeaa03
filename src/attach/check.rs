//! CHECK: the record against what the kernel shows.
//!
//! Later plugins of a chain may change MTU, MAC and routes (the tuning and sbr plugins do), so a
//! route that is there in another table, or an address with company, is no difference.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use quantum_config::cni::Route;

use super::{Observed, Record};

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
    /// There is no such bridge.
    BridgeGone(String),
    /// It is down.
    BridgeDown(String),
    /// The bridge takes every frame and should not, or the other way about.
    Promiscuity(String, bool),
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
    /// An address is not masqueraded any more.
    NotMasqueraded(IpAddr),
    /// Forged hardware addresses are not kept out any more.
    NotGuarded(String),
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
            Self::BridgeGone(name) => write!(f, "bridge {name} is gone"),
            Self::BridgeDown(name) => write!(f, "bridge {name} is down"),
            Self::Promiscuity(name, wanted) => {
                write!(f, "bridge {name} is {}promiscuous", if *wanted { "not " } else { "" })
            }
            Self::GatewayGone(name, ip) => write!(f, "{name} has lost the address {ip}"),
            Self::InterfaceGone(name) => write!(f, "interface {name} is gone from the container"),
            Self::InterfaceDown(name) => write!(f, "interface {name} is down in the container"),
            Self::AddressGone(address) => write!(f, "address {address} is gone from the container"),
            Self::RouteGone(dst) => write!(f, "the route to {dst} is gone from the container"),
            Self::NotMasqueraded(ip) => write!(f, "address {ip} is not masqueraded any more"),
            Self::NotGuarded(name) => {
                write!(f, "forged hardware addresses are not kept out of port {name} any more")
            }
        }
    }
}

/// Everything that differs.
pub fn differences(record: &Record, observed: &Observed) -> Vec<Difference> {
    let mut found = Vec::new();
    let host = record.host.to_string();
    let bridge = record.bridge.to_string();
    match &observed.host {
        None => found.push(Difference::HostLinkGone(host)),
        Some(link) if link.index != record.index => found.push(Difference::HostLinkForeign(host)),
        Some(link) => {
            if !link.up {
                found.push(Difference::HostLinkDown(host.clone()));
            }
            if link.bridge.as_ref() != Some(&bridge) {
                found.push(Difference::Unplugged(host, bridge.clone()));
            } else {
                if record.hairpin && !link.hairpin {
                    found.push(Difference::HairpinOff(host.clone()));
                }
                if record.port.isolated != link.isolated {
                    found.push(Difference::Isolation(host, record.port.isolated));
                }
            }
        }
    }
    match &observed.bridge {
        None => found.push(Difference::BridgeGone(bridge)),
        Some(seen) if !seen.up => found.push(Difference::BridgeDown(bridge)),
        Some(seen) => {
            if record.promisc != seen.promisc {
                found.push(Difference::Promiscuity(bridge.clone(), record.promisc));
            }
            let gateways = record.gateway.then_some(&record.addresses).into_iter().flatten();
            let lost = gateways.filter_map(|a| a.gateway);
            let lost = lost.filter(|ip| !seen.addresses.iter().any(|a| a.ip() == *ip));
            found.extend(lost.map(|ip| Difference::GatewayGone(record.home().to_string(), ip)));
        }
    }
    match &observed.inside {
        Some(link) if link.index == record.index => {
            if !link.up && !record.port.stays_down {
                found.push(Difference::InterfaceDown(record.key.ifname.to_string()));
            }
            let addresses = record.addresses.iter().map(|a| a.address);
            let gone = addresses.filter(|a| !link.addresses.contains(a));
            found.extend(gone.map(Difference::AddressGone));
            let is_there = |route: &&Route| {
                let by = |hop| route.gw.is_none() || route.gw == hop;
                link.routes.iter().any(|r| r.destination == route.dst && by(r.next_hop))
            };
            let gone = record.routes.iter().filter(|route| !is_there(route));
            found.extend(gone.map(|route| Difference::RouteGone(route.dst)));
        }
        _ => found.push(Difference::InterfaceGone(record.key.ifname.to_string())),
    }
    found
}

#[cfg(test)]
mod tests {
    use quantum_config::ids::LinkIndex;

    use super::super::plan::tests::sample;
    use super::super::{BridgeSeen, HostSeen, InsideSeen, RouteSeen};
    use super::*;

    fn healthy(record: &Record) -> Observed {
        Observed {
            host: Some(HostSeen {
                index: record.index,
                mac: None,
                mtu: 1500,
                alias: String::new(),
                bridge: Some("br0".into()),
                up: true,
                hairpin: false,
                isolated: false,
            }),
            bridge: Some(BridgeSeen {
                index: LinkIndex(3),
                up: true,
                promisc: false,
                addresses: vec!["10.1.0.1/24".parse().expect("address")],
            }),
            inside: Some(InsideSeen {
                index: record.index,
                mac: None,
                up: true,
                mtu: 1400,
                addresses: vec![record.addresses[0].address],
                routes: vec![RouteSeen {
                    destination: "0.0.0.0/0".parse().expect("dst"),
                    next_hop: None,
                    table: 254,
                }],
            }),
        }
    }

    type Breakage = (fn(&mut Observed), Difference);

    #[test]
    fn each_breakage_is_named() {
        let record = sample("").record;
        assert_eq!(differences(&record, &healthy(&record)), []);
        let host = record.host.to_string();
        let cases: Vec<Breakage> = vec![
            (|o| o.host = None, Difference::HostLinkGone(host.clone())),
            (|o| o.host.as_mut().expect("host").up = false, Difference::HostLinkDown(host.clone())),
            (
                |o| o.host.as_mut().expect("host").index.0 += 1,
                Difference::HostLinkForeign(host.clone()),
            ),
            (
                |o| o.host.as_mut().expect("host").bridge = None,
                Difference::Unplugged(host.clone(), "br0".into()),
            ),
            (
                |o| o.host.as_mut().expect("host").isolated = true,
                Difference::Isolation(host, false),
            ),
            (
                |o| o.bridge.as_mut().expect("bridge").promisc = true,
                Difference::Promiscuity("br0".into(), false),
            ),
            (|o| o.bridge = None, Difference::BridgeGone("br0".into())),
            (
                |o| o.bridge.as_mut().expect("bridge").up = false,
                Difference::BridgeDown("br0".into()),
            ),
            (
                |o| o.bridge.as_mut().expect("bridge").addresses.clear(),
                Difference::GatewayGone("br0".into(), "10.1.0.1".parse().expect("gateway")),
            ),
            (|o| o.inside = None, Difference::InterfaceGone("eth0".into())),
            (
                |o| o.inside.as_mut().expect("inside").index.0 += 1,
                Difference::InterfaceGone("eth0".into()),
            ),
            (
                |o| o.inside.as_mut().expect("inside").up = false,
                Difference::InterfaceDown("eth0".into()),
            ),
            (
                |o| o.inside.as_mut().expect("inside").addresses.clear(),
                Difference::AddressGone(record.addresses[0].address),
            ),
            (
                |o| o.inside.as_mut().expect("inside").routes.clear(),
                Difference::RouteGone("0.0.0.0/0".parse().expect("dst")),
            ),
        ];
        for (breaking, expected) in cases {
            let mut observed = healthy(&record);
            breaking(&mut observed);
            assert_eq!(differences(&record, &observed), [expected]);
        }
    }

    #[test]
    fn a_bridge_without_gateway_need_not_have_the_address() {
        let record = sample(r#","isGateway":false"#).record;
        let mut observed = healthy(&record);
        observed.bridge.as_mut().expect("bridge").addresses.clear();
        assert_eq!(differences(&record, &observed), []);
    }
}
