//! A gateway that moves, and networks that share a bridge: no address has two owners, whoever defines it.

use serde_json::{Value, json};

use crate::ipam_requested::add;
use crate::spec_add::address;
use crate::support::conf::{network, with};
use crate::support::netns::Netns;
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::traffic::PATIENCE;
use crate::support::world::World;

const INVALID_CONFIG: u64 = 7;

/// A /29 whose gateway is this one.
fn of(name: &str, gateway: &str) -> Value {
    let keys = json!({ "forceAddress": true, "ipam": { "gateway": gateway } });
    with(&network(name, "gate0", "10.113.0.0/29"), keys)
}

fn asking(conf: &Value, ip: &str) -> Value {
    with(conf, json!({ "args": { "cni": { "ips": [ip] } } }))
}

fn attach(world: &World, id: &str, conf: &Value) -> (Netns, String) {
    let container = world.container();
    let own = address(&world.call(Call::add(id, &container).conf(conf)).succeeded());
    (container, own)
}

#[test]
fn a_gateway_does_not_move_onto_a_container() {
    let world = world!();
    let mut daemon = world.daemon();
    let (a, own) = attach(&world, "a", &of("n", "10.113.0.1"));
    assert_eq!(own, "10.113.0.2");
    for name in ["n", "other", "n"] {
        let said = add(&world, "b", &of(name, "10.113.0.2"), "").failed_with(INVALID_CONFIG);
        assert!(said.contains("10.113.0.2") && said.contains("n/a/eth0"), "{said}");
        assert_eq!(world.host.addresses("gate0", 4), ["10.113.0.1/29"]);
        assert!(ping(&a, "10.113.0.1", PATIENCE));
        daemon.kill();
        daemon = world.daemon();
    }
    // As soon as that one is gone.
    world.call(Call::del("a", &a).conf(&of("n", "10.113.0.1"))).succeeded();
    let (c, _) = attach(&world, "c", &of("n", "10.113.0.2"));
    assert!(ping(&c, "10.113.0.2", PATIENCE));
}

#[test]
fn what_living_containers_have_as_their_gateway_is_not_handed_out() {
    let world = world!();
    let daemon = world.daemon();
    let (a, _) = attach(&world, "a", &of("n", "10.113.0.1"));
    let moved = of("n", "10.113.0.6");
    let (_b, own) = attach(&world, "b", &moved);
    assert_eq!(own, "10.113.0.3", "10.113.0.1 is free otherwise");
    let said = add(&world, "c", &asking(&moved, "10.113.0.1"), "").failed_with(INVALID_CONFIG);
    assert!(said.contains("gateway of n/a/eth0"), "{said}");
    daemon.kill();
    let _daemon = world.daemon();
    let held: Vec<_> = (0..2).map(|n| attach(&world, &format!("d{n}"), &moved)).collect();
    assert!(held.iter().all(|(_, own)| own != "10.113.0.1"), "{held:?}");
    add(&world, "e", &moved, "").failed_with(INVALID_CONFIG);
    // When nobody has it any more it is an address as others are.
    world.call(Call::del("a", &a).conf(&moved)).succeeded();
    let mut last: Vec<_> = (0..2).map(|n| attach(&world, &format!("f{n}"), &moved)).collect();
    last.sort_by(|one, two| one.1.cmp(&two.1));
    assert_eq!((last[0].1.as_str(), last[1].1.as_str()), ("10.113.0.1", "10.113.0.2"));
}

#[test]
fn networks_of_one_bridge_never_hand_out_one_address() {
    let world = world!();
    let daemon = world.daemon();
    // One that was renamed has the containers of before still.
    let names = ["n", "renamed", "third"];
    let conf = |n: usize| of(names[n % 3], "10.113.0.1");
    let mut held: Vec<_> = (0..2).map(|n| attach(&world, &format!("c{n}"), &conf(n))).collect();
    let said = add(&world, "thief", &asking(&conf(2), "10.113.0.2"), "");
    let said = said.failed_with(INVALID_CONFIG);
    assert!(said.contains("held by n/c0/eth0"), "{said}");
    daemon.kill();
    let _daemon = world.daemon();
    held.extend((2..5).map(|n| attach(&world, &format!("c{n}"), &conf(n))));
    let mut given: Vec<&str> = held.iter().map(|(_, own)| own.as_str()).collect();
    given.sort_unstable();
    assert_eq!(given, ["10.113.0.2", "10.113.0.3", "10.113.0.4", "10.113.0.5", "10.113.0.6"]);
    for n in 0..3 {
        add(&world, "late", &conf(n), "").failed_with(INVALID_CONFIG);
    }
    // What one network gives back another one has.
    world.call(Call::del("c0", &held[0].0).conf(&conf(0))).succeeded();
    let (_late, own) = attach(&world, "late", &conf(1));
    assert_eq!(own, held[0].1);
}
