//! `CNI_NETNS_OVERRIDE`: an interface in the host's own network namespace, both ends of whose pair are there.

use serde_json::{Value, json};

use crate::ipam_requested::addresses;
use crate::support::chain::Chain;
use crate::support::conf::{network, with};
use crate::support::inventory::{Inventory, veths};
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::traffic::PATIENCE;
use crate::support::world::World;

/// No default route, which would be the host's own.
fn conf() -> Value {
    let none = json!({ "ipam": { "routes": null } });
    with(&network("within", "within0", "10.175.0.0/24"), none)
}

fn of_host(world: &World, verb: &str, name: &str) -> Call {
    Call::attachment(verb, name, &world.host).ifname(name)
}

#[test]
fn an_interface_in_the_hosts_own_namespace_lives_as_any_other() {
    let world = world!();
    let daemon = world.daemon();
    let container = world.container();
    let first = world.call(Call::add("first", &container).conf(&conf())).succeeded();
    let before = Inventory::of(&world.host);
    for (name, said) in [("one", "1"), ("two", "true"), ("three", "TRUE")] {
        let call = |verb: &str| of_host(&world, verb, name).var("CNI_NETNS_OVERRIDE", said);
        let result = world.call(call("ADD").conf(&conf())).succeeded();
        let given = addresses(&result);
        assert_eq!(world.host.addresses(name, 4), given, "{result}");
        assert_eq!(result["interfaces"][2]["sandbox"], world.host.text());
        let port = result["interfaces"][1]["name"].as_str().expect("a name");
        let ends = [name, port].map(|end| world.host.link(end).expect("it is there"));
        assert_eq!((&ends[0]["link"], &ends[1]["master"]), (&json!(port), &json!("within0")));
        assert_ne!(ends[0]["ifindex"], ends[1]["ifindex"], "two ends, two indexes");
        assert!(ping(&container, given[0].split('/').next().expect("an address"), PATIENCE));
        let check = with(&conf(), json!({ "prevResult": result }));
        world.call(call("CHECK").conf(&check)).succeeded();
        world.call(of_host(&world, "CHECK", name).conf(&check)).failed_with(8);
        world.call(call("ADD").conf(&conf())).failed_with(101);
    }
    // The next daemon knows them, and leaves the host's other interfaces alone.
    daemon.kill();
    let _daemon = world.daemon();
    assert_eq!(veths(&world.host).len(), 7, "{:?}", veths(&world.host));
    for name in ["one", "two", "three"] {
        world.call(of_host(&world, "DEL", name).conf(&conf())).succeeded();
        assert!(world.host.link(name).is_none(), "{name}");
    }
    before.assert_same(&Inventory::of(&world.host), "after DEL");
    let own = addresses(&first)[0].split('/').next().expect("an address").to_owned();
    assert!(ping(&world.host, &own, PATIENCE));
}

#[test]
fn an_add_that_fails_there_leaves_nothing() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    world.call(Call::add("first", &container).conf(&conf())).succeeded();
    let before = Inventory::of(&world.host);
    let call = |name: &str| of_host(&world, "ADD", name).var("CNI_NETNS_OVERRIDE", "1");
    world.call(call("uplink").conf(&conf())).failed_with(101);
    // A next hop that is not on the link.
    let route = json!({ "dst": "198.51.100.0/24", "gw": "203.0.113.9" });
    let routed = with(&conf(), json!({ "ipam": { "routes": [route] } }));
    world.call(call("one").conf(&routed)).failed();
    before.assert_same(&Inventory::of(&world.host), "after two failures");
}

#[test]
fn later_plugins_of_a_chain_set_it_up() {
    let world = world!();
    let _daemon = world.daemon();
    let list = json!({ "cniVersion": "1.0.0", "name": "chained", "plugins": [
        { "type": "bridge", "bridge": "chained0", "isGateway": true,
          "ipam": { "type": "host-local", "subnet": "10.176.0.0/24" } },
        { "type": "tuning", "mtu": 1400, "mac": "02:00:00:00:00:77" }
    ] });
    let chain = Chain::new(&list.to_string()).overriding();
    let result = chain.add(&world, "eth0", &world.host);
    let link = world.host.link("eth0").expect("it is there");
    assert_eq!((&link["mtu"], &link["address"]), (&json!(1400), &json!("02:00:00:00:00:77")));
    for checked in chain.check(&world, "eth0", &world.host, &result) {
        checked.succeeded();
    }
    chain.del(&world, "eth0", &world.host, Some(&result));
    assert!(world.host.link("eth0").is_none());
}
