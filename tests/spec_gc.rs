//! GC: what the runtime does not list as valid goes; what it lists, and other networks, stay.

use serde_json::{Value, json};

use crate::spec_add::address;
use crate::support::conf::{at, network, with};
use crate::support::inventory::{Inventory, nft_elements, veths};
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::traffic::PATIENCE;

fn conf() -> Value {
    at(&network("collected", "gc0", "10.5.5.0/29"), "1.1.0")
}

/// GC with the containers that are valid, each with `eth0`.
fn gc(valid: &[&str]) -> Call {
    let list: Vec<Value> =
        valid.iter().map(|c| json!({ "containerID": c, "ifname": "eth0" })).collect();
    let list = Value::from(list);
    // libcni writes it twice, under the final name and an older one.
    let keys = json!({ "cni.dev/valid-attachments": list, "cni.dev/attachments": list });
    Call::new("GC").conf(&with(&conf(), keys))
}

#[test]
fn what_is_not_listed_goes_and_the_rest_stays() {
    let world = world!();
    let _daemon = world.daemon();
    let (kept, gone) = (world.container(), world.container());
    let given = address(&world.call(Call::add("kept", &kept).conf(&conf())).succeeded());
    let before = Inventory::of(&world.host);
    world.call(Call::add("gone", &gone).conf(&conf())).succeeded();

    world.call(gc(&["kept", "unheard-of"])).succeeded();
    before.assert_same(&Inventory::of(&world.host), "the host after GC");
    assert!(gone.link("eth0").is_none());
    assert_eq!(kept.addresses("eth0", 4), [format!("{given}/29")]);
    assert!(ping(&kept, "10.5.5.1", PATIENCE));
    // Its record is gone, too: the same key can be attached anew.
    world.call(Call::add("gone", &gone).conf(&conf())).succeeded();
}

#[test]
fn the_interface_counts_and_not_the_container_alone() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf())).succeeded();
    let without_routes = with(&conf(), json!({ "ipam": { "routes": null } }));
    let second = Call::add("c1", &container).ifname("eth1").conf(&without_routes);
    world.call(second).succeeded();
    world.call(gc(&["c1"])).succeeded();
    assert!(container.link("eth0").is_some() && container.link("eth1").is_none());
}

#[test]
fn null_and_the_empty_list_say_that_none_is_valid() {
    let world = world!();
    let _daemon = world.daemon();
    let elements = nft_elements(&world.host);
    for list in [json!([]), Value::Null] {
        let containers: Vec<_> = (0..3).map(|_| world.container()).collect();
        for (n, container) in containers.iter().enumerate() {
            world.call(Call::add(&format!("c{n}"), container).conf(&conf())).succeeded();
        }
        // `with` would take a null member away.
        let mut conf = conf();
        conf["cni.dev/valid-attachments"] = list;
        world.call(Call::new("GC").conf(&conf)).succeeded();
        assert_eq!(veths(&world.host), Vec::<String>::new());
        assert!(containers.iter().all(|c| c.link("eth0").is_none()));
    }
    let left: Vec<_> = nft_elements(&world.host)
        .difference(&elements)
        .filter(|e| (2..7).any(|n| e.contains(&format!("\"10.5.5.{n}\""))))
        .cloned()
        .collect();
    assert_eq!(left, Vec::<String>::new());
    crate::spec_del::fill_and_empty(&world, &conf(), 5);
}

#[test]
fn other_networks_are_not_touched() {
    let world = world!();
    let _daemon = world.daemon();
    let (ours, other) = (world.container(), world.container());
    let elsewhere = network("elsewhere", "else0", "10.6.6.0/24");
    world.call(Call::add("c1", &other).conf(&elsewhere)).succeeded();
    let (ports, elements) = (veths(&world.host), nft_elements(&world.host));
    let inside = Inventory::of(&other);
    world.call(Call::add("c1", &ours).conf(&conf())).succeeded();
    world.call(gc(&[])).succeeded();
    assert!(ours.link("eth0").is_none());
    inside.assert_same(&Inventory::of(&other), "a container of another network");
    assert_eq!(veths(&world.host), ports);
    assert!(nft_elements(&world.host).is_superset(&elements));
    assert!(ping(&other, "10.6.6.1", PATIENCE));
}

#[test]
fn without_a_list_it_is_refused() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf())).succeeded();
    let before = Inventory::of(&world.host);
    world.call(Call::new("GC").conf(&conf())).failed_with(7);
    let bad = with(&conf(), json!({ "cni.dev/valid-attachments": [{ "containerID": "a/b" }] }));
    world.call(Call::new("GC").conf(&bad)).failed_with(7);
    before.assert_same(&Inventory::of(&world.host), "the host after a refused GC");
}

#[test]
fn it_exists_since_1_1_0() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf())).succeeded();
    for version in ["0.4.0", "1.0.0"] {
        let keys = json!({ "cni.dev/valid-attachments": [] });
        let call = Call::new("GC").conf(&with(&at(&conf(), version), keys));
        world.call(call).failed_with(1);
    }
    assert!(container.link("eth0").is_some());
}
