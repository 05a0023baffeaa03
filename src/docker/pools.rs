//! The pools of our IPAM driver. Docker's addresses are asked for before there is an endpoint, and given
//! back after it is gone, so they are kept by themselves.
//!
//! dockerd may ask twice: because an answer was lost, or because it was started again and says what is in
//! use (a replay). A pool or an address that was there before dockerd started is given to the first who
//! asks for it by name; after that, only to whom it was given before.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use quantum_config::prefixes::overlap;
use serde::{Deserialize, Serialize};

/// Where subnets are taken from if none is asked for: 256 of them.
const ANY: [u8; 2] = [10, 201];

/// A pool as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The subnet; any if none.
    pub subnet: Option<IpNetwork>,
    /// The part of it that addresses are taken from.
    pub part: Option<IpNetwork>,
    /// Of IPv6.
    pub v6: bool,
}

/// Why there is no such pool or address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Another network's.
    #[error("subnet {asked} overlaps with {other}, which another network has; choose another")]
    Overlaps {
        /// The one that was asked for.
        asked: IpNetwork,
        /// The other.
        other: IpNetwork,
    },
    /// None is left to choose.
    #[error("no subnet of 10.201.0.0/16 is free; name one with --subnet")]
    NoSubnet,
    /// We have none to choose from.
    #[error("an IPv6 network needs a subnet of its own; name one with --subnet")]
    NoSubnet6,
    /// The part is not in the subnet.
    #[error("the range {part} is not within {subnet}")]
    Outside {
        /// The part.
        part: IpNetwork,
        /// The subnet.
        subnet: IpNetwork,
    },
    /// No such pool.
    #[error("pool {0:?} is not known")]
    Unknown(String),
    /// The address is not of this pool.
    #[error("address {address} is not within {subnet}")]
    NotIn {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: IpNetwork,
    },
    /// Somebody has the address.
    #[error("address {0} is in use")]
    InUse(IpAddr),
    /// None is left.
    #[error("no address of {0} is free")]
    Exhausted(IpNetwork),
}

/// The pools.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pools(BTreeMap<String, Pool>);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pool {
    subnet: IpNetwork,
    part: IpNetwork,
    /// Who has which address.
    taken: BTreeMap<IpAddr, Holder>,
    /// The address that was given last: the next one is looked for behind it, so that one that was given
    /// back rests.
    last: Option<IpAddr>,
    /// dockerd has asked for it since it started.
    #[serde(skip)]
    claimed: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// The hardware address that was said with the request.
    mac: Option<String>,
    /// It is the gateway's.
    gateway: bool,
    #[serde(skip)]
    claimed: bool,
}

impl Pools {
    /// dockerd was started: what is in use may be asked for again.
    pub fn dockerd_starts(&mut self) {
        for pool in self.0.values_mut() {
            pool.claimed = false;
            pool.taken.values_mut().for_each(|holder| holder.claimed = false);
        }
    }

    /// Makes a pool, or gives the one that was made. `is_used` says whether a network uses a subnet.
    pub(super) fn request(
        &mut self,
        asked: &Asked,
        is_used: impl Fn(&IpNetwork) -> bool,
    ) -> Result<(String, IpNetwork), PoolError> {
        let subnet = match asked.subnet {
            Some(subnet) => IpNetwork::new(subnet.network(), subnet.prefix()).unwrap_or(subnet),
            None if asked.v6 => return Err(PoolError::NoSubnet6),
            None => self.choose()?,
        };
        let part = asked.part.unwrap_or(subnet);
        let is_inside = part.is_ipv4() == subnet.is_ipv4()
            && part.prefix() >= subnet.prefix()
            && subnet.contains(part.network());
        if !is_inside {
            return Err(PoolError::Outside { part, subnet });
        }
        let id = match part == subnet {
            true => format!("quantum/{subnet}"),
            false => format!("quantum/{subnet}/{part}"),
        };
        let other = self.0.iter().find(|(_, pool)| overlap(pool.subnet, subnet));
        if let Some((other, pool)) = other
            && (*other != id || pool.claimed && is_used(&pool.subnet))
        {
            return Err(PoolError::Overlaps { asked: subnet, other: pool.subnet });
        }
        let new = || Pool { subnet, part, taken: BTreeMap::new(), last: None, claimed: true };
        self.0.entry(id.clone()).or_insert_with(new).claimed = true;
        Ok((id, subnet))
    }

    /// A subnet that no pool has. dockerd asks again, holding what it was given, until it gets one that is
    /// not in the host's way.
    fn choose(&self) -> Result<IpNetwork, PoolError> {
        let [a, b] = ANY;
        let all = (0..=255).filter_map(|c| IpNetwork::new(IpAddr::from([a, b, c, 0]), 24).ok());
        let is_free =
            |subnet: &IpNetwork| !self.0.values().any(|pool| overlap(pool.subnet, *subnet));
        all.into_iter().find(is_free).ok_or(PoolError::NoSubnet)
    }

