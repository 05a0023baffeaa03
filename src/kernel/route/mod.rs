//! Links, addresses and routes, by route netlink.
//!
//! | file      | what it does                                                          |
//! |-----------|-----------------------------------------------------------------------|
//! | `step`    | what can go wrong: one step on one object, and what the kernel said   |
//! | `batch`   | many requests in one datagram, one answer each                        |
//! | `socket`  | the blocking socket behind it, and its questions and listings         |
//! | `message` | the requests that we send, as functions of values                     |
//! | `attach`  | makes a container's link as planned, or leaves nothing                |
//! | `amend`   | changes a pair that is there                                          |
//! | `replug`  | puts a pair's end back that somebody has changed                     |
//! | `forward` | sees that the bridge forwards what a new port sends                    |
//! | `vlan`    | the requests that put a port into its VLANs                           |
//! | `shape`   | holds a container's traffic to its limits                              |
//! | `duplicate` | waits until IPv6 addresses are known to be nobody else's            |
//! | `detach`  | removes many links in the time of one                                 |
//! | `neighbours` | forgets who had the addresses that are free again                   |
//! | `look`    | what there is: links, addresses and routes as plain data              |
//! | `scan`    | the links of the host that are ours                                   |
//! | `gone`    | whether a link is gone for good                                        |
//! | `bridge`  | the bridge of a network (asynchronous: the slow path)                 |
//! | `addresses` | the addresses that it has                                           |
//! | `surroundings` | what of the host overlaps a network's subnets                |
//! | `renamed` | gives a bridge its name back                                           |
//! | `unbridge` | removes it, if it is ours and has no port                           |
//! | `uplinks` | the host's links, and those by which it has learned from routers      |
//! | `gateway` | the pair that the gateway of a VLAN is at the end of                   |

mod addresses;
mod amend;
mod attach;
mod batch;
pub mod bridge;
mod detach;
mod duplicate;
mod filters;
mod forward;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod gateway;
mod gone;
pub(super) mod look;
mod message;
mod neighbours;
mod renamed;
mod replug;
mod routed;
mod scan;
pub(super) mod shape;
mod socket;
mod step;
mod surroundings;
mod unbridge;
mod uplinks;
mod vlan;

pub use amend::loopback_up;
pub use attach::Host;
pub use batch::Batch;
pub use detach::Detached;
pub use duplicate::detect;
pub use gateway::VlanGateway;
pub use look::Link;
pub use replug::put_settings_back;
pub use routed::has_br_netfilter;
pub use scan::OwnedLink;
pub use socket::RouteSocket;
pub use step::{Cause, Step, StepError};

#[cfg(test)]
pub(super) mod tests;
