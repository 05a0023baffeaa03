//! Policies that are asked in an order, whatever kind they were written as: ClusterNetworkPolicy, our
//! NodePolicy, and what stands in for a document that cannot be read. Both kinds have the same tiers,
//! priorities and rules, so that whoever decides or compiles need not tell them apart.

use std::collections::BTreeSet;

use super::node::Fields;
use super::{Among, Direction, Kind, Labels, Peer, PolicyError, Ports, Selector};

/// A policy that is asked in its turn; the first of its rules that matches decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedPolicy {
    /// What it was written as: [`Kind::Cluster`], [`Kind::Node`] or [`Kind::Broken`].
    pub kind: Kind,
    /// Its name; of a broken document, its file's.
    pub name: String,
    /// When it is asked.
    pub tier: OrderedTier,
    /// 0 to 1000; the lowest of a tier is asked first. See [`OrderedPolicy::turn`].
    pub priority: u16,
    /// It decides nothing: what it would deny is noted.
    pub staged: bool,
    /// Whom it is about.
    pub subject: Subject,
    /// The rules for what comes, in their order.
    pub ingress: Vec<OrderedRule>,
    /// The rules for what goes.
    pub egress: Vec<OrderedRule>,
}

/// When an ordered policy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrderedTier {
    /// Before every other.
    Admin,
    /// Behind them, and before the NetworkPolicies. Only a NodePolicy can be of it.
    Application,
    /// After them.
    Baseline,
}

/// Whom an ordered policy is about: who meets all three.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// Endpoints of these networks; of any, if none.
    pub networks: Option<BTreeSet<String>>,
    /// Endpoints in namespaces with such labels.
    pub namespaces: Selector,
    /// Endpoints with such labels.
    pub endpoints: Selector,
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Lets it through, finally for this direction.
    Accept,
    /// Drops it, finally.
    Deny,
    /// Drops it, finally, and tells the sender. Only a NodePolicy has it.
    Reject,
    /// Leaves it to the next tier.
    Pass,
}

/// A rule of an ordered policy: one of the peers and one of the ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedRule {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What it does.
    pub action: Action,
    /// The other side.
    pub peers: Among<Peer>,
    /// The traffic.
    pub ports: Among<Ports>,
    /// What we cannot read, if it is for that reason that the rule is as it is: a field, or what is
    /// wrong with a broken document.
    pub unread: Option<String>,
}

/// What a document that cannot be read could have decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// About whom.
    pub subject: Subject,
    /// About what comes to them.
    pub ingress: bool,
    /// About what they send.
    pub egress: bool,
}

impl OrderedPolicy {
    /// Its rules of one direction.
    pub fn rules(&self, direction: Direction) -> &[OrderedRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// When it is asked. No two policies have the same turn, and none depends on which file was read
    /// first: of equal priorities, what stands in for a broken document comes first, then
    /// ClusterNetworkPolicies, then NodePolicies, each by their names.
    pub fn turn(&self) -> (OrderedTier, u16, Kind, &str) {
        (self.tier, self.priority, self.kind, &self.name)
    }

    /// What stands in for a document that cannot be read: before anything else is asked, all that the
    /// document could have decided is denied.
    pub fn broken(name: String, why: &str, reach: Reach) -> Self {
        let deny = |is_reached: bool| {
            let rule = OrderedRule {
                name: None,
                action: Action::Deny,
                peers: Among::Any,
                ports: Among::Any,
                unread: Some(why.to_owned()),
            };
            is_reached.then_some(rule).into_iter().collect()
        };
        Self {
            kind: Kind::Broken,
            name,
            tier: OrderedTier::Admin,
            priority: 0,
            staged: false,
            subject: reach.subject,
            ingress: deny(reach.ingress),
            egress: deny(reach.egress),
        }
    }
}

/// The name of a rule, if it has one, and its action, which is one of these.
pub(super) fn read_head(
    fields: &mut Fields<'_>,
    actions: &[(&str, Action)],
    otherwise: &'static str,
) -> Result<(Option<String>, Action), PolicyError> {
    let name = fields.get("name").map(|name| name.text().map(str::to_owned)).transpose()?;
    let node = fields.need("action")?;
    let written = node.text()?;
    match actions.iter().find(|(word, _)| *word == written) {
        Some((_, action)) => Ok((name, *action)),
        None => Err(node.invalid(otherwise)),
    }
}

impl Subject {
    /// Whether an endpoint is meant that is at `network`, in a namespace with the labels `namespace`,
    /// and has the labels `endpoint` itself.
    pub fn matches(&self, network: &str, namespace: &Labels, endpoint: &Labels) -> bool {
        self.networks.as_ref().is_none_or(|networks| networks.contains(network))
            && self.namespaces.matches(namespace)
            && self.endpoints.matches(endpoint)
    }
}
