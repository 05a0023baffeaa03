//! What is attached, of several who say so: the store, the files beside it, the links of the kernel.
//! Absence from one of them proves nothing, and no address is anybody's twice.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use quantum_config::ids::{AttachmentKey, NetworkName};

use super::{Stored, StoredState};
use crate::attach::{LinksSeen, Record};

/// What is to be changed in the store.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Union {
    /// Records to drop: another attachment has their addresses, and their link is not there.
    pub(super) forget: Vec<AttachmentKey>,
    /// Records that are not in the store, or not so.
    pub(super) put_back: Vec<Stored>,
}

/// Puts together what is in the store and what others have `seen`. `is_newest`: what had been removed from the
/// store had been removed. `there` are the links of the host.
pub(super) fn unite(
    stored: Vec<Stored>,
    seen: Vec<Stored>,
    is_newest: bool,
    there: &LinksSeen,
) -> Union {
    let is_there = |record: &Record| there.carry(&record.host, record.index);
    let before: HashMap<AttachmentKey, Stored> = by_key(stored);
    let mut all = before.clone();
    for seen in seen {
        let Some(known) = all.get_mut(&seen.record.key) else {
            // Its removal was cut short, and is ended; or it was lost from the store while it lives.
            let counts = !is_newest || seen.is_leaving() || is_there(&seen.record);
            if counts {
                all.insert(seen.record.key.clone(), seen);
            }
            continue;
        };
        let is_same = known.record.created == seen.record.created;
        if seen.record.created > known.record.created || is_same && !is_newest {
            let state = if is_same && known.is_leaving() { known.state } else { seen.state };
            *known = Stored { state, ..seen };
        } else if is_same && seen.is_leaving() {
            known.state = StoredState::Leaving;
        }
    }
    let mut all: Vec<Stored> = all.into_values().collect();
    // Who has a link has its addresses; of two the later one, to whom they were given when the other had gone.
    all.sort_by_cached_key(|s| {
        (!is_there(&s.record), Reverse(s.record.created), s.record.key.to_string())
    });
    let mut taken: HashMap<(NetworkName, IpAddr), AttachmentKey> = HashMap::new();
    let mut union = Union::default();
    for mut stored in all {
        let key = stored.record.key.clone();
        let place = |ip: IpAddr| (key.network.clone(), ip);
        let is_free = |ip: IpAddr| !taken.contains_key(&place(ip));
        if !stored.record.addresses.iter().all(|a| is_free(a.address.ip())) {
            if !is_there(&stored.record) {
                if before.contains_key(&key) {
                    union.forget.push(key);
                }
                continue;
            }
            // Both live: nobody can say any more who is right, and nobody else is to get it.
            stored.record.addresses.retain(|a| is_free(a.address.ip()));
        }
        for assigned in &stored.record.addresses {
            taken.insert(place(assigned.address.ip()), key.clone());
        }
        if before.get(&key) != Some(&stored) {
            union.put_back.push(stored);
        }
    }
    union
}

