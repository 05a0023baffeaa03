//! Detaching and scanning.

use std::num::NonZeroU32;

use quantum_config::ids::{IfName, LinkIndex};

use super::{Bridge, GROUP, link_names, name};
use crate::attach::naming;
use crate::kernel::netns::{Netns, inside};
use crate::kernel::route::{Detached, Host, OwnedLink};
use crate::kernel::testing::{in_private_netns, ip, new_netns};

const SCRATCH: NonZeroU32 = NonZeroU32::new(0x8123_4567).unwrap();

fn ids(bridge: &Bridge, numbers: impl IntoIterator<Item = u8>) -> Vec<(IfName, LinkIndex)> {
    let ids = numbers.into_iter().map(|number| bridge.plan(number).0);
    ids.map(|link| (link.host, link.index)).collect()
}

fn attach(bridge: &mut Bridge, numbers: impl IntoIterator<Item = u8>) -> Vec<Netns> {
    let one = |number| {
        let netns = new_netns();
        bridge.attach(number, &netns).unwrap();
        netns
    };
    numbers.into_iter().map(one).collect()
}

#[test]
fn fifty_go_in_one_and_a_second_time_they_are_gone() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let containers = attach(&mut bridge, 10..61);
        let fifty = ids(&bridge, 10..60);
        let outcomes = bridge.host.detach(&fifty, SCRATCH);
        assert_eq!(outcomes, vec![Ok(Detached::Removed); 50]);
        assert_eq!(link_names(), ["lo", "br0", "qc060"], "the one that was not asked for stays");
        assert_eq!(inside(&containers[0], link_names).unwrap(), ["lo"]);
        assert_eq!(bridge.host.detach(&fifty, SCRATCH), vec![Ok(Detached::Gone); 50]);
        let mixed = bridge.host.detach(&ids(&bridge, [10, 60]), SCRATCH);
        assert_eq!(mixed, [Ok(Detached::Gone), Ok(Detached::Removed)]);
        assert_eq!(bridge.host.detach(&[], SCRATCH), []);
    });
}

#[test]
fn a_container_that_took_its_link_along_is_no_error() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let containers = attach(&mut bridge, [7]);
        inside(&containers[0], || ip("link del eth0")).unwrap();
        let outcomes = bridge.host.detach(&ids(&bridge, [7]), SCRATCH);
        assert_eq!(outcomes, [Ok(Detached::Gone)]);
    });
}

#[test]
fn a_namesake_and_a_reused_index_are_left_alone() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        // Of 7 the name and the index, each with another owner; of 8 only the index.
        ip("link add qc007 index 20007 type bridge");
        ip("link add stranger7 index 10007 type bridge");
        ip("link add stranger8 index 10008 type bridge");
        let outcomes = bridge.host.detach(&ids(&bridge, [7, 8]), SCRATCH);
        assert_eq!(outcomes, [Ok(Detached::Gone), Ok(Detached::Gone)]);
        let mut names = link_names();
        names.sort();
        assert_eq!(names, ["br0", "lo", "qc007", "stranger7", "stranger8"]);
    });
}

#[test]
fn more_than_one_round_keeps_the_order() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let _containers = attach(&mut bridge, [7]);
        let mut many: Vec<_> =
            (0..300).map(|i| (name(&format!("gone{i}")), LinkIndex(30_000 + i))).collect();
        many.extend(ids(&bridge, [7]));
        let outcomes = bridge.host.detach(&many, SCRATCH);
        assert!(outcomes[..300].iter().all(|outcome| *outcome == Ok(Detached::Gone)));
        assert_eq!(outcomes[300..], [Ok(Detached::Removed)]);
    });
}

#[test]
fn a_scan_finds_what_is_ours_and_nothing_else() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let _containers = attach(&mut bridge, [7, 8, 9]);
        let scratch = naming::scratch_group(1).get();
        ip("link set qc008 group 5"); // not in a group of ours
        ip(&format!("link set qc009 group {scratch}")); // a deletion that failed
        ip(&format!("link add qcbr group {GROUP} type bridge"));
        ip("link add qcveth type veth peer name other");
        let owned = |number: u8, alias: &str, group| OwnedLink {
            index: LinkIndex(10_000 + u32::from(number)),
            name: name(&format!("qc00{number}")),
            is_shaper: false,
            alias: alias.into(),
            group,
            bridge: Some(name("br0")),
            up: true,
        };
        let expected = [
            owned(7, "quantum net/c7/eth0 10.9.0.7/24", GROUP),
            owned(9, "quantum net/c9/eth0 10.9.0.9/24", scratch),
        ];
        let mut found = Host::open().unwrap().scan().unwrap();
        found.sort_by_key(|link| link.index);
        assert_eq!(found, expected);
    });
}

#[test]
fn a_long_listing_is_complete() {
    in_private_netns(|| {
        for i in 0..100 {
            let index = 0x4000_0000 + i;
            ip(&format!("link add qc{i} index {index} group {GROUP} type veth peer name p{i}"));
        }
        assert_eq!(Host::open().unwrap().scan().unwrap().len(), 100);
    });
}

#[test]
fn who_had_an_address_is_forgotten() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let addresses = ["10.9.0.7", "10.9.0.8", "fd09::7", "fd09::8"];
        for address in addresses {
            ip(&format!("neigh add {address} lladdr 02:00:00:00:00:77 dev br0 nud reachable"));
        }
        let on = |link: &str, address: &str| (name(link), address.parse().unwrap());
        bridge.host.forget_neighbours(&[
            on("gone0", "10.9.0.8"), // no such link
            on("br0", "10.9.0.99"),  // no such neighbour
            on("br0", "10.9.0.7"),
            on("br0", "fd09::7"),
            on("lo", "fd09::8"), // another link's
        ]);
        let left = ip("neigh show dev br0");
        let is_there =
            addresses.map(|a| left.lines().any(|line| line.split(' ').next() == Some(a)));
        assert_eq!(is_there, [false, true, false, true], "{left}");
    });
}
