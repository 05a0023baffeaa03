//! What the elements of our sets tell of containers whose records were lost with the store.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use quantum_config::cni::{Family, Genuine, PortMapping, Posture, Stance};
use quantum_config::ids::{IfName, Mac};

use super::{Element, PublishedAt, Trait, naming};

/// What the elements that were found tell of containers whose records were lost.
#[derive(Debug, Default)]
pub struct Traces {
    masqueraded: HashSet<IpAddr>,
    homes: HashMap<IpAddr, Vec<IfName>>,
    /// By port.
    ports: HashMap<IfName, (Mac, Genuine)>,
    published: HashMap<IpAddr, Vec<PortMapping>>,
    /// Addresses of containers whose ports are at 127.0.0.0/8, too.
    loopback: HashSet<IpAddr>,
    /// Links at which nothing is allowed that no policy allows, and those that are not probed either.
    zero_trust: HashSet<IfName>,
    unprobed: HashSet<IfName>,
}

impl Traces {
    /// Reads what was found.
    pub fn read(elements: &[Element]) -> Self {
        let mut traces = Self::default();
        for element in elements {
            match element {
                Element::Masquerade { address } => _ = traces.masqueraded.insert(*address),
                Element::Port { port, mac, genuine } => {
                    traces.ports.insert(port.clone(), (*mac, *genuine));
                }
                Element::Published { transport, at, host_port, address, port } => {
                    let (host_ip, only) = match at {
                        PublishedAt::Everywhere => (None, Some(Family::of(*address))),
                        PublishedAt::Address(ip) => (Some(*ip), None),
                        PublishedAt::Loopback => {
                            traces.loopback.insert(*address);
                            continue;
                        }
                    };
                    traces.published.entry(*address).or_default().push(PortMapping {
                        transport: *transport,
                        host_ip,
                        only,
                        host_port: *host_port,
                        container_port: *port,
                    });
                }
                Element::Home { address, bridge } => {
                    traces.homes.entry(*address).or_default().push(bridge.clone());
                }
                Element::Network { bridge, trait_: Trait::Denied } => {
                    traces.zero_trust.insert(bridge.clone());
                }
                Element::Network { bridge, trait_: Trait::Unprobed } => {
                    traces.unprobed.insert(bridge.clone());
                }
                Element::Bound { .. }
                | Element::Broadcast { .. }
                | Element::Crowded { .. }
                | Element::Apart { .. }
                | Element::Hairpin { .. }
                | Element::Network { .. }
                | Element::Strangers { .. }
                | Element::Gateway { .. }
                | Element::Judged { .. }
                | Element::Member { .. }
                | Element::Named { .. }
                | Element::Policed { .. }
                | Element::Selective { .. }
                | Element::SelectiveOfHost { .. }
                | Element::Audited { .. }
                | Element::Epoch(_) => {}
            }
        }
        traces
    }

    /// The link that an address is at home at, which is the bridge or one of its VLANs' gateways.
    /// Another network may have the same address at its own bridge.
    pub fn home(&self, address: IpAddr, bridge: &IfName) -> Option<IfName> {
        let links = self.homes.get(&address)?.iter().filter(|link| naming::is_home(link, bridge));
        // In a VLAN it is both, and reached by the gateway of the VLAN.
        links.max_by_key(|link| *link != bridge).cloned()
    }

    /// Whether an address is masqueraded.
    pub fn masquerades(&self, address: IpAddr) -> bool {
        self.masqueraded.contains(&address)
    }

    /// The hardware address that a port is bound to.
    pub fn mac(&self, port: &IfName) -> Option<Mac> {
        self.ports.get(port).filter(|(_, g)| *g != Genuine::Unchecked).map(|(mac, _)| *mac)
    }

    /// What of its network's posture shows at a port, its container's addresses, and the link that the
    /// host reaches it by.
    pub fn posture(
        &self,
        port: &IfName,
        home: &IfName,
        mut own: impl Iterator<Item = IpAddr>,
    ) -> Posture {
        let genuine = self.ports.get(port).map(|(_, genuine)| *genuine).unwrap_or_default();
        let loopback = own.any(|address| self.loopback.contains(&address));
        let mut posture = Posture { genuine, loopback, ..Posture::default() };
        if self.zero_trust.contains(home) {
            posture.stance = Stance::ZeroTrust;
            posture.unprobed = self.unprobed.contains(home);
        }
        posture
    }

    /// The ports that lead to an address.
    pub fn published(&self, address: IpAddr) -> &[PortMapping] {
        self.published.get(&address).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use quantum_config::cni::Transport;

    use super::super::plan::tests::sample;
    use super::super::{elements, expected_elements, recover};
    use super::*;

    #[test]
    fn a_network_of_zero_trust_does_not_lose_it_with_the_store() {
        let zero = r#","policy":{"posture":"zero-trust","host":{"toEndpoint":"deny"}}"#;
        for (keys, trusts_nobody) in [(zero, true), ("", false)] {
            let made = sample(keys);
            let traces = Traces::read(&expected_elements(&made.record));
            let (link, bridge) = (&made.link, made.record.bridge.clone());
            let back = recover(link.host.clone(), link.index, &link.alias, bridge, &[], &traces)
                .expect("recovered");
            assert_eq!(back.posture.is_zero_trust(), trusts_nobody);
            assert_eq!(back.posture.denies_probes(), trusts_nobody);
        }
    }

    #[test]
    fn only_what_was_at_127_0_0_1_is_there_again() {
        let mapping = |host_port| PortMapping {
            transport: Transport::Tcp,
            host_ip: None,
            only: None,
            host_port,
            container_port: 80,
        };
        let mut shown = sample(r#","policy":{"publishLoopback":true}"#);
        shown.record.ports = vec![mapping(8080)];
        let mut other = sample("").record;
        other.ports = vec![mapping(8081)];
        other.addresses[0].address = "10.1.0.99/24".parse().expect("an address");
        let all = [elements(&shown.record), elements(&other)].concat();
        let traces = Traces::read(&all);
        let (link, record) = (&shown.link, &shown.record);
        let back = recover(
            link.host.clone(),
            link.index,
            &link.alias,
            record.bridge.clone(),
            &[],
            &traces,
        )
        .expect("recovered");
        let lost: Vec<_> =
            elements(record).into_iter().filter(|e| !elements(&back).contains(e)).collect();
        assert_eq!(lost, []);
        let own = [other.addresses[0].address.ip()];
        assert!(!traces.posture(&other.host, &other.bridge, own.into_iter()).loopback, "another's");
    }
}
