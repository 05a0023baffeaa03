//! macspoofchk: frames with a forged hardware address are dropped, by real frames.

use serde_json::{Value, json};

use crate::network_bridge::mac;
use crate::network_keys::port;
use crate::spec_add::address;
use crate::support::conf::{network, with};
use crate::support::netns::Netns;
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::traffic::{PATIENCE, SILENCE};
use crate::support::world::World;

/// The daemon's code for a difference between its record and the kernel.
const CHECK_FAILED: u64 = 105;

/// Only the hardware address is looked at.
fn guarded(name: &str, subnet: &str) -> Value {
    let keys = json!({ "macspoofchk": true, "policy": { "antiSpoof": false } });
    with(&network(name, &format!("{name}0"), subnet), keys)
}

/// From here on the container sends from `mac`, with its addresses and routes as they were.
fn become_known_as(container: &Netns, mac: &str) {
    container.ip(&format!("link set eth0 address {mac}"));
}

/// The rules and elements of our table for bridges.
fn table(world: &World) -> String {
    world.host.output("nft", "list table bridge quantum")
}

#[test]
fn forged_frames_are_dropped_and_genuine_ones_pass() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = guarded("guard", "10.70.0.0/24");
    let (one, two) = (world.container(), world.container());
    let result = world.call(Call::add("c1", &one).conf(&conf)).succeeded();
    let second = world.call(Call::add("c2", &two).conf(&conf)).succeeded();
    let (mac, others) = (mac(&result), mac(&second));
    assert!(ping(&one, "10.70.0.1", PATIENCE) && ping(&one, &address(&second), PATIENCE));
    for forged in ["02:66:66:66:66:66", others] {
        become_known_as(&one, forged);
        assert!(!ping(&one, "10.70.0.1", SILENCE), "the gateway, from {forged}");
        assert!(!ping(&one, &address(&second), SILENCE), "the neighbour, from {forged}");
    }
    become_known_as(&one, mac);
    assert!(ping(&one, "10.70.0.1", PATIENCE), "genuine again");
    assert!(ping(&two, "10.70.0.1", PATIENCE), "the other one all along");

    world.call(Call::del("c1", &one).conf(&conf)).succeeded();
    let rules = table(&world);
    assert!(!rules.contains(port(&result)) && !rules.contains(mac), "{rules}");
    assert!(rules.contains(port(&second)) && rules.contains(others), "{rules}");
}

#[test]
fn check_notices_a_guard_that_is_gone() {
    let world = world!();
    let _daemon = world.daemon_that_mends_nothing();
    let conf = guarded("watch", "10.71.0.0/24");
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let check = with(&conf, json!({ "prevResult": result }));
    world.call(Call::check("c1", &container).conf(&check)).succeeded();
    let of_port = format!("{} . {}", port(&result), mac(&result));
    world.host.output("nft", &format!("delete element bridge quantum genuine {{ {of_port} }}"));
    let said = world.call(Call::check("c1", &container).conf(&check)).failed_with(CHECK_FAILED);
    assert!(said.contains(port(&result)) && said.contains("may send"), "{said}");
}

#[test]
fn a_guard_survives_a_flush_and_a_daemon() {
    let world = world!();
    let daemon = world.daemon_without_own_tables();
    let conf = guarded("stay", "10.72.0.0/24");
    let (old, new) = (world.container(), world.container());
    let result = world.call(Call::add("old", &old).conf(&conf)).succeeded();
    world.host.output("nft", "flush ruleset");
    world.call(Call::add("new", &new).conf(&conf)).succeeded();
    assert!(table(&world).contains(port(&result)), "with the next ADD");
    world.host.output("nft", "delete table bridge quantum");
    drop(daemon);
    let _daemon = world.daemon_without_own_tables();
    assert!(table(&world).contains(port(&result)), "with the next daemon");
    become_known_as(&old, "02:66:66:66:66:66");
    assert!(!ping(&old, "10.72.0.1", SILENCE), "forged");
    assert!(ping(&new, "10.72.0.1", PATIENCE), "genuine");
}

#[test]
fn without_both_keys_nothing_is_looked_at() {
    let world = world!();
    let _daemon = world.daemon();
    let (one, two) = (world.container(), world.container());
    let free = json!({ "policy": { "antiSpoof": false } });
    let conf = with(&network("free", "free0", "10.73.0.0/24"), free);
    world.call(Call::add("c1", &one).conf(&conf)).succeeded();
    let second = world.call(Call::add("c2", &two).conf(&conf)).succeeded();
    become_known_as(&one, "02:66:66:66:66:66");
    assert!(ping(&one, "10.73.0.1", PATIENCE) && ping(&one, &address(&second), PATIENCE));
}
