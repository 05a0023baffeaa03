//! Documents of network policy, checked: `Namespace` of `v1`, `NetworkPolicy` of `networking.k8s.io/v1`
//! and `ClusterNetworkPolicy` of `policy.networking.k8s.io/v1alpha2`, as they are written for Kubernetes,
//! in JSON or YAML.
//!
//! | module     | what it reads                                         |
//! |------------|-------------------------------------------------------|
//! | `document` | which kind it is, and its metadata                    |
//! | `network`  | NetworkPolicy                                         |
//! | `cluster`  | ClusterNetworkPolicy                                  |
//! | `rule`     | peers and ports, which both have                      |
//! | `selector` | label selectors                                       |
//! | `node`     | a value and where it stands, so that errors can say so |
//! | `unique`   | JSON that says nothing twice                          |
//!
//! A field that is not known is an error, because to leave it out would let more through than its author
//! meant; what a ClusterNetworkPolicy makes of it is said in `cluster`.

mod cluster;
mod document;
mod error;
mod network;
mod node;
mod rule;
mod selector;
mod unique;

pub use cluster::{Action, ClusterPolicy, ClusterRule, ClusterTier};
pub use document::{Document, Namespace, read, read_each, read_each_yaml};
pub use error::PolicyError;
pub use network::{NetworkPolicy, NetworkRule};
pub use rule::{Among, Block, Direction, Peer, Ports, Scope};
pub use selector::Selector;

pub use crate::labels::Labels;
