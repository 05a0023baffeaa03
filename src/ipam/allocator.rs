//! The allocator of one network: who has which address, one from each range set.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use quantum_config::cni::RangeSet;
use quantum_config::ids::AttachmentKey;

use super::set::{IdleSince, Set};
use super::{Known, KnownState, LeaseError, Usage};
use crate::attach::Assigned;

/// The allocator of one network.
#[derive(Debug, Clone)]
pub struct Allocator {
    sets: Vec<Set>,
    /// The gateways of all sets. None is handed out, not even from another's range.
    gateways: HashSet<IpAddr>,
    /// Every address that is not fresh, also those that lie in no set since the last reshaping.
    known: HashMap<IpAddr, State>,
    owners: HashMap<Arc<AttachmentKey>, Vec<IpAddr>>,
    /// Counts releases, so that those of one millisecond keep their order.
    turn: u64,
}

#[derive(Debug, Clone)]
enum State {
    Held(Arc<AttachmentKey>),
    Idle(IdleSince),
}

impl Allocator {
    /// An allocator that continues where another stopped. The sets are valid (not empty, of one family
    /// each, without overlaps), as [`quantum_config::cni::Definition`] sees to. Of an address that is
    /// named more than once a holder counts more than a release, and the first holder most: when in
    /// doubt, an address is not free.
    pub fn new(sets: Vec<RangeSet>, known: impl IntoIterator<Item = Known>) -> Self {
        let mut this = Self {
            sets: Vec::new(),
            gateways: HashSet::new(),
            known: HashMap::new(),
            owners: HashMap::new(),
            turn: 0,
        };
        for Known { address, state } in known {
            let held = matches!(this.known.get(&address), Some(State::Held(_)));
            match state {
                _ if held => {}
                KnownState::Held(owner) => this.enter(&Arc::new(owner), address),
                KnownState::Released(at_ms) => {
                    let since = this.since(at_ms);
                    this.known.insert(address, State::Idle(since));
                }
            }
        }
        this.reshape(sets);
        this
    }

    /// Leases one address of each set, the requested ones or the next ones: all of them or, on an
    /// error, none.
    pub fn lease(
        &mut self,
        owner: &AttachmentKey,
        requested: &[IpAddr],
    ) -> Result<Vec<Assigned>, LeaseError> {
        if let Some(addresses) = self.owners.get(owner) {
            return Err(LeaseError::Held { owner: owner.clone(), addresses: addresses.clone() });
        }
        let mut chosen = self.choose_requested(requested)?;
        for (at, choice) in chosen.iter_mut().enumerate() {
            if choice.is_none() {
                *choice = Some(self.choose_next(at)?);
            }
        }
        let chosen = chosen.into_iter().flatten().enumerate();
        let assigned: Vec<_> = chosen.filter_map(|(at, ip)| self.assigned(at, ip)).collect();
        // Nothing has changed so far, and nothing can fail from here on.
        let owner = Arc::new(owner.clone());
        for Assigned { set, address, .. } in &assigned {
            let since = match self.known.get(&address.ip()) {
                Some(State::Idle(since)) => Some(*since),
                _ => None,
            };
            self.sets[*set].hold(since);
            self.enter(&owner, address.ip());
        }
        Ok(assigned)
    }

    /// Takes back all that `owner` has. `now_ms` never goes backwards. Nothing held is no error.
    pub fn release(&mut self, owner: &AttachmentKey, now_ms: u64) -> Vec<IpAddr> {
        let addresses = self.owners.remove(owner).unwrap_or_default();
        for &address in &addresses {
            let since = self.since(now_ms);
            self.known.insert(address, State::Idle(since));
            if let Some(at) = self.set_of(address) {
                self.sets[at].give_back(address, since);
            }
        }
        addresses
    }

