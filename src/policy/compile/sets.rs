//! The sets that rules refer to, and who is in which.

use std::collections::BTreeMap;

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
    by_name: BTreeMap<SetName, usize>,
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
    One(String),
    Matching(Selector),
}

impl Selected {
    /// Whether it is about endpoints of this namespace, which has these labels.
    pub(super) fn is_about(&self, namespace: &str, labels: &Labels) -> bool {
        match &self.namespaces {
            Within::One(name) => name == namespace,
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
        let sets = both("sel", digest(&[&called, &endpoints.to_string()]));
        let [(_, first), _] = &sets;
        if !self.by_name.contains_key(first) {
            self.by_name.insert(first.clone(), self.selected.len());
            for (family, name) in &sets {
                self.kinds.insert(name.clone(), SetKind::Addresses(*family));
            }
            let (sets, endpoints) = (sets.clone(), endpoints.clone());
            self.selected.push(Selected { sets, namespaces: within, endpoints });
        }
        Some(sets)
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
