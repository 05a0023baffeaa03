//! The daemon stopped, killed and started again: it knows every attachment, gives no address twice,
//! sweeps what has no record, and nothing in the containers is disturbed by any of it.

use serde_json::{Value, json};

use crate::spec_add::address;
use crate::spec_del::fill_and_empty;
use crate::support::conf::{example, network, with};
use crate::support::daemon::{Daemon, Options};
use crate::support::eventually::eventually;
use crate::support::inventory::{Inventory, nft_elements, veths};
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, Steady};
use crate::support::world::{OUTSIDE, World};

/// The link group that marks what is ours, the ASCII letters "qcni".
const GROUP: u32 = 0x7163_6e69;

/// Attaches `count` containers to the example network.
fn attach(world: &World, count: usize) -> Vec<(Netns, Value)> {
    (0..count)
        .map(|n| {
            let container = world.container();
            let add = Call::add(&format!("c{n}"), &container).conf(&example());
            let result = world.call(add).succeeded();
            (container, result)
        })
        .collect()
}

/// The daemon knows these attachments, and gives their addresses to nobody else.
fn assert_known(world: &World, attached: &[(Netns, Value)]) {
    for (n, (container, result)) in attached.iter().enumerate() {
        let name = format!("c{n}");
        let conf = with(&example(), json!({ "prevResult": result }));
        world.call(Call::check(&name, container).conf(&conf)).succeeded();
        world.call(Call::add(&name, container).conf(&example())).failed_with(101);
    }
    let taken: Vec<String> = attached.iter().map(|(_, result)| address(result)).collect();
    for n in 0..3 {
        let container = world.container();
        let add = Call::add(&format!("new{n}"), &container).conf(&example());
        let given = address(&world.call(add).succeeded());
        assert!(!taken.contains(&given), "{given} was given twice");
        world.call(Call::del(&format!("new{n}"), &container).conf(&example())).succeeded();
    }
}

/// Ends the daemon by `end` and starts it again under traffic between containers and to the outside.
fn is_not_felt(world: World, end: impl Fn(Daemon)) {
    let daemon = world.daemon();
    let attached = attach(&world, 3);
    let host = Inventory::of(&world.host);
    let inside = Inventory::of(&attached[0].0);
    let second = address(&attached[1].1);
    let _neighbour = Echo::serve(&attached[1].0, &second);
    let _outside = Echo::serve(&world.outside, OUTSIDE);
    let between = Steady::start(&attached[0].0, &second);
    let beyond = Steady::start(&attached[2].0, OUTSIDE);

    end(daemon);
    host.assert_same(&Inventory::of(&world.host), "the host without a daemon");
    let so_far = (between.answered(), beyond.answered());
    eventually("traffic without a daemon", || {
        let now = (between.answered(), beyond.answered());
        (now.0 > so_far.0 + 20 && now.1 > so_far.1 + 20).then_some(())
    });
    let _daemon = world.daemon();
    host.assert_same(&Inventory::of(&world.host), "the host after the new start");
    inside.assert_same(&Inventory::of(&attached[0].0), "a container after the new start");
    assert_known(&world, &attached);

    between.was_undisturbed();
    beyond.was_undisturbed();
    for (n, (container, _)) in attached.iter().enumerate() {
        world.call(Call::del(&format!("c{n}"), container).conf(&example())).succeeded();
    }
    assert_eq!(veths(&world.host), Vec::<String>::new());
}

#[test]
fn a_kill_is_not_felt() {
    is_not_felt(world!(), Daemon::kill);
}

#[test]
fn a_stop_is_not_felt() {
    is_not_felt(world!(), |daemon| {
        let status = daemon.terminate();
        assert!(status.success(), "SIGTERM is an orderly end: {status}");
    });
}

#[test]
fn repeated_kills_lose_no_address() {
    let world = world!();
    let conf = network("again", "again0", "10.31.0.0/29");
    for round in 0..4 {
        let daemon = world.daemon();
        let container = world.container();
        let name = format!("c{round}");
        world.call(Call::add(&name, &container).conf(&conf)).succeeded();
        world.call(Call::del(&name, &container).conf(&conf)).succeeded();
        daemon.kill();
    }
    let _daemon = world.daemon();
    fill_and_empty(&world, &conf, 5);
}

