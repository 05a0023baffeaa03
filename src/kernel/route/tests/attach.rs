//! Attaching: what it makes, what it leaves when it fails, and why it says it failed.

use netlink_packet_route::RouteNetlinkMessage;
use nix::libc;
use quantum_config::ids::{LinkIndex, Mac};
use serde_json::{Value, json};

use super::{Bridge, GROUP, link_names, name, route};
use crate::attach::VlansSeen;
use crate::kernel::netns::inside;
use crate::kernel::route::forward::settle;
use crate::kernel::route::{Cause, Step, look, message};
use crate::kernel::testing::{in_private_netns, ip, ip_batch, ip_json, new_netns};

/// The values of `key` in a list of objects.
fn all<'a>(list: &'a Value, key: &str) -> Vec<&'a Value> {
    list.as_array().unwrap().iter().map(|entry| &entry[key]).collect()
}

#[test]
fn an_end_that_waits_is_on_the_host_and_untouched() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let (mut link, mut plan) = bridge.plan(7);
        link.hairpin = true;
        (plan.ifname, plan.waits) = (name("qp007"), true);
        let host = crate::kernel::netns::Netns::current().unwrap();
        bridge.host.attach(&link, &plan, &host).unwrap();
        let end = &ip_json("address show qc007")[0];
        assert_eq!((&end["master"], &end["ifindex"]), (&json!("br0"), &json!(10_007)));
        assert_eq!(end["ifalias"], "quantum net/c7/eth0 10.9.0.7/24");
        let peer = &ip_json("address show qp007")[0];
        assert_eq!(peer["address"], "02:00:00:00:02:07");
        assert_eq!(peer["operstate"], "DOWN");
        assert_eq!(peer["addr_info"], json!([]));
        // Another of the name is told apart from another of the index.
        let (mut other, _) = bridge.plan(8);
        other.host = name("qc008");
        let error = bridge.host.attach(&other, &plan, &host).unwrap_err();
        assert_eq!(error.cause, Some(Cause::ContainerNameTaken), "{error}");
        ip("link del qc007");
        assert!(!link_names().contains(&"qp007".to_owned()));
    });
}

#[test]
fn attach_makes_what_the_plan_says() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let container = new_netns();
        let (mut link, mut plan) = bridge.plan(7);
        link.hairpin = true;
        plan.addresses.push("fd09::7/64".parse().unwrap());
        plan.routes.push(route("::/0", Some("fd09::1")));
        plan.routes.push(route("192.0.2.0/24", None));
        plan.routes.push(route("fd0a::/64", None));
        bridge.host.attach(&link, &plan, &container).unwrap();

        let host = &ip_json("link show qc007")[0];
        assert_eq!(host["ifindex"], 10_007);
        assert_eq!(host["address"], "02:00:00:00:01:07");
        assert_eq!(host["mtu"], 1400);
        assert_eq!(host["master"], "br0");
        assert_eq!(host["group"], json!(GROUP.to_string()));
        assert_eq!(host["ifalias"], "quantum net/c7/eth0 10.9.0.7/24");
        assert_eq!(host["linkinfo"]["info_kind"], "veth");
        assert_eq!(host["linkinfo"]["info_slave_data"]["hairpin"], true);
        assert_eq!(host["linkinfo"]["info_slave_data"]["state"], "forwarding");

        inside(&container, || {
            let eth0 = &ip_json("address show eth0")[0];
            assert_eq!(eth0["ifindex"], 10_007);
            assert_eq!(eth0["address"], "02:00:00:00:02:07");
            assert_eq!(eth0["mtu"], 1400);
            let flags = eth0["flags"].as_array().unwrap();
            assert!(
                flags.contains(&json!("UP")) && flags.contains(&json!("LOWER_UP")),
                "{flags:?}"
            );
            let v4 = &eth0["addr_info"][0];
            assert_eq!((&v4["local"], &v4["prefixlen"]), (&json!("10.9.0.7"), &json!(24)));
            assert_eq!(v4["broadcast"], "10.9.0.255");
            let v6 = &eth0["addr_info"][1];
            assert_eq!((&v6["local"], &v6["prefixlen"]), (&json!("fd09::7"), &json!(64)));
            assert_eq!(v6["tentative"], Value::Null, "usable at once: {v6}");
            assert!(ip("link show lo").contains("LOOPBACK,UP"));

            let v4 = ip_json("route show");
            assert_eq!(all(&v4, "dst"), ["default", "10.9.0.0/24", "192.0.2.0/24"]);
            assert_eq!(v4[0]["gateway"], "10.9.0.1");
            assert_eq!(v4[2]["scope"], "link");
            let v6 = ip_json("-6 route show");
            assert!(all(&v6, "dst").contains(&&json!("default")), "{v6}");
            assert!(all(&v6, "dst").contains(&&json!("fd0a::/64")), "{v6}");
        })
        .unwrap();
    });
}