fn by_key(all: Vec<Stored>) -> HashMap<AttachmentKey, Stored> {
    all.into_iter().map(|stored| (stored.record.key.clone(), stored)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quantum_config::ids::{IfName, LinkIndex};

    use super::super::samples::{key, record};
    use super::*;

    fn made(name: &str, address: &str, created: u64, state: StoredState) -> Stored {
        let mut record = record(name, &[address]);
        record.host = IfName::new(format!("qc{name}")).expect("a name");
        record.created = created;
        Stored { record, state }
    }

    fn attached(name: &str, address: &str, created: u64) -> Stored {
        made(name, address, created, StoredState::Attached)
    }

    fn leaving(name: &str, address: &str, created: u64) -> Stored {
        made(name, address, created, StoredState::Leaving)
    }

    fn links(names: &[&str]) -> LinksSeen {
        let index = |n: usize| LinkIndex(u32::try_from(n).expect("small") + 1000);
        names.iter().enumerate().map(|(n, name)| (index(n), format!("qc{name}"))).collect()
    }

    const A: &str = "10.0.0.2/16";
    const B: &str = "10.0.0.3/16";

    #[test]
    fn what_the_store_has_lost_is_put_back() {
        let (a, b) = (attached("a", A, 1), attached("b", B, 2));
        for is_newest in [false, true] {
            let union =
                unite(vec![a.clone()], vec![a.clone(), b.clone()], is_newest, &links(&["b"]));
            assert_eq!(union, Union { put_back: vec![b.clone()], ..Union::default() });
        }
        let gone = |is_newest| unite(vec![a.clone()], vec![b.clone()], is_newest, &links(&["a"]));
        assert_eq!(gone(true), Union::default(), "it was removed");
        assert_eq!(gone(false).put_back, vec![b.clone()], "nobody knows");
        let half = leaving("b", B, 2);
        let union = unite(vec![], vec![half.clone()], true, &links(&[]));
        assert_eq!(union.put_back, [half], "its DEL is ended");
    }

    #[test]
    fn the_mark_of_a_del_is_not_lost_and_is_for_its_own_attachment() {
        let (old, new) = (attached("a", A, 1), attached("a", B, 9));
        for is_newest in [false, true] {
            let of = |stored: &Stored, seen: &Stored| {
                unite(vec![stored.clone()], vec![seen.clone()], is_newest, &links(&["a"])).put_back
            };
            assert_eq!(of(&old, &leaving("a", A, 1)), [leaving("a", A, 1)]);
            assert_eq!(of(&leaving("a", A, 1), &old), [], "what the store says of it holds, too");
            assert_eq!(of(&new, &leaving("a", A, 1)), [], "an earlier one's");
            assert_eq!(of(&old, &new), vec![new.clone()], "a later one");
        }
    }

    #[test]
    fn what_was_revised_is_as_the_newest_says() {
        let (before, mut after) = (attached("a", A, 1), attached("a", A, 1));
        after.record.mtu = Some(1400);
        let of = |is_newest| {
            unite(vec![before.clone()], vec![after.clone()], is_newest, &links(&["a"])).put_back
        };
        assert_eq!(of(true), []);
        assert_eq!(of(false), [after.clone()]);
    }

    #[test]
    fn who_has_a_link_has_the_address() {
        let (dead, alive) = (attached("dead", A, 5), attached("alive", A, 0));
        let union = unite(vec![dead.clone()], vec![alive.clone()], false, &links(&["alive"]));
        assert_eq!(union, Union { forget: vec![key("dead")], put_back: vec![alive.clone()] });
        let both = unite(vec![dead], vec![alive], false, &links(&["alive", "dead"]));
        assert!(both.forget.is_empty() && both.put_back[0].record.addresses.is_empty(), "{both:?}");
    }

    proptest! {
        /// Whatever is said by whom: no address twice, and nobody dropped whose link is there.
        #[test]
        fn no_address_twice_and_nobody_cut_off(
            stored in prop::collection::vec((0u8..8, 2u8..6, 0u64..4, any::<bool>()), 0..8),
            seen in prop::collection::vec((0u8..8, 2u8..6, 0u64..4, any::<bool>()), 0..8),
            there in prop::collection::vec(0u8..8, 0..8),
            is_newest in any::<bool>(),
        ) {
            let make = |all: &[(u8, u8, u64, bool)]| {
                let each = all.iter().map(|(name, address, created, leaves)| {
                    let state = if *leaves { StoredState::Leaving } else { StoredState::Attached };
                    made(&name.to_string(), &format!("10.0.0.{address}/16"), *created, state)
                });
                by_key(each.collect())
            };
            let (mut stored, seen) = (make(&stored), make(&seen));
            // What is in one store has each address once.
            let mut used = std::collections::HashSet::new();
            stored.retain(|_, s| used.insert(s.record.addresses[0].address));
            let names: Vec<String> = there.iter().map(u8::to_string).collect();
            let there = links(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let union = unite(
                stored.values().cloned().collect(), seen.values().cloned().collect(), is_newest, &there,
            );
            let mut result = stored.clone();
            for key in &union.forget {
                let gone = result.remove(key).expect("it was there");
                prop_assert!(!there.carry(&gone.record.host, gone.record.index));
            }
            for stored in union.put_back {
                result.insert(stored.record.key.clone(), stored);
            }
            let mut held = std::collections::HashSet::new();
            for stored in result.values() {
                for assigned in &stored.record.addresses {
                    prop_assert!(held.insert(assigned.address), "{} twice", assigned.address);
                }
            }
            for known in stored.values().chain(seen.values()) {
                let is_there = there.carry(&known.record.host, known.record.index);
                prop_assert!(!is_there || result.contains_key(&known.record.key));
            }
        }
    }
}
