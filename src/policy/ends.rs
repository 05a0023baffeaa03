//! Who may be at an end of a connection: groups of endpoints to whom everything applies alike, the host,
//! and addresses of the world, one for each set of blocks that it may be in.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use quantum_config::ask::Group;
use quantum_config::cni::{Family, Transport};
use quantum_config::ids::AttachmentKey;
use quantum_config::policy::{Ports, Selector};

use super::resolve::{by_family, called, host};
use super::terms::Terms;
use super::{Endpoint, Side, World};

/// The most addresses of the world that are asked about.
const OUTSIDERS: usize = 32;
/// How many addresses are looked at for one that is no endpoint's.
const NEARBY: usize = 16;

/// An end of connections, in each of two worlds.
#[derive(Debug)]
pub(super) enum End<'w> {
    /// These, to whom everything applies alike.
    Endpoints {
        /// As they are in the one world.
        now: Vec<&'w Endpoint>,
        /// As they are in the other, in the same order.
        then: Vec<&'w Endpoint>,
    },
    /// A process of the host.
    Host,
    /// Somebody elsewhere.
    World {
        /// With these addresses, one of a family.
        addresses: Vec<IpAddr>,
        /// Is nobody in particular.
        anybody: bool,
    },
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Now,
    Then,
}

impl<'w> End<'w> {
    /// One of it, by a family of addresses; as the receiver of its own connections another one than as
    /// the sender.
    pub(super) fn side(&self, when: When, family: Family, which: usize) -> Option<Side<'w>> {
        match self {
            Self::Endpoints { now, then } => {
                let members = if when == When::Now { now } else { then };
                by_family(members.get(which)?, family)
            }
            Self::Host => Some(host(family)),
            Self::World { addresses, .. } => {
                let mut addresses = addresses.iter();
                addresses.find(|a| Family::of(**a) == family).map(|a| Side::World(*a))
            }
        }
    }

    /// One of its endpoints.
    pub(super) fn first(&self, when: When) -> Option<&'w Endpoint> {
        match self {
            Self::Endpoints { now, then } => {
                (if when == When::Now { now } else { then }).first().copied()
            }
            Self::Host | Self::World { .. } => None,
        }
    }

    pub(super) fn size(&self) -> usize {
        if let Self::Endpoints { now, .. } = self { now.len() } else { 1 }
    }

    pub(super) fn is_endpoints(&self) -> bool {
        matches!(self, Self::Endpoints { .. })
    }

    pub(super) fn group(&self) -> Group {
        let (name, network) = match self {
            Self::Endpoints { now, .. } => {
                let first = now.first().map(|endpoint| called(endpoint)).unwrap_or_default();
                let network = now.first().map(|endpoint| endpoint.network.clone());
                let name = match now.len() {
                    0 | 1 => first,
                    2 => format!("{first} and 1 other"),
                    many => format!("{first} and {} others", many - 1),
                };
                (name, network.unwrap_or_default())
            }
            Self::Host => ("host".to_owned(), String::new()),
            Self::World { anybody: true, .. } => ("world".to_owned(), String::new()),
            Self::World { addresses, .. } => {
                let listed: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
                (format!("world ({})", listed.join(", ")), String::new())
            }
        };
        Group { name, endpoints: if self.is_endpoints() { self.size() } else { 0 }, network }
    }
}

/// All that decides about an endpoint in a world.
#[derive(PartialEq, Eq, Hash)]
struct Nature<'w> {
    network: &'w str,
    namespace: &'w str,
    audit: bool,
    unknown: bool,
    labels: Vec<bool>,
    ports: Vec<(&'w str, Transport, u16)>,
    addresses: Vec<(Family, Vec<bool>)>,
}

fn nature<'w>(terms: &Terms<'w>, selectors: &[&Selector], endpoint: &'w Endpoint) -> Nature<'w> {
    let is_asked = |name: &str| {
        terms.ports.iter().any(|p| matches!(p, Ports::Named { name: asked, .. } if asked == name))
    };
    let named = endpoint.ports.iter().filter(|port| is_asked(&port.name));
    let mut ports: Vec<_> =
        named.map(|port| (port.name.as_str(), port.transport, port.number)).collect();
    ports.sort_by_key(|(name, transport, number)| (*name, transport.number(), *number));
    let families = [Family::V4, Family::V6].into_iter();
    let addresses = families.filter_map(|family| Some((family, by_family(endpoint, family)?)));
    Nature {
        network: &endpoint.network,
        namespace: &endpoint.namespace,
        audit: endpoint.audit,
        unknown: endpoint.unknown,
        labels: selectors.iter().map(|selector| selector.matches(&endpoint.labels)).collect(),
        ports,
        addresses: addresses
            .map(|(family, side)| (family, places(terms, side.address())))
            .collect(),
    }
}

