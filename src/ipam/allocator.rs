//! The allocator of one network: who has which address, one from each range set.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use quantum_config::cni::{RangeSet, Reservation, StaticAddress};
use quantum_config::ids::AttachmentKey;

use super::set::{IdleSince, Set};
use super::{Beside, Known, KnownState, LeaseError, Usage};
use crate::attach::Assigned;

/// The allocator of one network.
#[derive(Debug, Clone)]
pub struct Allocator {
    sets: Vec<Set>,
    /// The gateways of all sets. None is handed out, not even from another's range.
    gateways: HashSet<IpAddr>,
    /// Addresses that are kept for somebody, who is named for messages.
    reserved: HashMap<IpAddr, String>,
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
            reserved: HashMap::new(),
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
        this.reshape(sets, &[]);
        this
    }

    /// Leases one address of each set: those that are kept for the owner, then the requested ones, then
    /// the next ones. All of them or, on an error, none.
    pub fn lease(
        &mut self,
        owner: &AttachmentKey,
        requested: &[IpAddr],
        own: &[IpAddr],
    ) -> Result<Vec<Assigned>, LeaseError> {
        self.lease_beside(owner, requested, own, &|_| None)
    }

    /// The same where other networks are on the same link: `beside` tells why an address is not free there.
    pub fn lease_beside(
        &mut self,
        owner: &AttachmentKey,
        requested: &[IpAddr],
        own: &[IpAddr],
        beside: &dyn Fn(IpAddr) -> Option<Beside>,
    ) -> Result<Vec<Assigned>, LeaseError> {
        self.holds_nothing(owner)?;
        let mut chosen = self.choose_requested(requested, own, beside)?;
        for (at, choice) in chosen.iter_mut().enumerate() {
            if choice.is_none() {
                *choice = Some(self.choose_next(at, beside)?);
            }
        }
        let chosen = chosen.into_iter().flatten().enumerate();
        let assigned: Vec<_> = chosen.filter_map(|(at, ip)| self.assigned(at, ip)).collect();
        // Nothing has changed so far, and nothing can fail from here on.
        self.enter_all(owner, &assigned);
        Ok(assigned)
    }

    /// Gives the owner these very addresses, whatever the sets are, unless somebody has one.
    pub fn give(
        &mut self,
        owner: &AttachmentKey,
        addresses: &[StaticAddress],
        beside: &dyn Fn(IpAddr) -> Option<Beside>,
    ) -> Result<Vec<Assigned>, LeaseError> {
        self.holds_nothing(owner)?;
        for address in addresses.iter().map(|given| given.address.ip()) {
            self.is_free(address)?;
            // A container may well be the gateway of others.
            if let Some(Beside::Held(holder)) = beside(address) {
                return Err(LeaseError::Taken { address, holder });
            }
        }
        let assigned = |given: &StaticAddress| Assigned {
            set: self.set_of(given.address.ip()).unwrap_or(0),
            address: given.address,
            gateway: given.gateway,
        };
        let assigned: Vec<_> = addresses.iter().map(assigned).collect();
        self.enter_all(owner, &assigned);
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
    pub fn reshape(&mut self, sets: Vec<RangeSet>, reservations: &[Reservation]) {
        self.gateways = sets.iter().flat_map(|s| &s.0).map(|r| r.gateway).collect();
        self.reserved = reservations.iter().map(|r| (r.address, r.holder.to_string())).collect();
        let kept = self.reserved.keys().chain(&self.gateways).copied().collect();
        self.sets = sets.into_iter().map(|s| Set::new(s, &kept)).collect();
        let set_of = |address| find_set(&self.sets, &self.gateways, &self.reserved, address);
        let found: Vec<_> = self.known.keys().map(|&a| (a, set_of(a))).collect();
        for (address, at) in found {
            let (Some(at), Some(state)) = (at, self.known.get(&address)) else { continue };
            match state {
                State::Held(_) => self.sets[at].hold(None),
                State::Idle(since) => self.sets[at].rest(address, *since),
            }
        }
    }

    /// A second lease would orphan the first.
    fn holds_nothing(&self, owner: &AttachmentKey) -> Result<(), LeaseError> {
        match self.owners.get(owner) {
            None => Ok(()),
            Some(addresses) => {
                Err(LeaseError::Held { owner: owner.clone(), addresses: addresses.clone() })
            }
        }
    }

    fn is_free(&self, address: IpAddr) -> Result<(), LeaseError> {
        match self.holder(address) {
            None => Ok(()),
            Some(holder) => Err(LeaseError::Taken { address, holder: holder.clone() }),
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

    /// One choice per set for what is kept or was asked for, none where nothing is.
    fn choose_requested(
        &self,
        requested: &[IpAddr],
        own: &[IpAddr],
        beside: &dyn Fn(IpAddr) -> Option<Beside>,
    ) -> Result<Vec<Option<IpAddr>>, LeaseError> {
        let mut chosen = vec![None; self.sets.len()];
        for &address in own.iter().chain(requested) {
            if self.gateways.contains(&address) {
                return Err(LeaseError::Gateway { address });
            }
            let Some(at) = self.sets.iter().position(|s| s.ranges.range_of(address).is_some())
            else {
                let ranges: Vec<String> = self.sets.iter().map(|s| s.ranges.to_string()).collect();
                return Err(LeaseError::OutOfRange { address, ranges: ranges.join(",") });
            };
            if let Some(holder) = self.reserved.get(&address).filter(|_| !own.contains(&address)) {
                return Err(LeaseError::Reserved { address, holder: holder.clone() });
            }
            self.is_free(address)?;
            match beside(address) {
                None => {}
                Some(Beside::Held(holder)) => return Err(LeaseError::Taken { address, holder }),
                Some(Beside::Gateway(user)) => return Err(LeaseError::InUse { address, user }),
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

    fn choose_next(
        &mut self,
        at: usize,
        beside: &dyn Fn(IpAddr) -> Option<Beside>,
    ) -> Result<IpAddr, LeaseError> {
        let (known, gateways, reserved) = (&self.known, &self.gateways, &self.reserved);
        let kept = |ip: &IpAddr| gateways.contains(ip) || reserved.contains_key(ip);
        let set = &mut self.sets[at];
        let fresh = |ip| !known.contains_key(&ip) && !kept(&ip);
        set.next(fresh, |ip| beside(ip).is_none()).ok_or_else(|| LeaseError::Exhausted {
            set: at,
            subnets: set.ranges.subnets(),
            ranges: set.ranges.to_string(),
        })
    }

    /// A chosen address as its container sees it; always there, as it was chosen from this set.
    fn assigned(&self, at: usize, address: IpAddr) -> Option<Assigned> {
        let range = self.sets[at].ranges.range_of(address)?;
        let address = IpNetwork::new(address, range.subnet.prefix()).ok()?;
        Some(Assigned { set: at, address, gateway: Some(range.gateway) })
    }

    fn enter_all(&mut self, owner: &AttachmentKey, assigned: &[Assigned]) {
        let owner = Arc::new(owner.clone());
        for address in assigned.iter().map(|a| a.address.ip()) {
            let since = match self.known.get(&address) {
                Some(State::Idle(since)) => Some(*since),
                _ => None,
            };
            if let Some(at) = self.set_of(address) {
                self.sets[at].hold(since);
            }
            self.enter(&owner, address);
        }
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
        find_set(&self.sets, &self.gateways, &self.reserved, address)
    }
}

/// The set that could hand `address` out to anybody.
fn find_set(
    sets: &[Set],
    gateways: &HashSet<IpAddr>,
    reserved: &HashMap<IpAddr, String>,
    address: IpAddr,
) -> Option<usize> {
    let at = sets.iter().position(|s| s.ranges.range_of(address).is_some())?;
    (!gateways.contains(&address) && !reserved.contains_key(&address)).then_some(at)
}
