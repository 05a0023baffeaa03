//! What others do to our things in the kernel, and what the next ADD or DEL makes of it.

use serde_json::json;

use crate::spec_add::address;
use crate::spec_del::fill_and_empty;
use crate::support::conf::{network, with};
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, tcp_answers, udp_answers};
use crate::support::world::OUTSIDE;

#[test]
fn a_flushed_ruleset_comes_back_with_the_next_add() {
    let world = world!();
    let _daemon = world.daemon_that_mends_nothing();
    let conf = network("flushed", "flushed0", "10.81.0.0/29");
    let (old, new) = (world.container(), world.container());
    world.call(Call::add("old", &old).conf(&conf)).succeeded();
    let _outside = Echo::serve(&world.outside, OUTSIDE);
    assert!(udp_answers(&old, OUTSIDE, PATIENCE), "before");
    world.host.output("nft", "flush ruleset");
    world.call(Call::add("new", &new).conf(&conf)).succeeded();
    // A new connection: the old one is masqueraded by what the kernel remembers of it.
    assert!(tcp_answers(&new, OUTSIDE, PATIENCE), "the new container");
    assert!(tcp_answers(&old, OUTSIDE, PATIENCE), "the old container");
}

#[test]
fn a_del_after_a_flush_is_whole() {
    let world = world!();
    let _daemon = world.daemon_that_mends_nothing();
    let conf = network("gone", "gone0", "10.82.0.0/29");
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    world.host.output("nft", "flush ruleset");
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    assert!(container.link("eth0").is_none());
    fill_and_empty(&world, &conf, 5);
}

#[test]
fn a_deleted_bridge_is_made_again() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("rebuilt", "rebuilt0", "10.83.0.0/24");
    let (old, new) = (world.container(), world.container());
    world.call(Call::add("old", &old).conf(&conf)).succeeded();
    world.host.ip("link del rebuilt0");
    world.call(Call::add("new", &new).conf(&conf)).succeeded();
    assert!(ping(&new, "10.83.0.1", PATIENCE), "the gateway is back");
    world.call(Call::del("old", &old).conf(&conf)).succeeded();
}

#[test]
fn a_gateway_forwards() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("forward", "forward0", "10.84.0.0/24");
    let container = world.container();
    let forwards = || world.host.output("cat", "/proc/sys/net/ipv4/ip_forward").trim().to_owned();
    assert_eq!(forwards(), "0", "a new namespace does not");
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!(forwards(), "1");
}

#[test]
fn a_late_del_leaves_the_addresss_next_owner_alone() {
    let world = world!();
    let _daemon = world.daemon();
    // One address only: whoever comes next gets it.
    let conf = network("late", "late0", "10.85.0.0/30");
    let (first, second) = (world.container(), world.container());
    let given = address(&world.call(Call::add("first", &first).conf(&conf)).succeeded());
    world.call(Call::del("first", &first).conf(&conf)).succeeded();
    let result = world.call(Call::add("second", &second).conf(&conf)).succeeded();
    assert_eq!(address(&result), given, "the only address there is");
    for _ in 0..3 {
        world.call(Call::del("first", &first).conf(&conf)).succeeded();
    }
    let check = with(&conf, json!({ "prevResult": result }));
    world.call(Call::check("second", &second).conf(&check)).succeeded();
    let _outside = Echo::serve(&world.outside, OUTSIDE);
    assert!(udp_answers(&second, OUTSIDE, PATIENCE), "masquerade of the next owner");
}

#[test]
fn one_container_is_in_two_networks_with_a_default_route_each() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let (one, two) =
        (network("one", "one0", "10.86.0.0/24"), network("two", "two0", "10.87.0.0/24"));
    world.call(Call::add("c1", &container).conf(&one)).succeeded();
    world.call(Call::add("c1", &container).ifname("eth1").conf(&two)).succeeded();
    assert!(ping(&container, "10.86.0.1", PATIENCE) && ping(&container, "10.87.0.1", PATIENCE));
    world.call(Call::del("c1", &container).ifname("eth1").conf(&two)).succeeded();
    assert!(ping(&container, "10.86.0.1", PATIENCE));
    let _outside = Echo::serve(&world.outside, OUTSIDE);
    assert!(udp_answers(&container, OUTSIDE, PATIENCE), "by the default route that is left");
}
