//! Tests of looking: what is there, and what is not there any more.

use ipnetwork::IpNetwork;
use quantum_config::ids::LinkIndex;

use super::*;
use crate::attach::RouteSeen;
use crate::kernel::netns::inside;
use crate::kernel::route::has_br_netfilter;
use crate::kernel::route::tests::{Bridge, route as inside_route};
use crate::kernel::testing::{in_private_netns, ip, new_netns};

fn route(destination: &str, next_hop: Option<&str>, table: u32) -> RouteSeen {
    let next_hop = next_hop.map(|hop| hop.parse().unwrap());
    let destination: IpNetwork = destination.parse().unwrap();
    let (scope, priority) = match (destination.is_ipv4(), next_hop) {
        (true, None) => (253, None),
        (true, Some(_)) => (0, None),
        (false, None) => (0, Some(256)),
        (false, Some(_)) => (0, Some(1024)),
    };
    RouteSeen { destination, next_hop, table, priority, mtu: None, advmss: None, scope }
}

#[test]
fn all_of_an_attachment_is_seen() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let netns = new_netns();
        let (mut link, mut plan) = bridge.plan(7);
        link.hairpin = true;
        plan.addresses.push("fd09::7/64".parse().unwrap());
        plan.routes.push(inside_route("::/0", Some("fd09::1")));
        bridge.host.attach(&link, &plan, &netns).unwrap();
        inside(&netns, || ip("route add 192.0.2.0/24 dev eth0 table 1000")).unwrap();

        let record = bridge.record(7, &netns);
        let seen = observe(&record, Some(&netns)).unwrap();
        let host = HostSeen {
            index: LinkIndex(10_007),
            alias: "quantum net/c7/eth0 10.9.0.7/24".into(),
            bridge: Some("br0".into()),
            mac: Some(record.host_mac),
            mtu: 1400,
            up: true,
            hairpin: true,
            isolated: false,
            vlans: None,
        };
        assert_eq!(seen.host, Some(host));
        let on_bridge = seen.bridge.unwrap();
        assert_eq!((on_bridge.index, on_bridge.up), (bridge.index, true));
        let filters = has_br_netfilter().then_some([false; 2]);
        assert_eq!(on_bridge.filters, filters);
        for (nr, key) in ["nf_call_iptables", "nf_call_ip6tables"].into_iter().enumerate() {
            ip(&format!("link set br0 type bridge {key} 1"));
            let seen = observe(&record, None).unwrap().bridge.unwrap();
            assert!(seen.filters.is_none_or(|filters| filters[nr]), "{key}");
        }
        let gateways: Vec<IpNetwork> =
            ["10.9.0.1/24", "fd09::1/64"].map(|text| text.parse().unwrap()).into();
        assert!(gateways.iter().all(|gateway| on_bridge.addresses.contains(gateway)));

        let inside = seen.inside.unwrap();
        assert_eq!(
            (inside.index, inside.mac, inside.mtu, inside.up),
            (LinkIndex(10_007), Some(record.mac), 1400, true)
        );
        assert!(plan.addresses.iter().all(|address| inside.addresses.contains(address)));
        assert!(!inside.addresses.contains(&"127.0.0.1/8".parse().unwrap()), "of this link only");
        for expected in [
            route("0.0.0.0/0", Some("10.9.0.1"), 254),
            route("10.9.0.0/24", None, 254),
            route("192.0.2.0/24", None, 1000),
            route("::/0", Some("fd09::1"), 254),
            route("fd09::/64", None, 254),
        ] {
            assert!(inside.routes.contains(&expected), "{expected:?} in {:?}", inside.routes);
        }
    });
}

#[test]
fn what_is_missing_is_seen_as_missing() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let netns = new_netns();
        bridge.attach(7, &netns).unwrap();
        let record = bridge.record(7, &netns);
        assert_eq!(observe(&record, None).unwrap().inside, None);

        ip("link set qc007 nomaster");
        ip("link set qc007 down");
        let host = observe(&record, None).unwrap().host.unwrap();
        assert_eq!((host.bridge, host.up), (None, false));

        inside(&netns, || ip("link del eth0")).unwrap();
        ip("link del br0");
        let seen = observe(&record, Some(&netns)).unwrap();
        assert_eq!(
            seen,
            Observed {
                host: None,
                bridge: None,
                inside: None,
                shape: None,
                off: vec![],
                waits: false
            }
        );
    });
}

#[test]
fn a_link_that_is_not_a_bridge_is_not_taken_for_one() {
    in_private_netns(|| {
        let bridge = Bridge::new();
        let record = bridge.record(7, &Netns::current().unwrap());
        ip("link del br0");
        ip("link add br0 type veth peer name p1");
        assert_eq!(observe(&record, None).unwrap().bridge, None);
    });
}
