//! DEL: takes everything away, needs next to nothing, and never fails for what is gone already.

use std::path::{Path, PathBuf};
use std::time::Duration;

use quantum_config::wire::SOCKET_VARIABLE;
use serde_json::json;

use crate::spec_add::address;
use crate::support::conf::{example, network, with};
use crate::support::eventually::{eventually, eventually_within};
use crate::support::inventory::{Inventory, nft_elements, veths};
use crate::support::plugin::Call;
use crate::support::world::World;

/// Attaches one container that stays, so that bridge and tables are there, and gives what is there
/// then.
fn with_a_neighbour(world: &World, neighbour: &crate::support::netns::Netns) -> Inventory {
    world.call(Call::add("neighbour", neighbour).conf(&example())).succeeded();
    Inventory::of(&world.host)
}

#[test]
fn nothing_is_left() {
    let world = world!();
    let _daemon = world.daemon();
    let (neighbour, container) = (world.container(), world.container());
    // ADD brings the loopback interface up, and nobody takes that back.
    container.ip("link set lo up");
    let empty = Inventory::of(&container);
    let before = with_a_neighbour(&world, &neighbour);
    let elements = nft_elements(&world.host);
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
    assert_eq!(veths(&world.host).len(), 2);
    assert!(nft_elements(&world.host).len() > elements.len(), "masquerade is an nft element");

    world.call(Call::del("c1", &container).conf(&example())).succeeded();
    before.assert_same(&Inventory::of(&world.host), "the host after DEL");
    assert!(container.link("eth0").is_none());
    empty.assert_same(&Inventory::of(&container), "the container after DEL");
}

#[test]
fn a_second_del_succeeds() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
    for _ in 0..3 {
        world.call(Call::del("c1", &container).conf(&example())).succeeded();
    }
}

#[test]
fn what_was_never_added_is_deleted_with_success() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let before = Inventory::of(&world.host);
    world.call(Call::del("c1", &container).conf(&example())).succeeded();
    let unknown = json!({ "cniVersion": "1.0.0", "name": "unknown", "type": "quantum-cni" });
    world.call(Call::del("c1", &container).conf(&unknown)).succeeded();
    before.assert_same(&Inventory::of(&world.host), "the host after DELs of nothing");
}

#[test]
fn the_address_is_free_again() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("small", "small0", "10.4.4.0/29");
    fill_and_empty(&world, &conf, 5);
    fill_and_empty(&world, &conf, 5);
}

/// Attaches `room` containers, sees the pool exhausted, and detaches them all.
#[track_caller]
pub(crate) fn fill_and_empty(world: &World, conf: &serde_json::Value, room: usize) {
    let containers: Vec<_> = (0..=room).map(|_| world.container()).collect();
    let mut given: Vec<String> = (0..room)
        .map(|n| {
            let add = Call::add(&format!("fill{n}"), &containers[n]);
            address(&world.call(add.conf(conf)).succeeded())
        })
        .collect();
    given.sort();
    given.dedup();
    assert_eq!(given.len(), room, "addresses are distinct: {given:?}");
    let one_more = Call::add("one-more", &containers[room]).conf(conf);
    world.call(one_more).failed_with(7);
    for (n, container) in containers.iter().take(room).enumerate() {
        world.call(Call::del(&format!("fill{n}"), container).conf(conf)).succeeded();
    }
}

#[test]
fn a_name_is_all_the_configuration_it_needs() {
    let world = world!();
    let _daemon = world.daemon();
    let (neighbour, container) = (world.container(), world.container());
    let before = with_a_neighbour(&world, &neighbour);
    let bare = json!({ "cniVersion": "1.0.0", "name": "quantum-bridge", "type": "quantum-cni" });
    let changed = with(&example(), json!({ "bridge": "other0", "ipMasq": false, "vlan": 7 }));
    // An operator's typing error must not keep what is there already from being deleted.
    let wrong = with(&example(), json!({ "mtu": "many", "ipam": 3, "prevResult": "none" }));
    for conf in [bare, changed, wrong] {
        world.call(Call::add("c1", &container).conf(&example())).succeeded();
        world.call(Call::del("c1", &container).conf(&conf)).succeeded();
        before.assert_same(&Inventory::of(&world.host), &format!("DEL with {conf}"));
    }
}

#[test]
fn the_namespace_may_be_unset_gone_or_something_else() {
    let world = world!();
    let _daemon = world.daemon();
    let neighbour = world.container();
    let before = with_a_neighbour(&world, &neighbour);
    let file = world.paths().root.join("plain");
    std::fs::write(&file, "").expect("a plain file");
    let file = file.to_str().expect("UTF-8").to_owned();
    for netns in ["", "/run/netns/long-gone", &file] {
        let container = world.container();
        world.call(Call::add("c1", &container).conf(&example())).succeeded();
        let del = Call::del("c1", &container).var("CNI_NETNS", netns);
        world.call(del.conf(&example())).succeeded();
        before.assert_same(&Inventory::of(&world.host), &format!("DEL with CNI_NETNS={netns:?}"));
    }
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
    let del = Call::del("c1", &container).without("CNI_NETNS");
    world.call(del.conf(&example())).succeeded();
    before.assert_same(&Inventory::of(&world.host), "DEL without CNI_NETNS");
}