#[test]
fn neighbours_learn_a_reused_address_at_once() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let (witness, container) = (new_netns(), new_netns());
        bridge.attach(8, &witness).unwrap();
        let stale = |device: &str| {
            for address in ["10.9.0.7", "fd09::7"] {
                ip(&format!(
                    "neigh add {address} lladdr 02:00:00:00:00:99 dev {device} nud reachable"
                ));
            }
        };
        stale("br0");
        inside(&witness, || {
            ip("address add fd09::8/64 dev eth0 nodad");
            stale("eth0");
        })
        .unwrap();

        let (link, mut plan) = bridge.plan(7);
        plan.addresses.push("fd09::7/64".parse().unwrap());
        bridge.host.attach(&link, &plan, &container).unwrap();

        let learned = |device: &str| {
            for address in ["10.9.0.7", "fd09::7"] {
                let entry = ip(&format!("neigh show {address} dev {device}"));
                assert!(entry.contains("02:00:00:00:02:07"), "{device}: {entry}");
            }
        };
        learned("br0");
        inside(&witness, || learned("eth0")).unwrap();
    });
}

#[test]
fn an_announcement_waits_for_the_port() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        // Held to the end: with its last port the bridge would lose its carrier and its neighbours.
        let mut containers = vec![new_netns()];
        bridge.attach(8, &containers[0]).unwrap();
        // Without the wait the kernel is quick enough most of the time, so this is done often.
        for number in 20..60 {
            ip(&format!(
                "neigh add 10.9.0.{number} lladdr 02:00:00:00:00:99 dev br0 nud reachable"
            ));
            let container = new_netns();
            let (link, plan) = bridge.plan(number);
            bridge.host.create(&link, &plan, &container).unwrap();
            // What happens when this thread is held up here: the kernel notices that the port has
            // no carrier yet, and disables it.
            let error = settle(bridge.host.socket().unwrap(), &link).unwrap_err();
            assert_eq!((error.step, error.errno), (Step::Forward, libc::ENETDOWN));
            let shown = ip(&format!("-d link show {}", link.host));
            assert!(shown.contains("state disabled"), "{shown}");

            bridge.host.configure(&link, &plan, &container).unwrap();
            let entry = ip(&format!("neigh show 10.9.0.{number} dev br0"));
            assert!(entry.contains(&plan.mac.to_string()), "{entry}");
            containers.push(container);
        }
    });
}

#[test]
fn a_failing_route_undoes_everything() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let container = new_netns();
        let (link, mut plan) = bridge.plan(7);
        plan.routes.push(route("203.0.113.0/24", Some("198.51.100.1")));
        let error = bridge.host.attach(&link, &plan, &container).unwrap_err();
        assert_eq!((error.step, error.errno), (Step::AddRoute, libc::ENETUNREACH));
        assert_eq!(error.object, "203.0.113.0/24 via 198.51.100.1 on eth0");
        assert_eq!(error.detail, "Nexthop has invalid gateway", "the kernel's own words");
        assert_eq!(link_names(), ["lo", "br0"]);
        assert_eq!(inside(&container, link_names).unwrap(), ["lo"]);
        // Nothing is in the way of a second try.
        bridge.attach(7, &container).unwrap();
    });
}

#[test]
fn a_taken_interface_name_is_told_apart() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let container = new_netns();
        bridge.attach(7, &container).unwrap();
        let error = bridge.attach(8, &container).unwrap_err();
        assert_eq!((error.step, error.cause), (Step::CreateLink, Some(Cause::ContainerNameTaken)));
        assert_eq!(error.errno, libc::EEXIST);
        assert_eq!(link_names(), ["lo", "br0", "qc007"]);
        assert_eq!(inside(&container, link_names).unwrap(), ["lo", "eth0"], "the first one stays");
    });
}

#[test]
fn a_taken_host_name_is_told_apart_and_left_alone() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        bridge.attach(7, &new_netns()).unwrap_or_else(|e| panic!("{e}"));
        let held = new_netns();
        bridge.attach(9, &held).unwrap();
        let (mut link, plan) = bridge.plan(9);
        link.index = LinkIndex(20_000);
        link.alias = "net/other/eth0".into();
        let error = bridge.host.attach(&link, &plan, &new_netns()).unwrap_err();
        assert_eq!((error.step, error.cause), (Step::CreateLink, Some(Cause::HostNameTaken)));
        assert_eq!(ip_json("link show qc009")[0]["ifalias"], "quantum net/c9/eth0 10.9.0.9/24");
    });
}

