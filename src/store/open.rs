//! Opening the store: lock it, make or examine the file, end the attachments of an earlier boot.
//!
//! ```text
//!   lock ──► no file ───────────────────────────────► Fresh
//!        └─► file ──► newer than we are ────────────► error, untouched
//!                 ├─► unreadable, even in part ─────► set aside, new file: Corrupt
//!                 ├─► of another boot ──────────────► attachments dropped: NewBoot
//!                 ├─► replaces one set aside ───────► Corrupt again, until `Change::Rebuilt`
//!                 └─► of this boot ─────────────────► Resumed
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{Store, StoreError, schema};
use crate::kernel::fault;

/// How long a commit waits for an operator's `sqlite3` to end its transaction.
const BUSY: Duration = Duration::from_secs(1);
/// How long a lock is waited for that may just have been given back, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(10);

/// What was found on opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// There was nothing; a new store was made.
    Fresh,
    /// The store of this boot.
    Resumed,
    /// The store of an earlier boot. Its attachments were dropped, as the kernel dropped their
    /// interfaces; their addresses were released.
    NewBoot {
        /// How many attachments.
        dropped: usize,
    },
    /// The store could not be read in full. A new one was made, which knows nothing: what runs must be
    /// learned from the kernel before an address is leased. So it is at every opening until
    /// [`Change::Rebuilt`](super::Change::Rebuilt) is committed: a daemon killed in the middle of
    /// learning must not take the rest for nobody's.
    Corrupt {
        /// Where the old file is now.
        set_aside: PathBuf,
        /// What was wrong with it.
        why: String,
    },
}

/// A store that could not be read.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) set_aside: PathBuf,
    pub(super) why: String,
}

impl From<Lost> for Opening {
    fn from(Lost { set_aside, why }: Lost) -> Self {
        Self::Corrupt { set_aside, why }
    }
}

impl Store {
    /// Opens the store in `dir`, which is made (mode 0700) if it is missing. `boot_id` is
    /// `/proc/sys/kernel/random/boot_id`.
    pub fn open(dir: &Path, boot_id: &str) -> Result<(Self, Opening), StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(StoreError::of_file("make the state directory", dir))?;
        let lock = lock(&dir.join("lock"))?;
        fault::reach("store-opened")?;
        let path = dir.join("state.db");
        let lost = if companions(&path).iter().any(|p| p.exists()) {
            match examine(&path, &lock) {
                Ok(mut store) => {
                    let opening = store.resume(boot_id)?;
                    return Ok((store, opening));
                }
                Err(StoreError::Damaged { doing, why, .. }) => {
                    let why = format!("cannot {doing}: {why}");
                    Some(Lost { set_aside: set_aside(&path)?, why })
                }
                Err(other) => return Err(other),
            }
        } else {
            interrupted(&path)
        };
        create(&path, boot_id, lost.as_ref())?;
        let store = examine(&path, &lock)?;
        Ok((store, lost.map_or(Opening::Fresh, Opening::from)))
    }

    fn resume(&mut self, boot_id: &str) -> Result<Opening, StoreError> {
        match self.enter_boot(boot_id)? {
            Some(dropped) => Ok(Opening::NewBoot { dropped }),
            None => Ok(self.lost()?.map_or(Opening::Resumed, Opening::from)),
        }
    }

    /// Enters a boot; how many attachments were dropped if it is another one than the store's.
    fn enter_boot(&mut self, boot_id: &str) -> Result<Option<usize>, StoreError> {
        if self.boot()? == boot_id {
            return Ok(None);
        }
        let turn = self.next_turn();
        let run = |connection: &mut Connection| -> rusqlite::Result<usize> {
            connection.pragma_update(None, "synchronous", "FULL")?;
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // The clock begins anew with the boot, the order of releases does not.
            transaction.execute(
                "UPDATE addresses SET container = NULL, ifname = NULL, released_at = 0, \
                 turn = coalesce(turn, ?1)",
                [turn],
            )?;
            let dropped = transaction.execute("DELETE FROM attachments", [])?;
            // What had yet to be learned from the kernel is gone from there as well.
            transaction
                .execute("UPDATE boot SET id = ?1, set_aside = NULL, why = NULL", [boot_id])?;
            transaction.commit()?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            Ok(dropped)
        };
        let dropped = run(&mut self.connection);
        dropped.map(Some).map_err(|e| self.failed("drop the attachments of an earlier boot", e))
    }
}

