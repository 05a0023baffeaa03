//! The keys of the reference plugin `bridge` that change a bridge or a port, each seen in the kernel.

use serde_json::{Value, json};

use crate::support::conf::{network, with};
use crate::support::inventory::nft_elements;
use crate::support::netns::Netns;
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, SILENCE, udp_answers};
use crate::support::world::World;

const NOT_SUPPORTED: u64 = 2;
const INVALID_CONFIG: u64 = 7;
const CHECK_FAILED: u64 = 105;

/// The name of the host's end.
pub(crate) fn port(result: &Value) -> &str {
    result["interfaces"][1]["name"].as_str().unwrap_or_else(|| panic!("no port: {result}"))
}

/// CHECK after `result`.
pub(crate) fn check(conf: &Value, container: &Netns, result: &Value) -> Call {
    Call::check("c1", container).conf(&with(conf, json!({ "prevResult": result })))
}

/// A network of layer 2: no `ipam`, no gateway.
fn switch(name: &str, keys: Value) -> Value {
    with(
        &json!({ "cniVersion": "1.0.0", "name": name, "type": "quantum-cni", "bridge": name }),
        keys,
    )
}

/// The configuration is refused with this code, by name, and nothing was made.
#[track_caller]
fn refused(world: &World, conf: &Value, code: u64, named: &str) {
    let container = world.container();
    let said = world.call(Call::add("c1", &container).conf(conf)).failed_with(code);
    assert!(said.contains(named), "{said:?} should name {named:?}");
    let bridge = conf["bridge"].as_str().expect("a bridge");
    assert!(world.host.link(bridge).is_none(), "no bridge after {said}");
    assert!(container.link("eth0").is_none(), "no interface after {said}");
}

#[test]
fn a_network_of_zero_trust_is_known_for_one() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = with(&network("zero", "zero0", "10.61.0.0/24"), json!({ "isGateway": true }));
    let named = |set: &str| {
        let (own, found) = (format!("inet quantum {set}: "), nft_elements(&world.host));
        found.iter().any(|line| line.contains(&own) && line.contains("zero0"))
    };
    let container = world.container();
    let sets = ["closed", "strict", "inward", "zero", "unprobed"];
    for (policy, expected) in [
        (json!({ "posture": "zero-trust" }), [true, true, false, true, false]),
        (
            json!({ "posture": "zero-trust", "host": { "toEndpoint": "deny" } }),
            [true, true, false, true, true],
        ),
        (json!({}), [true, true, true, false, false]),
    ] {
        let conf = with(&conf, json!({ "policy": policy }));
        let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
        assert_eq!(sets.map(named), expected, "{policy}");
        world.call(check(&conf, &container, &result)).succeeded();
        world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    }
    let loose =
        json!({ "bridge": "zero1", "policy": { "posture": "zero-trust", "antiSpoof": false } });
    refused(&world, &with(&conf, loose), INVALID_CONFIG, "antiSpoof");
    let apart = json!({ "bridge": "zero1", "ipam": null, "policy": { "posture": "zero-trust" } });
    refused(&world, &with(&conf, apart), INVALID_CONFIG, "ipam");
}

#[test]
fn a_promiscuous_bridge() {
    let world = world!();
    let _daemon = world.daemon_that_mends_nothing();
    let conf = switch("promisc0", json!({ "promiscMode": true }));
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let flags = |world: &World| world.host.link("promisc0").expect("a bridge")["flags"].clone();
    let is_promiscuous = |world: &World| {
        flags(world).as_array().is_some_and(|flags| flags.contains(&json!("PROMISC")))
    };
    assert!(is_promiscuous(&world), "{}", flags(&world));
    world.call(check(&conf, &container, &result)).succeeded();
    world.host.ip("link set promisc0 promisc off");
    let said = world.call(check(&conf, &container, &result)).failed_with(CHECK_FAILED);
    assert!(said.contains("promisc0 is not promiscuous"), "{said}");

    // And the other way about: a network that says nothing has a bridge that is not.
    let conf = switch("modest0", json!({}));
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    world.host.ip("link set modest0 promisc on");
    let said = world.call(check(&conf, &container, &result)).failed_with(CHECK_FAILED);
    assert!(said.contains("modest0 is promiscuous"), "{said}");
    let both = switch("both0", json!({ "promiscMode": true, "hairpinMode": true }));
    refused(&world, &both, INVALID_CONFIG, "hairpinMode and promiscMode");
}