    /// Continues with other sets. Who has an address keeps it even if it lies in no set any longer, and
    /// what is idle stays idle, so that ranges which come back do not come back as fresh.
    pub fn reshape(&mut self, sets: Vec<RangeSet>) {
        self.gateways = sets.iter().flat_map(|s| &s.0).map(|r| r.gateway).collect();
        self.sets = sets.into_iter().map(|s| Set::new(s, &self.gateways)).collect();
        for (&address, state) in &self.known {
            let Some(at) = find_set(&self.sets, &self.gateways, address) else { continue };
            match state {
                State::Held(_) => self.sets[at].hold(None),
                State::Idle(since) => self.sets[at].rest(address, *since),
            }
        }
    }

    /// How full each set is. Held addresses that lie in no set are not counted.
    pub fn usage(&self) -> Vec<Usage> {
        self.sets.iter().map(Set::usage).collect()
    }

    /// What `owner` has.
    pub fn held_by(&self, owner: &AttachmentKey) -> &[IpAddr] {
        self.owners.get(owner).map_or(&[], Vec::as_slice)
    }

    /// Who has `address`.
    pub fn holder(&self, address: IpAddr) -> Option<&AttachmentKey> {
        match self.known.get(&address)? {
            State::Held(owner) => Some(owner),
            State::Idle(_) => None,
        }
    }

    /// One choice per set for what was asked for, none where nothing was.
    fn choose_requested(&self, requested: &[IpAddr]) -> Result<Vec<Option<IpAddr>>, LeaseError> {
        let mut chosen = vec![None; self.sets.len()];
        for &address in requested {
            if self.gateways.contains(&address) {
                return Err(LeaseError::Gateway { address });
            }
            let Some(at) = self.set_of(address) else {
                let ranges: Vec<String> = self.sets.iter().map(|s| s.ranges.to_string()).collect();
                return Err(LeaseError::OutOfRange { address, ranges: ranges.join(",") });
            };
            if let Some(holder) = self.holder(address) {
                return Err(LeaseError::Taken { address, holder: holder.clone() });
            }
            match chosen[at] {
                // The same one may be asked for in several places of one request.
                Some(first) if first != address => {
                    let ranges = self.sets[at].ranges.to_string();
                    return Err(LeaseError::SameSet { first, second: address, ranges });
                }
                _ => chosen[at] = Some(address),
            }
        }
        Ok(chosen)
    }

    fn choose_next(&mut self, at: usize) -> Result<IpAddr, LeaseError> {
        let (known, gateways) = (&self.known, &self.gateways);
        let set = &mut self.sets[at];
        set.next(|ip| !known.contains_key(&ip) && !gateways.contains(&ip)).ok_or_else(|| {
            LeaseError::Exhausted {
                set: at,
                subnets: set.ranges.subnets(),
                ranges: set.ranges.to_string(),
            }
        })
    }

    /// A chosen address as its container sees it; always there, as it was chosen from this set.
    fn assigned(&self, at: usize, address: IpAddr) -> Option<Assigned> {
        let range = self.sets[at].ranges.range_of(address)?;
        let address = IpNetwork::new(address, range.subnet.prefix()).ok()?;
        Some(Assigned { set: at, address, gateway: range.gateway })
    }

    fn enter(&mut self, owner: &Arc<AttachmentKey>, address: IpAddr) {
        self.known.insert(address, State::Held(Arc::clone(owner)));
        self.owners.entry(Arc::clone(owner)).or_default().push(address);
    }

    fn since(&mut self, at_ms: u64) -> IdleSince {
        self.turn += 1;
        (at_ms, self.turn)
    }

    fn set_of(&self, address: IpAddr) -> Option<usize> {
        find_set(&self.sets, &self.gateways, address)
    }
}

/// The set that could hand out `address`.
fn find_set(sets: &[Set], gateways: &HashSet<IpAddr>, address: IpAddr) -> Option<usize> {
    let at = sets.iter().position(|s| s.ranges.range_of(address).is_some())?;
    (!gateways.contains(&address)).then_some(at)
}
