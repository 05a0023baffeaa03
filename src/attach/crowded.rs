//! Which containers hold so many of the connections that the host can track that they begin no new ones for
//! now. The kernel has one table for the whole host, and when it is full nobody begins a connection any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// Where nothing is set, an address has this share of the table, but only while the table is rather full.
const SHARE: u64 = 16;

/// The kernel's table of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionTable {
    /// Entries in this network namespace.
    pub entries: u64,
    /// The most that there can be.
    pub max: u64,
}

/// How many connections an address may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    setting: u32,
}

impl Bound {
    /// What the setting `container_connections` says: a number, or 0 for a share of a table that is rather
    /// full.
    pub fn new(setting: u32) -> Self {
        Self { setting }
    }

    fn is_fixed(self) -> bool {
        self.setting > 0
    }

    /// From where on an address holds too many.
    fn most(self, table: ConnectionTable) -> u64 {
        if self.is_fixed() { self.setting.into() } else { (table.max / SHARE).max(1) }
    }

    /// Whether to count who holds how many: some address may hold too many, or did.
    pub fn counts(self, table: ConnectionTable, before: &BTreeSet<IpAddr>) -> bool {
        let may_be = match self.is_fixed() {
            true => table.entries >= self.most(table),
            false => table.entries * 4 >= table.max * 3,
        };
        may_be || !before.is_empty()
    }

    /// The addresses that hold too many, each with how many. One that did goes on to until it holds a quarter
    /// less, or the table is half empty.
    pub fn crowded(
        self,
        table: ConnectionTable,
        held: &HashMap<IpAddr, u64>,
        before: &BTreeSet<IpAddr>,
    ) -> BTreeMap<IpAddr, u64> {
        let is_full = self.is_fixed() || table.entries * 4 >= table.max * 3;
        let is_roomy = !self.is_fixed() && table.entries * 2 < table.max;
        let most = self.most(table);
        let crowds = |(address, count): &(&IpAddr, &u64)| match before.contains(address) {
            true => !is_roomy && **count * 4 >= most * 3,
            false => is_full && **count >= most,
        };
        held.iter().filter(crowds).map(|(address, count)| (*address, *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn crowded(bound: Bound, entries: u64, held: &[(u8, u64)], before: &[u8]) -> Vec<u8> {
        let table = ConnectionTable { entries, max: 1600 };
        let held = held.iter().map(|(last, n)| (address(*last), *n)).collect();
        let before: BTreeSet<IpAddr> = before.iter().copied().map(address).collect();
        let found = bound.crowded(table, &held, &before);
        assert!(found.is_empty() || bound.counts(table, &before));
        let last = |address: &IpAddr| match address {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(_) => 0,
        };
        found.keys().map(last).collect()
    }

    #[test]
    fn while_there_is_room_nobody_holds_too_many() {
        let share = Bound::new(0);
        assert_eq!(crowded(share, 1199, &[(1, 900), (2, 100)], &[]), [0; 0]);
        assert_eq!(crowded(share, 1200, &[(1, 900), (2, 100), (3, 99)], &[]), [1, 2]);
        // It ends later than it begins.
        assert_eq!(crowded(share, 900, &[(1, 75), (2, 74), (3, 100)], &[1, 2]), [1]);
        assert_eq!(crowded(share, 799, &[(1, 700)], &[1]), [0; 0]);
    }

    #[test]
    fn a_number_holds_whether_or_not_there_is_room() {
        let ten = Bound::new(10);
        assert_eq!(crowded(ten, 19, &[(1, 10), (2, 9)], &[]), [1]);
        assert_eq!(crowded(ten, 19, &[(1, 8), (2, 7)], &[1, 2]), [1]);
        assert!(!ten.counts(ConnectionTable { entries: 9, max: 1600 }, &BTreeSet::new()));
    }
}