#[test]
fn a_taken_index_is_told_apart_and_its_owner_left_alone() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let container = new_netns();
        ip("link add stranger index 10007 type bridge");
        let error = bridge.attach(7, &container).unwrap_err();
        assert_eq!(
            (error.step, error.cause),
            (Step::CreateLink, Some(Cause::IndexTaken)),
            "{error}"
        );
        assert_eq!(link_names(), ["lo", "br0", "stranger"]);
        assert_eq!(ip_json("link show stranger")[0]["ifalias"], Value::Null);

        // The same in the container.
        inside(&container, || ip("link add stranger index 10008 type bridge")).unwrap();
        let error = bridge.attach(8, &container).unwrap_err();
        assert_eq!(
            (error.step, error.cause),
            (Step::CreateLink, Some(Cause::IndexTaken)),
            "{error}"
        );
        assert_eq!(inside(&container, link_names).unwrap(), ["lo", "stranger"]);
        let (mut link, mut plan) = bridge.plan(8);
        (link.index, plan.index) = (LinkIndex(10_009), LinkIndex(10_009));
        bridge.host.attach(&link, &plan, &container).unwrap();
    });
}

#[test]
fn a_missing_bridge_is_told_apart() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        bridge.index = LinkIndex(4711);
        let error = bridge.attach(7, &new_netns()).unwrap_err();
        assert_eq!(
            (error.step, error.cause),
            (Step::CreateLink, Some(Cause::BridgeMissing)),
            "{error}"
        );
        assert_eq!(link_names(), ["lo", "br0"]);
        bridge.index = LinkIndex(1); // lo: not a bridge
        let error = bridge.attach(7, &new_netns()).unwrap_err();
        assert_eq!(
            (error.step, error.cause),
            (Step::CreateLink, Some(Cause::BridgeMissing)),
            "{error}"
        );
    });
}

#[test]
fn a_second_interface_may_have_a_default_route_too() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let container = new_netns();
        bridge.attach(7, &container).unwrap();
        let (link, mut plan) = bridge.plan(8);
        plan.ifname = name("eth1");
        bridge.host.attach(&link, &plan, &container).unwrap();
        let routes = inside(&container, || ip("route show default")).unwrap();
        assert!(routes.contains("dev eth0") && routes.contains("dev eth1"), "{routes}");
    });
}

#[test]
fn a_full_bridge_is_told_apart() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let (container, another) = (new_netns(), new_netns());
        bridge.attach(7, &container).unwrap();
        // Ports that are down, so that nothing is flooded to a thousand of them.
        let pairs = (0..511).map(|i| {
            format!("link add a{i} master br0 type veth peer name b{i}\nlink set b{i} master br0\n")
        });
        ip_batch(&pairs.collect::<String>());
        let error = bridge.attach(8, &another).unwrap_err();
        assert_eq!(
            (error.step, error.cause),
            (Step::CreateLink, Some(Cause::BridgeFull)),
            "{error}"
        );
        ip("link del a0");
        bridge.attach(8, &another).unwrap();
    });
}

#[test]
fn a_plan_without_addresses_makes_a_bare_link() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let container = new_netns();
        let (mut link, mut plan) = bridge.plan(7);
        (link.mtu, plan.addresses, plan.routes) = (None, Vec::new(), Vec::new());
        plan.mac = Mac([2, 0, 0, 0, 9, 9]);
        plan.ifname = name("net.1");
        bridge.host.attach(&link, &plan, &container).unwrap();
        assert!(ip("-d link show qc007").contains("state forwarding"));
        inside(&container, || {
            let device = &ip_json("link show net.1")[0];
            assert_eq!(
                (&device["mtu"], &device["address"]),
                (&json!(1500), &json!("02:00:00:00:09:09"))
            );
            assert!(ip("-4 address show net.1").is_empty());
        })
        .unwrap();
    });
}

#[test]
fn ports_are_listed_with_their_vlans() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let netns = new_netns();
        bridge.attach(7, &netns).unwrap();
        let socket = bridge.host.socket().unwrap();
        let listed = socket.list("ports", &message::list_vlans()).unwrap();
        let is_port = |message: &RouteNetlinkMessage| matches!(message, RouteNetlinkMessage::NewLink(link) if link.header.index == 10_007);
        assert!(listed.iter().any(is_port), "{listed:?}");
        // Nobody asked for any: none on a kernel that has no VLANs on bridges, or the default one.
        let seen = look::vlans(socket, LinkIndex(10_007)).unwrap();
        let default = VlansSeen { native: Some(1), members: [1].into() };
        assert!(seen == VlansSeen::default() || seen == default, "{seen:?}");
    });
}
