//! ADD: the module document's own example, field by field, and what the container then reaches.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::support::conf::{at, example, network, with};
use crate::support::inventory::{is_up, veths};
use crate::support::netns::Netns;
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, SILENCE, tcp_answers, udp_answers};
use crate::support::world::{HOST, OUTSIDE, World};

/// The address ADD gave, without its prefix length.
pub(crate) fn address(result: &Value) -> String {
    let cidr =
        result["ips"][0]["address"].as_str().unwrap_or_else(|| panic!("no address: {result}"));
    cidr.split('/').next().expect("an address").to_owned()
}

#[test]
fn the_result_is_what_the_kernel_says() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&example())).succeeded();

    assert_eq!(result["cniVersion"], "1.0.0");
    let keys: Vec<&str> =
        result.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["cniVersion", "interfaces", "ips", "routes", "dns"]);

    let interfaces = result["interfaces"].as_array().expect("a list");
    let [bridge, veth, eth0] = interfaces.as_slice() else { panic!("three interfaces: {result}") };
    assert_interface(bridge, "quantum0", &world.host, None);
    assert_interface(veth, veth["name"].as_str().expect("a name"), &world.host, None);
    assert_interface(eth0, "eth0", &container, Some(container.text()));
    let port = world.host.link(veth["name"].as_str().expect("a name")).expect("the host's end");
    assert_eq!(port["master"], "quantum0");
    assert_eq!(port["linkinfo"]["info_slave_data"]["hairpin"], true, "hairpinMode: {port}");

    let [ip] = result["ips"].as_array().expect("a list").as_slice() else { panic!("{result}") };
    assert_eq!(ip["interface"], 2, "the index of eth0");
    assert_eq!(ip["gateway"], "172.20.0.1");
    assert!(ip.get("version").is_none(), "gone since 1.0.0: {ip}");
    assert_eq!(container.addresses("eth0", 4), [ip["address"].as_str().expect("an address")]);
    let IpAddr::V4(own) = address(&result).parse().expect("an address") else { panic!("{ip}") };
    assert_eq!(own.octets()[..2], [172, 20]);
    assert!(ip["address"].as_str().expect("an address").ends_with("/16"));

    assert_eq!(result["routes"], json!([{ "dst": "0.0.0.0/0" }]));
    let routes = container.ip_json("-4 route show default");
    let [default] = routes.as_slice() else { panic!("one default route: {routes:?}") };
    assert_eq!((&default["gateway"], &default["dev"]), (&json!("172.20.0.1"), &json!("eth0")));
    assert_eq!(world.host.addresses("quantum0", 4), ["172.20.0.1/16"]);
    assert_eq!(
        result["dns"],
        json!({
            "nameservers": ["172.20.0.1"],
            "domain": "quantum.local",
            "search": ["quantum.local"]
        })
    );
}

/// An interface of a result is there, is up, and has the hardware address that was printed.
fn assert_interface(shown: &Value, name: &str, netns: &Netns, sandbox: Option<&str>) {
    assert_eq!(shown["name"], name, "{shown}");
    assert_eq!(shown.get("sandbox").and_then(Value::as_str), sandbox, "{shown}");
    assert!(shown.get("mtu").is_none(), "reported since 1.1.0: {shown}");
    let link = netns.link(name).unwrap_or_else(|| panic!("there is no {name}"));
    assert_eq!(shown["mac"], link["address"], "{name}");
    assert!(is_up(&link), "{link}");
}

#[test]
fn the_loopback_interface_is_up() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
    assert!(is_up(&container.link("lo").expect("lo")));
}

#[test]
fn a_container_reaches_gateway_neighbour_and_outside() {
    let world = world!();
    let _daemon = world.daemon();
    let (one, two) = (world.container(), world.container());
    let _first = world.call(Call::add("c1", &one).conf(&example())).succeeded();
    let second = address(&world.call(Call::add("c2", &two).conf(&example())).succeeded());

    assert!(ping(&one, "172.20.0.1", PATIENCE), "the gateway");

    let neighbour = Echo::serve(&two, &second);
    assert!(udp_answers(&one, &second, PATIENCE), "the neighbour by UDP");
    assert!(tcp_answers(&one, &second, PATIENCE), "the neighbour by TCP");
    assert!(!neighbour.seen().is_empty());

    // Outside has no route back: an answer proves that the host's address was put in.
    let outside = Echo::serve(&world.outside, OUTSIDE);
    assert!(udp_answers(&one, OUTSIDE, PATIENCE), "the outside by UDP");
    assert!(tcp_answers(&one, OUTSIDE, PATIENCE), "the outside by TCP");
    let host: IpAddr = HOST.parse().expect("an address");
    let seen = outside.seen();
    assert!(seen.len() >= 2 && seen.iter().all(|peer| *peer == host), "{seen:?}");
}

#[test]
fn without_masquerade_the_outside_does_not_answer() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let conf = with(&example(), json!({ "ipMasq": false }));
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let _outside = Echo::serve(&world.outside, OUTSIDE);
    assert!(ping(&container, "172.20.0.1", PATIENCE), "the gateway");
    assert!(!udp_answers(&container, OUTSIDE, SILENCE));
}

