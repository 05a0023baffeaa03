//! What was decided about a connection, and by which rule of which document. Written out, it is what an
//! operator is told who asks why something does not come through.

use std::fmt;

use quantum_config::policy::{Action, Direction, Kind};

use super::{Custom, Standing};

/// What was decided about a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict<'w> {
    /// Both sides allow it.
    pub allowed: bool,
    /// What the sender may.
    pub egress: Decision<'w>,
    /// What the receiver may.
    pub ingress: Decision<'w>,
}

/// What was decided for one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<'w> {
    /// It may.
    pub allowed: bool,
    /// Which way.
    pub direction: Direction,
    /// What decided.
    pub because: Because<'w>,
    /// The rules that left it to a later tier.
    pub passed: Vec<ByRule<'w>>,
}

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because<'w> {
    /// This side is not one of our endpoints, and nobody else's traffic is ours to judge.
    NotOurs,
    /// An endpoint may speak to itself.
    Itself,
    /// Nobody has told who the endpoint is, and somebody has something to say of who may what.
    Unknown,
    /// A rule.
    Rule(ByRule<'w>),
    /// NetworkPolicies of this namespace select the endpoint, and none of their rules lets it through.
    Isolated {
        /// The namespace.
        namespace: &'w str,
        /// The policies, by name.
        policies: Vec<&'w str>,
    },
    /// No document decided, and this is the custom of its network.
    Standing {
        /// The network.
        network: &'w str,
        /// How it stands.
        standing: Standing,
        /// The custom.
        custom: Custom,
    },
}

/// When a document is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// First: ClusterNetworkPolicy and NodePolicy, tier Admin.
    Admin,
    /// Then: NodePolicy, tier Application.
    Application,
    /// Then: NetworkPolicy.
    Network,
    /// Last: ClusterNetworkPolicy and NodePolicy, tier Baseline.
    Baseline,
}

/// A rule of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByRule<'w> {
    /// What the document is.
    pub kind: Kind,
    /// The document's tier.
    pub tier: Tier,
    /// Its namespace, if its kind has one.
    pub namespace: Option<&'w str>,
    /// Its name.
    pub policy: &'w str,
    /// Which of its rules of this direction, counted from 0.
    pub index: usize,
    /// The rule's own name, if it has one.
    pub name: Option<&'w str>,
    /// What it does.
    pub action: Action,
    /// What we cannot read, if it is for that reason that the rule denies.
    pub unread: Option<&'w str>,
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed = if self.allowed { "allowed" } else { "denied" };
        write!(f, "{allowed}; {}; {}", self.egress, self.ingress)
    }
}

impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = direction(self.direction);
        let allowed = if self.allowed { "allowed" } else { "denied" };
        write!(f, "{direction} {allowed}: ")?;
        match &self.because {
            Because::NotOurs => f.write_str("not an endpoint of ours")?,
            Because::Itself => f.write_str("an endpoint may speak to itself")?,
            Because::Unknown => f.write_str("it is not known yet who the endpoint is")?,
            Because::Rule(rule) => rule.write(f, direction)?,
            Because::Isolated { namespace, policies } => {
                write!(f, "isolated by NetworkPolicy ")?;
                for (n, policy) in policies.iter().enumerate() {
                    let comma = if n == 0 { "" } else { ", " };
                    write!(f, "{comma}{namespace}/{policy}")?;
                }
                f.write_str(", and no rule matches")?;
            }
            Because::Standing { network, standing, custom } => {
                write!(f, "network {network}, posture {standing}, rule {custom}")?;
            }
        }
        for rule in &self.passed {
            f.write_str(", passed by ")?;
            rule.write(f, direction)?;
        }
        Ok(())
    }
}

impl ByRule<'_> {
    fn write(&self, f: &mut fmt::Formatter<'_>, direction: &str) -> fmt::Result {
        let Self { kind, tier, policy, index, .. } = self;
        match (kind, self.namespace) {
            (Kind::Broken, _) => {
                write!(f, "{kind} {policy}")?;
                return self.unread.map_or(Ok(()), |why| write!(f, ": {why}"));
            }
            (_, Some(namespace)) => write!(f, "{kind} {namespace}/{policy}")?,
            (_, None) => write!(f, "{kind} {policy} of tier {tier:?}")?,
        }
        write!(f, ", {direction}[{index}]")?;
        if let Some(name) = self.name {
            write!(f, " {name:?}")?;
        }
        if self.action == Action::Reject {
            f.write_str(", which tells the sender")?;
        }
        match self.unread {
            Some(field) => write!(f, ", which holds {field} that is not known here"),
            None => Ok(()),
        }
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}
