//! All by which the policies of some worlds tell connections apart. What none of it tells apart is
//! decided alike, so that of many endpoints, addresses and ports only a few need be asked about.
//!
//! A kind of document that comes to be has to be gathered here, too.

use std::collections::{BTreeSet, HashSet};

use quantum_config::policy::{Among, Block, ClusterTier, Direction, Peer, Ports, Selector};

use super::World;

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
        for policy in namespaces.into_iter().flat_map(|name| world.network_policies(name)) {
            self.selectors.insert(&policy.subject);
            for rule in DIRECTIONS.iter().filter_map(|way| policy.rules(*way)).flatten() {
                self.rule(&rule.peers, &rule.ports);
            }
        }
        for tier in [ClusterTier::Admin, ClusterTier::Baseline] {
            for policy in world.cluster_policies(tier) {
                self.selectors.insert(&policy.endpoints);
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
                    Peer::Block(_) => {}
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
