//! The three tiers, for each side of a connection.

use quantum_config::policy::{Action, ClusterTier, Direction};

use super::matching::{is_peer, is_spoken};
use super::{Because, ByRule, Decision, Endpoint, Flow, Side, Tier, Verdict, World};

/// Decides about a connection.
pub fn evaluate<'w>(world: &'w World, flow: &Flow<'w>) -> Verdict<'w> {
    let egress = decide(world, flow, Direction::Egress);
    let ingress = decide(world, flow, Direction::Ingress);
    Verdict { allowed: egress.allowed && ingress.allowed, egress, ingress }
}

/// One side of a connection, and what it is asked about.
struct Case<'a, 'w> {
    world: &'w World,
    flow: &'a Flow<'w>,
    direction: Direction,
    /// Of whom it is decided.
    endpoint: &'w Endpoint,
    /// Who is at the other end.
    other: Side<'w>,
}

/// What a tier says that speaks of the connection.
enum Said<'w> {
    Decided(bool, Because<'w>),
    Passed(ByRule<'w>),
}

fn decide<'w>(world: &'w World, flow: &Flow<'w>, direction: Direction) -> Decision<'w> {
    let (own, other) = match direction {
        Direction::Egress => (flow.from, flow.to),
        Direction::Ingress => (flow.to, flow.from),
    };
    let mut passed = Vec::new();
    let (allowed, because) = match own.endpoint() {
        None => (true, Because::NotOurs),
        // This never leaves the endpoint, so nobody could do anything about it.
        Some(_) if flow.is_to_itself() && !flow.published => (true, Because::Itself),
        Some(endpoint) => Case { world, flow, direction, endpoint, other }.decide(&mut passed),
    };
    Decision { allowed, direction, because, passed }
}

impl<'w> Case<'_, 'w> {
    fn decide(&self, passed: &mut Vec<ByRule<'w>>) -> (bool, Because<'w>) {
        for tier in [Tier::Admin, Tier::Network, Tier::Baseline] {
            match self.ask(tier) {
                Some(Said::Decided(allowed, because)) => return (allowed, because),
                Some(Said::Passed(rule)) => passed.push(rule),
                None => {}
            }
        }
        let standing = self.world.standing(&self.endpoint.network);
        let (allowed, custom) = standing.decide(self.endpoint, self.direction, self.flow);
        (allowed, Because::Standing { network: &self.endpoint.network, standing, custom })
    }

    fn ask(&self, tier: Tier) -> Option<Said<'w>> {
        match tier {
            Tier::Admin => self.cluster(tier, ClusterTier::Admin),
            Tier::Network => self.network(),
            Tier::Baseline => self.cluster(tier, ClusterTier::Baseline),
        }
    }

    /// A tier of ClusterNetworkPolicies: the first rule that matches decides. That a policy selects an
    /// endpoint means nothing by itself.
    fn cluster(&self, tier: Tier, asked: ClusterTier) -> Option<Said<'w>> {
        let labels = self.world.labels(&self.endpoint.namespace);
        let policies = self.world.cluster_policies(asked).filter(|policy| {
            policy.namespaces.matches(labels) && policy.endpoints.matches(&self.endpoint.labels)
        });
        let mut rules = policies.flat_map(|policy| {
            policy.rules(self.direction).iter().enumerate().map(move |(n, rule)| (policy, n, rule))
        });
        let (policy, index, rule) = rules.find(|(_, _, rule)| {
            is_peer(self.world, &rule.peers, None, &self.other)
                && is_spoken(&rule.ports, self.flow.traffic, &self.flow.to)
        })?;
        let by = ByRule {
            tier,
            namespace: None,
            policy: &policy.name,
            index,
            name: rule.name.as_deref(),
            unread: rule.unread.as_deref(),
        };
        Some(match rule.action {
            Action::Accept => Said::Decided(true, Because::Rule(by)),
            Action::Deny => Said::Decided(false, Because::Rule(by)),
            Action::Pass => Said::Passed(by),
        })
    }

    /// The NetworkPolicies: if one selects the endpoint and speaks of the direction, the tier decides,
    /// and any rule of any of them may let the connection through.
    fn network(&self) -> Option<Said<'w>> {
        // The kubelet's probes come from the host, and no owner of a namespace may break them.
        if self.direction == Direction::Ingress && matches!(self.other, Side::Host(_)) {
            return None;
        }
        let mut isolating = Vec::new();
        let mut found = None;
        for policy in self.world.network_policies(&self.endpoint.namespace) {
            let Some(rules) = policy.rules(self.direction) else { continue };
            if !policy.subject.matches(&self.endpoint.labels) {
                continue;
            }
            isolating.push(policy.name.as_str());
            let matching = rules.iter().position(|rule| {
                is_peer(self.world, &rule.peers, Some(&policy.namespace), &self.other)
                    && is_spoken(&rule.ports, self.flow.traffic, &self.flow.to)
            });
            if found.is_none() {
                found = matching.map(|index| ByRule {
                    tier: Tier::Network,
                    namespace: Some(&policy.namespace),
                    policy: &policy.name,
                    index,
                    name: None,
                    unread: None,
                });
            }
        }
        if isolating.is_empty() {
            return None;
        }
        Some(match found {
            Some(by) => Said::Decided(true, Because::Rule(by)),
            // Through a port that the host publishes, an endpoint comes back to itself.
            None if self.flow.is_to_itself() => Said::Decided(true, Because::Itself),
            None => {
                let namespace = &self.endpoint.namespace;
                Said::Decided(false, Because::Isolated { namespace, policies: isolating })
            }
        })
    }
}
