//! A network that was renamed while containers were attached: containerd then sends DEL with the new
//! name and without `prevResult`. The attachment is found by container and interface, and only it.

use serde_json::{Value, json};

use crate::spec_add::address;
use crate::support::conf::{at, network, with};
use crate::support::inventory::{Inventory, veths};
use crate::support::plugin::Call;

fn conf(name: &str) -> Value {
    at(&network(name, "ren0", "10.7.0.0/29"), "1.1.0")
}

#[test]
fn a_del_finds_it_with_a_namespace_and_without() {
    let world = world!();
    let _daemon = world.daemon();
    // The bridge is there from the first ADD on.
    let first = world.container();
    world.call(Call::add("first", &first).conf(&conf("old"))).succeeded();
    for netns in [true, false] {
        let container = world.container();
        let before = Inventory::of(&world.host);
        world.call(Call::add("c1", &container).conf(&conf("old"))).succeeded();
        let del = Call::del("c1", &container).conf(&conf("new"));
        let del = if netns { del } else { del.var("CNI_NETNS", "") };
        world.call(del.clone()).succeeded();
        assert!(container.link("eth0").is_none());
        before.assert_same(&Inventory::of(&world.host), "the host after DEL by the new name");
        world.call(del).succeeded();
    }
    assert!(first.link("eth0").is_some());
    world.call(Call::del("first", &first).conf(&conf("new"))).succeeded();
    crate::spec_del::fill_and_empty(&world, &conf("old"), 5);
}

#[test]
fn a_daemon_that_was_started_anew_finds_it() {
    let world = world!();
    let daemon = world.daemon();
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf("old"))).succeeded();
    drop(daemon);
    let _daemon = world.daemon();
    world.call(Call::del("c1", &container).conf(&conf("new"))).succeeded();
    assert!(container.link("eth0").is_none());
}

#[test]
fn a_tombstone_finds_it() {
    let world = world!();
    let daemon = world.daemon();
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf("old"))).succeeded();
    drop(daemon);
    world.call(Call::del("c1", &container).conf(&conf("new"))).succeeded();
    assert_eq!(world.tombstones().len(), 1);
    let _daemon = world.daemon();
    assert!(container.link("eth0").is_none());
    assert_eq!(world.tombstones().len(), 0);
}

#[test]
fn check_finds_it() {
    let world = world!();
    let _daemon = world.daemon();
    let (container, stranger) = (world.container(), world.container());
    let result = world.call(Call::add("c1", &container).conf(&conf("old"))).succeeded();
    let conf = with(&conf("new"), json!({ "prevResult": result }));
    world.call(Call::check("c1", &container).conf(&conf)).succeeded();
    world.call(Call::check("c1", &stranger).conf(&conf)).failed_with(105);
    world.call(Call::check("c1", &container).ifname("eth1").conf(&conf)).failed_with(3);
    container.ip("link set eth0 down");
    world.call(Call::check("c1", &container).conf(&conf)).failed_with(105);
}

#[test]
fn the_network_that_is_named_comes_first() {
    let world = world!();
    let _daemon = world.daemon();
    // The same container and interface in two networks: it was started anew in between.
    let (before, now) = (world.container(), world.container());
    let other = network("other", "ren1", "10.7.1.0/29");
    world.call(Call::add("c1", &before).conf(&conf("old"))).succeeded();
    world.call(Call::add("c1", &now).conf(&other)).succeeded();
    // Of two that could be meant, none is.
    world.call(Call::del("c1", &now).conf(&conf("new"))).succeeded();
    assert!(before.link("eth0").is_some() && now.link("eth0").is_some());
    world.call(Call::del("c1", &before).conf(&conf("old"))).succeeded();
    assert!(before.link("eth0").is_none() && now.link("eth0").is_some());
    // The repeated DEL of the one that is gone names another namespace than the other's.
    world.call(Call::del("c1", &before).conf(&conf("old"))).succeeded();
    assert!(now.link("eth0").is_some());
}

#[test]
fn the_other_interfaces_of_a_container_are_not_meant() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let other = network("other", "ren1", "10.7.1.0/29");
    let plain = with(&other, json!({ "ipam": { "routes": null } }));
    world.call(Call::add("c1", &container).conf(&conf("old"))).succeeded();
    world.call(Call::add("c1", &container).ifname("eth1").conf(&plain)).succeeded();
    world.call(Call::del("c1", &container).ifname("eth2").conf(&conf("new"))).succeeded();
    world.call(Call::del("c2", &container).conf(&conf("new"))).succeeded();
    assert_eq!(veths(&world.host).len(), 2);
    world.call(Call::del("c1", &container).conf(&conf("new"))).succeeded();
    assert!(container.link("eth0").is_none() && container.link("eth1").is_some());
}

#[test]
fn the_del_after_an_add_that_failed_means_that_add() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let other = network("other", "ren1", "10.7.1.0/29");
    world.call(Call::add("c1", &container).conf(&conf("old"))).succeeded();
    world.call(Call::add("c1", &container).conf(&other)).failed(); // there is an eth0
    for _ in 0..2 {
        world.call(Call::del("c1", &container).conf(&other)).succeeded();
    }
    assert!(container.link("eth0").is_some(), "of the other network");
}

#[test]
fn gc_goes_by_the_name_alone() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf("old"))).succeeded();
    let gc = |name: &str| {
        let conf = with(&conf(name), json!({ "cni.dev/valid-attachments": [] }));
        world.call(Call::new("GC").conf(&conf)).succeeded();
    };
    gc("new");
    assert_eq!(container.addresses("eth0", 4), [format!("{}/29", address(&result))]);
    gc("old");
    assert!(container.link("eth0").is_none());
}
