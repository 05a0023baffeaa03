//! Opening the store: lock it, make or examine the file, end the attachments of an earlier boot, and put
//! together what it and the files beside it say.
//!
//! ```text
//!   lock ──► no file ───────────────────────────────► Fresh
//!        └─► file ──► newer than we are ────────────► error, untouched
//!                 ├─► unreadable, even in part ─────► set aside, new file: Corrupt
//!                 ├─► of another boot ──────────────► attachments without a link dropped: NewBoot
//!                 ├─► replaces one set aside ───────► Corrupt again, until it was learned what was in it
//!                 ├─► not the newest there was ─────► Older, until the same
//!                 └─► of this boot ─────────────────► Resumed
//! ```

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::mend::salvage;
use super::witness::{Generation, Witness};
use super::write::{Change, Refused, apply};
use super::{Learned, Place, Store, StoreError, Stored, schema};
use crate::attach::LinksSeen;
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
    /// The store may not be the newest there was, so that a link without a record may be somebody's.
    Older {
        /// Why that is thought.
        why: String,
    },
    /// The store could not be read in full. A new one was made.
    Corrupt {
        /// Where the old file is now.
        set_aside: PathBuf,
        /// What was wrong with it.
        why: String,
    },
}

impl Opening {
    /// Everything that was attached is in the store, so that a link without a record is of an ADD that did not
    /// end. If not, what runs must be learned from the kernel before an address is leased. So it is at every
    /// opening until [`Store::adopt`] has returned: a daemon killed in the middle of learning must not take the
    /// rest for nobody's.
    pub fn knows_all(&self) -> bool {
        matches!(self, Self::Resumed | Self::NewBoot { .. })
    }
}

/// What may have been in a store and is not.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) set_aside: PathBuf,
    pub(super) why: String,
}

impl Lost {
    /// `path` is the store: nothing was set aside where it is itself what is not whole.
    fn into_opening(self, path: &Path) -> Opening {
        let Self { set_aside, why } = self;
        if set_aside == path { Opening::Older { why } } else { Opening::Corrupt { set_aside, why } }
    }
}

impl Store {
    /// Opens the store of `place`, whose directories are made (mode 0700) if they are missing. `there` are the
    /// links of ours on the host.
    pub fn open(place: &Place, there: LinksSeen) -> Result<(Self, Opening), StoreError> {
        let dir = &place.state_dir;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(StoreError::of_file("make the state directory", dir))?;
        let lock = lock(&dir.join("lock"))?;
        fault::reach("store-opened")?;
        let path = dir.join("state.db");
        let seen = Witness::new(place).read();
        let (mut store, opening) = if companions(&path).iter().any(|p| p.exists()) {
            match examine(place, &path, &lock) {
                Ok(mut store) => {
                    store.there = there;
                    let opening = store.resume(&place.life.boot, seen.newest.as_ref())?;
                    (store, opening)
                }
                Err(StoreError::Damaged { doing, why, .. }) => {
                    let why = format!("cannot {doing}: {why}");
                    let salvaged = connect(&path).map(|file| salvage(&file)).unwrap_or_default();
                    let lost = Lost { set_aside: set_aside(&path)?, why };
                    let (mut store, opening) = make(place, &path, &lock, there, lost)?;
                    store.commit_each(salvaged);
                    (store, opening)
                }
                Err(other) => return Err(other),
            }
        } else if let Some(lost) = interrupted(&path) {
            make(place, &path, &lock, there, lost)?
        } else {
            let lost = Lost { set_aside: path.clone(), why: "there was no store".into() };
            (make(place, &path, &lock, there, lost)?.0, Opening::Fresh)
        };
        store.take_up(opening.knows_all(), seen)?;
        store.prune()?;
        Ok((store, opening))
    }

    fn resume(
        &mut self,
        boot_id: &str,
        newest: Option<&Result<Generation, String>>,
    ) -> Result<Opening, StoreError> {
        let entered = self.enter_boot(boot_id)?;
        if let Some(lost) = self.lost()? {
            return Ok(lost.into_opening(&self.path));
        }
        let why = match entered {
            Some(dropped) if self.there.is_empty() => return Ok(Opening::NewBoot { dropped }),
            Some(_) => {
                Some("the boot has another id, and links of ours are still there".to_owned())
            }
            None => self.doubt(newest),
        };
        let Some(why) = why else { return Ok(Opening::Resumed) };
        // Best kept; where it cannot be, this start knows it.
        let _ = self.connection.execute(
            "UPDATE boot SET set_aside = ?1, why = ?2",
            [self.path.to_string_lossy(), why.as_str().into()],
        );
        Ok(Opening::Older { why })
    }

    /// Why this store may not be the newest there was.
    fn doubt(&self, newest: Option<&Result<Generation, String>>) -> Option<String> {
        match newest {
            None => Some("it is not noted any more which store was the newest".into()),
            Some(Err(why)) => {
                Some(format!("what was noted of the newest store is not readable: {why}"))
            }
            Some(Ok(newest)) if newest.store != self.generation.store => {
                Some("another store was in use since".into())
            }
            Some(Ok(newest)) if newest.number > self.generation.number => Some(format!(
                "it is older than the newest: commit {} of {}",
                self.generation.number, newest.number
            )),
            Some(Ok(_)) => None,
        }
    }

