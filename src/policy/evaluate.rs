//! The tiers, for each side of a connection.

use quantum_config::policy::{Action, Direction, Kind, OrderedTier};

use super::matching::{is_peer, is_spoken};
use super::{Because, ByRule, Decision, Endpoint, Flow, Side, Tier, Verdict, View, World};

/// Decides about a connection.
pub fn evaluate<'w>(world: &'w World, flow: &Flow<'w>) -> Verdict<'w> {
    evaluate_in(world, View::InForce, flow)
}

/// What the staged policies would deny of what is allowed: the verdict if they were in force. None if
/// it would be allowed all the same, or is not allowed now.
pub fn staged<'w>(world: &'w World, flow: &Flow<'w>) -> Option<Verdict<'w>> {
    if !world.has_staged() || !evaluate(world, flow).allowed {
        return None;
    }
    Some(evaluate_in(world, View::WithStaged, flow)).filter(|verdict| !verdict.allowed)
}

fn evaluate_in<'w>(world: &'w World, view: View, flow: &Flow<'w>) -> Verdict<'w> {
    let egress = decide(world, view, flow, Direction::Egress);
    let ingress = decide(world, view, flow, Direction::Ingress);
    Verdict { allowed: egress.allowed && ingress.allowed, egress, ingress }
}

/// One side of a connection, and what it is asked about.
struct Case<'a, 'w> {
    world: &'w World,
    view: View,
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

fn decide<'w>(world: &'w World, view: View, flow: &Flow<'w>, direction: Direction) -> Decision<'w> {
    let (own, other) = match direction {
        Direction::Egress => (flow.from, flow.to),
        Direction::Ingress => (flow.to, flow.from),
    };
    let mut passed = Vec::new();
    let (allowed, because) = match own.endpoint() {
        None => (true, Because::NotOurs),
        // This never leaves the endpoint, so nobody could do anything about it.
        Some(_) if flow.is_to_itself() && !flow.published => (true, Because::Itself),
        // Not even a rule for everybody can be meant for somebody of whom nothing is known.
        Some(endpoint) if world.is_shut_off(endpoint, view) => (false, Because::Unknown),
        Some(endpoint) => {
            Case { world, view, flow, direction, endpoint, other }.decide(&mut passed)
        }
    };
    Decision { allowed, direction, because, passed }
}

impl<'w> Case<'_, 'w> {
    fn decide(&self, passed: &mut Vec<ByRule<'w>>) -> (bool, Because<'w>) {
        for tier in [Tier::Admin, Tier::Application, Tier::Network, Tier::Baseline] {
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
            Tier::Admin => self.ordered(tier, OrderedTier::Admin),
            Tier::Application => self.ordered(tier, OrderedTier::Application),
            Tier::Network => self.network(),
            Tier::Baseline => self.ordered(tier, OrderedTier::Baseline),
        }
    }

    /// A tier of ordered policies: the first rule that matches decides. That a policy selects an
    /// endpoint means nothing by itself.
    fn ordered(&self, tier: Tier, asked: OrderedTier) -> Option<Said<'w>> {
        let own = self.endpoint;
        let namespace = self.world.labels(&own.namespace);
        let policies = self
            .world
            .ordered(asked, self.view)
            .filter(|policy| policy.subject.matches(&own.network, namespace, &own.labels));
        let mut rules = policies.flat_map(|policy| {
            policy.rules(self.direction).iter().enumerate().map(move |(n, rule)| (policy, n, rule))
        });
        let (policy, index, rule) = rules.find(|(_, _, rule)| {
            is_peer(self.world, &rule.peers, own, &self.other)
                && is_spoken(&rule.ports, self.flow.traffic, &self.flow.to)
        })?;
        let by = ByRule {
            kind: policy.kind,
            tier,
            namespace: None,
            policy: &policy.name,
            index,
            name: rule.name.as_deref(),
            action: rule.action,
            unread: rule.unread.as_deref(),
        };
        Some(match rule.action {
            Action::Accept => Said::Decided(true, Because::Rule(by)),
            Action::Deny | Action::Reject => Said::Decided(false, Because::Rule(by)),
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
        for policy in self.world.network_policies(&self.endpoint.namespace, self.view) {
            let Some(rules) = policy.rules(self.direction) else { continue };
            if !policy.subject.matches(&self.endpoint.labels) {
                continue;
            }
            isolating.push(policy.name.as_str());
            let matching = rules.iter().position(|rule| {
                is_peer(self.world, &rule.peers, self.endpoint, &self.other)
                    && is_spoken(&rule.ports, self.flow.traffic, &self.flow.to)
            });
            if found.is_none() {
                found = matching.map(|index| ByRule {
                    kind: Kind::Network,
                    tier: Tier::Network,
                    namespace: Some(&policy.namespace),
                    policy: &policy.name,
                    index,
                    name: None,
                    action: Action::Accept,
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
