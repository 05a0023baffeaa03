//! What an attachment, and a network, have in our nftables sets. All of it follows from the record and
//! the definition, so that it can be put back at any time.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use quantum_config::cni::{Family, Genuine, PortMapping, Posture, Transport};
use quantum_config::ids::{IfName, Mac};

use super::{Assigned, Record, naming};
use crate::policy::{ChainName, SetName, Way};

/// Something in our nftables sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Element {
    /// `address` is a container's at `bridge`.
    Home {
        /// The container's address.
        address: IpAddr,
        /// The bridge of its network.
        bridge: IfName,
    },
    /// What comes from `address` is masqueraded unless it leaves by its bridge.
    Masquerade {
        /// The container's address.
        address: IpAddr,
    },
    /// What is looked at in frames that come in by `port`. One without this is mute.
    Port {
        /// The host's end of the pair.
        port: IfName,
        /// The container's hardware address.
        mac: Mac,
        /// What is looked at.
        genuine: Genuine,
    },
    /// `address` is genuine at `port`.
    Bound {
        /// The host's end of the pair.
        port: IfName,
        /// The container's hardware address.
        mac: Mac,
        /// One of the container's addresses.
        address: IpAddr,
    },
    /// The broadcast address of a container's subnet, for frames that go out by its port.
    Broadcast {
        /// The host's end of the pair.
        port: IfName,
        /// The address.
        address: Ipv4Addr,
    },
    /// The container begins no connections for now, as it holds too many of them.
    Crowded {
        /// One of its addresses.
        address: IpAddr,
    },
    /// A link between which and others of this kind the host does not route: it was there before we turned
    /// forwarding on.
    Apart {
        /// Its name.
        link: IfName,
        /// For packets of this family.
        family: Family,
    },
    /// A port of the host leads to the container.
    Published {
        /// TCP, UDP or SCTP.
        transport: Transport,
        /// Where.
        at: PublishedAt,
        /// The host's port.
        host_port: u16,
        /// The container's address.
        address: IpAddr,
        /// The container's port.
        port: u16,
    },
    /// The container may come to itself by a published port.
    Hairpin {
        /// Its address.
        address: IpAddr,
    },
    /// A bridge of ours, and how its network stands towards others.
    Network {
        /// The bridge.
        bridge: IfName,
        /// One thing about it.
        trait_: Trait,
    },
    /// The host is not there for ports that somebody else has put on a bridge.
    Strangers {
        /// The bridge's hardware address.
        mac: Mac,
    },
    /// A gateway's address.
    Gateway {
        /// The address.
        address: IpAddr,
        /// Its bridge.
        bridge: IfName,
        /// Frames that ask for it from elsewhere are dropped.
        strict: bool,
    },
    /// The rules of a chain judge some of an endpoint's connections.
    Judged {
        /// Which.
        way: Way,
        /// One of its addresses.
        address: IpAddr,
        /// The link that the host reaches it by.
        bridge: IfName,
        /// The chain.
        chain: ChainName,
    },
    /// Some endpoint at this bridge is judged by rules of policy.
    Policed {
        /// The bridge.
        bridge: IfName,
    },
    /// Some endpoint at this bridge receives only what policy lets it receive, so nobody receives there
    /// what a container sends to everybody.
    Selective {
        /// The bridge.
        bridge: IfName,
    },
    /// Policy decides of some endpoint at this bridge what it receives from processes of the host, so nobody
    /// receives there what these send to everybody.
    SelectiveOfHost {
        /// The bridge.
        bridge: IfName,
    },
    /// What would be denied to or from an endpoint is only noted.
    Audited {
        /// One of its addresses.
        address: IpAddr,
    },
    /// An endpoint is among those that a selector of policy names.
    Member {
        /// The selector's set.
        set: SetName,
        /// One of its addresses.
        address: IpAddr,
    },
    /// What a port's name means at an endpoint.
    Named {
        /// The name's set.
        set: SetName,
        /// One of its addresses.
        address: IpAddr,
        /// The port's number.
        port: u16,
    },
    /// Connections with this mark were judged under what holds now.
    Epoch(u32),
}

