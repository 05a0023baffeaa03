//! The routes of `ipam` with all their keys: really in the kernel, told by the versions that know
//! them, and looked for by CHECK wherever they are.

use serde_json::{Value, json};

use crate::support::conf::{at, network, with};
use crate::support::netns::Netns;
use crate::support::plugin::Call;

/// The daemon's code for a difference between its record and the kernel.
const CHECK_FAILED: u64 = 105;

/// The one route to `dst` in a table.
#[track_caller]
fn route(container: &Netns, family: &str, dst: &str, table: &str) -> Value {
    let mut found = container.ip_json(&format!("{family} route show {dst} table {table}"));
    assert_eq!(found.len(), 1, "one route to {dst} in table {table}: {found:?}");
    found.remove(0)
}

#[test]
fn every_key_of_a_route_is_applied_and_told() {
    let world = world!();
    let _daemon = world.daemon();
    let routes = json!([
        { "dst": "0.0.0.0/0" },
        { "dst": "10.0.0.0/8", "gw": "10.60.0.7", "mtu": 1400, "advmss": 1300 },
        { "dst": "10.1.0.0/16", "priority": 42, "table": 1000 },
        { "dst": "10.2.0.0/16", "table": 100 },
        { "dst": "10.3.0.0/16", "scope": 253 }
    ]);
    let conf = with(
        &network("routes", "routes0", "10.60.0.0/24"),
        json!({ "cniVersion": "1.1.0", "ipam": { "routes": routes } }),
    );
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!(result["routes"], routes, "as they were configured");

    let lossy = route(&container, "-4", "10.0.0.0/8", "main");
    assert_eq!(lossy["gateway"], "10.60.0.7");
    assert_eq!(lossy["metrics"], json!([{ "mtu": 1400, "advmss": 1300 }]), "{lossy}");
    let far = route(&container, "-4", "10.1.0.0/16", "1000");
    assert_eq!((&far["gateway"], &far["metric"]), (&json!("10.60.0.1"), &json!(42)));
    assert_eq!(route(&container, "-4", "10.2.0.0/16", "100")["gateway"], "10.60.0.1");
    let near = route(&container, "-4", "10.3.0.0/16", "main");
    assert_eq!((&near["scope"], near.get("gateway")), (&json!("link"), None), "{near}");

    let check = with(&conf, json!({ "prevResult": result }));
    world.call(Call::check("c1", &container).conf(&check)).succeeded();
    container.ip("route del 10.1.0.0/16 table 1000");
    let said = world.call(Call::check("c1", &container).conf(&check)).failed_with(CHECK_FAILED);
    assert!(said.contains("10.1.0.0/16"), "{said}");
    container.ip("route add 10.1.0.0/16 via 10.60.0.1 dev eth0 table 1000 metric 42");
    world.call(Call::check("c1", &container).conf(&check)).succeeded();
    // Another plugin of the chain may move a route to a table of its own, if we were told none.
    container.ip("route del default");
    container.ip("route add default via 10.60.0.1 dev eth0 table 77");
    world.call(Call::check("c1", &container).conf(&check)).succeeded();

    for (harm, mends, said) in [
        (
            "change 10.0.0.0/8 via 10.60.0.7 dev eth0 mtu 1300 advmss 1300",
            "change 10.0.0.0/8 via 10.60.0.7 dev eth0 mtu 1400 advmss 1300",
            "10.0.0.0/8 in the container has mtu 1300 instead of 1400",
        ),
        (
            "change 10.0.0.0/8 via 10.60.0.7 dev eth0 mtu 1400",
            "change 10.0.0.0/8 via 10.60.0.7 dev eth0 mtu 1400 advmss 1300",
            "10.0.0.0/8 in the container has advmss none instead of 1300",
        ),
        (
            "del 10.2.0.0/16 table 100",
            "add 10.2.0.0/16 via 10.60.0.1 dev eth0 table 100",
            "10.2.0.0/16 is gone",
        ),
        (
            "change 10.3.0.0/16 dev eth0 scope host",
            "change 10.3.0.0/16 dev eth0 scope link",
            "10.3.0.0/16 in the container has scope 254 instead of 253",
        ),
    ] {
        container.ip(&format!("route {harm}"));
        let text = world.call(Call::check("c1", &container).conf(&check)).failed_with(CHECK_FAILED);
        assert!(text.contains(said), "{harm}: {text}");
        container.ip(&format!("route {mends}"));
        world.call(Call::check("c1", &container).conf(&check)).succeeded();
    }
    container.ip("route add 10.1.0.0/16 via 10.60.0.1 dev eth0 table 1000 metric 43");
    container.ip("route del 10.1.0.0/16 table 1000 metric 42");
    let text = world.call(Call::check("c1", &container).conf(&check)).failed_with(CHECK_FAILED);
    assert!(text.contains("priority 43 instead of 42"), "{text}");
}