/// Takes the lock, or says who cannot have it. The file stays: removing it would let two daemons each
/// lock a file of that name. A lock that was just given back is waited for: a process that was being started
/// holds it until it runs its program.
fn lock(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(StoreError::of_file("open the lock", path))?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => thread::sleep(STEP),
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { path: path.to_owned() });
            }
            Err(TryLockError::Error(e)) => return Err(StoreError::of_file("lock", path)(e)),
        }
    }
}

/// Makes a new store beside `path` and moves it there, so that a file of that name is always a whole
/// one: an empty file is one that lost its contents.
fn create(path: &Path, boot_id: &str, lost: Option<&Lost>) -> Result<(), StoreError> {
    let made = path.with_extension("new");
    for leftover in companions(&made).iter().filter(|p| p.exists()) {
        fs::remove_file(leftover).map_err(StoreError::of_file("remove the half-made", leftover))?;
    }
    let failed = |e| StoreError::of_database("make the tables".into(), &made, e);
    let mut connection = Connection::open(&made).map_err(failed)?;
    schema::create(&mut connection, boot_id, lost).map_err(failed)?;
    connection.close().map_err(|(_, e)| failed(e))?;
    fs::rename(&made, path).map_err(StoreError::of_file("put in place the store", path))?;
    let dir = path.parent().unwrap_or(path);
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(StoreError::of_file("sync the state directory", dir))
}

/// Opens the file and reads all of it once.
fn examine(path: &Path, lock: &File) -> Result<Store, StoreError> {
    if !path.exists() {
        return Err(StoreError::Damaged {
            doing: "open the file".into(),
            path: path.to_owned(),
            why: "it is gone and its write-ahead log is not".into(),
        });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|e| StoreError::of_database("open the file".into(), path, e))?;
    let lock = lock.try_clone().map_err(StoreError::of_file("share the lock of", path))?;
    let mut store = Store { connection, path: path.to_owned(), turn: 0, _lock: lock };
    let keep_log = |store: &Store, on| {
        let option = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        store.connection.set_db_config(option, on).map_err(|e| store.failed("configure", e))
    };
    // Should the file turn out to be damaged, closing it must not change it.
    keep_log(&store, true)?;
    store.prepare().map_err(|e| store.failed("read the file", e))?;
    store.check_pages()?;
    store.check_version()?;
    store.check_rows()?;
    store.turn = store.last_turn()?;
    keep_log(&store, false)?;
    Ok(store)
}

impl Store {
    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(BUSY)?;
        self.connection.pragma_update(None, "synchronous", "NORMAL")
    }

    fn check_pages(&self) -> Result<(), StoreError> {
        let doing = "check the pages";
        let verdict: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|e| self.failed(doing, e))?;
        if verdict == "ok" { Ok(()) } else { Err(self.damaged(doing, verdict)) }
    }

    fn check_version(&self) -> Result<(), StoreError> {
        let doing = "read the schema version";
        let found: i64 = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(|e| self.failed(doing, e))?;
        match found {
            schema::VERSION => Ok(()),
            newer if newer > schema::VERSION => {
                Err(StoreError::Newer { path: self.path.clone(), found, ours: schema::VERSION })
            }
            _ => Err(self.damaged(doing, format!("it is {found}, as in an empty file"))),
        }
    }
}

/// Renames the file and its companions to the first free `state.db.corrupt-N`; together, so that
/// `sqlite3` can still open them.
fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let aside = aside(path, asides(path) + 1);
    for (from, to) in companions(path).iter().zip(companions(&aside)) {
        if from.exists() {
            fs::rename(from, to).map_err(StoreError::of_file("set aside", from))?;
        }
    }
    Ok(aside)
}

/// A store that was set aside by a daemon which was killed before it had made a new one.
fn interrupted(path: &Path) -> Option<Lost> {
    let last = Some(asides(path)).filter(|n| *n > 0)?;
    let why = "a start that did not end has set it aside".into();
    Some(Lost { set_aside: aside(path, last), why })
}

/// How many stores have been set aside.
fn asides(path: &Path) -> u32 {
    let taken = |n: &u32| companions(&aside(path, *n)).iter().any(|p| p.exists());
    (1..u32::MAX).take_while(taken).last().unwrap_or(0)
}

fn aside(path: &Path, n: u32) -> PathBuf {
    path.with_extension(format!("db.corrupt-{n}"))
}

/// The files of a database: itself, its write-ahead log and the log's index.
fn companions(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}
