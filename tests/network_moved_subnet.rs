//! A network's subnet that moves to another bridge: the one that nobody is on any more gives it up, so that the host
//! and published ports reach who is there now; where somebody is on it, the ADD is refused and names it.

use serde_json::{Value, json};

use crate::spec_add::address;
use crate::support::conf::{network, with};
use crate::support::eventually::eventually;
use crate::support::inventory::nft_elements;
use crate::support::netns::Netns;
use crate::support::ping::ping;
use crate::support::plugin::{Call, Outcome};
use crate::support::ports::{publishing, tcp};
use crate::support::traffic::{Echo, PATIENCE, PORT};
use crate::support::world::{HOST, World};

const INVALID_CONFIG: u64 = 7;
const NOT_READY: u64 = 50;

fn on(name: &str, bridge: &str) -> Value {
    with(&network(name, bridge, "10.112.0.0/24"), json!({ "cniVersion": "1.1.0" }))
}

fn add(world: &World, id: &str, netns: &Netns, conf: &Value) -> Outcome {
    world.call(Call::add(id, netns).conf(conf))
}

fn delete(world: &World, id: &str, netns: &Netns, conf: &Value) {
    world.call(Call::del(id, netns).conf(conf)).succeeded();
}

/// Attaches a container that is reached from the host and, by a published port, from outside.
fn is_reached(world: &World, id: &str, conf: &Value) -> Netns {
    let container = world.container();
    let conf = publishing(conf, &[("tcp", 8080, PORT, "")]);
    let own = address(&add(world, id, &container, &conf).succeeded());
    let _echo = Echo::serve(&container, &own);
    assert!(tcp(&world.host, &own, PORT, PATIENCE), "from the host");
    assert!(tcp(&world.outside, HOST, 8080, PATIENCE), "from outside");
    container
}

#[test]
fn a_bridge_that_nobody_is_on_gives_the_subnet_up() {
    let world = world!();
    let daemon = world.daemon();
    let before = nft_elements(&world.host);
    let container = world.container();
    add(&world, "a", &container, &on("n", "old0")).succeeded();
    delete(&world, "a", &container, &on("n", "old0"));
    // The network's bridge has another name now.
    let first = is_reached(&world, "b", &on("n", "new0"));
    assert!(world.host.link("old0").is_none());
    delete(&world, "b", &first, &on("n", "new0"));
    // Another network has its subnet, and the daemon does not know of the first one any more.
    daemon.kill();
    let _daemon = world.daemon();
    let second = is_reached(&world, "c", &on("other", "other0"));
    assert!(world.host.link("new0").is_none());
    // And back again.
    delete(&world, "c", &second, &on("other", "other0"));
    let third = is_reached(&world, "d", &on("n", "old0"));
    assert!(world.host.link("other0").is_none());
    delete(&world, "d", &third, &on("n", "old0"));
    let left: Vec<_> =
        nft_elements(&world.host).into_iter().filter(|e| !before.contains(e)).collect();
    let text = format!("{left:?}");
    assert!(!text.contains("new0") && !text.contains("other0"), "{text}");
}

#[test]
fn a_bridge_that_somebody_is_on_keeps_it_and_is_named() {
    let world = world!();
    let _daemon = world.daemon();
    let (on_old, late) = (world.container(), world.container());
    add(&world, "a", &on_old, &on("n", "old0")).succeeded();
    for conf in [on("n", "new0"), on("other", "other0")] {
        let said = add(&world, "b", &late, &conf).failed_with(INVALID_CONFIG);
        assert!(said.contains("old0"), "{said}");
    }
    let status = || world.call(Call::new("STATUS").conf(&on("other", "other0")));
    let said = status().failed_with(NOT_READY);
    assert!(said.contains("old0"), "{said}");
    assert!(ping(&on_old, "10.112.0.1", PATIENCE));
    delete(&world, "a", &on_old, &on("n", "old0"));
    eventually("STATUS to see that nobody is on it any more", || {
        (status().code == Some(0)).then_some(())
    });
    add(&world, "b", &late, &on("other", "other0")).succeeded();
}

#[test]
fn a_bridge_that_is_not_ours_or_that_others_use_stays() {
    let world = world!();
    let _daemon = world.daemon();
    world.host.ip("link add theirs0 type bridge");
    world.host.ip("address add 10.112.0.1/24 dev theirs0");
    world.host.ip("link set theirs0 up");
    let late = world.container();
    let said = add(&world, "a", &late, &on("n", "new0")).failed_with(INVALID_CONFIG);
    assert!(said.contains("theirs0"), "{said}");
    assert_eq!(world.host.addresses("theirs0", 4), ["10.112.0.1/24"]);
    world.host.ip("link del theirs0");
    let container = world.container();
    add(&world, "b", &container, &on("n", "new0")).succeeded();
    world.host.ip("link add plug0 type veth peer name plug1");
    world.host.ip("link set plug0 master new0 up");
    delete(&world, "b", &container, &on("n", "new0"));
    let said = add(&world, "c", &late, &on("n", "third0")).failed_with(INVALID_CONFIG);
    assert!(said.contains("new0"), "{said}");
    assert_eq!(world.host.addresses("new0", 4), ["10.112.0.1/24"]);
}