#[test]
fn containers_that_died_meanwhile_are_deleted() {
    let world = world!();
    let daemon = world.daemon();
    let conf = network("died", "died0", "10.32.0.0/29");
    let (kept, died) = (world.container(), world.container());
    world.call(Call::add("kept", &kept).conf(&conf)).succeeded();
    let elements = nft_elements(&world.host);
    world.call(Call::add("died", &died).conf(&conf)).succeeded();
    daemon.kill();
    let del = Call::del("died", &died).conf(&conf);
    drop(died);
    let _daemon = world.daemon();
    world.call(del).succeeded();
    assert_eq!(nft_elements(&world.host), elements);
    world.call(Call::del("kept", &kept).conf(&conf)).succeeded();
    fill_and_empty(&world, &conf, 5);
}

#[test]
fn a_link_of_ours_without_a_record_is_swept_and_foreign_ones_are_not() {
    let world = world!();
    let daemon = world.daemon();
    let attached = attach(&world, 1);
    daemon.kill();
    let alias = "quantum quantum-bridge/ghost/eth0 172.20.9.9/16";
    world.host.ip_batch(&format!(
        "link add qc0000000000000 type veth peer name ghost0\n\
         link set qc0000000000000 group {GROUP} master quantum0 up alias \"{alias}\"\n\
         link add qc1111111111111 type veth peer name prefix0\n\
         link add foreign0 type veth peer name foreign1\n\
         link set foreign0 group {GROUP}\n\
         link add foreign2 type veth peer name foreign3\n\
         link set foreign2 master quantum0 alias \"{alias}\"\n"
    ));
    let _daemon = world.daemon();
    assert!(world.host.link("qc0000000000000").is_none(), "all three marks and no record");
    for (name, why) in [
        ("qc1111111111111", "only the name is like ours"),
        ("foreign0", "only the group is like ours"),
        ("foreign2", "only the alias is like ours"),
    ] {
        assert!(world.host.link(name).is_some(), "{name} was swept, but {why}");
    }
    assert_known(&world, &attached);
}

#[test]
fn a_corrupt_store_is_rebuilt_from_the_kernel() {
    let world = world!();
    let daemon = world.daemon();
    let attached = attach(&world, 2);
    let second = address(&attached[1].1);
    let _neighbour = Echo::serve(&attached[1].0, &second);
    let steady = Steady::start(&attached[0].0, &second);
    daemon.kill();
    let mut spoiled = 0;
    for name in crate::support::world::names_in(&world.paths().state_dir) {
        let path = world.paths().state_dir.join(&name);
        let head = std::fs::read(&path).unwrap_or_default();
        if head.starts_with(b"SQLite format 3\0") {
            std::fs::write(&path, vec![0x5a; head.len()]).expect("spoiled");
            spoiled += 1;
        } else if name.ends_with("-wal") || name.ends_with("-shm") {
            std::fs::remove_file(&path).expect("removed");
        }
    }
    assert_eq!(spoiled, 1, "the store is one SQLite file");

    let _daemon = world.daemon();
    assert_eq!(veths(&world.host).len(), 2, "nothing that lives is swept");
    let taken: Vec<String> = attached.iter().map(|(_, result)| address(result)).collect();
    let container = world.container();
    let add = Call::add("new", &container).conf(&example());
    let given = address(&world.call(add).succeeded());
    assert!(!taken.contains(&given), "{given} was given twice");
    steady.was_undisturbed();
    for (n, (container, _)) in attached.iter().enumerate() {
        world.call(Call::del(&format!("c{n}"), container).conf(&example())).succeeded();
        assert!(container.link("eth0").is_none());
    }
    assert_eq!(veths(&world.host).len(), 1);
}

#[test]
fn two_daemons_do_not_share_their_state() {
    let world = world!();
    let mut first = world.daemon();
    let attached = attach(&world, 1);
    let mut second = Daemon::start(&world.host, world.paths(), Options::default());
    let status = second.wait();
    assert!(!status.success(), "the second one must refuse to start: {status}");
    assert!(first.is_running());
    assert_known(&world, &attached);
}