    /// Gives a pool up. One that is not there is no error.
    pub fn release(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// Gives an address, with the prefix length of its subnet.
    pub fn take(
        &mut self,
        id: &str,
        asked: Option<IpAddr>,
        gateway: bool,
        mac: Option<&str>,
    ) -> Result<IpNetwork, PoolError> {
        let pool = self.0.get_mut(id).ok_or_else(|| PoolError::Unknown(id.to_owned()))?;
        let address = match asked {
            Some(address) => pool.name(address, gateway, mac)?,
            None => pool.next(gateway, mac)?,
        };
        let holder = pool.taken.entry(address).or_insert_with(|| Holder {
            mac: mac.map(str::to_owned),
            gateway,
            claimed: true,
        });
        holder.claimed = true;
        // A replay does not say the hardware address.
        if let Some(mac) = mac {
            holder.mac = Some(mac.to_owned());
        }
        IpNetwork::new(address, pool.subnet.prefix()).map_err(|_| PoolError::Exhausted(pool.subnet))
    }

    /// Takes the addresses back that no endpoint has and that nobody has asked for since the daemon or dockerd was
    /// started: whoever they were given to never heard of it, or could not give them back. True if there are any.
    /// Those without a hardware address are not for endpoints.
    pub fn forget_unheard(&mut self, id: &str, is_used: impl Fn(&IpAddr) -> bool) -> bool {
        let Some(pool) = self.0.get_mut(id) else { return false };
        let before = pool.taken.len();
        pool.taken.retain(|address, holder| {
            holder.claimed || holder.gateway || holder.mac.is_none() || is_used(address)
        });
        pool.taken.len() < before
    }

    /// Takes an address back. One that nobody has is no error.
    pub fn give_back(&mut self, id: &str, address: IpAddr) {
        if let Some(pool) = self.0.get_mut(id) {
            pool.taken.remove(&address);
        }
    }
}

impl Pool {
    /// The address that is asked for, if it may be had.
    fn name(&self, address: IpAddr, gateway: bool, mac: Option<&str>) -> Result<IpAddr, PoolError> {
        if !self.subnet.contains(address) {
            return Err(PoolError::NotIn { address, subnet: self.subnet });
        }
        match self.taken.get(&address) {
            Some(holder) if holder.claimed && !holder.is(gateway, mac) => {
                Err(PoolError::InUse(address))
            }
            _ => Ok(address),
        }
    }

    /// Any address: what the same one was given before, or the next that is free.
    fn next(&mut self, gateway: bool, mac: Option<&str>) -> Result<IpAddr, PoolError> {
        let before = self.taken.iter().find(|(_, holder)| holder.is(gateway, mac));
        if let Some((address, _)) = before {
            return Ok(*address);
        }
        let (first, last) = self.bounds();
        let after =
            self.last.filter(|_| !gateway).map(number).filter(|at| (first..last).contains(at));
        let from = after.map_or(first, |at| at + 1);
        let is_v4 = self.subnet.is_ipv4();
        let is_free = |at: &u128| !self.taken.contains_key(&address(is_v4, *at));
        let found = (from..=last).chain(first..from).find(is_free);
        let found = found.map(|at| address(is_v4, at)).ok_or(PoolError::Exhausted(self.part))?;
        if !gateway {
            self.last = Some(found);
        }
        Ok(found)
    }

