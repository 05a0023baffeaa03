//! What can go wrong with the store, told apart by what an operator can do about it.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use quantum_config::ids::AttachmentKey;
use rusqlite::ErrorCode;

use crate::kernel::fault::Fault;
use crate::kernel::lane::LaneError;

/// `SQLITE_IOERR_SHORT_READ` (sqlite.org/rescode.html).
const SHORT_READ: i32 = 522;

/// What went wrong with the store. Nothing of a failed commit is kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another daemon has the directory.
    #[error("another daemon holds the lock {path}: stop it or choose another folder")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The file belongs to a newer release.
    #[error(
        "the store {path} has schema version {found} and this release knows {ours}: \
         install the newer release again or move the file away"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// Ours.
        ours: i64,
    },
    /// Something else is there.
    #[error(
        "the store {path} is not a file: move what is there away, or choose another state directory"
    )]
    NoFile {
        /// What should be a file.
        path: PathBuf,
    },
    /// The file cannot be read as what we wrote.
    #[error("cannot {doing} in the store {path}: {why}")]
    Damaged {
        /// What was being done.
        doing: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No space.
    #[error("cannot {doing} in the store {path}: the disk is full: free some space")]
    DiskFull {
        /// What was being done.
        doing: String,
        /// The file.
        path: PathBuf,
    },
    /// No permission to write.
    #[error("cannot {doing} in the store {path}: it is read-only: remount it or mend its mode")]
    ReadOnly {
        /// What was being done.
        doing: String,
        /// The file.
        path: PathBuf,
    },
    /// The disk fails.
    #[error("cannot {doing} in the store {path}: {why}: look at the disk and at the kernel's log")]
    Failing {
        /// What was being done.
        doing: String,
        /// The file.
        path: PathBuf,
        /// What the database said.
        why: String,
    },
    /// Another program is in the middle of a transaction.
    #[error(
        "cannot {doing} in the store {path}: another program has it locked: close that program"
    )]
    Busy {
        /// What was being done.
        doing: String,
        /// The file.
        path: PathBuf,
    },
    /// Anything else the database said.
    #[error("cannot {doing} in the store {path}: {source}")]
    Database {
        /// What was being done.
        doing: String,
        /// The file.
        path: PathBuf,
        /// What the database said.
        source: rusqlite::Error,
    },
    /// A file operation beside the database failed.
    #[error("cannot {doing} {path}: {source}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A record cannot be written down.
    #[error("cannot {doing}: {source}")]
    Encode {
        /// What was being done.
        doing: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The lane that the store lives on is not working.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// A test made it fail.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Two owners for one address; the allocator should have prevented it.
    #[error("cannot remember attachment {owner}: its address {address} is held by {holder}")]
    AddressTaken {
        /// Who was to have it.
        owner: AttachmentKey,
        /// The address.
        address: IpAddr,
        /// Who has it, as `container/ifname`.
        holder: String,
    },
}

impl StoreError {
    /// Whether the next commit would fail by it, too: it is not about one record, nor another program's that ends.
    pub fn lasts(&self) -> bool {
        !matches!(
            self,
            Self::AddressTaken { .. } | Self::Encode { .. } | Self::Busy { .. } | Self::Lane(_)
        )
    }

    /// Sorts an error of the database.
    pub(super) fn of_database(doing: String, path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        // A file that ends before it should, though the disk has no fault.
        let is_short = source.sqlite_error().is_some_and(|e| e.extended_code == SHORT_READ);
        match source.sqlite_error_code() {
            _ if is_short => Self::Damaged { doing, path, why: "the file is too short".into() },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { doing, path, why: source.to_string() }
            }
            Some(ErrorCode::DiskFull) => Self::DiskFull { doing, path },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::ReadOnly { doing, path }
            }
            Some(ErrorCode::SystemIoFailure) => {
                Self::Failing { doing, path, why: source.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { doing, path },
            _ => Self::Database { doing, path, source },
        }
    }

    /// Makes an error of a file operation.
    pub(super) fn of_file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }
}
