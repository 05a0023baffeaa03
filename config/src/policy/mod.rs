//! Documents of network policy, checked: `Namespace` of `v1`, `NetworkPolicy` of `networking.k8s.io/v1`
//! and `ClusterNetworkPolicy` of `policy.networking.k8s.io/v1alpha2`, as they are written for Kubernetes,
//! and our own `NodePolicy` of `policy.quantum/v1alpha1`, in JSON or YAML.
//!
//! | module        | what it reads                                          |
//! |---------------|--------------------------------------------------------|
//! | `document`    | which kind it is, and its metadata                     |
//! | `network`     | NetworkPolicy                                          |
//! | `ordered`     | what the two kinds are that are asked in an order      |
//! | `cluster`     | ClusterNetworkPolicy                                   |
//! | `node_policy` | NodePolicy                                             |
//! | `rule`        | peers and ports, which all have                        |
//! | `selector`    | label selectors                                        |
//! | `reach`       | what a document could decide, also one that is refused |
//! | `node`        | a value and where it stands, so that errors can say so |
//! | `unique`      | JSON that says nothing twice                           |
//!
//! A field that is not known is an error, because to leave it out would let more through than its author
//! meant; what a ClusterNetworkPolicy makes of it is said in `cluster`.

mod cluster;
mod document;
mod error;
mod network;
mod node;
mod node_policy;
mod ordered;
mod reach;
mod rule;
mod selector;
mod unique;

pub use document::{
    Document, DocumentKey, Format, Kind, Namespace, documents, read, read_each, read_each_yaml,
};
pub use error::PolicyError;
pub use network::{NetworkPolicy, NetworkRule};
pub use ordered::{Action, OrderedPolicy, OrderedRule, OrderedTier, Reach, Subject};
pub use rule::{Among, Block, Direction, Entity, Peer, Ports, Scope};
pub use selector::Selector;

pub use crate::labels::{Labels, OperatorLabels};
