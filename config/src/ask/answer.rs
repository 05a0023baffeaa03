//! Answers that say how it is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Why a connection is allowed or denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// It comes through, in every family of addresses that both ends have.
    pub allowed: bool,
    /// What is spoken.
    pub traffic: String,
    /// It is sent to a published port.
    pub published: bool,
    /// One for each family.
    pub cases: Vec<Case>,
}

/// The same, for one pair of addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Case {
    /// Both sides allow it, or would be told of only.
    pub allowed: bool,
    /// It comes through because a side that denies it is audited.
    pub audited: bool,
    /// Who begins it.
    pub from: Party,
    /// Whom it is for.
    pub to: Party,
    /// What the sender may.
    pub egress: Decided,
    /// What the receiver may.
    pub ingress: Decided,
}

/// One end of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Party {
    /// `namespace/name`, `host` or `world`.
    pub name: String,
    /// Its attachment, if it is an endpoint.
    pub key: Option<String>,
    /// Its address; none of the host, unless one was named.
    pub address: Option<IpAddr>,
}

/// What was decided for one side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Decided {
    /// It may.
    pub allowed: bool,
    /// It may not, but that is only told.
    pub audited: bool,
    /// What decided, for people.
    pub because: String,
}

/// Who may speak to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Matrix {
    /// What is spoken.
    pub traffic: String,
    /// How many endpoints there are.
    pub endpoints: usize,
    /// Each row's endpoints, and each column's. Where there are many endpoints, those to whom everything
    /// applies alike are one.
    pub groups: Vec<Group>,
    /// For each group, as the sender, one [`Cell`] for each group, as the receiver.
    pub cells: Vec<Vec<Cell>>,
    /// How many groups are not among these, for there are too many.
    pub left_out: usize,
}

/// Endpoints to whom everything applies alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// The first of them, and how many others.
    pub name: String,
    /// How many.
    pub endpoints: usize,
    /// Their network; empty for the host and the world.
    pub network: String,
}

/// Whether one may speak to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cell {
    /// It may.
    Allowed,
    /// It may not.
    Denied,
    /// It may not, but that is only told.
    Audited,
    /// It may by one family of addresses, and not by the other.
    ByFamily,
    /// They have no family of addresses in common.
    Apart,
    /// It is the same endpoint.
    Itself,
}

/// What is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shown {
    /// The networks.
    pub networks: Vec<ShownNetwork>,
    /// The namespaces.
    pub namespaces: Vec<ShownNamespace>,
    /// How many of those are left out, for there are too many.
    pub namespaces_left_out: usize,
    /// The policies, in the order in which they are asked.
    pub policies: Vec<ShownPolicy>,
    /// How many of those are left out.
    pub policies_left_out: usize,
    /// The endpoints.
    pub endpoints: Vec<ShownEndpoint>,
    /// How many of those are left out.
    pub endpoints_left_out: usize,
    /// What is wrong: documents that could not be read, and what follows from that.
    pub problems: Vec<String>,
}

/// A network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShownNetwork {
    /// Its name.
    pub name: String,
    /// Its posture.
    pub posture: String,
}

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShownNamespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where its document comes from, as [`ShownPolicy::source`]; empty if it has none.
    pub source: String,
}

/// A policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShownPolicy {
    /// Its kind.
    pub kind: String,
    /// `namespace/name`, or its name.
    pub name: String,
    /// `Admin`, `Application`, `Network` or `Baseline`.
    pub tier: String,
    /// Its place in its tier, if its kind has such.
    pub priority: Option<u16>,
    /// `enforce`, or `audit` if it is staged.
    pub mode: String,
    /// How many endpoints it selects.
    pub selects: usize,
    /// Where it comes from: a file, or `quantumctl`.
    pub source: String,
}

/// An endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShownEndpoint {
    /// Its attachment.
    pub key: String,
    /// `namespace/name`.
    pub name: String,
    /// Its network.
    pub network: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its labels.
    pub labels: BTreeMap<String, ShownLabel>,
    /// Labels that it came with, and that operators have taken away.
    pub removed: BTreeMap<String, ShownLabel>,
    /// The policies that select it, as [`ShownPolicy::name`].
    pub policies: Vec<String>,
    /// What would be denied is only told.
    pub audit: bool,
}

/// A label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShownLabel {
    /// Its value.
    pub value: String,
    /// Who gave it; empty if that is not known.
    pub source: String,
}

/// An endpoint's labels after a change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Labelled {
    /// Its attachment.
    pub key: String,
    /// Its labels.
    pub labels: BTreeMap<String, ShownLabel>,
    /// Labels that it came with, and that operators have taken away.
    pub removed: BTreeMap<String, ShownLabel>,
}

/// What was denied of late.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Denied {
    /// The flows, the latest first.
    pub flows: Vec<DeniedFlow>,
    /// How many there were no places for.
    pub left_out: u64,
}

/// A flow that was denied, or would have been.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeniedFlow {
    /// Who began it.
    pub from: Party,
    /// Whom it was for.
    pub to: Party,
    /// What was spoken.
    pub traffic: String,
    /// It was let through, and is only told.
    pub audited: bool,
    /// What denied it, for people.
    pub because: String,
    /// How many packets.
    pub packets: u64,
    /// How long ago the last one was, in seconds.
    pub seconds_ago: u64,
}
