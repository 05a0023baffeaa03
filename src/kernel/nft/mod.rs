//! Our nftables table: its constant part as text, its elements by netlink.
//!
//! ```text
//!   config/nft/skeleton.nft ──► nft -f - ──►  table inet quantum     once, and after somebody flushed it
//!                                               sets, chains, rules
//!   Element ──► Table::add, remove  ───────►    elements of the sets  for every container, about 10 us
//! ```
//!
//! Every call is one transaction of the kernel: all of it or nothing. No generation id is sent, as
//! then every commit of any other program would void ours. The namespace is that of the thread which
//! opens the [`Table`], for good, and of the thread which calls [`skeleton::apply`].

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

pub use error::NftError;
pub use heal::Harm;
pub use table::{Kept, Table};
