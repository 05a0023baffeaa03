//! The sets that rules refer to, and who is in which.

use std::collections::{BTreeMap, BTreeSet};

use quantum_config::cni::{Family, Transport};
use quantum_config::ids::digest;
use quantum_config::policy::{Labels, Scope, Selector};

use super::rules::SetKind;
use crate::policy::SetName;

/// The same for both families.
pub(super) type Both = [(Family, SetName); 2];

/// The sets that the rules of all documents refer to.
#[derive(Debug, Clone, Default)]
pub(super) struct Sets {
    pub(super) kinds: BTreeMap<SetName, SetKind>,
    pub(super) selected: Vec<Selected>,
    /// By the name of a port. Without a transport there is one for each, as a set says nothing of it.
    pub(super) named: BTreeMap<String, Vec<(Transport, Both)>>,
    /// Which sets of a place rules ask for. Every endpoint is in those of its own.
    pub(super) akin: BTreeSet<Akin>,
}

/// The endpoints that a peer of a rule names.
#[derive(Debug, Clone)]
pub(super) struct Selected {
    pub(super) sets: Both,
    namespaces: Within,
    endpoints: Selector,
}

#[derive(Debug, Clone)]
enum Within {
    Network(String),
    One(String),
    Matching(Selector),
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) network: String,
    pub(super) namespace: String,
}

/// Endpoints that are at the same place as the one that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Akin {
    Network,
    Namespace,
}

impl Akin {
    /// Stands in a rule for the set, until it is known which place it is.
    pub(super) fn stand_in(self) -> Both {
        let [four, six] = match self {
            Self::Network => ["network4", "network6"],
            Self::Namespace => ["namespace4", "namespace6"],
        };
        [(Family::V4, SetName::new(four)), (Family::V6, SetName::new(six))]
    }
}

impl Selected {
    /// Whether it is about endpoints of this namespace, which has these labels.
    pub(super) fn is_about(&self, place: &Place, labels: &Labels) -> bool {
        match &self.namespaces {
            Within::Network(name) => *name == place.network,
            Within::One(name) => *name == place.namespace,
            Within::Matching(selector) => selector.matches(labels),
        }
    }

    /// Whether an endpoint there with such labels is in it.
    pub(super) fn has(&self, labels: &Labels) -> bool {
        self.endpoints.matches(labels)
    }
}

impl Sets {
    /// The set of endpoints that a peer names. `own` is the namespace of the rule's policy; without one
    /// nothing is in the policy's own.
    pub(super) fn selector(
        &mut self,
        own: Option<&str>,
        namespaces: &Scope,
        endpoints: &Selector,
    ) -> Option<Both> {
        let (within, called) = match namespaces {
            Scope::Own => (Within::One(own?.to_owned()), format!("of {}", own?)),
            Scope::Matching(selector) => {
                (Within::Matching(selector.clone()), format!("in {selector}"))
            }
        };
        Some(self.select(within, &called, endpoints))
    }

    /// The set of the endpoints at a place.
    pub(super) fn akin(&mut self, akin: Akin, place: &Place) -> Both {
        let (within, called) = match akin {
            Akin::Network => {
                (Within::Network(place.network.clone()), format!("at {}", place.network))
            }
            // The same as that of a rule that names all of its own namespace.
            Akin::Namespace => {
                (Within::One(place.namespace.clone()), format!("of {}", place.namespace))
            }
        };
        self.select(within, &called, &Selector::default())
    }

    fn select(&mut self, within: Within, called: &str, endpoints: &Selector) -> Both {
        let sets = both("sel", digest(&[called, &endpoints.to_string()]));
        let [(_, first), _] = &sets;
        if !self.kinds.contains_key(first) {
            for (family, name) in &sets {
                self.kinds.insert(name.clone(), SetKind::Addresses(*family));
            }
            let (sets, endpoints) = (sets.clone(), endpoints.clone());
            self.selected.push(Selected { sets, namespaces: within, endpoints });
        }
        sets
    }

    /// The set of what endpoints call so.
    pub(super) fn named(&mut self, name: &str, transport: Transport) -> Both {
        let known = self.named.entry(name.to_owned()).or_default();
        if let Some((_, sets)) = known.iter().find(|(of, _)| *of == transport) {
            return sets.clone();
        }
        let sets = both("named", digest(&[name, &transport.to_string()]));
        for (family, name) in &sets {
            self.kinds.insert(name.clone(), SetKind::Named(*family));
        }
        known.push((transport, sets.clone()));
        sets
    }

    /// The set of these ports.
    pub(super) fn ports(&mut self, spans: Vec<(u16, u16)>) -> SetName {
        let kind = SetKind::Ports(spans);
        let name = SetName::new(&format!("ports_{:016x}", digest(&[&kind.to_string()])));
        self.kinds.insert(name.clone(), kind);
        name
    }
}

fn both(prefix: &str, hash: u64) -> Both {
    [(Family::V4, '4'), (Family::V6, '6')]
        .map(|(family, digit)| (family, SetName::new(&format!("{prefix}{digit}_{hash:016x}"))))
}
