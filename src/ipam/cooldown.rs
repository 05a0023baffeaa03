//! That large pools remember a bounded number of addresses, and how long an address rests all the same.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use proptest::prelude::*;

use super::cases::{key, sets};
use super::{Allocator, IDLE_OF_LARGE};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    /// Whatever the order of leases and releases: what was released longest ago comes back first, not before so many
    /// others were released after it, and no more than those are remembered.
    #[test]
    fn an_address_of_a_large_pool_rests_while_1024_others_are_released(
        large in prop_oneof![Just("fd00::/64"), Just("10.0.0.0/16"), Just("10.0.0.0/19")],
        steps in proptest::collection::vec(0u8..40, 4000..6000),
    ) {
        let mut pool = Allocator::new(sets(&[&[large]]), []);
        let mut idle: VecDeque<IpAddr> = VecDeque::new();
        let mut held: HashMap<u8, IpAddr> = HashMap::new();
        for (at, who) in steps.into_iter().enumerate() {
            let owner = key(&format!("c{who}"));
            match held.remove(&who) {
                Some(address) => {
                    prop_assert_eq!(pool.release(&owner, at as u64 / 3), [address]);
                    idle.push_back(address);
                }
                None => {
                    let address = pool.lease(&owner, &[], &[]).expect("a lease")[0].address.ip();
                    if idle.contains(&address) {
                        prop_assert_eq!(idle.front(), Some(&address), "oldest first");
                        prop_assert!(idle.len() >= IDLE_OF_LARGE);
                        idle.pop_front();
                    }
                    held.insert(who, address);
                }
            }
            prop_assert!(idle.len() <= IDLE_OF_LARGE + 40);
        }
    }
}
