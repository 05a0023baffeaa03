//! Changing the store: a batch of changes in one transaction, all of them or none.

use std::path::Path;

use quantum_config::cni::Definition;
use quantum_config::ids::{AttachmentKey, NetworkName, digest};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{Store, StoreError, Stored};
use crate::attach::{Assigned, Record};
use crate::ipam::{Known, KnownState};
use crate::kernel::fault;

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An attachment was made: its record is kept, its addresses are held. What an earlier record of
    /// the same key held and this one does not is released at the new record's `created`.
    Remember(Box<Record>),
    /// An attachment is about to go. One that is not there is no error.
    Leaving(AttachmentKey),
    /// An attachment is gone: no record, addresses released. One that is not there is no error.
    Forget {
        /// Whose.
        key: AttachmentKey,
        /// When, in milliseconds on the clock of [`Record::created`].
        released_at: u64,
    },
    /// What another plugin knew of an address is known here from now on: who holds it, without a
    /// record, or that it rests.
    TakeOver {
        /// The network.
        network: NetworkName,
        /// The range set the address is in.
        set: usize,
        /// The address and its state.
        known: Known,
    },
    /// Addresses are held for an attachment of another plugin, without a record.
    Hold {
        /// Whose they are.
        key: AttachmentKey,
        /// The addresses.
        addresses: Vec<Assigned>,
    },
    /// A network is defined, or defined otherwise. Survives a power cut.
    Network(Box<Definition>),
    /// An attachment is as somebody else has seen it. Its addresses are its own from now on, whoever had them
    /// in the store.
    PutBack(Box<Stored>),
    /// What the store may have lacked has been learned from the kernel: the next opening knows all.
    Rebuilt,
}

impl Change {
    /// True if it must be on the disk before anybody acts on it.
    fn is_permanent(&self) -> bool {
        matches!(self, Self::Network(_) | Self::TakeOver { .. })
    }

    /// The attachment whose record it is about.
    pub(super) fn attachment(&self) -> Option<&AttachmentKey> {
        match self {
            Self::Remember(record) => Some(&record.key),
            Self::PutBack(stored) => Some(&stored.record.key),
            Self::Leaving(key) | Self::Forget { key, .. } => Some(key),
            Self::Hold { .. } | Self::TakeOver { .. } | Self::Network(_) | Self::Rebuilt => None,
        }
    }

    fn doing(&self) -> String {
        match self {
            Self::Remember(record) => format!("remember attachment {}", record.key),
            Self::Leaving(key) => format!("mark attachment {key} as leaving"),
            Self::Hold { key, .. } => format!("hold addresses for {key}"),
            Self::Forget { key, .. } => format!("forget attachment {key}"),
            Self::TakeOver { network, known, .. } => {
                format!("take over address {} of network {network}", known.address)
            }
            Self::Network(definition) => format!("remember network {}", definition.name),
            Self::PutBack(stored) => format!("put back attachment {}", stored.record.key),
            Self::Rebuilt => "note that all is rebuilt".into(),
        }
    }
}