    /// The first and the last address that may be given: not the subnet's own, nor IPv4's broadcast.
    fn bounds(&self) -> (u128, u128) {
        let (lowest, highest) = ends(&self.subnet);
        let (first, last) = ends(&self.part);
        let width = if self.subnet.is_ipv4() { 32 } else { 128 };
        if width - self.subnet.prefix() < 2 {
            return (first, last); // RFC 3021, RFC 6164
        }
        let highest = if self.subnet.is_ipv4() { highest - 1 } else { highest };
        (first.max(lowest + 1), last.min(highest))
    }
}

impl Holder {
    fn is(&self, gateway: bool, mac: Option<&str>) -> bool {
        gateway && self.gateway || mac.is_some() && self.mac.as_deref() == mac
    }
}

fn ends(subnet: &IpNetwork) -> (u128, u128) {
    (number(subnet.network()), number(subnet.broadcast()))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn address(is_v4: bool, number: u128) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if is_v4 => IpAddr::V4(number.into()),
        _ => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(subnet: &str, part: &str) -> Asked {
        let parse = |text: &str| (!text.is_empty()).then(|| text.parse().expect("a subnet"));
        Asked { subnet: parse(subnet), part: parse(part), v6: subnet.contains(':') }
    }

    fn pool(subnet: &str, part: &str) -> (Pools, String) {
        let mut pools = Pools::default();
        let (id, _) = pools.request(&asked(subnet, part), |_| true).expect("free");
        (pools, id)
    }

    fn take(pools: &mut Pools, id: &str, mac: &str) -> Result<String, PoolError> {
        let mac = (!mac.is_empty()).then_some(mac);
        pools.take(id, None, mac.is_none(), mac).map(|address| address.to_string())
    }

    #[test]
    fn the_gateway_is_first_and_what_was_given_back_rests() {
        let (mut pools, id) = pool("10.0.0.0/29", "");
        assert_eq!(take(&mut pools, &id, "").expect("the gateway"), "10.0.0.1/29");
        for (mac, expected) in [("a", 2), ("b", 3), ("c", 4), ("a", 2)] {
            assert_eq!(take(&mut pools, &id, mac).expect(mac), format!("10.0.0.{expected}/29"));
        }
        pools.give_back(&id, "10.0.0.2".parse().expect("ip"));
        pools.give_back(&id, "10.0.0.2".parse().expect("ip"));
        for (mac, expected) in [("d", 5), ("e", 6), ("f", 2)] {
            assert_eq!(take(&mut pools, &id, mac).expect(mac), format!("10.0.0.{expected}/29"));
        }
        let error = take(&mut pools, &id, "g").expect_err("full");
        assert_eq!(error, PoolError::Exhausted("10.0.0.0/29".parse().expect("a subnet")));
        pools.release(&id);
        assert_eq!(take(&mut pools, &id, "g"), Err(PoolError::Unknown(id)));
    }

    #[test]
    fn a_range_is_kept_to() {
        let (mut pools, id) = pool("10.0.0.0/24", "10.0.0.252/30");
        let all: Vec<_> = ["", "a", "b"].map(|mac| take(&mut pools, &id, mac).expect(mac)).into();
        assert_eq!(all, ["10.0.0.252/24", "10.0.0.253/24", "10.0.0.254/24"]);
        take(&mut pools, &id, "c").expect_err("the broadcast address is none");
        let outside = asked("10.0.0.0/24", "10.0.1.0/30");
        assert!(matches!(pools.request(&outside, |_| false), Err(PoolError::Outside { .. })));
        let (mut pools, id) = pool("fd09::/64", "");
        assert_eq!(take(&mut pools, &id, "").expect("the gateway"), "fd09::1/64");
    }

    #[test]
    fn an_address_by_name_is_one_holders() {
        let (mut pools, id) = pool("10.0.0.0/24", "");
        let mut name = |text: &str, mac: Option<&str>| {
            let found = pools.take(&id, Some(text.parse().expect("ip")), false, mac);
            let saved = serde_json::to_string(&pools).expect("JSON");
            let read: Pools = serde_json::from_str(&saved).expect("readable");
            assert_eq!(read.0[&id].taken.len(), pools.0[&id].taken.len());
            found.map(|address| address.to_string())
        };
        assert_eq!(name("10.0.0.9", Some("a")).expect("free"), "10.0.0.9/24");
        name("10.0.0.9", Some("a")).expect("asked again");
        let taken = PoolError::InUse("10.0.0.9".parse().expect("ip"));
        assert_eq!(name("10.0.0.9", Some("b")), Err(taken.clone()));
        assert_eq!(name("10.0.0.9", None), Err(taken));
        assert!(matches!(name("10.0.1.9", None), Err(PoolError::NotIn { .. })));
        pools.dockerd_starts();
        let again = Some("10.0.0.9".parse().expect("ip"));
        pools.take(&id, again, false, None).expect("replayed");
        pools.take(&id, again, false, None).expect_err("once");
    }

    #[test]
    fn what_nobody_heard_of_is_free_again() {
        let (mut pools, id) = pool("10.0.0.0/29", "");
        let ip = |text: &str| text.parse::<IpAddr>().expect("ip");
        take(&mut pools, &id, "").expect("the gateway");
        pools
            .take(&id, Some(ip("10.0.0.2")), false, None)
            .expect("of something else than an endpoint");
        for mac in ["a", "b", "c", "d"] {
            take(&mut pools, &id, mac).expect(mac);
        }
        assert!(!pools.forget_unheard(&id, |_| false), "this daemon has given them");
        let saved = serde_json::to_string(&pools).expect("JSON");
        let mut pools: Pools = serde_json::from_str(&saved).expect("readable");
        take(&mut pools, &id, "c").expect("asked again");
        take(&mut pools, &id, "e").expect_err("full");
        assert!(pools.forget_unheard(&id, |address| *address == ip("10.0.0.3")));
        let left: Vec<String> = pools.0[&id].taken.keys().map(ToString::to_string).collect();
        assert_eq!(left, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.5"]);
        take(&mut pools, &id, "e").expect("there is room");
    }

    #[test]
    fn a_subnet_that_nobody_named_is_another_each_time() {
        let mut pools = Pools::default();
        let any = asked("", "");
        let first = pools.request(&any, |_| false).expect("one").1.to_string();
        let second = pools.request(&any, |_| false).expect("another").1.to_string();
        assert_eq!((first.as_str(), second.as_str()), ("10.201.0.0/24", "10.201.1.0/24"));
        let all = (2..256).map(|_| pools.request(&any, |_| false)).all(|given| given.is_ok());
        assert!(all);
        assert_eq!(pools.request(&any, |_| false), Err(PoolError::NoSubnet));
        let v6 = Asked { v6: true, ..any };
        assert_eq!(pools.request(&v6, |_| false), Err(PoolError::NoSubnet6));
        let over = pools.request(&asked("10.201.0.0/16", ""), |_| false);
        assert!(matches!(over, Err(PoolError::Overlaps { .. })), "{over:?}");
    }
}
