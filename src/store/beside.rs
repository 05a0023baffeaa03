//! What the second witness says besides attachments: networks, and addresses that are held for attachments of
//! other plugins, of which the kernel shows nothing that is ours.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use quantum_config::cni::Definition;
use quantum_config::ids::{AttachmentKey, digest};
use rusqlite::params;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::witness::{Witness, absent_is_fine, decode, encode, put};
use super::write::columns;
use super::{Change, Store, StoreError, small_file};
use crate::ipam::{Known, KnownState};

/// The addresses that are held for an attachment, each with its range set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    key: AttachmentKey,
    addresses: Vec<(usize, IpAddr)>,
}

impl Held {
    fn changes(&self) -> impl Iterator<Item = Change> {
        self.addresses.iter().map(|(set, address)| Change::TakeOver {
            network: self.key.network.clone(),
            set: *set,
            known: Known { address: *address, state: KnownState::Held(self.key.clone()) },
        })
    }
}

impl Witness {
    fn keep_network(&self, network: &Definition) -> io::Result<()> {
        let name = format!("{:016x}", digest(&[network.name.as_str()]));
        put(&self.networks.join(name), &encode(self.life(), network)?)
    }

    fn keep_held(&self, held: &Held) -> io::Result<()> {
        put(&self.held_file(&held.key), &encode(self.life(), held)?)
    }

    /// Nothing is held for it without a record any more.
    pub(super) fn remove_held(&self, key: &AttachmentKey) -> io::Result<()> {
        absent_is_fine(fs::remove_file(self.held_file(key)))
    }

    fn held_file(&self, key: &AttachmentKey) -> std::path::PathBuf {
        self.held.join(format!("{:016x}", key.digest()))
    }

    /// What can be read in a folder and is of this life. What is of another boot goes.
    fn read_all<T: DeserializeOwned>(&self, folder: &Path) -> Vec<T> {
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let read = entries.flatten().filter_map(|entry| {
            let path = entry.path();
            let (life, what) = decode::<T>(&small_file::read_own(&path).ok()?).ok()?;
            if life.boot != self.life().boot {
                let _ = fs::remove_file(&path);
            }
            (life == *self.life()).then_some(what)
        });
        read.collect()
    }
}

impl Store {
    /// Takes up what the store lacks, unless it is the newest, and has both say the same.
    pub(super) fn take_up_beside(&mut self, is_newest: bool) -> Result<(), StoreError> {
        let held: Vec<Held> = self.witness.read_all(&self.witness.held);
        if !is_newest {
            let known = self.networks()?;
            let networks: Vec<Definition> = self.witness.read_all(&self.witness.networks);
            let lost = networks.into_iter().filter(|n| !known.iter().any(|k| k.name == n.name));
            self.commit_each(lost.map(|network| Change::Network(Box::new(network))).collect());
            for held in &held {
                // Who has a record has its addresses by that.
                if self.lookup(&held.key)?.is_none() {
                    self.commit_each(held.changes().collect());
                }
            }
        }
        for network in self.networks()? {
            self.note(self.witness.keep_network(&network));
        }
        let now: Vec<AttachmentKey> =
            self.held_without_record()?.into_iter().map(|h| h.0).collect();
        for key in held.iter().map(|held| &held.key).filter(|key| !now.contains(key)) {
            self.note(self.witness.remove_held(key));
        }
        for key in &now {
            self.keep_held(key);
        }
        Ok(())
    }

    pub(super) fn keep_network(&mut self, network: &Definition) {
        self.note(self.witness.keep_network(network));
    }

    /// Has the witness say what is held for an attachment without a record.
    pub(super) fn keep_held(&mut self, key: &AttachmentKey) {
        let held = self.held_for(key);
        if let Ok(held) = held {
            self.note(self.witness.keep_held(&held));
        }
    }

    fn held_for(&self, key: &AttachmentKey) -> rusqlite::Result<Held> {
        let [network, container, ifname] = columns(key);
        let sql = "SELECT set_index, address FROM addresses \
                   WHERE network = ?1 AND container = ?2 AND ifname = ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let read = statement.query_map(params![network, container, ifname], |row| {
            Ok((row.get::<_, u32>(0)? as usize, row.get::<_, String>(1)?))
        })?;
        let addresses = read.flatten().filter_map(|(set, ip)| Some((set, ip.parse().ok()?)));
        Ok(Held { key: key.clone(), addresses: addresses.collect() })
    }

    /// What could not be written is told; the next start writes it.
    fn note(&mut self, done: io::Result<()>) {
        if let Err(e) = done {
            self.trouble = Some(format!("what is held cannot be written beside the store: {e}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{definition, key, record, start};
    use super::super::{Change, Opening};
    use crate::attach::Assigned;

    #[test]
    fn networks_and_what_is_held_for_others_are_not_lost_with_the_store() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut store, _) = start(dir.path(), "boot-1").expect("opens");
        let hold = |name: &str, address: &str| Change::Hold {
            key: key(name),
            addresses: vec![Assigned {
                set: 0,
                address: address.parse().expect("an address"),
                gateway: None,
            }],
        };
        let changes = [
            Change::Network(Box::new(definition("n"))),
            hold("lent", "10.0.0.2/16"),
            hold("gone", "10.0.0.3/16"),
            hold("attached", "10.0.0.4/16"),
            Change::Forget { key: key("gone"), released_at: 5 },
            Change::Remember(Box::new(record("attached", &["10.0.0.4/16"]))),
        ];
        store.commit(&changes).expect("a commit");
        let held = store.held_without_record().expect("readable");
        assert_eq!(held.len(), 1);
        drop(store);
        for name in ["state.db", "state.db-wal", "state.db-shm"] {
            let _ = std::fs::remove_file(dir.path().join(name));
        }
        let (store, opening) = start(dir.path(), "boot-1").expect("opens");
        assert_eq!(opening, Opening::Fresh);
        assert_eq!(store.held_without_record().expect("readable"), held);
        assert_eq!(store.networks().expect("readable"), [definition("n")]);
        assert_eq!(store.count().expect("a count"), 1);
        drop(store);
        let (store, _) = start(dir.path(), "boot-2").expect("opens");
        assert!(store.held_without_record().expect("readable").is_empty(), "ended by the boot");
    }
}
