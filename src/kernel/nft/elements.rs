//! Which elements of which sets a thing of ours is made of, and which things the elements that were
//! found are of.

use std::collections::HashMap;
use std::net::IpAddr;

use quantum_config::cni::{Family, Genuine};
use quantum_config::ids::{IfName, Mac};

use super::sets::{Set, SetElement, Value, known};
use crate::attach::{Element, PublishedAt, Trait, naming};
use crate::policy::Way;

// include/uapi/linux/netfilter.h
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// The set elements that an element of a plan is made of. Their order does not matter: a port is mute
/// until it is genuine.
pub(super) fn expand(element: &Element) -> Vec<SetElement> {
    match element {
        Element::Home { address, bridge } => {
            let home = either(*address, &known::HOME4, &known::HOME6);
            let itself = either(*address, &known::SELF4, &known::SELF6);
            let ip = Value::Ip(*address);
            vec![
                SetElement::new(home, &[ip.clone(), Value::Name(bridge.clone())]),
                SetElement::new(itself, &[ip.clone(), ip]),
            ]
        }
        Element::Masquerade { address } => {
            let set = either(*address, &known::MASQ4, &known::MASQ6);
            vec![SetElement::new(set, &[Value::Ip(*address)])]
        }
        Element::Port { port, mac, genuine } => looked_at(port, *mac, *genuine),
        Element::Bound { port, mac, address } => bound(port, *mac, *address),
        Element::Broadcast { port, address } => {
            let key = [Value::Name(port.clone()), Value::Ip((*address).into())];
            vec![SetElement::new(&known::BROADCAST4, &key)]
        }
        Element::Published { transport, at, host_port, address, port } => {
            let host = [Value::Transport(*transport), Value::Port(*host_port)];
            let to = [Value::Ip(*address), Value::Port(*port)];
            vec![match at {
                PublishedAt::Everywhere => {
                    let map = either(*address, &known::PORT4, &known::PORT6);
                    SetElement::mapping(map, &host, &to)
                }
                PublishedAt::Address(ip) => {
                    let map = either(*address, &known::ADDRPORT4, &known::ADDRPORT6);
                    let [transport, port] = host;
                    SetElement::mapping(map, &[Value::Ip(*ip), transport, port], &to)
                }
                PublishedAt::Loopback => SetElement::mapping(&known::LOOPPORT4, &host, &to),
            }]
        }
        Element::Hairpin { address } => {
            let set = either(*address, &known::HAIR4, &known::HAIR6);
            vec![SetElement::new(set, &[Value::Ip(*address), Value::Ip(*address)])]
        }
        Element::Network { bridge, trait_ } => {
            let name = || Value::Name(bridge.clone());
            vec![match trait_ {
                Trait::Ours => SetElement::new(&known::BRIDGES, &[name()]),
                Trait::Closed => SetElement::new(&known::CLOSED, &[name()]),
                Trait::Strict => SetElement::new(&known::STRICT, &[name()]),
                Trait::Guarded => SetElement::new(&known::GUARDED, &[name()]),
                Trait::Inward => SetElement::new(&known::INWARD, &[name(), name()]),
                Trait::Direct => SetElement::new(&known::DIRECT, &[name()]),
                Trait::Denied => SetElement::new(&known::ZERO, &[name()]),
                Trait::Unprobed => SetElement::new(&known::UNPROBED, &[name()]),
            }]
        }
        Element::Strangers { mac } => {
            let own = IpAddr::V6(naming::link_local(*mac));
            vec![
                SetElement::new(&known::GATEMAC, &[Value::Hardware(*mac)]),
                SetElement::new(&known::ASKED6, &[Value::Ip(own)]),
            ]
        }
        Element::Gateway { address, bridge, strict } => {
            let ip = Value::Ip(*address);
            let gate = either(*address, &known::GATE4, &known::GATE6);
            let own = either(*address, &known::OWN4, &known::OWN6);
            let asked = either(*address, &known::ASKED4, &known::ASKED6);
            let asked = strict.then(|| SetElement::new(asked, std::slice::from_ref(&ip)));
            let gate = SetElement::new(gate, std::slice::from_ref(&ip));
            let own = SetElement::new(own, &[ip, Value::Name(bridge.clone())]);
            [gate, own].into_iter().chain(asked).collect()
        }
        Element::Policed { bridge } => {
            vec![SetElement::new(&known::POLICED, &[Value::Name(bridge.clone())])]
        }
        Element::Selective { bridge } => {
            vec![SetElement::new(&known::SELECTIVE, &[Value::Name(bridge.clone())])]
        }
        Element::SelectiveOfHost { bridge } => {
            vec![SetElement::new(&known::HOSTSELECTIVE, &[Value::Name(bridge.clone())])]
        }
        Element::Crowded { address } => {
            let set = either(*address, &known::CROWDED4, &known::CROWDED6);
            vec![SetElement::new(set, &[Value::Ip(*address)])]
        }
        Element::Apart { link, family } => {
            let set = match family {
                Family::V4 => &known::APART4,
                Family::V6 => &known::APART6,
            };
            vec![SetElement::new(set, &[Value::Name(link.clone())])]
        }
        Element::Judged { way, address, bridge, chain } => {
            let (v4, v6) = match way {
                Way::Egress => (&known::EGRESS4, &known::EGRESS6),
                Way::Ingress => (&known::INGRESS4, &known::INGRESS6),
                Way::FromHost => (&known::HOST4, &known::HOST6),
            };
            let key = [Value::Ip(*address), Value::Name(bridge.clone())];
            vec![SetElement::going(either(*address, v4, v6), &key, chain)]
        }
        Element::Audited { address } => {
            let set = either(*address, &known::AUDIT4, &known::AUDIT6);
            vec![SetElement::new(set, &[Value::Ip(*address)])]
        }
        Element::Member { set, address } => {
            let kind = either(*address, &known::MEMBERS4, &known::MEMBERS6);
            vec![SetElement::of_one(kind, set, &[Value::Ip(*address)])]
        }
        Element::Named { set, address, port } => {
            let kind = either(*address, &known::NAMED4, &known::NAMED6);
            vec![SetElement::of_one(kind, set, &[Value::Ip(*address), Value::Port(*port)])]
        }
        Element::Epoch(mark) => {
            let stamp = |family| {
                SetElement::mapping(&known::STAMP, &[Value::Family(family)], &[Value::Mark(*mark)])
            };
            let epoch = SetElement::new(&known::EPOCH, &[Value::Mark(*mark)]);
            vec![epoch, stamp(NFPROTO_IPV4), stamp(NFPROTO_IPV6)]
        }
    }
}

