//! Our plugin in a chain: what plugins before it made is handed on, what plugins after it change is
//! no difference, and a `prevResult` that cannot be read stops an ADD before it does anything.

use serde_json::{Value, json};

use crate::spec_version::VERSIONS;
use crate::support::conf::{at, example, with};
use crate::support::inventory::Inventory;
use crate::support::plugin::Call;

/// What an imagined plugin before ours answered, in the shape of `version`.
fn before(version: &str) -> Value {
    if version < "0.3" {
        return json!({
            "cniVersion": version,
            "ip6": { "ip": "fd09::2/64", "gateway": "fd09::1", "routes": [{ "dst": "fd0a::/16" }] },
            "dns": { "nameservers": ["192.0.2.53"] }
        });
    }
    let mut ip = json!({ "interface": 1, "address": "10.9.0.2/24", "gateway": "10.9.0.1" });
    if version < "1" {
        ip["version"] = "4".into();
    }
    json!({
        "cniVersion": version,
        "interfaces": [
            { "name": "x0", "mac": "02:00:00:00:00:09" },
            { "name": "net0", "mac": "02:00:00:00:00:0a", "sandbox": "/run/netns/x", "mtu": 1400 }
        ],
        "ips": [ip],
        "routes": [{ "dst": "10.8.0.0/16", "gw": "10.9.0.1", "mtu": 1300 }],
        "dns": { "nameservers": ["192.0.2.53"], "search": ["before.test"] }
    })
}

/// The example without DNS of its own, so that the previous plugin's stays.
fn silent(version: &str) -> Value {
    with(&at(&example(), version), json!({ "dns": null }))
}

#[test]
fn every_version_hands_on_what_was_there_before() {
    let world = world!();
    let _daemon = world.daemon();
    for version in VERSIONS {
        let id = format!("v{version}");
        let (previous, alone) = (before(version), world.container());
        let own = world.call(Call::add(&id, &alone).conf(&silent(version))).succeeded();
        world.call(Call::del(&id, &alone).conf(&silent(version))).succeeded();

        let container = world.container();
        let conf = with(&silent(version), json!({ "prevResult": previous }));
        let result = world.call(Call::add(&id, &container).conf(&conf)).succeeded();
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["dns"], previous["dns"], "{version}");
        if version < "0.3" {
            assert_eq!(result["ip6"], previous["ip6"], "{version}");
            assert_eq!(result["ip4"]["routes"], own["ip4"]["routes"], "{version}");
        } else {
            for key in ["interfaces", "ips", "routes"] {
                let list = |of: &Value| of[key].as_array().cloned().unwrap_or_default();
                let (theirs, all) = (list(&previous), list(&result));
                assert_eq!(
                    all[..theirs.len()],
                    theirs,
                    "{version}: {key} come first, as they were"
                );
                assert_eq!(all.len(), theirs.len() + list(&own).len(), "{version}: {key}");
            }
            assert_eq!(result["ips"][1]["interface"], 4, "{version}: counted on");
            assert_eq!(result["interfaces"][4]["name"], "eth0");
        }
        world.call(Call::del(&id, &container).conf(&conf)).succeeded();
    }
}

#[test]
fn dns_of_the_configuration_replaces_the_previous() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let conf = with(&example(), json!({ "prevResult": before("1.0.0") }));
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!(result["dns"], example()["dns"]);
}

#[test]
fn versions_of_one_family_understand_each_other() {
    let world = world!();
    let _daemon = world.daemon();
    for (said, version) in [
        (None, "0.2.0"),
        (Some("0.1.0"), "0.2.0"),
        (Some("0.3.0"), "0.4.0"),
        (None, "1.0.0"),
        (Some("1.1.0"), "1.0.0"),
    ] {
        let mut previous = before(version);
        previous["cniVersion"] = said.into();
        let mut conf = silent(version);
        conf["prevResult"] = previous;
        let container = world.container();
        let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
        assert_eq!(result["cniVersion"], version);
        world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    }
}

