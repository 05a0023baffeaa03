//! What the kernel makes of the compiled form, in a few lines of our own: so it can be asked about any
//! connection, and be compared with the evaluator.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use quantum_config::cni::Family;

use super::{Chain, Compiled, End, Match, Rules, SetKind, Then};
use crate::attach::Element;
use crate::policy::{ChainName, Flow, SetName, Side, Traffic, Way};

/// What one side of a connection meets in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    Allowed,
    Denied,
    /// The posture decides.
    Undecided,
}

/// The same, and whether it was noted that it would be denied.
pub(super) type Ruled = (Ruling, bool);

/// The table.
pub(super) struct Machine {
    chains: BTreeMap<ChainName, Chain>,
    doors: BTreeMap<ChainName, ChainName>,
    judged: BTreeMap<(Way, IpAddr), ChainName>,
    members: BTreeMap<SetName, BTreeSet<IpAddr>>,
    named: BTreeMap<SetName, BTreeSet<(IpAddr, u16)>>,
    ports: BTreeMap<SetName, Vec<(u16, u16)>>,
}

impl Machine {
    pub(super) fn new(compiled: &Compiled) -> Self {
        let Rules { chains, doors, sets } = compiled.rules.clone();
        let mut machine = Self {
            chains,
            doors,
            judged: BTreeMap::new(),
            members: BTreeMap::new(),
            named: BTreeMap::new(),
            ports: BTreeMap::new(),
        };
        for (name, kind) in sets {
            match kind {
                SetKind::Addresses(_) => drop(machine.members.insert(name, BTreeSet::new())),
                SetKind::Named(_) => drop(machine.named.insert(name, BTreeSet::new())),
                SetKind::Ports(spans) => drop(machine.ports.insert(name, spans)),
            }
        }
        for element in compiled.elements.values().flatten() {
            match element {
                Element::Judged { way, address, chain, .. } => {
                    let before = machine.judged.insert((*way, *address), chain.clone());
                    assert_eq!(before, None, "{element:?}");
                }
                Element::Member { set, address } => {
                    let set = machine.members.get_mut(set).expect("the set");
                    assert!(set.insert(*address), "{element:?} is there twice");
                }
                Element::Named { set, address, port } => {
                    let set = machine.named.get_mut(set).expect("the set");
                    assert!(set.insert((*address, *port)), "{element:?} is there twice");
                }
                other => panic!("{other:?}"),
            }
        }
        machine
    }

    /// What the sender's and the receiver's chains say.
    pub(super) fn rulings(&self, flow: &Flow<'_>) -> [Ruled; 2] {
        let receiver = match flow.from {
            Side::Host(_) => Way::FromHost,
            Side::Endpoint { .. } | Side::World(_) => Way::Ingress,
        };
        [self.ruling(Way::Egress, &flow.from, flow), self.ruling(receiver, &flow.to, flow)]
    }

    fn ruling(&self, way: Way, own: &Side<'_>, flow: &Flow<'_>) -> Ruled {
        match self.judged.get(&(way, own.address())) {
            Some(chain) => {
                let chain = self.doors.get(chain).unwrap_or(chain);
                self.follow(way, chain.as_str(), flow)
            }
            None => (Ruling::Undecided, false),
        }
    }

    fn follow(&self, way: Way, chain: &str, flow: &Flow<'_>) -> Ruled {
        let out = way == Way::Egress;
        match (out, way == Way::FromHost, chain) {
            (true, _, "denied_out" | "rejected_out") => return (Ruling::Denied, false),
            (false, _, "denied_in" | "rejected_in") => return (Ruling::Denied, false),
            (true, _, "noted_out") | (false, _, "noted_in") => return (Ruling::Allowed, true),
            (true, _, "sender_default")
            | (false, false, "receiver_default")
            | (false, true, "host_default") => return (Ruling::Undecided, false),
            _ => {}
        }
        let rules = self.chains.get(&ChainName::new(chain)).expect(chain);
        let mut noted = false;
        for rule in rules.iter() {
            let matches = rule.matches.iter().enumerate().all(|(n, one)| {
                let ported = matches!(
                    one,
                    Match::Ports(..) | Match::PortIn(_) | Match::Named(..) | Match::Icmp(..)
                );
                let is_known = |m: &Match| matches!(m, Match::Protocol(_));
                assert!(!ported || rule.matches[..n].iter().any(is_known), "{rule}");
                self.is(one, flow)
            });
            match &rule.then {
                _ if !matches => {}
                Then::Return => return (Ruling::Allowed, noted),
                Then::Goto(next) => {
                    let (ruling, also) = self.follow(way, next.as_str(), flow);
                    return (ruling, noted || also);
                }
                Then::Jump(next) => {
                    let (ruling, also) = self.follow(way, next.as_str(), flow);
                    assert_eq!(ruling, Ruling::Allowed, "it only looks: {rule}");
                    noted |= also;
                }
            }
        }
        // A chain that ends returns, and that would be to allow.
        panic!("no rule for {flow:?} in {chain}")
    }

    fn is(&self, one: &Match, flow: &Flow<'_>) -> bool {
        let (from, to) = (flow.from.address(), flow.to.address());
        let at = |end: End| if end == End::Sender { from } else { to };
        let port = match flow.traffic {
            Traffic::Port(_, port) => port,
            Traffic::Icmp { .. } | Traffic::Other(_) => 0,
        };
        match one {
            Match::Family(family) => Family::of(from) == *family,
            Match::Within(end, nets) => nets.iter().any(|net| net.contains(at(*end))),
            Match::Outside(end, nets) => {
                let address = at(*end);
                Family::of(nets[0].ip()) == Family::of(address)
                    && !nets.iter().any(|net| net.contains(address))
            }
            Match::Member(end, family, set) => {
                Family::of(from) == *family && self.members[set].contains(&at(*end))
            }
            Match::Itself(family) => Family::of(from) == *family && from == to && flow.published,
            Match::Stranger(end, family, set) => {
                Family::of(from) == *family && !self.members[set].contains(&at(*end))
            }
            // Of a first packet, which never goes back.
            Match::Host { back: true, .. } => false,
            Match::Host { back: false, is } => matches!(flow.to, Side::Host(_)) == *is,
            Match::Protocol(number) => flow.traffic.protocol() == *number,
            Match::Icmp(first, last) => match flow.traffic {
                Traffic::Icmp { kind, code, .. } => {
                    (*first..=*last).contains(&u16::from_be_bytes([kind, code]))
                }
                Traffic::Port(..) | Traffic::Other(_) => false,
            },
            Match::Ports(first, last) => (*first..=*last).contains(&port),
            Match::PortIn(set) => self.ports[set].iter().any(|(f, l)| (*f..=*l).contains(&port)),
            Match::Named(family, set) => {
                Family::of(to) == *family && self.named[set].contains(&(to, port))
            }
        }
    }
}