fn either(address: IpAddr, v4: &'static Set, v6: &'static Set) -> &'static Set {
    if address.is_ipv4() { v4 } else { v6 }
}

fn looked_at(port: &IfName, mac: Mac, genuine: Genuine) -> Vec<SetElement> {
    let name = || Value::Name(port.clone());
    let of = || SetElement::new(&known::GENUINE, &[name(), Value::Hardware(mac)]);
    match genuine {
        Genuine::Unchecked => vec![SetElement::new(&known::LOOSE, &[name()])],
        Genuine::Hardware => vec![SetElement::new(&known::FRAMED, &[name()]), of()],
        Genuine::Addresses => {
            vec![of(), SetElement::new(&known::OPTION6, &[name(), Value::Hardware(mac)])]
        }
    }
}

fn bound(port: &IfName, mac: Mac, address: IpAddr) -> Vec<SetElement> {
    let (name, ip) = (Value::Name(port.clone()), Value::Ip(address));
    let set = either(address, &known::BOUND4, &known::BOUND6);
    let of = SetElement::new(set, &[name.clone(), Value::Hardware(mac), ip.clone()]);
    let target = address.is_ipv6().then(|| SetElement::new(&known::TARGET6, &[name, ip]));
    [of].into_iter().chain(target).collect()
}

/// The things that elements are of, as far as they tell something that no other does: who is at home
/// where and is masqueraded, what is looked at at a port, which ports are published, how networks stand.
pub(super) fn collect(found: &[SetElement]) -> Vec<Element> {
    let mut things = Vec::new();
    let mut framed: HashMap<IfName, Genuine> = HashMap::new();
    let read = found.iter().filter_map(|e| e.read().map(|(key, value)| (e.set, key, value)));
    let read: Vec<_> = read.collect();
    for (set, key, _) in &read {
        if let (true, [Value::Name(port)]) = (set.name == known::FRAMED.name, &key[..]) {
            framed.insert(port.clone(), Genuine::Hardware);
        }
    }
    for (set, key, value) in read {
        match (set.name, &key[..], &value[..]) {
            (name, [Value::Name(bridge), rest @ ..], []) if set.is_networks => {
                if let Some(family) = apart_of(name) {
                    things.push(Element::Apart { link: bridge.clone(), family });
                }
                let Some(trait_) = trait_of(name) else { continue };
                // A pair of two bridges lets one network into another: that is none of ours.
                if rest.iter().all(|again| *again == Value::Name(bridge.clone())) {
                    things.push(Element::Network { bridge: bridge.clone(), trait_ });
                }
            }
            ("epoch", [Value::Mark(mark)], []) => things.push(Element::Epoch(*mark)),
            ("gatemac", [Value::Hardware(mac)], []) => {
                things.push(Element::Strangers { mac: *mac });
            }
            ("masq4" | "masq6", [Value::Ip(address)], []) => {
                things.push(Element::Masquerade { address: *address });
            }
            ("home4" | "home6", [Value::Ip(address), Value::Name(bridge)], []) => {
                let (address, bridge) = (*address, bridge.clone());
                things.push(Element::Home { address, bridge });
            }
            ("genuine", [Value::Name(port), Value::Hardware(mac)], []) => {
                let genuine = framed.get(port).copied().unwrap_or(Genuine::Addresses);
                things.push(Element::Port { port: port.clone(), mac: *mac, genuine });
            }
            (name, key, [Value::Ip(address), Value::Port(port)]) => {
                let (at, transport, host_port) = match key {
                    [Value::Transport(transport), Value::Port(host_port)] => {
                        let at = match name == known::LOOPPORT4.name {
                            true => PublishedAt::Loopback,
                            false => PublishedAt::Everywhere,
                        };
                        (at, *transport, *host_port)
                    }
                    [Value::Ip(ip), Value::Transport(transport), Value::Port(host_port)] => {
                        (PublishedAt::Address(*ip), *transport, *host_port)
                    }
                    _ => continue,
                };
                let (address, port) = (*address, *port);
                things.push(Element::Published { transport, at, host_port, address, port });
            }
            _ => {}
        }
    }
    things
}