/// Where a port is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PublishedAt {
    /// At every address of the host, of the container's family.
    Everywhere,
    /// At one.
    Address(IpAddr),
    /// At 127.0.0.0/8.
    Loopback,
}

/// What can be true of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trait {
    /// It is ours.
    Ours,
    /// Nothing comes from elsewhere.
    Closed,
    /// Nothing comes from an unknown address.
    Strict,
    /// Its containers send only from their own addresses.
    Guarded,
    /// Its containers reach each other.
    Inward,
    /// They are reached by their addresses.
    Direct,
    /// Nothing is allowed that no policy allows.
    Denied,
    /// Nor does the host reach its containers to probe them.
    Unprobed,
}

impl Trait {
    pub const ALL: [Self; 8] = [
        Self::Ours,
        Self::Closed,
        Self::Strict,
        Self::Guarded,
        Self::Inward,
        Self::Direct,
        Self::Denied,
        Self::Unprobed,
    ];

    /// Whether a network that stands so has it.
    pub(super) fn is_of(self, posture: &Posture) -> bool {
        match self {
            Self::Ours => true,
            Self::Closed => posture.is_closed(),
            Self::Strict => posture.is_strict(),
            Self::Guarded => posture.genuine == Genuine::Addresses,
            Self::Inward => !posture.alone && !posture.is_zero_trust(),
            Self::Direct => posture.direct,
            Self::Denied => posture.is_zero_trust(),
            Self::Unprobed => posture.denies_probes(),
        }
    }
}

/// What an attachment has.
pub fn elements(record: &Record) -> Vec<Element> {
    let (port, mac, posture) = (&record.host, record.mac, &record.posture);
    let mut found = vec![Element::Port { port: port.clone(), mac, genuine: posture.genuine }];
    let addresses = || record.addresses.iter().map(|a| a.address.ip());
    if posture.genuine == Genuine::Addresses {
        found.extend(record.addresses.iter().filter_map(|assigned| match assigned.address {
            // The two addresses of a /31 are both hosts (RFC 3021).
            IpNetwork::V4(subnet) if subnet.prefix() < 31 => {
                Some(Element::Broadcast { port: port.clone(), address: subnet.broadcast() })
            }
            _ => None,
        }));
        let own = IpAddr::V6(naming::link_local(mac));
        found.extend(addresses().chain([own]).map(|address| Element::Bound {
            port: port.clone(),
            mac,
            address,
        }));
    }
    for address in addresses() {
        found.push(Element::Home { address, bridge: record.home().clone() });
        if record.vlan_gateway.is_some() {
            // What stays in the VLAN comes before the rules for packets, if at all, at the bridge itself.
            found.push(Element::Home { address, bridge: record.bridge.clone() });
        }
        if record.masquerade {
            found.push(Element::Masquerade { address });
        }
    }
    published(&record.ports, &record.addresses, posture, &mut found);
    found
}

/// The same, and what its network has to have for it.
pub fn expected_elements(record: &Record) -> Vec<Element> {
    let traits = [Trait::Closed, Trait::Strict, Trait::Denied, Trait::Unprobed].into_iter();
    let of_network = traits
        .filter(|trait_| trait_.is_of(&record.posture))
        .map(|trait_| Element::Network { bridge: record.home().clone(), trait_ });
    let mut found = elements(record);
    found.extend(of_network);
    found
}

