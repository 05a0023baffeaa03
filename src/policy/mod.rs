//! Who may speak to whom: the decision of network policy, as a function of a snapshot.
//!
//! | module     | what it is                                                          |
//! |------------|---------------------------------------------------------------------|
//! | `world`    | the snapshot: namespaces, endpoints, networks and documents         |
//! | `flow`     | a connection that somebody asks about                               |
//! | `evaluate` | the three tiers, for each side of a connection                      |
//! | `matching` | whether a rule's peers and ports are those of a connection          |
//! | `standing` | what holds for an endpoint that no document speaks of               |
//! | `decision` | what was decided, and by which rule of which document               |
//! | `names`    | what of it has a name in our nftables table                         |
//! | `compile`  | the same decision as what nftables judges by                        |
//! | `denial`   | what the kernel tells of a packet that was denied                   |
//! | `denied`   | the bounded table of denied flows, and what the log has of them     |
//!
//! A connection is allowed if its sender may send it and its receiver may receive it. Each side is asked
//! on its own: first the ClusterNetworkPolicies of the tier Admin, then the NetworkPolicies, then those of
//! the tier Baseline, and last the standing of its network. What belongs to a connection (replies, ICMP
//! errors) follows it and is not asked about, and neither is neighbour discovery.

#[cfg(test)]
mod cases;
mod compile;
mod decision;
mod denial;
mod denied;
mod evaluate;
mod flow;
mod matching;
mod names;
mod standing;
#[cfg(test)]
mod tests;
mod world;

pub use quantum_config::cni::NamedPort;

pub use compile::{
    Chain, Compiled, Compiler, End, Match, Placed, Rule, Rules, SetKind, Then, compile,
};
pub use decision::{Because, ByRule, Decision, Tier, Verdict};
pub use denial::{Denial, Spoken};
pub use denied::{Denied, DeniedFlows, FLOWS, Told};
pub use evaluate::evaluate;
pub use flow::{Flow, Side, Traffic};
pub use names::{ChainName, SetName, Way, is_of_policy};
pub use standing::{Custom, Standing};
pub use world::{Documents, Endpoint, World};