#[test]
fn another_family_or_no_result_is_refused_and_nothing_is_changed() {
    let world = world!();
    let _daemon = world.daemon();
    let dangling =
        json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.9.0.2/24", "interface": 0 }] });
    for (version, previous) in [
        ("1.0.0", before("0.4.0")),
        ("1.1.0", before("0.2.0")),
        ("0.4.0", before("1.0.0")),
        ("0.2.0", before("0.3.1")),
        ("1.0.0", json!({ "cniVersion": "7.0.0" })),
        ("1.0.0", json!("text")),
        ("1.0.0", json!({ "ips": "none" })),
        ("1.0.0", dangling),
    ] {
        let conf = with(&at(&example(), version), json!({ "prevResult": previous }));
        let container = world.container();
        let (host, inside) = (Inventory::of(&world.host), Inventory::of(&container));
        let said = world.call(Call::add("c1", &container).conf(&conf)).failed_with(7);
        assert!(said.contains("prevResult"), "{said}");
        host.assert_same(&Inventory::of(&world.host), "the host");
        inside.assert_same(&Inventory::of(&container), "the container");
        // A DEL does not need it.
        world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    }
}

#[test]
fn the_old_shape_has_no_room_for_two_addresses_of_a_family() {
    let world = world!();
    let _daemon = world.daemon();
    let first = world.container();
    world.call(Call::add("first", &first).conf(&example())).succeeded();
    let before = Inventory::of(&world.host);
    let previous = json!({ "cniVersion": "0.2.0", "ip4": { "ip": "10.9.0.2/24" } });
    let conf = with(&at(&example(), "0.2.0"), json!({ "prevResult": previous }));
    let container = world.container();
    let said = world.call(Call::add("c1", &container).conf(&conf)).failed_with(7);
    assert!(said.contains("does not support more than 1 address per family"), "{said}");
    before.assert_same(&Inventory::of(&world.host), "the host");
    assert!(container.link("eth0").is_none());

    // Nor has it where both are ours.
    let sets = json!([[{ "subnet": "172.20.0.0/16" }], [{ "subnet": "10.4.9.0/24" }]]);
    let conf =
        with(&at(&example(), "0.1.0"), json!({ "ipam": { "subnet": null, "ranges": sets } }));
    let said = world.call(Call::add("c1", &container).conf(&conf)).failed_with(7);
    assert!(said.contains("does not support more than 1 address per family"), "{said}");
    assert!(container.link("eth0").is_none());
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
}

#[test]
fn null_and_empty_are_no_previous_plugin() {
    let world = world!();
    let _daemon = world.daemon();
    for previous in [Value::Null, json!({})] {
        let container = world.container();
        let mut conf = example();
        conf["prevResult"] = previous;
        let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
        assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(3));
        world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    }
}

#[test]
fn check_goes_by_what_the_whole_chain_answered() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let conf = with(&silent("1.1.0"), json!({ "prevResult": before("1.1.0") }));
    let mut result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let check = |result: &Value| {
        let conf = with(&silent("1.1.0"), json!({ "prevResult": result }));
        world.call(Call::check("c1", &container).conf(&conf))
    };
    check(&result).succeeded();
    // As tuning and sbr do: other MTU and MAC, an interface and a route more, our route elsewhere.
    container.ip_batch(
        "link set eth0 mtu 1300\n\
         link set eth0 address 02:00:00:00:00:77\n\
         route add 10.98.0.0/16 via 172.20.0.1\n\
         route del default\n",
    );
    check(&result).failed_with(105); // the result still promises the default route
    result["interfaces"][4]["mtu"] = 1300.into();
    result["interfaces"][4]["mac"] = "02:00:00:00:00:77".into();
    result["interfaces"].as_array_mut().expect("a list").push(json!({ "name": "later0" }));
    let routes = result["routes"].as_array_mut().expect("a list");
    routes.retain(|route| route["dst"] != "0.0.0.0/0");
    routes.push(json!({ "dst": "10.98.0.0/16", "gw": "172.20.0.1" }));
    check(&result).succeeded();
    result["ips"].as_array_mut().expect("a list").pop();
    check(&result).failed_with(105);
    check(&before("0.4.0")).failed_with(7);
}
