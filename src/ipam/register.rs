//! Who has which address behind which link of the host, in all networks: networks may share a bridge, or be one
//! network that was renamed, and none is to hand out what an attachment of another has. Nor what attachments send
//! by as their gateway, when their network's gateway was moved since.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use quantum_config::ids::{AttachmentKey, IfName, NetworkName};

use crate::attach::Assigned;

/// By the link that the host reaches an attachment by, and the address.
type Place = (IfName, IpAddr);

/// Why an address behind a link is not to be handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beside {
    /// This attachment has it.
    Held(AttachmentKey),
    /// It is this attachment's gateway.
    Gateway(AttachmentKey),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Register {
    held: HashMap<Place, Arc<AttachmentKey>>,
    gateways: HashMap<Place, HashSet<Arc<AttachmentKey>>>,
    owners: HashMap<Arc<AttachmentKey>, (IfName, Vec<Assigned>)>,
}

impl Register {
    /// An attachment has these addresses behind that link, and no others. Who had one of them before keeps it:
    /// when in doubt, an address is not free.
    pub fn enter(&mut self, owner: &AttachmentKey, link: &IfName, addresses: &[Assigned]) {
        self.leave(owner);
        let owner = Arc::new(owner.clone());
        for assigned in addresses {
            let at = |ip| (link.clone(), ip);
            self.held.entry(at(assigned.address.ip())).or_insert_with(|| owner.clone());
            if let Some(gateway) = assigned.gateway {
                self.gateways.entry(at(gateway)).or_default().insert(owner.clone());
            }
        }
        self.owners.insert(owner, (link.clone(), addresses.to_vec()));
    }

    /// It has none any more.
    pub fn leave(&mut self, owner: &AttachmentKey) {
        let Some((link, addresses)) = self.owners.remove(owner) else { return };
        for assigned in addresses {
            let at = (link.clone(), assigned.address.ip());
            if self.held.get(&at).is_some_and(|holder| **holder == *owner) {
                self.held.remove(&at);
            }
            let Some(gateway) = assigned.gateway else { continue };
            let at = (link.clone(), gateway);
            if let Some(users) = self.gateways.get_mut(&at) {
                users.remove(owner);
                if users.is_empty() {
                    self.gateways.remove(&at);
                }
            }
        }
    }

    /// Of a network, these have addresses, and nobody else: what it leased to others when it died is free.
    pub fn keep_only(&mut self, network: &NetworkName, holders: &HashSet<&AttachmentKey>) {
        let of_it = self.owners.keys().filter(|owner| owner.network == *network);
        let gone = of_it.filter(|owner| !holders.contains(&***owner));
        for owner in gone.cloned().collect::<Vec<_>>() {
            self.leave(&owner);
        }
    }

    /// Who has an address behind a link.
    pub fn holder(&self, link: &IfName, address: IpAddr) -> Option<&AttachmentKey> {
        self.held.get(&(link.clone(), address)).map(|holder| &**holder)
    }