#[test]
fn versions_before_1_1_are_told_destination_and_next_hop() {
    let world = world!();
    let _daemon = world.daemon();
    let routes = json!([{ "dst": "10.0.0.0/8", "gw": "10.61.0.7", "mtu": 1400, "priority": 3 }]);
    let conf =
        with(&network("told", "told0", "10.61.0.0/24"), json!({ "ipam": { "routes": routes } }));
    let told = json!([{ "dst": "10.0.0.0/8", "gw": "10.61.0.7" }]);
    for (version, at_path) in [("0.2.0", "/ip4/routes"), ("0.4.0", "/routes"), ("1.0.0", "/routes")]
    {
        let container = world.container();
        let call = Call::add(&format!("v{version}"), &container).conf(&at(&conf, version));
        let result = world.call(call).succeeded();
        assert_eq!(result.pointer(at_path), Some(&told), "{version}: {result}");
        assert_eq!(route(&container, "-4", "10.0.0.0/8", "main")["metric"], 3, "{version}");
    }
}

#[test]
fn a_destination_may_have_several_next_hops() {
    let world = world!();
    let _daemon = world.daemon();
    let ranges = json!([[{ "subnet": "10.62.0.0/24" }], [{ "subnet": "fd00:62::/64" }]]);
    let routes = json!([
        { "dst": "10.0.0.0/8", "gw": "10.62.0.7" }, { "dst": "10.0.0.0/8", "gw": "10.62.0.8" },
        { "dst": "fd77::/64", "gw": "fd00:62::7" }, { "dst": "fd77::/64", "gw": "fd00:62::8" }
    ]);
    let conf = with(
        &network("several", "several0", "10.62.0.0/24"),
        json!({ "ipam": { "subnet": null, "ranges": ranges, "routes": routes } }),
    );
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let found = container.ip_json("-4 route show 10.0.0.0/8");
    let hops: Vec<_> = found.iter().map(|r| r["gateway"].as_str().expect("a next hop")).collect();
    assert_eq!(hops, ["10.62.0.7", "10.62.0.8"], "the first one counts");
    let found = route(&container, "-6", "fd77::/64", "main");
    assert_eq!(found["nexthops"].as_array().map(Vec::len), Some(2), "one route by both: {found}");

    let check = with(&conf, json!({ "prevResult": result }));
    world.call(Call::check("c1", &container).conf(&check)).succeeded();
    container.ip("-6 route del fd77::/64 via fd00:62::8");
    let said = world.call(Call::check("c1", &container).conf(&check)).failed_with(CHECK_FAILED);
    assert!(said.contains("fd77::/64"), "{said}");
}

#[test]
fn a_route_goes_by_the_gateway_of_its_family() {
    let world = world!();
    let _daemon = world.daemon();
    let ranges = json!([[{ "subnet": "10.63.0.0/24" }], [{ "subnet": "fd00:63::/64" }]]);
    let routes = json!([{ "dst": "203.0.113.0/24" }, { "dst": "2001:db8:7::/48" }]);
    let conf = with(
        &network("family", "family0", "10.63.0.0/24"),
        json!({ "isDefaultGateway": true, "ipam": { "subnet": null, "ranges": ranges, "routes": routes } }),
    );
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    for (family, dst, gateway) in [
        ("-4", "203.0.113.0/24", "10.63.0.1"),
        ("-4", "default", "10.63.0.1"),
        ("-6", "2001:db8:7::/48", "fd00:63::1"),
        ("-6", "default", "fd00:63::1"),
    ] {
        assert_eq!(route(&container, family, dst, "main")["gateway"], gateway);
    }
}

#[test]
fn a_route_that_cannot_be_is_code_7_before_anything_is_made() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    for (bad, named) in [
        (json!({ "dst": "10.0.0.0/8", "scope": 300 }), "scope 300"),
        (json!({ "dst": "10.0.0.0/8", "mtu": 3 }), "mtu 3"),
        (json!({ "dst": "10.0.0.0/8", "table": -4 }), "table -4"),
    ] {
        let base = network("bad", "bad0", "10.64.0.0/24");
        let conf = with(&base, json!({ "ipam": { "routes": [bad] } }));
        let said = world.call(Call::add("c1", &container).conf(&conf)).failed_with(7);
        assert!(said.contains(named) && said.contains("10.0.0.0/8"), "{said}");
    }
    assert!(world.host.link("bad0").is_none(), "no bridge");
}