impl Store {
    /// Makes all changes, in order, or none. When it returns they survive `kill -9`, and a power cut if
    /// one of them is about a network: then all wait for the disk.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        // Before: the mark of a DEL outlives a disk that takes no more.
        for change in changes {
            if let Change::Leaving(key) | Change::Forget { key, .. } = change {
                let marked = self.witness.mark(key);
                self.witnessed(key, marked);
            }
        }
        fault::reach("store-commit")?;
        let permanent = changes.iter().any(Change::is_permanent);
        if permanent {
            self.synchronous("FULL")?;
        }
        let outcome = self.apply_all(changes);
        if permanent {
            self.synchronous("NORMAL")?;
        }
        outcome?;
        // After: what is only there was attached, and is lost from the store.
        for change in changes {
            self.follow(change);
        }
        self.note_generation();
        Ok(())
    }

    /// Brings the write-ahead log home: all that was committed survives a power cut from here on, and
    /// the log begins anew. Takes a few milliseconds, so it is for when nothing else waits. What could not be
    /// written beside the store is tried again.
    pub fn checkpoint(&mut self) -> Result<(), StoreError> {
        fault::reach("store-checkpoint")?;
        self.look_after()?;
        self.witness_again()?;
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|e| self.failed("bring the write-ahead log home", e))
    }

    fn synchronous(&self, level: &str) -> Result<(), StoreError> {
        self.connection
            .pragma_update(None, "synchronous", level)
            .map_err(|e| self.failed("choose the durability", e))
    }

    fn apply_all(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let (path, turn) = (&self.path, &mut self.turn);
        let failed = |doing: String| |e| StoreError::of_database(doing, path, e);
        let number = self.generation.number + 1;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed("begin a transaction".into()))?;
        for change in changes {
            *turn += 1;
            apply(&transaction, change, *turn)
                .map_err(|refused| refused.into_error(change.doing(), path))?;
        }
        transaction
            .prepare_cached("UPDATE boot SET generation = ?1")
            .and_then(|mut statement| statement.execute([number]))
            .map_err(failed("count the commits".into()))?;
        transaction.commit().map_err(failed("commit a transaction".into()))?;
        self.generation.number = number;
        Ok(())
    }
}

/// Why one change was not made, before it is known where.
#[derive(Debug)]
pub(super) enum Refused {
    Database(rusqlite::Error),
    Encode(serde_json::Error),
    Taken(Box<StoreError>),
}

impl Refused {
    pub(super) fn into_error(self, doing: String, path: &Path) -> StoreError {
        match self {
            Self::Database(e) => StoreError::of_database(doing, path, e),
            Self::Encode(source) => StoreError::Encode { doing, source },
            Self::Taken(error) => *error,
        }
    }
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<serde_json::Error> for Refused {
    fn from(error: serde_json::Error) -> Self {
        Self::Encode(error)
    }
}

pub(super) fn apply(db: &Connection, change: &Change, turn: i64) -> Result<(), Refused> {
    match change {
        Change::Remember(record) => remember(db, record, turn)?,
        Change::Leaving(key) => leaving(db, key)?,
        Change::Forget { key, released_at } => {
            db.prepare_cached(
                "DELETE FROM attachments WHERE network = ?1 AND container = ?2 AND ifname = ?3",
            )?
            .execute(columns(key))?;
            release(db, key, *released_at, turn)?;
        }
        Change::Hold { key, addresses } => hold(db, key, addresses)?,
        Change::TakeOver { network, set, known } => take_over(db, network, *set, known, turn)?,
        Change::Network(definition) => {
            let body = serde_json::to_string(definition)?;
            let name = definition.name.as_str();
            let sql = "INSERT OR REPLACE INTO networks (name, body, sum) VALUES (?1, ?2, ?3)";
            db.prepare_cached(sql)?.execute(params![name, body, sum(&[name, &body])])?;
        }
        Change::PutBack(stored) => put_back(db, stored, turn)?,
        Change::Rebuilt => {
            db.execute("UPDATE boot SET set_aside = NULL, why = NULL", [])?;
        }
    }
    Ok(())
}

fn remember(db: &Connection, record: &Record, turn: i64) -> Result<(), Refused> {
    let key = &record.key;
    let [network, container, ifname] = columns(key);
    release(db, key, record.created, turn)?;
    let body = serde_json::to_string(record)?;
    db.prepare_cached(
        "INSERT OR REPLACE INTO attachments (network, container, ifname, state, created, body, sum) \
         VALUES (?1, ?2, ?3, 'attached', ?4, ?5, ?6)",
    )?
    .execute(params![
        network,
        container,
        ifname,
        whole(record.created),
        body,
        sum(&[network, container, ifname, &body])
    ])?;
    hold(db, key, &record.addresses)
}

fn leaving(db: &Connection, key: &AttachmentKey) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE attachments SET state = 'leaving' \
         WHERE network = ?1 AND container = ?2 AND ifname = ?3",
    )?
    .execute(columns(key))?;
    Ok(())
}