    /// Why an address behind a link is not free, if it is not.
    pub fn beside(&self, link: &IfName, address: IpAddr) -> Option<Beside> {
        let at = (link.clone(), address);
        let held = self.held.get(&at).map(|holder| Beside::Held((**holder).clone()));
        // The one that is named is the same at every time.
        let users = || self.gateways.get(&at)?.iter().min_by_key(|user| user.to_string());
        held.or_else(|| users().map(|user| Beside::Gateway((**user).clone())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::cases::{key, sets};
    use super::super::{Allocator, LeaseError};
    use super::*;

    fn link(name: &str) -> IfName {
        IfName::new(name).expect("a name")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn assigned(address: &str, gateway: &str) -> Assigned {
        let address = address.parse().expect("an address");
        Assigned { set: 0, address, gateway: Some(ip(gateway)) }
    }

    #[test]
    fn an_address_is_known_by_its_link_and_a_gateway_as_long_as_somebody_uses_it() {
        let (mut all, br0) = (Register::default(), link("br0"));
        all.enter(&key("a"), &br0, &[assigned("10.0.0.2/24", "10.0.0.1")]);
        all.enter(&key("b"), &br0, &[assigned("10.0.0.3/24", "10.0.0.1")]);
        // In doubt it stays the first one's.
        all.enter(&key("c"), &br0, &[assigned("10.0.0.2/24", "10.0.0.9")]);
        assert_eq!(all.beside(&br0, ip("10.0.0.2")), Some(Beside::Held(key("a"))));
        assert_eq!(all.beside(&link("br1"), ip("10.0.0.2")), None);
        all.leave(&key("c"));
        assert_eq!(all.holder(&br0, ip("10.0.0.2")), Some(&key("a")));
        all.leave(&key("a"));
        assert_eq!(all.beside(&br0, ip("10.0.0.1")), Some(Beside::Gateway(key("b"))));
        all.enter(&key("b"), &br0, &[assigned("10.0.0.3/24", "10.0.0.4")]);
        assert_eq!(all.beside(&br0, ip("10.0.0.1")), None);
        all.leave(&key("b"));
        assert!(all.held.is_empty() && all.gateways.is_empty() && all.owners.is_empty());
    }

    #[test]
    fn a_network_that_is_made_anew_has_what_its_store_says() {
        let (mut all, br0) = (Register::default(), link("br0"));
        let other: AttachmentKey = "other/c/eth0".parse().expect("a key");
        for (owner, address) in
            [(&key("kept"), "10.0.0.2/24"), (&key("lost"), "10.0.0.3/24"), (&other, "10.0.0.4/24")]
        {
            all.enter(owner, &br0, &[assigned(address, "10.0.0.1")]);
        }
        all.keep_only(&key("kept").network, &[&key("kept")].into());
        assert_eq!(all.holder(&br0, ip("10.0.0.2")), Some(&key("kept")));
        assert_eq!(all.holder(&br0, ip("10.0.0.3")), None);
        assert_eq!(all.holder(&br0, ip("10.0.0.4")), Some(&other));
    }

    #[test]
    fn a_gateway_of_others_is_refused_by_name_and_leased_when_they_are_gone() {
        let (mut all, br0) = (Register::default(), link("br0"));
        all.enter(&key("old"), &br0, &[assigned("10.0.0.9/29", "10.0.0.1")]);
        let moved = r"10.0.0.0/29";
        let mut sets = sets(&[&[moved]]);
        sets[0].0[0].gateway = ip("10.0.0.2");
        let mut pool = Allocator::new(sets, []);
        let lease = |pool: &mut Allocator, all: &Register, wanted: &[IpAddr]| {
            pool.lease_beside(&key("new"), wanted, &[], &|address| all.beside(&br0, address))
        };
        let error = lease(&mut pool, &all, &[ip("10.0.0.1")]).expect_err("a gateway");
        assert_eq!(error, LeaseError::InUse { address: ip("10.0.0.1"), user: key("old") });
        let first = lease(&mut pool, &all, &[]).expect("the next one");
        assert_eq!(first[0].address.ip(), ip("10.0.0.3"));
        pool.release(&key("new"), 1);
        for n in 0..3 {
            pool.lease(&key(&format!("c{n}")), &[], &[]).expect("one more");
        }
        all.leave(&key("old"));
        // It was passed over, and is not lost.
        let idle = lease(&mut pool, &all, &[]).expect("the idle one");
        assert_eq!(idle[0].address.ip(), ip("10.0.0.3"));
        let last = pool.lease_beside(&key("last"), &[], &[], &|address| all.beside(&br0, address));
        assert_eq!(last.expect("the last one")[0].address.ip(), ip("10.0.0.1"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the order of leases and releases: of networks that share a link none hands out what another's
        /// attachment has, and what is given back is had again.
        #[test]
        fn networks_of_one_link_never_hand_out_one_address(
            steps in proptest::collection::vec((0usize..3, 0u8..12, any::<bool>()), 1..150),
        ) {
            let br0 = link("br0");
            let mut all = Register::default();
            let ranges = || sets(&[&["10.0.0.0/28"]]);
            let mut pools: Vec<Allocator> = (0..3).map(|_| Allocator::new(ranges(), [])).collect();
            let mut held: HashMap<AttachmentKey, IpAddr> = HashMap::new();
            for (at, (network, who, leases)) in steps.into_iter().enumerate() {
                let owner: AttachmentKey = format!("n{network}/c{who}/eth0").parse().expect("a key");
                if !leases {
                    pools[network].release(&owner, at as u64);
                    all.leave(&owner);
                    held.remove(&owner);
                    continue;
                }
                let leased = pools[network].lease_beside(&owner, &[], &[], &|ip| all.beside(&br0, ip));
                match leased {
                    Ok(leased) => {
                        let address = leased[0].address.ip();
                        prop_assert!(held.values().all(|other| *other != address));
                        all.enter(&owner, &br0, &leased);
                        held.insert(owner, address);
                    }
                    Err(LeaseError::Held { .. }) => prop_assert!(held.contains_key(&owner)),
                    Err(LeaseError::Exhausted { .. }) => prop_assert_eq!(held.len(), 13),
                    Err(other) => return Err(TestCaseError::fail(other.to_string())),
                }
            }
        }
    }
}
