//! Subnets that overlap what the host has: a network that would take the host's traffic from somebody else is
//! refused before anything is made, and one that was there before it goes on.

use serde_json::{Value, json};

use crate::support::conf::{network, with};
use crate::support::daemon::log;
use crate::support::docker::Dockerd;
use crate::support::eventually::eventually;
use crate::support::inventory::Inventory;
use crate::support::ping::ping;
use crate::support::plugin::{Call, Outcome};
use crate::support::traffic::PATIENCE;
use crate::support::world::{UPLINK, World};

const INVALID_CONFIG: u64 = 7;

fn add(world: &World, id: &str, conf: &Value) -> Outcome {
    world.call(Call::add(id, &world.container()).conf(conf))
}

/// A network with both families.
fn dual(name: &str, bridge: &str, v4: &str, v6: &str) -> Value {
    let ranges = json!([[{ "subnet": v4 }], [{ "subnet": v6 }]]);
    with(&network(name, bridge, v4), json!({ "ipam": { "subnet": null, "ranges": ranges } }))
}

#[test]
fn what_the_host_sends_to_others_is_not_taken() {
    let world = world!();
    let _daemon = world.daemon();
    for (what, made, taken, names) in [
        (
            "an address",
            "address add 10.88.3.4/24 dev uplink",
            "address del 10.88.3.4/24 dev uplink",
            ["10.88.3.4/24", UPLINK],
        ),
        (
            "a wider link",
            "address add 10.5.0.1/8 dev uplink",
            "address del 10.5.0.1/8 dev uplink",
            ["10.5.0.1/8", UPLINK],
        ),
        (
            "one of lo",
            "address add 10.88.9.9/32 dev lo",
            "address del 10.88.9.9/32 dev lo",
            ["10.88.9.9/32", "lo"],
        ),
        (
            "a part",
            "route add 10.88.7.0/24 via 192.0.2.2",
            "route del 10.88.7.0/24",
            ["10.88.7.0/24", UPLINK],
        ),
        (
            "IPv6",
            "address add fd88::5/48 dev uplink nodad",
            "address del fd88::5/48 dev uplink",
            ["fd88::5/48", UPLINK],
        ),
        (
            "a part of IPv6",
            "-6 route add fd88::7000/116 dev uplink",
            "-6 route del fd88::7000/116",
            ["fd88::7000/116", UPLINK],
        ),
    ] {
        world.host.ip(made);
        // The kernel takes an IPv6 address into use in its own time.
        eventually("the address to be in use", || {
            let local = world.host.output("ip", "-6 route show table local");
            (what != "IPv6" || local.contains("fd88::5")).then_some(())
        });
        let before = Inventory::of(&world.host);
        let conf = dual("taker", "taker0", "10.88.0.0/16", "fd88::/64");
        let said = add(&world, "c1", &conf).failed_with(INVALID_CONFIG);
        for name in names.into_iter().chain(["taker"]) {
            assert!(said.contains(name), "{what}: {name}: {said}");
        }
        before.assert_same(&Inventory::of(&world.host), what);
        world.host.ip(taken);
    }
    // It was only for those.
    let conf = dual("taker", "taker0", "10.88.0.0/16", "fd88::/64");
    add(&world, "c1", &conf).succeeded();
}

#[test]
fn routes_that_lead_further_are_no_reason() {
    let world = world!();
    let daemon = world.daemon();
    world.host.ip_batch(
        "route add 0.0.0.0/1 via 192.0.2.2\n\
         route add 128.0.0.0/1 dev uplink\n\
         route add 10.0.0.0/8 via 192.0.2.2\n\
         address add 169.254.7.7/16 dev uplink\n\
         address add 10.89.0.1/16 dev uplink\n",
    );
    let container = world.container();
    let conf = network("within", "within0", "10.88.0.0/16");
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert!(ping(&container, "10.88.0.1", PATIENCE));
    assert!(daemon.terminate().success());
    let told: Vec<_> = log(world.paths())
        .into_iter()
        .filter(|record| record["level"] == "warning" && record["gateway"] == "10.88.0.1/16")
        .map(|record| record["overlaps"].clone())
        .collect();
    assert_eq!(told, ["the route to 10.0.0.0/8 over uplink"], "once, and not those of everywhere");
}

