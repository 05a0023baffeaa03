//! Forgetting released addresses that nothing depends on any more. A pool of more than [`LARGE_POOL`] addresses makes
//! a row for each that it hands out for the first time; releases before this one made one for every ADD.

use rusqlite::Connection;

use super::{Store, StoreError};
use crate::ipam::{IDLE_OF_LARGE, LARGE_POOL};

impl Store {
    /// Of each network that has more released addresses than the largest pool that remembers all of its own, those
    /// that were released last are kept. What is forgotten is fresh again, and so comes before those.
    pub(super) fn prune(&mut self) -> Result<(), StoreError> {
        let pruned = prune(&self.connection);
        pruned.map_err(|e| self.failed("forget addresses that were released long ago", e))
    }
}

fn prune(db: &Connection) -> rusqlite::Result<()> {
    let many = "SELECT network FROM addresses WHERE container IS NULL \
                GROUP BY network HAVING count(*) > ?1";
    let mut statement = db.prepare(many)?;
    let networks: Vec<String> =
        statement.query_map([LARGE_POOL as i64], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for network in networks {
        db.execute(
            "DELETE FROM addresses WHERE network = ?1 AND container IS NULL AND turn <= \
             (SELECT turn FROM addresses WHERE network = ?1 AND container IS NULL \
              ORDER BY turn DESC LIMIT 1 OFFSET ?2)",
            rusqlite::params![network, IDLE_OF_LARGE as i64],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use quantum_config::ids::NetworkName;

    use super::super::Change;
    use super::super::samples::{key, open};
    use super::*;
    use crate::ipam::{Known, KnownState};

    #[test]
    fn of_very_many_released_addresses_the_last_are_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let network = |name: &str| NetworkName::new(name).expect("a name");
        let (mut store, _) = open(dir.path(), "boot").expect("a store");
        let address = |n: u32| IpAddr::from((10u32 << 24 | n).to_be_bytes());
        let row = |name: &str, n: u32, state| Change::TakeOver {
            network: network(name),
            set: 0,
            known: Known { address: address(n), state },
        };
        let released = |name: &str, count: u32| -> Vec<Change> {
            (0..count).map(|n| row(name, n, KnownState::Released(u64::from(n)))).collect()
        };
        store.commit(&released("large", 6000)).expect("committed");
        store.commit(&released("small", 4096)).expect("committed");
        store.commit(&[row("large", 7000, KnownState::Held(key("a")))]).expect("committed");
        drop(store);
        let (store, _) = open(dir.path(), "boot").expect("the same");
        let known = store.known(&network("large")).expect("read");
        let resting: Vec<IpAddr> = known
            .iter()
            .filter(|known| matches!(known.state, KnownState::Released(_)))
            .map(|known| known.address)
            .collect();
        assert_eq!(resting.len(), IDLE_OF_LARGE);
        assert_eq!(resting, (6000 - 1024..6000).map(address).collect::<Vec<_>>());
        assert_eq!(known.len(), IDLE_OF_LARGE + 1, "what is held stays");
        assert_eq!(store.known(&network("small")).expect("read").len(), 4096);
    }
}
