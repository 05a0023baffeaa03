//! Our nftables tables: their constant part as text, their elements by netlink.
//!
//! ```text
//!   config/nft/*.nft ──► nft, in a namespace of our own ──► Translation ──┐   at a start, and when something
//!   Rules of policy ───────────────────────────────────────────────────────┤   is not as it should be
//!                                                                          ▼
//!   Element ──► Table::add, remove ───────────────────────────────────► the host's tables
//!                                              for every container, about 10 us
//! ```
//!
//! Everything is written over one socket, which the tables belong to where the kernel has that. Every call is one
//! transaction: all of it or nothing. No generation id is sent, as then every commit of any other program would
//! void ours. The namespace is that of the thread which opens the [`Table`], for good.

mod apart;
mod crowd;
mod doors;
mod elements;
mod error;
mod foreign;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod govern;
mod heal;
mod listing;
mod message;
mod print;
mod removal;
mod scratch;
mod sets;
pub mod skeleton;
mod table;
mod transaction;
mod translation;
mod value;
mod write;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_govern;
#[cfg(test)]
mod tests_packets;
#[cfg(test)]
mod tests_repair;

pub use error::{Hung, NftError};
pub use heal::Harm;
pub use table::{Kept, Table};
