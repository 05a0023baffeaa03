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
//! The file is not believed alone. Beside it, in `runtime_dir`, each attachment has a small file of its own
//! (`witness`), and there stands how new the newest store was. A start takes both together (`union`). A
//! database that cannot be read in full, or contradicts itself, is not read in part: it is set aside under another
//! name. After that, and where a store is older than the newest or was not there, the [`Opening`] tells the daemon
//! to learn from the kernel what neither knows, before it leases anything, at every start until
//! [`Store::adopt`] has written that.
//!
//! The type blocks; one thread owns it.
//!
//! Beside the database, directories of files that others write: [`net_d`], the networks an operator
//! defines, [`spool`], the DELs that found no daemon, and `policy.d`, the documents of policy, which
//! the [`Shelf`] reads; it also keeps those that operators give at run time. Docker's networks are in a file
//! of their own ([`Ledger`]), as is what was done to the host's forwarding ([`ForwardingFile`]).

mod beside;
mod error;
pub mod folder;
mod forwarding;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod host_file;
mod leases;
mod ledger;
mod mend;
pub mod net_d;
mod open;
mod probe;
mod prune;
mod read;
mod saved;
mod schema;
mod shelf;
mod small_file;
pub mod spool;
mod take_up;
mod union;
mod witness;
mod write;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests_damage;
#[cfg(test)]
mod tests_state;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;

use quantum_config::ids::AttachmentKey;
use rusqlite::Connection;

use crate::attach::LinksSeen;
use witness::{Generation, Witness};

pub use error::StoreError;
pub use forwarding::ForwardingFile;
pub use host_file::HostFile;
pub use ledger::Ledger;
pub use open::Opening;
pub use read::{Stored, StoredState};
pub use shelf::{POLICY_SUFFIXES, Shelf};
pub use witness::Life;
pub use write::Change;

/// Where a store is, and what its attachments end with.
#[derive(Debug, Clone)]
pub struct Place {
    /// What survives the boot.
    pub state_dir: PathBuf,
    /// What does not.
    pub runtime_dir: PathBuf,
    /// Of which boot and host the attachments are.
    pub life: Life,
}

/// What a start has learned from the files beside the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    /// Attachments that were not in the store, or not so.
    pub put_back: Vec<AttachmentKey>,
    /// Files that cannot be read, and why.
    pub bad: Vec<String>,
}

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
    generation: Generation,
    witness: Witness,
    /// The links of ours that were on the host when it was opened.
    there: LinksSeen,
    learned: Learned,
    /// Attachments whose file beside the store is not as the store, and why.
    unwitnessed: BTreeSet<AttachmentKey>,
    /// Attachments whose DEL is marked beside the store, and could not be marked in it.
    marked: BTreeSet<AttachmentKey>,
    trouble: Option<String>,
    /// What happened to the file while it was open.
    mishap: Option<String>,
    /// Which file it was when it was opened.
    inode: Option<u64>,
    /// Held for its lock, which the kernel drops with the process.
    _lock: File,
}
