//! Which address a container gets, and when it may be handed out again.
//!
//! ```text
//!            lease                release
//!   fresh ──────────►  held  ──────────────►  idle
//!                       ▲                      │
//!                       └──────────────────────┘
//!                         lease, when no fresh one
//!                         is left: longest idle first
//! ```
//!
//! An address nobody has had is *fresh* and takes no memory: a cursor stands before it. What somebody
//! has or had is *known*. Fresh ones go first, in ascending order, so an address rests for as long as
//! its pool allows before another container answers to it; whoever still talks to the former owner
//! (connection tracking, neighbour caches, DNS) has forgotten by then. That is the cool-down: an
//! order, not a waiting time, and so it never makes a pool look exhausted. A set of more than 4,096 addresses
//! begins to reuse the longest idle when 1,024 are: each idle one is a row in the store.
//!
//! A reserved address is in none of the three as far as others are concerned: like a gateway it is
//! passed over, neither counted nor queued, and only its holder leases it. An address that is given as
//! it is (`static`) is held and released like any other and comes from no set.
//!
//! Networks that share a link of the host know each other's addresses by the [`Register`]: what an attachment of
//! another one has, or sends by as its gateway, is passed over too.
//!
//! Nothing here is proportional to the size of a range: an IPv6 /64 costs what an IPv4 /30 costs.

mod allocator;
mod error;
mod known;
mod register;
mod set;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod cooldown;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod model;

pub use allocator::Allocator;
pub use error::LeaseError;
pub use known::{Known, KnownState};
pub use register::{Beside, Register};
pub use set::{IDLE_OF_LARGE, LARGE_POOL, Usage, idle_max};
