//! A store that turns out to be damaged, or is taken away, while the daemon runs: the file is set aside and made anew
//! from what is beside it, and the question that found it is answered.

use std::net::IpAddr;

use quantum_config::cni::Definition;
use quantum_config::ids::AttachmentKey;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::open::{Lost, connect, create, inode, set_aside};
use super::write::sum;
use super::{Change, Store, StoreError, Stored};
use crate::ipam::{Known, KnownState};

impl Store {
    /// Does a job. If the file turns out to be damaged, it is made anew and the job done again.
    pub fn mended<T>(
        &mut self,
        job: impl Fn(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match job(self) {
            Err(StoreError::Damaged { doing, why, .. }) => {
                self.make_anew(format!("cannot {doing}: {why}"))?;
                job(self)
            }
            outcome => outcome,
        }
    }

    /// An attachment. Where the file cannot be read now, what is beside it answers.
    pub fn find(&mut self, key: &AttachmentKey) -> Result<Option<Stored>, StoreError> {
        let found = self.mended(|store| store.lookup(key));
        found.or_else(|error| self.witness.look(key).map(Some).ok_or(error))
    }

    /// What has happened to the file since this was asked last.
    pub fn take_mishap(&mut self) -> Option<String> {
        self.mishap.take()
    }

    /// Sees whether the file is still the one that was opened.
    pub(super) fn look_after(&mut self) -> Result<(), StoreError> {
        match inode(&self.path) == self.inode {
            true => Ok(()),
            false => self.make_anew("it was removed, or another file put in its place".into()),
        }
    }

    fn make_anew(&mut self, why: String) -> Result<(), StoreError> {
        let failed = |e| StoreError::of_database("set it aside".into(), &self.path, e);
        // First: from here on the store has nothing but this.
        let seen = self.witness.read();
        let salvaged = salvage(&self.connection);
        let boot = self.witness.life().boot.clone();
        let none = Connection::open_in_memory().map_err(failed)?;
        // Closing it must not change it.
        let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        let _ = self.connection.set_db_config(keep_log, true);
        drop(std::mem::replace(&mut self.connection, none));
        let aside = set_aside(&self.path)?;
        self.mishap =
            Some(format!("{}: {why}; set aside: {}", self.path.display(), aside.display()));
        create(&self.path, &boot, &Lost { set_aside: aside, why })?;
        self.connection = connect(&self.path)?;
        self.prepare().map_err(|e| self.failed("open the new file", e))?;
        self.inode = inode(&self.path);
        let before = self.generation.number;
        self.generation = self.read_generation()?;
        self.generation.number = before;
        self.commit_each(salvaged);
        // Which are not there is found out by the next start; nothing was learned about that here.
        let learned = std::mem::take(&mut self.learned);
        let is_whole = self.unwitnessed.is_empty() && seen.bad.is_empty();
        self.take_up(false, seen)?;
        self.learned = learned;
        // Else the kernel has to be asked, which only a start does.
        if is_whole { self.commit(&[Change::Rebuilt]) } else { Ok(()) }
    }

    /// Makes each change that can be made.
    pub(super) fn commit_each(&mut self, changes: Vec<Change>) {
        for change in changes {
            let _ = self.commit(&[change]);
        }
    }
}

/// What a damaged file has besides attachments and can still be read: networks, and addresses that are held for
/// attachments of other plugins. One address too many that is held does less harm than one that is given twice.
pub(super) fn salvage(file: &Connection) -> Vec<Change> {
    let networks = rows(file, "SELECT name, body, ifnull(CAST(sum AS TEXT), '') FROM networks");
    let networks = networks.into_iter().filter_map(|[name, body, found]| {
        let is_whole = found.is_empty() || found == sum(&[&name, &body]).to_string();
        let definition: Definition = serde_json::from_str(&body).ok().filter(|_| is_whole)?;
        Some(Change::Network(Box::new(definition)))
    });
    let held = rows(
        file,
        "SELECT network || '/' || container || '/' || ifname, address, CAST(set_index AS TEXT) \
         FROM addresses AS a WHERE container IS NOT NULL AND NOT EXISTS (SELECT 1 FROM attachments \
         AS t WHERE t.network = a.network AND t.container = a.container AND t.ifname = a.ifname)",
    );
    let held = held.into_iter().filter_map(|[key, address, set]| {
        let key: AttachmentKey = key.parse().ok()?;
        let address: IpAddr = address.parse().ok()?;
        Some(Change::TakeOver {
            network: key.network.clone(),
            set: set.parse().ok()?,
            known: Known { address, state: KnownState::Held(key) },
        })
    });
    networks.chain(held).collect()
}

fn rows(file: &Connection, sql: &str) -> Vec<[String; 3]> {
    let Ok(mut statement) = file.prepare(sql) else { return Vec::new() };
    let read = statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]));
    read.map(|rows| rows.flatten().collect()).unwrap_or_default()
}
