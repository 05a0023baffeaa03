//! Answers that say what became, or would become, of a change.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Group, Party};

/// What became of documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Applied {
    /// Each of them.
    pub documents: Vec<Changed>,
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Which: `NetworkPolicy default/db`.
    pub document: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// There was none of its name.
    Created,
    /// It has replaced another.
    Changed,
    /// It says what is in force.
    Unchanged,
    /// It has gone.
    Deleted,
}

/// What would change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Simulation {
    /// How many endpoints were asked about.
    pub endpoints: usize,
    /// In how many groups, to each of which everything applies alike.
    pub groups: usize,
    /// How many of those were not asked about, for there are too many.
    pub groups_left_out: usize,
    /// How many kinds of addresses elsewhere were not, likewise.
    pub strangers_left_out: usize,
    /// The traffic that was asked about.
    pub traffic: Vec<String>,
    /// How many connections would become denied: pairs of ends, times kinds of traffic.
    pub denied: u64,
    /// How many would become allowed.
    pub allowed: u64,
    /// What would change, the most connections first.
    pub shifts: Vec<Shift>,
    /// How many such are left out.
    pub shifts_left_out: usize,
    /// How many live connections were looked at.
    pub flows: usize,
    /// How many of them would be dropped.
    pub flows_dropped: usize,
    /// Those.
    pub dropped: Vec<DroppedFlow>,
    /// Kinds of traffic that were left out, for there are too many.
    pub traffic_left_out: usize,
}

/// Connections that change for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shift {
    /// To what.
    pub became: Became,
    /// Of whom the deciding side is.
    pub group: Group,
    /// `egress` if that side begins them, else `ingress`.
    pub direction: String,
    /// What decides of it now.
    pub now: String,
    /// What would decide.
    pub then: String,
    /// They are sent to a port that the host publishes.
    #[serde(default)]
    pub published: bool,
    /// Who is at the other end.
    pub others: Vec<String>,
    /// How many of those are left out.
    pub others_left_out: usize,
    /// What is spoken.
    pub traffic: Vec<String>,
    /// How many connections that are.
    pub connections: u64,
}

/// What a connection becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Became {
    /// It was allowed.
    Denied,
    /// It was denied.
    Allowed,
}

/// A live connection that would be dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedFlow {
    /// Who began it.
    pub from: Party,
    /// Who answers.
    pub to: Party,
    /// Whom it was sent to, if that was translated.
    pub sent_to: Option<IpAddr>,
    /// What is spoken.
    pub traffic: String,
    /// What would drop it.
    pub because: String,
}
