//! ADD where something is there already, and ADD that fails half-way: nothing is left of it.

use serde_json::json;

use crate::spec_add::address;
use crate::spec_del::fill_and_empty;
use crate::support::conf::{example, network, with};
use crate::support::inventory::{Inventory, veths};
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::traffic::PATIENCE;

/// The code for an attachment or interface that exists.
const EXISTS: u64 = 101;

#[test]
fn a_living_attachment_is_not_made_again() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
    let (host, inside) = (Inventory::of(&world.host), Inventory::of(&container));
    world.call(Call::add("c1", &container).conf(&example())).failed_with(EXISTS);
    host.assert_same(&Inventory::of(&world.host), "the host after a repeated ADD");
    inside.assert_same(&Inventory::of(&container), "the container after a repeated ADD");
    assert!(ping(&container, "172.20.0.1", PATIENCE));
}

#[test]
fn an_interface_of_that_name_is_left_alone() {
    let world = world!();
    let _daemon = world.daemon();
    let (neighbour, container) = (world.container(), world.container());
    let conf = network("exists", "exists0", "10.6.0.0/29");
    world.call(Call::add("neighbour", &neighbour).conf(&conf)).succeeded();
    // ADD brings the loopback interface up, and nobody takes that back.
    container.ip_batch("link set lo up\nlink add eth0 type veth peer name other\n");
    let (host, inside) = (Inventory::of(&world.host), Inventory::of(&container));
    for _ in 0..3 {
        let said = world.call(Call::add("c1", &container).conf(&conf)).failed_with(EXISTS);
        assert!(said.contains("eth0"), "{said}");
        host.assert_same(&Inventory::of(&world.host), "the host after the refused ADD");
    }
    inside.assert_same(&Inventory::of(&container), "the container after the refused ADD");
    world.call(Call::del("neighbour", &neighbour).conf(&conf)).succeeded();
    fill_and_empty(&world, &conf, 5);
}

#[test]
fn the_loopback_interface_is_nobodys_to_make() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    container.ip("link set lo up");
    let inside = Inventory::of(&container);
    let conf = network("lo", "lo0", "10.6.5.0/24");
    world.call(Call::add("c1", &container).ifname("lo").conf(&conf)).failed_with(EXISTS);
    inside.assert_same(&Inventory::of(&container), "the container after the refused ADD");
    assert_eq!(veths(&world.host), Vec::<String>::new());
}

#[test]
fn a_new_container_under_an_old_name_replaces_it() {
    let world = world!();
    let _daemon = world.daemon();
    let (old, new) = (world.container(), world.container());
    world.call(Call::add("c1", &old).conf(&example())).succeeded();
    let result = world.call(Call::add("c1", &new).conf(&example())).succeeded();
    assert!(old.link("eth0").is_none(), "the old one was taken away");
    assert_eq!(new.addresses("eth0", 4), [format!("{}/16", address(&result))]);
    assert_eq!(veths(&world.host).len(), 1);
    assert!(ping(&new, "172.20.0.1", PATIENCE));

    // The same when the old namespace died, and its link with it.
    drop(new);
    let newest = world.container();
    world.call(Call::add("c1", &newest).conf(&example())).succeeded();
    assert!(ping(&newest, "172.20.0.1", PATIENCE));
    assert_eq!(veths(&world.host).len(), 1);
}

#[test]
fn a_link_that_somebody_deleted_is_made_anew() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&example())).succeeded();
    let port = result["interfaces"][1]["name"].as_str().expect("a name");
    world.host.ip(&format!("link del {port}"));
    let result = world.call(Call::add("c1", &container).conf(&example())).succeeded();
    assert_eq!(container.addresses("eth0", 4), [format!("{}/16", address(&result))]);
    assert!(ping(&container, "172.20.0.1", PATIENCE));
}

#[test]
fn a_route_the_kernel_refuses_leaves_nothing() {
    let world = world!();
    let _daemon = world.daemon();
    let (neighbour, container) = (world.container(), world.container());
    let good = network("half", "half0", "10.6.1.0/29");
    world.call(Call::add("neighbour", &neighbour).conf(&good)).succeeded();
    container.ip("link set lo up");
    let (host, inside) = (Inventory::of(&world.host), Inventory::of(&container));
    // A next hop that is on no link of the container.
    let routes = json!([{ "dst": "0.0.0.0/0" }, { "dst": "10.77.0.0/16", "gw": "10.99.99.99" }]);
    let bad = with(&good, json!({ "ipam": { "routes": routes } }));
    for _ in 0..7 {
        // More often than the pool has addresses: none may be lost.
        let said = world.call(Call::add("c1", &container).conf(&bad)).failed_with(104);
        assert!(said.contains("10.77.0.0/16"), "it says which step: {said}");
    }
    host.assert_same(&Inventory::of(&world.host), "the host after a failed ADD");
    inside.assert_same(&Inventory::of(&container), "the container after a failed ADD");
    world.call(Call::del("neighbour", &neighbour).conf(&good)).succeeded();
    fill_and_empty(&world, &good, 5);
}

#[test]
fn a_bridge_that_is_something_else_is_not_touched() {
    let world = world!();
    let _daemon = world.daemon();
    let (neighbour, container) = (world.container(), world.container());
    // The tables are there from the first attachment on.
    world.call(Call::add("neighbour", &neighbour).conf(&example())).succeeded();
    world.host.ip("link add taken0 type veth peer name taken1");
    container.ip("link set lo up");
    let (host, inside) = (Inventory::of(&world.host), Inventory::of(&container));
    let conf = network("taken", "taken0", "10.6.2.0/24");
    let said = world.call(Call::add("c1", &container).conf(&conf)).failed();
    assert!(format!("{} {}", said.msg, said.details).contains("taken0"), "{said:?}");
    host.assert_same(&Inventory::of(&world.host), "the host after a failed ADD");
    inside.assert_same(&Inventory::of(&container), "the container after a failed ADD");
}

#[test]
fn a_bridge_that_was_there_before_is_used_as_it_is() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    world.host.ip("link add old0 address 02:00:00:00:00:77 type bridge");
    let before = world.host.link("old0").expect("the bridge");
    let conf = network("old", "old0", "10.6.3.0/24");
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let after = world.host.link("old0").expect("the bridge");
    assert_eq!((&before["ifindex"], &before["address"]), (&after["ifindex"], &after["address"]));
    assert!(ping(&container, "10.6.3.1", PATIENCE));
}

#[test]
fn a_bridges_hardware_address_stays() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("steady", "steady0", "10.6.4.0/24");
    let mut seen = Vec::new();
    for n in 0..4 {
        let container = world.container();
        world.call(Call::add(&format!("c{n}"), &container).conf(&conf)).succeeded();
        seen.push(world.host.link("steady0").expect("the bridge")["address"].clone());
        world.call(Call::del(&format!("c{n}"), &container).conf(&conf)).succeeded();
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
}