#[test]
fn a_container_that_died_is_deleted() {
    let world = world!();
    let _daemon = world.daemon();
    let (neighbour, container) = (world.container(), world.container());
    let before = with_a_neighbour(&world, &neighbour);
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
    let del = Call::del("c1", &container).conf(&example());
    drop(container);
    world.call(del).succeeded();
    before.assert_same(&Inventory::of(&world.host), "DEL after the namespace died");
}

#[test]
fn without_a_daemon_it_leaves_a_tombstone_that_is_carried_out_later() {
    let world = world!();
    let daemon = world.daemon();
    let (neighbour, container) = (world.container(), world.container());
    let before = with_a_neighbour(&world, &neighbour);
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
    daemon.kill();

    for _ in 0..2 {
        let outcome = world.call(Call::del("c1", &container).conf(&example()));
        outcome.succeeded();
        assert!(outcome.took < Duration::from_secs(2), "{outcome:?}");
        assert_eq!(world.tombstones().len(), 1, "one for each attachment: {outcome:?}");
    }
    assert!(container.link("eth0").is_some(), "nobody was there to take it away");

    let _daemon = world.daemon();
    assert_eq!(world.tombstones(), Vec::<String>::new());
    before.assert_same(&Inventory::of(&world.host), "the host after the replay");
    assert!(container.link("eth0").is_none());
    // The key is free: it can be attached anew.
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
}

#[test]
fn a_tombstone_takes_away_what_was_there_and_not_what_came_later() {
    let world = world!();
    let _daemon = world.daemon();
    let (early, late) = (world.container(), world.container());
    for (name, container) in [("early", &early), ("late", &late)] {
        world.call(Call::add(name, container).conf(&example())).succeeded();
        // The daemon is there, but these calls cannot reach it.
        let del = Call::del(name, container).var(SOCKET_VARIABLE, "/nonexistent/cni.sock");
        world.call(del.conf(&example())).succeeded();
    }
    assert_eq!(world.tombstones().len(), 2);
    // The runtime tries again, with success, and starts the container anew.
    world.call(Call::del("late", &late).conf(&example())).succeeded();
    world.call(Call::add("late", &late).conf(&example())).succeeded();
    // A running daemon looks through its spool every ten seconds.
    let carried_out = || world.tombstones().is_empty().then_some(());
    eventually_within(Duration::from_secs(25), "the tombstones to be carried out", carried_out);
    assert!(early.link("eth0").is_none(), "its DEL was carried out");
    assert!(late.link("eth0").is_some(), "it was made after its tombstone was written");
}

#[test]
fn a_broken_tombstone_stops_nothing() {
    let world = world!();
    let daemon = world.daemon();
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
    daemon.kill();
    for (name, bytes) in [("0000000000000000.del", &b"QCNI"[..]), ("0000000000000001.del", b"")] {
        std::fs::create_dir_all(&world.paths().spool_dir).expect("a folder");
        std::fs::write(world.paths().spool_dir.join(name), bytes).expect("a tombstone");
    }
    world.call(Call::del("c1", &container).conf(&example())).succeeded();
    let _daemon = world.daemon();
    assert!(container.link("eth0").is_none(), "the good one was carried out");
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
}

/// The daemon's state is on a disk of its own, of 1 MiB.
pub(crate) fn on_small_disk(world: &World) -> &Path {
    let state = &world.paths().state_dir;
    std::fs::create_dir(state).expect("a folder");
    let small = Some("size=1m,mode=700");
    nix::mount::mount(Some("tmpfs"), state, Some("tmpfs"), nix::mount::MsFlags::empty(), small)
        .expect("a small disk");
    state
}

/// Makes a file that takes all the room there is: nothing fits any more, but into the database's own slack,
/// which is small.
pub(crate) fn fill(state: &Path) -> PathBuf {
    let filler = state.join("filler");
    let mut file = std::fs::File::create(&filler).expect("a file");
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    filler
}

#[test]
fn a_full_disk_does_not_block_a_drain() {
    let world = world!();
    let state = on_small_disk(&world);
    let daemon = world.daemon();
    let conf = network("full", "full0", "10.4.5.0/29");
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let filler = fill(state);
    for n in 0..20 {
        // The log takes a few more changes before it needs room.
        world.call(Call::add(&format!("x{n}"), &world.container()).conf(&conf));
        world.call(Call::del(&format!("x{n}"), &container).conf(&conf));
    }
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    assert!(container.link("eth0").is_none(), "the DEL did what it could");
    std::fs::remove_file(&filler).expect("removed");
    eventually("the daemon to finish the DELs", || {
        let (_, metrics) = daemon.get("/metrics");
        metrics.contains("cni_pool_addresses_held{network=\"full\"} 0").then_some(())
    });
    fill_and_empty(&world, &conf, 5);
    daemon.kill();
    nix::mount::umount(state).expect("unmounted");
}
