//! What must survive the daemon: attachments, who has which address, and networks, in a SQLite file.
//!
//! ```text
//!                Remember             Leaving               Forget
//!   (no record) ──────────► attached ─────────► leaving ───────────► (no record)
//!                               └────────────────────────────────────►┘
//!
//!   (no row)    ──────────► held     ──────────────────────────────► released at T
//!   address                  ▲                                            │
//!                            └──────────────── Remember ──────────────────┘
//! ```
//!
//! An address can be held without a record: by a container that another plugin attached, whose lease was
//! taken over ([`Store::take_over`]). Its DEL or GC is a Forget like any other.
//!
//! Two kinds of durability. A commit is in the kernel's page cache when it returns, so it survives
//! `kill -9`; that is enough for attachments, which do not outlive the machine's boot either. Networks
//! and the order in which addresses were released do: changes of networks are synced to the disk before
//! [`Store::commit`] returns, released addresses by the [`Store::checkpoint`] that follows when the
//! daemon is idle.
//!
//! A file that cannot be read in full is not read in part: it is set aside under another name, and
//! [`Opening::Corrupt`] tells the daemon to rebuild from the kernel before it leases anything, at every
//! start until [`Change::Rebuilt`] says that it has.
//!
//! The type blocks; one thread owns it.
//!
//! Beside the database, directories of files that others write: [`net_d`], the networks an operator
//! defines, [`spool`], the DELs that found no daemon, and `policy.d`, the documents of policy, which
//! the [`Shelf`] reads; it also keeps those that operators give at run time. Docker's networks are in a file
//! of their own ([`Ledger`]), as is what was done to the host's forwarding ([`ForwardingFile`]).

mod error;
pub mod folder;
mod forwarding;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod host_file;
mod leases;
mod ledger;
pub mod net_d;
mod open;
mod read;
mod schema;
mod shelf;
mod small_file;
pub mod spool;
mod write;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests_damage;
#[cfg(test)]
mod tests_state;

use std::fs::File;
use std::path::PathBuf;

use rusqlite::Connection;

pub use error::StoreError;
pub use forwarding::ForwardingFile;
pub use host_file::HostFile;
pub use ledger::Ledger;
pub use open::Opening;
pub use read::{Stored, StoredState};
pub use shelf::{POLICY_SUFFIXES, Shelf};
pub use write::Change;

impl Stored {
    /// A DEL has been asked for and not finished.
    pub fn is_leaving(&self) -> bool {
        self.state == StoredState::Leaving
    }

    /// What was read, with the state that is known now: the mark of a DEL may be newer than the file, or not
    /// in it at all because the disk is full. None if it has been forgotten.
    #[must_use]
    pub fn as_known(self, known: Option<StoredState>) -> Option<Self> {
        known.map(|state| Self { state, ..self })
    }
}

/// The store, open and locked against every other daemon.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    /// The turn of the last release; see `addresses.turn` in the schema.
    turn: i64,
    /// Held for its lock, which the kernel drops with the process.
    _lock: File,
}