#[test]
fn isolated_ports_reach_the_gateway_and_not_each_other() {
    let world = world!();
    let _daemon = world.daemon_that_mends_nothing();
    let conf = network("isolated", "isolated0", "10.65.0.0/24");
    let conf = with(&conf, json!({ "portIsolation": true }));
    let (one, two) = (world.container(), world.container());
    let result = world.call(Call::add("c1", &one).conf(&conf)).succeeded();
    let second = world.call(Call::add("c2", &two).conf(&conf)).succeeded();
    assert!(ping(&one, "10.65.0.1", PATIENCE) && ping(&two, "10.65.0.1", PATIENCE));
    let other = crate::spec_add::address(&second);
    let _echo = Echo::serve(&two, &other);
    assert!(!udp_answers(&one, &other, SILENCE), "the neighbour");
    world.call(check(&conf, &one, &result)).succeeded();
    world.host.ip(&format!("link set {} type bridge_slave isolated off", port(&result)));
    world.host.ip(&format!("link set {} type bridge_slave isolated off", port(&second)));
    assert!(udp_answers(&one, &other, PATIENCE), "by this flag and no other");
    let said = world.call(check(&conf, &one, &result)).failed_with(CHECK_FAILED);
    assert!(said.contains("is not isolated"), "{said}");
}

#[test]
fn the_containers_end_may_stay_down() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = switch("down0", json!({ "disableContainerInterface": true }));
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let is_up = || {
        let eth0 = container.link("eth0").expect("an interface");
        eth0["flags"].as_array().is_some_and(|flags| flags.contains(&json!("UP")))
    };
    assert!(!is_up());
    world.call(check(&conf, &container, &result)).succeeded();
    container.ip("link set eth0 up");
    world.call(check(&conf, &container, &result)).succeeded();
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    assert!(container.link("eth0").is_none());
    let conf = with(
        &network("down1", "down1", "10.66.0.0/24"),
        json!({ "disableContainerInterface": true }),
    );
    refused(&world, &conf, INVALID_CONFIG, "ipam");
}

#[test]
fn a_network_without_addresses_is_a_switch() {
    let world = world!();
    let _daemon = world.daemon_that_mends_nothing();
    let conf = switch("switch0", json!({ "mtu": 1400 }));
    let (one, two) = (world.container(), world.container());
    let result = world.call(Call::add("c1", &one).conf(&conf)).succeeded();
    world.call(Call::add("c2", &two).conf(&conf)).succeeded();
    assert_eq!((result.get("ips"), result.get("routes")), (None, None), "{result}");
    for link in ["switch0", port(&result)] {
        assert_eq!(world.host.link(link).expect(link)["mtu"], 1400, "{link}");
    }
    assert_eq!(one.link("eth0").expect("eth0")["mtu"], 1400);
    one.ip("address add 10.99.0.1/24 dev eth0");
    two.ip("address add 10.99.0.2/24 dev eth0");
    assert!(ping(&one, "10.99.0.2", PATIENCE), "a switch");
    world.call(check(&conf, &one, &result)).succeeded();
    // An MTU that was asked for is looked at, on both ends.
    for (netns, end) in [(&one, "eth0"), (&world.host, port(&result))] {
        netns.ip(&format!("link set {end} mtu 1300"));
        let said = world.call(check(&conf, &one, &result)).failed_with(CHECK_FAILED);
        assert!(said.contains(&format!("{end} has mtu 1300 instead of 1400")), "{said}");
        netns.ip(&format!("link set {end} mtu 1400"));
    }
    world.call(check(&conf, &one, &result)).succeeded();
    for (id, container) in [("c1", &one), ("c2", &two)] {
        world.call(Call::del(id, container).conf(&conf)).succeeded();
    }
    assert!(one.link("eth0").is_none() && two.link("eth0").is_none());
}