#[test]
fn a_second_bridge_with_an_overlapping_subnet_is_refused() {
    let world = world!();
    let _daemon = world.daemon();
    let first = dual("first", "first0", "10.88.0.0/24", "fd88::/64");
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&first)).succeeded();
    let before = Inventory::of(&world.host);
    for second in [
        network("second", "second0", "10.88.0.0/24"),
        network("second", "second0", "10.88.0.128/25"),
        network("second", "second0", "10.0.0.0/8"),
        network("second", "second0", "fd88::/80"),
    ] {
        let said = add(&world, "c2", &second).failed_with(INVALID_CONFIG);
        for name in ["network first", "first0", "network second"] {
            assert!(said.contains(name), "{name}: {said}");
        }
    }
    before.assert_same(&Inventory::of(&world.host), "after what was refused");
    // On the same bridge there is no second route.
    add(&world, "c3", &with(&first, json!({ "name": "third" }))).succeeded();
    // The first one's bridge is gone.
    world.host.ip("link del first0");
    add(&world, "c5", &network("second", "second0", "10.88.0.0/24")).succeeded();
}

#[test]
fn of_two_that_come_at_once_one_is_refused() {
    let world = world!();
    let _daemon = world.daemon();
    for round in 0..5 {
        let conf = |n: u32| {
            network(
                &format!("r{round}n{n}"),
                &format!("r{round}n{n}"),
                &format!("10.{round}.0.0/24"),
            )
        };
        let outcomes = std::thread::scope(|scope| {
            let calls = [0, 1].map(|n| {
                let world = &world;
                scope.spawn(move || add(world, &format!("c{n}"), &conf(n)))
            });
            calls.map(|call| call.join().expect("a call"))
        });
        let served = outcomes.iter().filter(|outcome| outcome.code == Some(0)).count();
        assert_eq!(served, 1, "{outcomes:?}");
    }
}

#[test]
fn a_network_that_is_there_goes_on_whatever_came_later() {
    let world = world!();
    let daemon = world.daemon();
    let conf = network("there", "there0", "10.88.0.0/16");
    add(&world, "c1", &conf).succeeded();
    world.host.ip("address add 10.88.3.4/24 dev uplink");
    assert!(daemon.terminate().success());
    let _daemon = world.daemon();
    add(&world, "c2", &conf).succeeded();
}

#[test]
fn docker_is_told_too() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    world.host.ip("address add 10.90.0.77/24 dev uplink");
    let body = crate::support::docker::network(&crate::support::docker::id('a'), 90, json!({}));
    let said = dockerd.refused("NetworkDriver.CreateNetwork", body);
    assert!(said.contains("10.90.0.77/24") && said.contains(UPLINK), "{said}");
    assert!(world.host.link("qd-aaaaaaaaaaaa").is_none());
}

#[test]
fn two_bridges_do_not_have_containers_of_the_same_address() {
    let world = world!();
    let _daemon = world.daemon();
    let switch = |name: &str, range: [&str; 2], posture: &str| {
        let ipam = json!({ "routes": null, "rangeStart": range[0], "rangeEnd": range[1] });
        let keys = json!({ "isGateway": false, "ipMasq": false, "ipam": ipam,
            "policy": { "posture": posture } });
        with(&network(name, &format!("{name}0"), "10.89.0.0/24"), keys)
    };
    let (low, high) = (["10.89.0.2", "10.89.0.99"], ["10.89.0.100", "10.89.0.200"]);
    let container = world.container();
    world.call(Call::add("one", &container).conf(&switch("one", low, "isolated"))).succeeded();
    let before = Inventory::of(&world.host);
    let said = add(&world, "two", &switch("two", low, "zero-trust")).failed_with(INVALID_CONFIG);
    for part in ["network two", "10.89.0.2", "network one on one0"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    before.assert_same(&Inventory::of(&world.host), "after what was refused");
    add(&world, "three", &switch("three", high, "zero-trust")).succeeded();
    let said = add(&world, "four", &network("four", "four0", "10.89.0.0/16"));
    said.failed_with(INVALID_CONFIG);
}