    /// Enters a boot; how many attachments were dropped if it is another one than the store's. Those whose
    /// links are there go on, whatever the boot is called.
    fn enter_boot(&mut self, boot_id: &str) -> Result<Option<usize>, StoreError> {
        if self.boot()? == boot_id {
            return Ok(None);
        }
        let all = self.all()?;
        let total = all.len();
        let is_there = |stored: &Stored| self.there.carry(&stored.record.host, stored.record.index);
        let staying: Vec<Stored> = all.into_iter().filter(is_there).collect();
        let dropped = total - staying.len();
        let turn = self.next_turn();
        let run = |connection: &mut Connection| -> Result<(), Refused> {
            connection.pragma_update(None, "synchronous", "FULL")?;
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // The clock begins anew with the boot, the order of releases does not.
            transaction.execute(
                "UPDATE addresses SET container = NULL, ifname = NULL, released_at = 0, \
                 turn = coalesce(turn, ?1)",
                [turn],
            )?;
            transaction.execute("DELETE FROM attachments", [])?;
            // What had yet to be learned from the kernel is gone from there as well.
            transaction
                .execute("UPDATE boot SET id = ?1, set_aside = NULL, why = NULL", [boot_id])?;
            for stored in staying {
                apply(&transaction, &Change::PutBack(Box::new(stored)), turn)?;
            }
            transaction.commit()?;
            Ok(connection.pragma_update(None, "synchronous", "NORMAL")?)
        };
        let doing = "drop the attachments of an earlier boot";
        run(&mut self.connection)
            .map_err(|refused| refused.into_error(doing.into(), &self.path))?;
        Ok(Some(dropped))
    }
}

/// Makes a new store in the place of what was lost.
fn make(
    place: &Place,
    path: &Path,
    lock: &File,
    there: LinksSeen,
    lost: Lost,
) -> Result<(Store, Opening), StoreError> {
    create(path, &place.life.boot, &lost)?;
    let store = examine(place, path, lock)?;
    Ok((Store { there, ..store }, lost.into_opening(path)))
}

/// Takes the lock, or says who cannot have it. The file stays: removing it would let two daemons each
/// lock a file of that name.
fn lock(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(StoreError::of_file("open the lock", path))?;
    hold(file, path)
}

/// Locks it. A lock that was just given back is waited for: a process that was being started holds it until it runs
/// its program.
pub(super) fn hold(file: File, path: &Path) -> Result<File, StoreError> {
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

/// Which file is there now.
pub(super) fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|file| file.ino())
}

/// Makes a new store beside `path` and moves it there, so that a file of that name is always a whole
/// one: an empty file is one that lost its contents.
pub(super) fn create(path: &Path, boot_id: &str, lost: &Lost) -> Result<(), StoreError> {
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
fn examine(place: &Place, path: &Path, lock: &File) -> Result<Store, StoreError> {
    if !path.exists() {
        return Err(StoreError::Damaged {
            doing: "open the file".into(),
            path: path.to_owned(),
            why: "it is gone and its write-ahead log is not".into(),
        });
    }
    if !path.is_file() {
        return Err(StoreError::NoFile { path: path.to_owned() });
    }
    let connection = connect(path)?;
    let lock = lock.try_clone().map_err(StoreError::of_file("share the lock of", path))?;
    let mut store = Store {
        connection,
        path: path.to_owned(),
        turn: 0,
        generation: Generation { store: 0, number: 0 },
        witness: Witness::new(place),
        there: LinksSeen::default(),
        learned: Learned::default(),
        unwitnessed: BTreeSet::new(),
        marked: BTreeSet::new(),
        trouble: None,
        mishap: None,
        inode: inode(path),
        _lock: lock,
    };
    let keep_log = |store: &Store, on| {
        let option = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        store.connection.set_db_config(option, on).map_err(|e| store.failed("configure", e))
    };
    // Should the file turn out to be damaged, closing it must not change it.
    keep_log(&store, true)?;
    store.prepare().map_err(|e| store.failed("read the file", e))?;
    store.check_pages()?;
    store.check_version()?;
    schema::complete(&mut store.connection).map_err(|e| store.failed("complete the tables", e))?;
    store.check_rows()?;
    store.turn = store.last_turn()?;
    store.generation = store.read_generation()?;
    keep_log(&store, false)?;
    Ok(store)
}

/// Opens a file that is there.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
        .map_err(|e| StoreError::of_database("open the file".into(), path, e))
}

impl Store {
    pub(super) fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(BUSY)?;
        self.connection.pragma_update(None, "synchronous", "NORMAL")
    }

    fn check_pages(&self) -> Result<(), StoreError> {
        let doing = "check the pages";
        let verdict: String = self
            .connection
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
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
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
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
