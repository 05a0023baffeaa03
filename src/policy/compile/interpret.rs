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

/// The table.
pub(super) struct Machine {
    chains: BTreeMap<ChainName, Chain>,
    judged: BTreeMap<(Way, IpAddr), ChainName>,
    members: BTreeMap<SetName, BTreeSet<IpAddr>>,
    named: BTreeMap<SetName, BTreeSet<(IpAddr, u16)>>,
    ports: BTreeMap<SetName, Vec<(u16, u16)>>,
}

impl Machine {
    pub(super) fn new(compiled: &Compiled) -> Self {
        let Rules { chains, sets } = compiled.rules.clone();
        let mut machine = Self {
            chains,
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
    pub(super) fn rulings(&self, flow: &Flow<'_>) -> [Ruling; 2] {
        let receiver = match flow.from {
            Side::Host(_) => Way::FromHost,
            Side::Endpoint { .. } | Side::World(_) => Way::Ingress,
        };
        [self.ruling(Way::Egress, &flow.from, flow), self.ruling(receiver, &flow.to, flow)]
    }

    fn ruling(&self, way: Way, own: &Side<'_>, flow: &Flow<'_>) -> Ruling {
        let Some(chain) = self.judged.get(&(way, own.address())) else { return Ruling::Undecided };
        let mut chain = chain.as_str();
        loop {
            match (way, chain) {
                (Way::Egress, "denied_out") | (Way::Ingress | Way::FromHost, "denied_in") => {
                    return Ruling::Denied;
                }
                (Way::Egress, "sender_default")
                | (Way::Ingress, "receiver_default")
                | (Way::FromHost, "host_default") => return Ruling::Undecided,
                _ => {}
            }
            let rules = self.chains.get(&ChainName::new(chain)).expect(chain);
            let rule = rules.iter().find(|rule| {
                rule.matches.iter().enumerate().all(|(n, one)| {
                    let ported =
                        matches!(one, Match::Ports(..) | Match::PortIn(_) | Match::Named(..));
                    let is_known = |m: &Match| matches!(m, Match::Protocol(_));
                    assert!(!ported || rule.matches[..n].iter().any(is_known), "{rule}");
                    self.is(one, flow)
                })
            });
            // A chain that ends returns, and that would be to allow.
            match &rule.expect("a rule for everything").then {
                Then::Return => return Ruling::Allowed,
                Then::Goto(next) => chain = next.as_str(),
            }
        }
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
            Match::Protocol(number) => flow.traffic.protocol() == *number,
            Match::Ports(first, last) => (*first..=*last).contains(&port),
            Match::PortIn(set) => self.ports[set].iter().any(|(f, l)| (*f..=*l).contains(&port)),
            Match::Named(family, set) => {
                Family::of(to) == *family && self.named[set].contains(&(to, port))
            }
        }
    }
}
