//! All by which the policies of some worlds tell connections apart. What none of it tells apart is
//! decided alike, so that of many endpoints, addresses and ports only a few need be asked about.
//!
//! A kind of document that comes to be has to be gathered here, too, and be one of those that select.

use std::collections::{BTreeSet, HashMap, HashSet};

use quantum_config::policy::{
    Among, Block, Direction, NetworkPolicy, OrderedPolicy, OrderedTier, Peer, Ports, Selector,
};

use super::{Endpoint, View, World};

/// What rules ask for.
#[derive(Debug, Default)]
pub(super) struct Terms<'w> {
    /// Of labels of endpoints. Those of namespaces need not be known, as a namespace is always told
    /// apart from others.
    pub(super) selectors: HashSet<&'w Selector>,
    /// Of addresses.
    pub(super) blocks: Vec<&'w Block>,
    /// Of ports.
    pub(super) ports: Vec<&'w Ports>,
}

impl<'w> Terms<'w> {
    pub(super) fn of(worlds: &[&'w World]) -> Self {
        let mut terms = Self::default();
        for world in worlds {
            terms.gather(world);
        }
        terms
    }

    fn gather(&mut self, world: &'w World) {
        const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];
        let namespaces: BTreeSet<&str> =
            world.endpoints().iter().map(|endpoint| endpoint.namespace.as_str()).collect();
        for policy in
            namespaces.into_iter().flat_map(|name| world.network_policies(name, View::InForce))
        {
            self.selectors.insert(&policy.subject);
            for rule in DIRECTIONS.iter().filter_map(|way| policy.rules(*way)).flatten() {
                self.rule(&rule.peers, &rule.ports);
            }
        }
        for tier in TIERS {
            for policy in world.ordered(tier, View::InForce) {
                // Networks are always told apart, as namespaces are.
                self.selectors.insert(&policy.subject.endpoints);
                for rule in DIRECTIONS.iter().flat_map(|way| policy.rules(*way)) {
                    self.rule(&rule.peers, &rule.ports);
                }
            }
        }
    }

    fn rule(&mut self, peers: &'w Among<Peer>, ports: &'w Among<Ports>) {
        if let Among::These(peers) = peers {
            for peer in peers {
                match peer {
                    Peer::Endpoints { endpoints, .. } => {
                        self.selectors.insert(endpoints);
                    }
                    Peer::Block(block) if !self.blocks.contains(&block) => self.blocks.push(block),
                    // What an end is, and what it has in common with the other, is told apart without.
                    Peer::Block(_) | Peer::Entity(_) => {}
                }
            }
        }
        if let Among::These(ports) = ports {
            for ports in ports {
                if !self.ports.contains(&ports) {
                    self.ports.push(ports);
                }
            }
        }
    }
}

const TIERS: [OrderedTier; 3] =
    [OrderedTier::Admin, OrderedTier::Application, OrderedTier::Baseline];

/// The documents that select an endpoint, and whether it is shut off whatever they say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selecting<'w> {
    network: Vec<&'w NetworkPolicy>,
    ordered: Vec<&'w OrderedPolicy>,
    is_shut_off: bool,
}

impl<'w> Selecting<'w> {
    pub(super) fn of(world: &'w World, endpoint: &'w Endpoint, view: View) -> Self {
        let network = world.network_policies(&endpoint.namespace, view);
        let namespace = world.labels(&endpoint.namespace);
        let ordered = TIERS.iter().flat_map(|tier| world.ordered(*tier, view));
        let is_selected = |policy: &&OrderedPolicy| {
            policy.subject.matches(&endpoint.network, namespace, &endpoint.labels)
        };
        Self {
            network: network.filter(|policy| policy.subject.matches(&endpoint.labels)).collect(),
            ordered: ordered.filter(is_selected).collect(),
            is_shut_off: world.is_shut_off(endpoint, view),
        }
    }

    /// Their names, in the order in which they are asked.
    pub(super) fn names(&self) -> Vec<String> {
        let ordered = |is_before: bool| {
            let asked = self.ordered.iter();
            let asked = asked.filter(move |p| (p.tier != OrderedTier::Baseline) == is_before);
            asked.map(|policy| policy.name.clone())
        };
        let network = self.network.iter().map(|p| format!("{}/{}", p.namespace, p.name));
        ordered(true).chain(network).chain(ordered(false)).collect()
    }
}

/// Whether two worlds have the same endpoints in the same namespaces and networks, so that they differ
/// by documents that select only.
pub(super) fn are_peopled_alike(now: &World, then: &World) -> bool {
    let others: HashMap<_, _> = then.endpoints().iter().map(|e| (&e.key, e)).collect();
    now.endpoints().len() == then.endpoints().len()
        && now.endpoints().iter().all(|endpoint| {
            others.get(&endpoint.key) == Some(&endpoint)
                && now.labels(&endpoint.namespace) == then.labels(&endpoint.namespace)
                && now.standing(&endpoint.network) == then.standing(&endpoint.network)
        })
}
