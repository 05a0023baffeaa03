//! Reading the store. Whatever cannot be decoded is damage, never a default.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::str::FromStr;

use quantum_config::cni::Definition;
use quantum_config::ids::{AttachmentKey, ContainerId, IfName, InvalidId, NetworkName};
use rusqlite::{ErrorCode, OptionalExtension, Params, Row};
use serde::de::DeserializeOwned;

use super::open::Lost;
use super::witness::Generation;
use super::write::{columns, sum};
use super::{Store, StoreError};
use crate::attach::Record;
use crate::ipam::{Known, KnownState};

/// An attachment as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What was done.
    pub record: Record,
    /// How far it has come.
    pub state: StoredState,
}

/// How far an attachment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredState {
    /// It was made.
    Attached,
    /// Its removal has begun and must be ended.
    Leaving,
}

impl Store {
    /// An attachment.
    pub fn lookup(&self, key: &AttachmentKey) -> Result<Option<Stored>, StoreError> {
        let sql = "SELECT network, container, ifname, state, body, ifnull(CAST(sum AS TEXT), '') FROM attachments \
                   WHERE network = ?1 AND container = ?2 AND ifname = ?3";
        let doing = || format!("look up attachment {key}");
        let row = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut s| s.query_row(columns(key), texts).optional())
            .map_err(|e| self.failed(doing(), e))?;
        row.map(|row| self.stored(&row)).transpose()
    }

    /// The keys of a network's attachments, in their order.
    pub fn list(&self, network: &NetworkName) -> Result<Vec<AttachmentKey>, StoreError> {
        let sql = "SELECT network, container, ifname FROM attachments WHERE network = ?1 \
                   ORDER BY container, ifname";
        let doing = format!("list the attachments of network {network}");
        let rows = self.rows(sql, [network.as_str()], &doing, texts)?;
        rows.iter().map(|row| self.key(row, &doing)).collect()
    }

    /// Every attachment.
    pub fn all(&self) -> Result<Vec<Stored>, StoreError> {
        let sql = "SELECT network, container, ifname, state, body, ifnull(CAST(sum AS TEXT), '') FROM attachments \
                   ORDER BY network, container, ifname";
        let rows = self.rows(sql, [], "read the attachments", texts::<6>)?;
        rows.iter().map(|row| self.stored(row)).collect()
    }

    /// Every address that is held without a record, with whom it is for.
    pub fn held_without_record(&self) -> Result<Vec<(AttachmentKey, IpAddr)>, StoreError> {
        let sql = "SELECT network, container, ifname, address FROM addresses AS a \
                   WHERE container IS NOT NULL AND NOT EXISTS (SELECT 1 FROM attachments AS t \
                   WHERE t.network = a.network AND t.container = a.container AND t.ifname = a.ifname) \
                   ORDER BY network, address";
        let doing = "read the addresses without a record";
        let rows = self.rows(sql, [], doing, texts::<4>)?;
        let decode = |[network, container, ifname, address]: [String; 4]| {
            let key = self.key(&[network, container, ifname], doing)?;
            Ok((key, self.decode(doing, address.parse())?))
        };
        rows.into_iter().map(decode).collect()
    }

    /// How many attachments there are.
    pub fn count(&self) -> Result<usize, StoreError> {
        let sql = "SELECT count(*) FROM attachments";
        Ok(self.one::<u32>(sql, "count the attachments")? as usize)
    }

    /// What an allocator of `network` must know: held addresses, then released ones, the longest
    /// released first.
    pub fn known(&self, network: &NetworkName) -> Result<Vec<Known>, StoreError> {
        let sql = "SELECT address, container, ifname, released_at FROM addresses \
                   WHERE network = ?1 ORDER BY turn, address";
        let doing = format!("read the addresses of network {network}");
        type Columns = (String, Option<String>, Option<String>, Option<i64>);
        let columns = |row: &Row<'_>| -> rusqlite::Result<Columns> { row.try_into() };
        let rows = self.rows(sql, [network.as_str()], &doing, columns)?;
        let decode = |(address, container, ifname, released_at): Columns| {
            let address = self.decode(&doing, address.parse())?;
            let state = match (container, ifname, released_at.map(u64::try_from)) {
                (Some(container), Some(ifname), None) => {
                    let owner = [network.as_str().to_owned(), container, ifname];
                    KnownState::Held(self.key(&owner, &doing)?)
                }
                (None, None, Some(Ok(at_ms))) => KnownState::Released(at_ms),
                _ => {
                    let why = format!("address {address} is neither held nor released");
                    return Err(self.damaged(&doing, why));
                }
            };
            Ok(Known { address, state })
        };
        rows.into_iter().map(decode).collect()
    }

    /// The networks as they were last defined.
    pub fn networks(&self) -> Result<Vec<Definition>, StoreError> {
        let doing = "read the networks";
        let sql = "SELECT name, body, ifnull(CAST(sum AS TEXT), '') FROM networks ORDER BY name";
        let rows = self.rows(sql, [], doing, texts::<3>)?;
        let decode = |[name, body, sum]: &[String; 3]| {
            self.check_sum(doing, sum, &[name, body])?;
            self.json(doing, body)
        };
        rows.iter().map(decode).collect()
    }

    /// Reads every row, for the one who opens the store: all of it can be decoded, or none counts.
    pub(super) fn check_rows(&self) -> Result<(), StoreError> {
        self.boot()?;
        let records = self.all()?;
        self.networks()?;
        let doing = "read the addresses";
        let sql = "SELECT DISTINCT network FROM addresses";
        let mut held = HashMap::new();
        for [name] in self.rows(sql, [], doing, texts::<1>)? {
            for known in self.known(&self.decode(doing, NetworkName::new(name))?)? {
                if let KnownState::Held(key) = known.state {
                    held.entry(key).or_insert_with(BTreeSet::new).insert(known.address);
                }
            }
        }
        // An address could be given twice.
        for Stored { record, .. } in records {
            let own: BTreeSet<IpAddr> = record.addresses.iter().map(|a| a.address.ip()).collect();
            let held = held.remove(&record.key).unwrap_or_default();
            if let Some(address) = own.symmetric_difference(&held).next() {
                let why = format!("attachment {} has {address} in one table only", record.key);
                return Err(self.damaged("compare the addresses with the attachments", why));
            }
        }
        Ok(())
    }

    pub(super) fn read_generation(&self) -> Result<Generation, StoreError> {
        let doing = "read how often it was written";
        let [store, number] = ["SELECT store FROM boot", "SELECT generation FROM boot"]
            .map(|sql| self.one(sql, doing));
        Ok(Generation { store: store?, number: number? })
    }

    /// `found` is none where an earlier release wrote the row.
    fn check_sum(&self, doing: &str, found: &str, texts: &[&str]) -> Result<(), StoreError> {
        match found.is_empty() || found == sum(texts).to_string() {
            true => Ok(()),
            false => Err(self.damaged(doing, "the checksum is not that of what is in it".into())),
        }
    }

    pub(super) fn boot(&self) -> Result<String, StoreError> {
        self.one("SELECT id FROM boot", "read the boot id")
    }

    pub(super) fn lost(&self) -> Result<Option<Lost>, StoreError> {
        let sql = "SELECT set_aside, why FROM boot WHERE set_aside IS NOT NULL";
        let rows = self.rows(sql, [], "read what was set aside", texts::<2>)?;
        let lost = |[set_aside, why]: [String; 2]| Lost { set_aside: set_aside.into(), why };
        Ok(rows.into_iter().next().map(lost))
    }

    pub(super) fn last_turn(&self) -> Result<i64, StoreError> {
        let sql = "SELECT coalesce(max(turn), 0) FROM addresses";
        self.one(sql, "read the order of releases")
    }

    pub(super) fn next_turn(&mut self) -> i64 {
        self.turn += 1;
        self.turn
    }

    fn stored(&self, row: &[String; 6]) -> Result<Stored, StoreError> {
        let [network, container, ifname, state, body, sum] = row;
        let doing = format!("read attachment {network}/{container}/{ifname}");
        self.check_sum(&doing, sum, &[network, container, ifname, body])?;
        let record: Record = self.json(&doing, body)?;
        if columns(&record.key) != [network, container, ifname] {
            return Err(self.damaged(&doing, format!("its record is of {}", record.key)));
        }
        let state = match self.marked.contains(&record.key) {
            true => StoredState::Leaving,
            false => self.decode(&doing, state.parse())?,
        };
        Ok(Stored { record, state })
    }

    fn key(&self, row: &[String; 3], doing: &str) -> Result<AttachmentKey, StoreError> {
        let [network, container, ifname] = row.clone();
        let key = || -> Result<AttachmentKey, InvalidId> {
            Ok(AttachmentKey {
                network: NetworkName::new(network)?,
                container: ContainerId::new(container)?,
                ifname: IfName::new(ifname)?,
            })
        };
        self.decode(doing, key())
    }

    fn json<T: DeserializeOwned>(&self, doing: &str, body: &str) -> Result<T, StoreError> {
        self.decode(doing, serde_json::from_str(body))
    }

    fn decode<T, E: ToString>(&self, doing: &str, value: Result<T, E>) -> Result<T, StoreError> {
        value.map_err(|e| self.damaged(doing, e.to_string()))
    }

    fn one<T: rusqlite::types::FromSql>(&self, sql: &str, doing: &str) -> Result<T, StoreError> {
        self.connection.query_row(sql, [], |row| row.get(0)).map_err(|e| self.failed(doing, e))
    }

    fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        doing: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_map(params, read)?.collect())
            .map_err(|e| self.failed(doing, e))
    }

    /// Sorts what the database said. That a table, a column or a row of ours is missing, or of another
    /// type, is damage as well.
    pub(super) fn failed(&self, doing: impl Into<String>, error: rusqlite::Error) -> StoreError {
        use rusqlite::Error;
        // SQLITE_ERROR: "no such table".
        let misses_a_table = error.sqlite_error_code() == Some(ErrorCode::Unknown);
        match error {
            Error::SqlInputError { .. }
            | Error::QueryReturnedNoRows
            | Error::InvalidColumnType(..)
            | Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..) => self.damaged(&doing.into(), error.to_string()),
            _ if misses_a_table => self.damaged(&doing.into(), error.to_string()),
            _ => StoreError::of_database(doing.into(), &self.path, error),
        }
    }

    pub(super) fn damaged(&self, doing: &str, why: String) -> StoreError {
        StoreError::Damaged { doing: doing.to_owned(), path: self.path.clone(), why }
    }
}

impl FromStr for StoredState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "attached" => Ok(Self::Attached),
            "leaving" => Ok(Self::Leaving),
            other => Err(format!("{other:?} is no state")),
        }
    }
}

/// A row of `N` texts.
fn texts<const N: usize>(row: &Row<'_>) -> rusqlite::Result<[String; N]> {
    let mut found = [const { String::new() }; N];
    for (at, text) in found.iter_mut().enumerate() {
        *text = row.get(at)?;
    }
    Ok(found)
}