fn put_back(db: &Connection, stored: &Stored, turn: i64) -> Result<(), Refused> {
    let record = &stored.record;
    let mut free =
        db.prepare_cached("DELETE FROM addresses WHERE network = ?1 AND address = ?2")?;
    for assigned in &record.addresses {
        free.execute([record.key.network.as_str(), &assigned.address.ip().to_string()])?;
    }
    remember(db, record, turn)?;
    if stored.is_leaving() {
        leaving(db, &record.key)?;
    }
    Ok(())
}

/// The checksum of a row's texts.
pub(super) fn sum(texts: &[&str]) -> i64 {
    digest(texts).cast_signed()
}

/// Has the addresses held for this key.
fn hold(db: &Connection, key: &AttachmentKey, addresses: &[Assigned]) -> Result<(), Refused> {
    let [network, container, ifname] = columns(key);
    for assigned in addresses {
        let ip = assigned.address.ip();
        let address = ip.to_string();
        // Does nothing if somebody has the address.
        let held = db
            .prepare_cached(
                "INSERT INTO addresses (network, address, set_index, container, ifname) \
                 VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT (network, address) DO UPDATE SET set_index = ?3, container = ?4, \
                 ifname = ?5, released_at = NULL, turn = NULL WHERE container IS NULL",
            )?
            .execute(params![network, address, whole(assigned.set as u64), container, ifname])?;
        if held == 0 {
            let holder = holder(db, network, &address)?;
            let owner = key.clone();
            let taken = StoreError::AddressTaken { owner, address: ip, holder };
            return Err(Refused::Taken(Box::new(taken)));
        }
    }
    Ok(())
}

fn take_over(
    db: &Connection,
    network: &NetworkName,
    set: usize,
    known: &Known,
    turn: i64,
) -> rusqlite::Result<()> {
    let (container, ifname, released_at, turn) = match &known.state {
        KnownState::Held(key) => {
            (Some(key.container.as_str()), Some(key.ifname.as_str()), None, None)
        }
        KnownState::Released(at_ms) => (None, None, Some(whole(*at_ms)), Some(turn)),
    };
    let (address, set) = (known.address.to_string(), whole(set as u64));
    db.prepare_cached(
        "INSERT INTO addresses (network, address, set_index, container, ifname, released_at, turn) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![network.as_str(), address, set, container, ifname, released_at, turn])?;
    Ok(())
}

/// Names its index, as SQLite would search all addresses of the network instead.
fn release(db: &Connection, key: &AttachmentKey, at_ms: u64, turn: i64) -> rusqlite::Result<()> {
    let [network, container, ifname] = columns(key);
    db.prepare_cached(
        "UPDATE addresses INDEXED BY owners \
         SET container = NULL, ifname = NULL, released_at = ?4, turn = ?5 \
         WHERE network = ?1 AND container = ?2 AND ifname = ?3",
    )?
    .execute(params![network, container, ifname, whole(at_ms), turn])?;
    Ok(())
}

fn holder(db: &Connection, network: &str, address: &str) -> rusqlite::Result<String> {
    db.query_row(
        "SELECT container || '/' || ifname FROM addresses WHERE network = ?1 AND address = ?2",
        [network, address],
        |row| row.get(0),
    )
    .optional()
    .map(Option::unwrap_or_default)
}

/// A key as the three columns it is kept in.
pub(super) fn columns(key: &AttachmentKey) -> [&str; 3] {
    [key.network.as_str(), key.container.as_str(), key.ifname.as_str()]
}

/// SQLite's integers have a sign; no clock of ours reaches it in 292 million years.
fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