/// What is let in is marked by it.
pub(super) fn is_stamp(element: &SetElement) -> bool {
    element.set == &known::STAMP
}

/// Whether [`collect`] tells everything that networks have in a set: what it does not tell is strange.
pub(super) fn is_told(set: &Set) -> bool {
    trait_of(set.name).is_some() || apart_of(set.name).is_some() || set.name == known::GATEMAC.name
}

/// The family whose links such a set holds between which the host is no router.
fn apart_of(set: &str) -> Option<Family> {
    match set {
        "apart4" => Some(Family::V4),
        "apart6" => Some(Family::V6),
        _ => None,
    }
}

fn trait_of(set: &str) -> Option<Trait> {
    Some(match set {
        "bridges" => Trait::Ours,
        "closed" => Trait::Closed,
        "strict" => Trait::Strict,
        "guarded" => Trait::Guarded,
        "inward" => Trait::Inward,
        "direct" => Trait::Direct,
        "zero" => Trait::Denied,
        "unprobed" => Trait::Unprobed,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use quantum_config::cni::Transport;

    use super::*;

    fn name() -> IfName {
        IfName::new("qc0123456789abc").expect("a name")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn sets(element: &Element) -> Vec<&'static str> {
        expand(element).iter().map(|e| e.set.name).collect()
    }

    #[test]
    fn what_is_looked_at_decides_the_sets_of_a_port() {
        let port = |genuine| Element::Port { port: name(), mac: Mac([2; 6]), genuine };
        assert_eq!(sets(&port(Genuine::Unchecked)), ["loose"]);
        assert_eq!(sets(&port(Genuine::Hardware)), ["framed", "genuine"]);
        assert_eq!(sets(&port(Genuine::Addresses)), ["genuine", "option6"]);
        let bound =
            |address| Element::Bound { port: name(), mac: Mac([2; 6]), address: ip(address) };
        assert_eq!(sets(&bound("10.0.0.2")), ["bound4"]);
        assert_eq!(sets(&bound("fd00::2")), ["bound6", "target6"]);
    }

    #[test]
    fn what_elements_tell_is_found_again() {
        let published = |at, address: &str| Element::Published {
            transport: Transport::Sctp,
            at,
            host_port: 80,
            address: ip(address),
            port: 8080,
        };
        let told = [
            Element::Network { bridge: name(), trait_: Trait::Closed },
            Element::Network { bridge: name(), trait_: Trait::Inward },
            Element::Network { bridge: name(), trait_: Trait::Denied },
            Element::Network { bridge: name(), trait_: Trait::Unprobed },
            Element::Strangers { mac: Mac([2; 6]) },
            Element::Home { address: ip("10.0.0.2"), bridge: name() },
            Element::Masquerade { address: ip("fd00::2") },
            Element::Apart { link: name(), family: Family::V6 },
            Element::Port { port: name(), mac: Mac([2; 6]), genuine: Genuine::Hardware },
            published(PublishedAt::Everywhere, "10.0.0.2"),
            published(PublishedAt::Address(ip("2001:db8::1")), "fd00::2"),
            published(PublishedAt::Loopback, "10.0.0.2"),
        ];
        let silent = [
            Element::Hairpin { address: ip("10.0.0.2") },
            Element::Gateway { address: ip("fd00::1"), bridge: name(), strict: true },
        ];
        let all: Vec<_> = told.iter().chain(&silent).flat_map(expand).collect();
        assert_eq!(collect(&all), told);
        assert!(collect(&[SetElement::found(&known::GENUINE, vec![0; 24], vec![])]).is_empty());
    }
}