/// Each published port leads to the container's first address of its family, as the reference plugin
/// has it.
fn published(
    ports: &[PortMapping],
    addresses: &[Assigned],
    posture: &Posture,
    found: &mut Vec<Element>,
) {
    if ports.is_empty() {
        return;
    }
    for family in [Family::V4, Family::V6] {
        let mut own = addresses.iter().map(|a| a.address.ip());
        let Some(address) = own.find(|a| Family::of(*a) == family) else { continue };
        let before = found.len();
        for mapping in ports.iter().filter(|mapping| mapping.is_of(family)) {
            let element = |at| Element::Published {
                transport: mapping.transport,
                at,
                host_port: mapping.host_port,
                address,
                port: mapping.container_port,
            };
            match mapping.host_ip {
                Some(ip) => found.push(element(PublishedAt::Address(ip))),
                None => {
                    found.push(element(PublishedAt::Everywhere));
                    if posture.loopback && family == Family::V4 {
                        found.push(element(PublishedAt::Loopback));
                    }
                }
            }
        }
        if found.len() > before {
            found.push(Element::Hairpin { address });
        }
    }
}

#[cfg(test)]
mod tests {
    use quantum_config::cni::Stance;

    use super::super::Traces;
    use super::super::plan::tests::sample;
    use super::*;

    fn of(keys: &str) -> Vec<Element> {
        elements(&sample(keys).record)
    }

    #[test]
    fn an_open_network_has_as_little_as_can_be() {
        let found = of(r#","ipMasq":false,"policy":{"posture":"open","antiSpoof":false}"#);
        let [Element::Port { genuine: Genuine::Unchecked, .. }, Element::Home { .. }] = &found[..]
        else {
            panic!("{found:?}")
        };
    }

    #[test]
    fn zero_trust_is_more_than_closed() {
        let mut plan = sample("");
        let traits = |record: &Record| -> Vec<Trait> {
            let of = |element| match element {
                Element::Network { trait_, .. } => Some(trait_),
                _ => None,
            };
            expected_elements(record).into_iter().filter_map(of).collect()
        };
        assert_eq!(traits(&plan.record), [Trait::Closed, Trait::Strict]);
        plan.record.posture.unprobed = true;
        assert_eq!(traits(&plan.record), [Trait::Closed, Trait::Strict], "only zero trust denies");
        plan.record.posture.stance = Stance::ZeroTrust;
        let all = [Trait::Closed, Trait::Strict, Trait::Denied, Trait::Unprobed];
        assert_eq!(traits(&plan.record), all);
        plan.record.posture.unprobed = false;
        assert_eq!(traits(&plan.record), all[..3]);
    }

    #[test]
    fn what_is_genuine_is_the_containers_own() {
        let record = sample("").record;
        let bound: Vec<IpAddr> = elements(&record)
            .into_iter()
            .filter_map(|e| match e {
                Element::Bound { address, mac, port } => {
                    assert_eq!((mac, &port), (record.mac, &record.host));
                    Some(address)
                }
                _ => None,
            })
            .collect();
        assert_eq!(
            bound,
            [record.addresses[0].address.ip(), naming::link_local(record.mac).into()]
        );
    }

    #[test]
    fn a_port_leads_to_the_first_address_of_its_family() {
        let mut record = sample(r#","policy":{"publishLoopback":true}"#).record;
        let mapping = |host: Option<&str>| PortMapping {
            transport: Transport::Udp,
            host_ip: host.map(|h| h.parse().expect("an address")),
            only: None,
            host_port: 53,
            container_port: 5353,
        };
        record.ports = vec![mapping(None)];
        let published = |record: &Record| -> Vec<PublishedAt> {
            let at = |e| match e {
                Element::Published { at, .. } => Some(at),
                _ => None,
            };
            elements(record).into_iter().filter_map(at).collect()
        };
        assert_eq!(published(&record), [PublishedAt::Everywhere, PublishedAt::Loopback]);
        let host: IpAddr = "192.0.2.1".parse().expect("an address");
        record.ports = vec![mapping(Some("192.0.2.1")), mapping(Some("2001:db8::1"))];
        assert_eq!(published(&record), [PublishedAt::Address(host)]);
        let own = record.addresses[0].address.ip();
        assert!(elements(&record).contains(&Element::Hairpin { address: own }));
        let traces = Traces::read(&elements(&record));
        assert_eq!(traces.published(own), [mapping(Some("192.0.2.1"))]);
        assert_eq!(traces.mac(&record.host), Some(record.mac));
        assert!(traces.masquerades(own));
    }
}