/// Which blocks an address is in.
fn places(terms: &Terms<'_>, address: IpAddr) -> Vec<bool> {
    terms.blocks.iter().map(|block| block.contains(address)).collect()
}

/// The endpoints that both worlds have, in groups, the largest first. Where each shall be for itself,
/// they are in the order of their names.
pub(super) fn endpoints<'w>(
    terms: &Terms<'w>,
    now: &'w World,
    then: &'w World,
    each: bool,
) -> Vec<End<'w>> {
    let selectors: Vec<&Selector> = terms.selectors.iter().copied().collect();
    let others: HashMap<&AttachmentKey, &Endpoint> =
        then.endpoints().iter().map(|endpoint| (&endpoint.key, endpoint)).collect();
    let mut sorted: Vec<(&Endpoint, &Endpoint)> = now
        .endpoints()
        .iter()
        .filter_map(|endpoint| Some((endpoint, *others.get(&endpoint.key)?)))
        .collect();
    sorted.sort_by_key(|(e, _)| (&e.namespace, &e.name, &e.key));
    let mut groups: Vec<(Vec<&Endpoint>, Vec<&Endpoint>)> = Vec::new();
    let mut places = HashMap::new();
    for (one, other) in sorted {
        let place = if each {
            groups.len()
        } else {
            let key = (nature(terms, &selectors, one), nature(terms, &selectors, other));
            *places.entry(key).or_insert(groups.len())
        };
        if place == groups.len() {
            groups.push((Vec::new(), Vec::new()));
        }
        groups[place].0.push(one);
        groups[place].1.push(other);
    }
    groups.sort_by_key(|(now, _)| std::cmp::Reverse(now.len()));
    groups.into_iter().map(|(now, then)| End::Endpoints { now, then }).collect()
}

/// Somebody elsewhere, for each way in which blocks can tell addresses apart; first who is in as few as
/// can be. Also how many of those ways are left out.
pub(super) fn outsiders<'w>(terms: &Terms<'w>, worlds: &[&World]) -> (Vec<End<'w>>, usize) {
    let taken: HashSet<IpAddr> = worlds
        .iter()
        .flat_map(|world| world.endpoints())
        .flat_map(|e| &e.addresses)
        .copied()
        .collect();
    let is_free = |address: &IpAddr| !taken.contains(address);
    let anybody = [Family::V4, Family::V6].into_iter().filter_map(|family| {
        let nowhere = nowhere(family).into_iter().filter(is_free);
        nowhere.min_by_key(|address| places(terms, *address).iter().filter(|is_in| **is_in).count())
    });
    let anybody: Vec<IpAddr> = anybody.collect();
    let mut seen: HashSet<(Family, Vec<bool>)> =
        anybody.iter().map(|address| (Family::of(*address), places(terms, *address))).collect();
    let mut ends = vec![End::World { addresses: anybody, anybody: true }];
    let mut left_out = 0;
    // Where a block or an exception begins or has ended, what an address is in changes.
    let nets = terms.blocks.iter().flat_map(|block| block.except.iter().chain([&block.cidr]));
    for begin in nets.flat_map(|net| [Some(net.network()), next(net.broadcast())]).flatten() {
        let is_in = places(terms, begin);
        if seen.contains(&(Family::of(begin), is_in.clone())) {
            continue;
        }
        let nearby = std::iter::successors(Some(begin), |address| next(*address)).take(NEARBY);
        let Some(address) = nearby.filter(is_free).find(|a| places(terms, *a) == is_in) else {
            continue;
        };
        seen.insert((Family::of(begin), is_in));
        if ends.len() < OUTSIDERS {
            ends.push(End::World { addresses: vec![address], anybody: false });
        } else {
            left_out += 1;
        }
    }
    (ends, left_out)
}

/// Addresses that documentation uses and nobody else, or should.
fn nowhere(family: Family) -> Vec<IpAddr> {
    match family {
        Family::V4 => {
            let nets = [[192, 0, 2], [198, 51, 100], [203, 0, 113]];
            nets.map(|[a, b, c]| Ipv4Addr::new(a, b, c, 1).into()).to_vec()
        }
        Family::V6 => vec![Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()],
    }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(a) => a.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(a) => a.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}
