//! Who may speak to whom: the decision of network policy, as a function of a snapshot.
//!
//! | module     | what it is                                                          |
//! |------------|---------------------------------------------------------------------|
//! | `world`    | the snapshot: namespaces, endpoints, networks and documents         |
//! | `flow`     | a connection that somebody asks about                               |
//! | `evaluate` | the tiers, for each side of a connection                            |
//! | `matching` | whether a rule's peers and ports are those of a connection          |
//! | `standing` | what holds for an endpoint that no document speaks of               |
//! | `decision` | what was decided, and by which rule of which document               |
//! | `catalog`  | all documents that are known, from files and from operators         |
//! | `names`    | what of it has a name in our nftables table                         |
//! | `compile`  | the same decision as what nftables judges by                        |
//! | `denial`   | what the kernel tells of a packet that was denied                   |
//! | `denied`   | the bounded table of denied flows, and what the log has of them     |
//! | `resolve`  | what an operator writes for an end of a connection and its traffic  |
//! | `explain`  | why a connection is allowed or denied                               |
//! | `terms`    | all by which policies tell connections apart                        |
//! | `ends`     | endpoints to whom everything applies alike, and who else there is   |
//! | `probes`   | the traffic that tells worlds apart                                 |
//! | `matrix`   | who may speak to whom                                               |
//! | `simulate` | what would change in another world                                  |
//! | `live`     | a connection that is under way                                      |
//! | `registry` | everybody whom policy concerns, and what that comes to in our table  |
//! | `show`     | what is in force                                                    |
//!
//! A connection is allowed if its sender may send it and its receiver may receive it. Each side is asked
//! on its own: first the ordered policies (ClusterNetworkPolicy and NodePolicy) of the tier Admin, then
//! those of the tier Application, then the NetworkPolicies, then the ordered ones of the tier Baseline, and
//! last the standing of its network. What belongs to a connection (replies, ICMP
//! errors) follows it and is not asked about, and neither is neighbour discovery.

#[cfg(test)]
mod ask_tests;
#[cfg(test)]
mod cases;
mod catalog;
mod compile;
mod decision;
mod denial;
mod denied;
mod ends;
mod evaluate;
mod explain;
mod flow;
mod live;
mod matching;
mod matrix;
mod names;
mod probes;
mod registry;
mod resolve;
mod show;
mod simulate;
mod standing;
mod terms;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_ordered;
mod world;

pub use quantum_config::cni::NamedPort;

pub use catalog::{Catalog, CatalogError, FilesRead, Origin, Problem, Written};
pub use compile::{
    Chain, Compiled, Compiler, End, Match, Placed, Rule, Rules, SetKind, Then, compile,
};
pub use decision::{Because, ByRule, Decision, Tier, Verdict};
pub use denial::{Denial, Spoken};
pub use denied::{Denied, DeniedFlows, FLOWS, Told};
pub use evaluate::{evaluate, staged};
pub use explain::{explain, explain_flow, party};
pub use flow::{Flow, Side, Traffic};
pub use live::LiveFlow;
pub use matrix::matrix;
pub use names::{ChainName, SetName, Way, is_of_policy};
pub use registry::{Changes, Registry};
pub use resolve::{ResolveError, Who, read_traffic, resolve, write_traffic};
pub use show::show;
pub use simulate::simulate;
pub use standing::{Custom, Standing};
pub use world::{Documents, Endpoint, View, World};
