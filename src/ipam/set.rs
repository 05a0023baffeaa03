//! One range set: its fresh addresses, as a cursor, and its idle ones, as a queue.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use quantum_config::cni::{Range, RangeSet};

/// A set of more addresses than these does not remember all of its idle ones: each is a row in the store, and an
/// IPv6 /64 never runs out of fresh ones.
pub const LARGE_POOL: usize = 4096;
/// How many idle addresses such a set has before it reuses them, the longest idle first, in spite of fresh ones
/// left. So an address rests while as many others are released.
pub const IDLE_OF_LARGE: usize = 1024;

/// The most idle addresses that a set has before it reuses them in spite of fresh ones left.
pub fn idle_max(ranges: &RangeSet) -> usize {
    if capacity(ranges) > LARGE_POOL as u128 { IDLE_OF_LARGE } else { LARGE_POOL }
}

/// When an address was released: milliseconds, and its turn among those of one millisecond.
pub(super) type IdleSince = (u64, u64);

/// How full a set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Addresses there are to hand out, the gateways not counted.
    pub capacity: u128,
    /// Those of them that somebody has.
    pub held: u128,
}

impl Usage {
    /// Addresses that can be leased now.
    pub fn free(&self) -> u128 {
        self.capacity - self.held
    }
}

/// One range set.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) ranges: RangeSet,
    usage: Usage,
    idle_max: usize,
    fresh: Cursor,
    /// The cursor has passed over an address that another network had.
    passed_over: bool,
    /// A queue that can also be taken from in the middle, by who requests an address.
    idle: BTreeMap<IdleSince, IpAddr>,
}

/// Stands at the first address that may be fresh; all before it are known or gateways.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    range: usize,
    /// How far into the range.
    offset: u128,
}

impl Set {
    pub(super) fn new(ranges: RangeSet, gateways: &HashSet<IpAddr>) -> Self {
        let all = capacity(&ranges);
        let lost = gateways.iter().filter(|g| ranges.range_of(**g).is_some()).count();
        Self {
            usage: Usage { capacity: all.saturating_sub(lost as u128), held: 0 },
            idle_max: idle_max(&ranges),
            ranges,
            fresh: Cursor { range: 0, offset: 0 },
            passed_over: false,
            idle: BTreeMap::new(),
        }
    }

    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// The address to hand out next, which stays where it is until [`Set::hold`]. The cursor passes
    /// over every unusable address once, so a lease costs the same whatever the fill.
    ///
    /// `fresh` tells what nobody has or had here, `free` what nobody has in another network on the same link.
    /// That may change without a word, so the cursor begins anew when it has passed over such an address and
    /// there is no other.
    pub(super) fn next(
        &mut self,
        fresh: impl Fn(IpAddr) -> bool,
        free: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let longest_idle = self.idle.values().copied().find(|ip| free(*ip));
        if self.idle.len() >= self.idle_max && longest_idle.is_some() {
            return longest_idle;
        }
        let next = self.next_fresh(&fresh, &free);
        if next.is_some() || longest_idle.is_some() || !self.passed_over {
            return next.or(longest_idle);
        }
        (self.fresh, self.passed_over) = (Cursor { range: 0, offset: 0 }, false);
        self.next_fresh(&fresh, &free)
    }

    fn next_fresh(
        &mut self,
        fresh: &impl Fn(IpAddr) -> bool,
        free: &impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        while let Some(range) = self.ranges.0.get(self.fresh.range) {
            let ip = nth(range.start, self.fresh.offset);
            if fresh(ip) {
                if free(ip) {
                    return Some(ip);
                }
                self.passed_over = true;
            }
            self.fresh = if ip == range.end {
                Cursor { range: self.fresh.range + 1, offset: 0 }
            } else {
                Cursor { range: self.fresh.range, offset: self.fresh.offset + 1 }
            };
        }
        None
    }

    /// Somebody has an address; `since` if it was idle.
    pub(super) fn hold(&mut self, since: Option<IdleSince>) {
        if let Some(since) = since {
            self.idle.remove(&since);
        }
        self.usage.held += 1;
    }

    /// Nobody has the address any longer.
    pub(super) fn give_back(&mut self, address: IpAddr, since: IdleSince) {
        self.usage.held -= 1;
        self.rest(address, since);
    }

    /// The address was given back some time ago.
    pub(super) fn rest(&mut self, address: IpAddr, since: IdleSince) {
        self.idle.insert(since, address);
    }
}

fn capacity(ranges: &RangeSet) -> u128 {
    ranges.0.iter().map(size).fold(0, u128::saturating_add)
}

fn size(range: &Range) -> u128 {
    (number(range.end) - number(range.start)).saturating_add(1)
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The address `n` after `ip`; the caller stays within a range, so nothing overflows.
fn nth(ip: IpAddr, n: u128) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4).wrapping_add(n as u32))),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6).wrapping_add(n))),
    }
}