#[test]
fn every_version_has_its_result() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("versions", "ver0", "10.9.0.0/24");
    for (number, version) in
        ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"].iter().enumerate()
    {
        let container = world.container();
        let add = Call::add(&format!("c{number}"), &container);
        let result = world.call(add.conf(&at(&conf, version))).succeeded();
        let held = container.addresses("eth0", 4);
        let held = held.first().expect("an address").as_str();
        assert_eq!(result["cniVersion"], *version);
        if *version < "0.3.0" {
            assert_eq!(result["ip4"]["ip"], held, "{version}: {result}");
            assert_eq!(result["ip4"]["gateway"], "10.9.0.1", "{version}: {result}");
            assert_eq!(result["ip4"]["routes"][0]["dst"], "0.0.0.0/0", "{version}: {result}");
            assert!(result.get("ips").is_none() && result.get("interfaces").is_none(), "{result}");
        } else {
            let ip = &result["ips"][0];
            assert_eq!(ip["address"], held, "{version}: {result}");
            let family = (*version < "1.0.0").then_some("4");
            assert_eq!(ip.get("version").and_then(Value::as_str), family, "{version}: {result}");
        }
        let dns = (*version < "1.0.0").then(|| json!({}));
        assert_eq!(result.get("dns"), dns.as_ref(), "{version}: {result}");
        if *version == "1.1.0" {
            let last = result["interfaces"].as_array().and_then(|i| i.last()).expect("interfaces");
            assert_eq!(last["mtu"], container.link("eth0").expect("eth0")["mtu"], "{result}");
        }
    }
    // A configuration without a version is one of 0.1.0.
    let container = world.container();
    let conf = with(&conf, json!({ "cniVersion": null }));
    let result = world.call(Call::add("none", &container).conf(&conf)).succeeded();
    assert!(result["ip4"]["ip"].is_string(), "{result}");
}

#[test]
fn two_interfaces_of_one_container_live_and_die_apart() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let conf = network("twice", "twice0", "10.8.0.0/24");
    let first = address(&world.call(Call::add("c1", &container).conf(&conf)).succeeded());
    let other = with(&conf, json!({ "ipam": { "routes": null } }));
    let add = Call::add("c1", &container).ifname("eth1");
    let second = address(&world.call(add.conf(&other)).succeeded());
    assert_ne!(first, second);
    world.call(Call::del("c1", &container).ifname("eth1").conf(&other)).succeeded();
    assert!(container.link("eth1").is_none());
    assert_eq!(container.addresses("eth0", 4), [format!("{first}/24")]);
    assert!(ping(&container, "10.8.0.1", PATIENCE));
    assert_eq!(veths(&world.host).len(), 1);
}

#[test]
fn the_mtu_is_set_at_both_ends() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let conf = with(&network("mtu", "mtu0", "10.7.0.0/24"), json!({ "mtu": 1400 }));
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!(container.link("eth0").expect("eth0")["mtu"], 1400);
    let port = veths(&world.host).pop().expect("the host's end");
    assert_eq!(world.host.link(&port).expect("the host's end")["mtu"], 1400);
}

#[test]
fn both_families_at_once() {
    let world = world!();
    let _daemon = world.daemon();
    let ranges = json!([[{ "subnet": "10.6.9.0/24" }], [{ "subnet": "fd00:69::/64" }]]);
    let routes = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
    let ipam = json!({ "subnet": null, "ranges": ranges, "routes": routes });
    let conf = with(&network("dual", "dual0", ""), json!({ "ipam": ipam }));
    let (one, two) = (world.container(), world.container());
    let result = world.call(Call::add("c1", &one).conf(&conf)).succeeded();
    let other = world.call(Call::add("c2", &two).conf(&conf)).succeeded();
    for (ip, family, gateway) in [(0, 4, "10.6.9.1"), (1, 6, "fd00:69::1")] {
        let ip = &result["ips"][ip];
        assert_eq!((&ip["gateway"], &ip["interface"]), (&json!(gateway), &json!(2)), "{result}");
        assert_eq!(one.addresses("eth0", family), [ip["address"].as_str().expect("an address")]);
        let default = one.ip_json(&format!("-{family} route show default"));
        assert_eq!(default[0]["gateway"], gateway, "{default:?}");
    }
    // Usable at once: nobody waits for duplicate address detection.
    let flags = one.ip_json("-6 address show dev eth0 scope global")[0]["addr_info"][0].clone();
    assert_ne!(flags["tentative"], true, "{flags}");
    let sixth = other["ips"][1]["address"].as_str().expect("an address");
    let sixth = sixth.split('/').next().expect("an address");
    let _echo = Echo::serve(&two, sixth);
    assert!(udp_answers(&one, sixth, PATIENCE), "the neighbour over IPv6");
    world.call(Call::del("c1", &one).conf(&conf)).succeeded();
    assert!(one.link("eth0").is_none());
}

#[test]
fn networks_have_bridges_and_pools_of_their_own() {
    let world: World = world!();
    let _daemon = world.daemon();
    for (number, subnet) in ["10.1.0.0/24", "10.2.0.0/24"].iter().enumerate() {
        let container = world.container();
        let conf = network(&format!("net{number}"), &format!("br{number}"), subnet);
        world.call(Call::add("c1", &container).conf(&conf)).succeeded();
        let expected = format!("10.{}.0.2/24", number + 1);
        assert_eq!(container.addresses("eth0", 4), [expected]);
    }
}

#[test]
fn container_ids_of_every_length_get_their_network() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("long", "long0", "10.5.5.0/24");
    // Around the longest alias the kernel takes, and far beyond.
    for length in [200, 223, 224, 225, 226, 227, 228, 229, 300, 4000] {
        let (id, container) = ("a".repeat(length), world.container());
        world.call(Call::add(&id, &container).conf(&conf)).succeeded();
        world.call(Call::del(&id, &container).conf(&conf)).succeeded();
    }
}

#[test]
fn an_mtu_without_ipv6_makes_a_bridge() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = with(&network("narrow", "narrow0", "10.5.6.0/24"), json!({ "mtu": 1000 }));
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!(container.link("eth0").expect("eth0")["mtu"], 1000);
    assert_eq!(world.host.link("narrow0").expect("the bridge")["mtu"], 1000);
}