#[test]
fn a_hardware_address_may_be_asked_for_in_three_places() {
    let world = world!();
    let _daemon = world.daemon();
    let base = network("mac", "mac0", "10.67.0.0/24");
    let args = json!({ "args": { "cni": { "mac": "02:11:22:33:44:02" } } });
    let runtime = json!({
        "args": { "cni": { "mac": "02:11:22:33:44:02" } },
        "runtimeConfig": { "mac": "02:11:22:33:44:03" }
    });
    for (conf, last) in
        [(base.clone(), "01"), (with(&base, args), "02"), (with(&base, runtime), "03")]
    {
        let container = world.container();
        let add = Call::add("c1", &container).conf(&conf).var("CNI_ARGS", "MAC=02:11:22:33:44:01");
        let result = world.call(add).succeeded();
        let wanted = format!("02:11:22:33:44:{last}");
        assert_eq!(result["interfaces"][2]["mac"], wanted.as_str());
        assert_eq!(container.link("eth0").expect("eth0")["address"], wanted.as_str());
        world.call(check(&conf, &container, &result)).succeeded();
        world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    }
    let container = world.container();
    let add = Call::add("c1", &container).conf(&base);
    let said = world.call(add.clone().var("CNI_ARGS", "MAC=01:00:5e:00:00:01")).failed_with(4);
    assert!(said.contains("01:00:5e:00:00:01") && said.contains("CNI_ARGS"), "{said}");
    let conf = with(&base, json!({ "runtimeConfig": { "mac": "junk" } }));
    let said = world.call(add.conf(&conf)).failed_with(INVALID_CONFIG);
    assert!(said.contains("junk") && said.contains("runtimeConfig.mac"), "{said}");
}

#[test]
fn vlans_that_cannot_be_are_refused_before_anything_is_made() {
    let world = world!();
    let _daemon = world.daemon();
    for (keys, named) in [
        (json!({ "vlan": -1 }), "vlan -1"),
        (json!({ "vlan": 4095 }), "vlan 4095"),
        (json!({ "vlanTrunk": [{ "minID": 9, "maxID": 3 }] }), "minID 9"),
        (json!({ "vlanTrunk": [{ "minID": 9 }] }), "minID 9"),
        (json!({ "vlanTrunk": [{ "maxID": 9 }] }), "maxID 9"),
        (json!({ "vlanTrunk": [{ "id": 0 }] }), "id 0"),
        (json!({ "vlanTrunk": [{ "id": 4095 }] }), "id 4095"),
    ] {
        refused(&world, &switch("vlan0", keys), INVALID_CONFIG, named);
    }
}

#[test]
fn vlans_are_set_or_the_kernel_is_named_that_cannot() {
    let world = world!();
    let _daemon = world.daemon_that_mends_nothing();
    let conf = switch("vlan1", json!({ "vlan": 100, "vlanTrunk": [{ "minID": 10, "maxID": 12 }] }));
    let probe = "link add probe type bridge vlan_filtering 1";
    let can =
        world.host.command("ip").args(probe.split(' ')).output().expect("ip").status.success();
    let routed = with(&network("vlan2", "vlan2", "10.68.0.0/24"), json!({ "vlan": 100 }));
    if !can {
        refused(&world, &routed, NOT_SUPPORTED, "CONFIG_BRIDGE_VLAN_FILTERING");
        assert!(world.host.link("vlan2.100").is_none());
        return refused(&world, &conf, NOT_SUPPORTED, "CONFIG_BRIDGE_VLAN_FILTERING");
    }
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&routed)).succeeded();
    assert_eq!(result["interfaces"][3]["name"], "vlan2.100");
    assert_eq!(world.host.addresses("vlan2.100", 4), ["10.68.0.1/24"]);
    assert!(ping(&container, "10.68.0.1", PATIENCE));
    world.call(check(&routed, &container, &result)).succeeded();
    world.host.ip("address del 10.68.0.1/24 dev vlan2.100");
    let said = world.call(check(&routed, &container, &result)).failed_with(CHECK_FAILED);
    assert!(said.contains("vlan2.100 has lost the address"), "{said}");

    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let text = world.host.output("bridge", &format!("-j vlan show dev {}", port(&result)));
    let shown: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        shown[0]["vlans"],
        json!([{ "vlan": 10, "vlanEnd": 12 }, { "vlan": 100, "flags": ["PVID", "Egress Untagged"] }])
    );
    world.call(check(&conf, &container, &result)).succeeded();
    world.host.output("bridge", &format!("vlan add vid 13 dev {}", port(&result)));
    let said = world.call(check(&conf, &container, &result)).failed_with(CHECK_FAILED);
    assert!(said.contains("VLANs 10-13, 100 (100 untagged)"), "{said}");
}
