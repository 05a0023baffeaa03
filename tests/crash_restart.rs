//! The daemon stopped, killed and started again: it knows every attachment, gives no address twice,
//! sweeps what has no record, and nothing in the containers is disturbed by any of it.

use std::sync::Barrier;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::spec_add::address;
use crate::spec_del::fill_and_empty;
use crate::support::conf::{example, network, with};
use crate::support::daemon::{Daemon, Options};
use crate::support::eventually::eventually;
use crate::support::inventory::{Inventory, nft_elements, veths};
use crate::support::netns::Netns;
use crate::support::plugin::{Call, Outcome};
use crate::support::traffic::{Echo, Steady};
use crate::support::wire::Client;
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
fn a_reload_during_the_start_does_not_end_it() {
    let world = world!();
    for _ in 0..5 {
        let mut daemon = Daemon::start(&world.host, world.paths(), Options::default());
        eventually("the socket to be there", || Client::connect(&world.paths().socket).ok());
        daemon.reload();
        daemon.wait_ready();
        daemon.kill();
    }
}

/// Ends the daemon amid twenty ADDs that were started together; whatever became of each, a DEL gets
/// to nothing, and what was answered with success is there.
fn amid_a_burst(world: World, is_orderly: bool, end: impl Fn(&Daemon)) {
    let conf = network("burst", "burst0", "10.33.0.0/27");
    let mut daemon = world.daemon();
    let warm = world.container();
    world.call(Call::add("warm", &warm).conf(&conf)).succeeded();
    let before = Inventory::of(&world.host);
    let containers: Vec<Netns> = (0..20).map(|_| world.container()).collect();
    let start = Barrier::new(containers.len() + 1);
    let (outcomes, _daemon) = std::thread::scope(|scope| {
        let each = containers.iter().enumerate().map(|(n, container)| {
            let (world, conf, start) = (&world, &conf, &start);
            scope.spawn(move || {
                start.wait();
                world.call(Call::add(&format!("c{n}"), container).conf(conf))
            })
        });
        let threads: Vec<_> = each.collect();
        start.wait();
        eventually("the first of them", || (veths(&world.host).len() > 3).then_some(()));
        end(&daemon);
        let status = daemon.wait();
        assert_eq!(status.success(), is_orderly, "{status}");
        // Those wait for it that the first has not begun with.
        let next = world.daemon();
        let outcomes = threads.into_iter().map(|t| t.join().expect("a call"));
        (outcomes.collect::<Vec<Outcome>>(), next)
    });
    for (outcome, container) in outcomes.iter().zip(&containers) {
        if outcome.code == Some(0) {
            let held = container.addresses("eth0", 4);
            assert_eq!(held, [format!("{}/27", address(&outcome.succeeded()))]);
        } else {
            outcome.failed_with(11);
            assert!(!is_orderly, "nobody fails by an orderly stop: {outcome:?}");
        }
    }
    for (n, (outcome, container)) in outcomes.iter().zip(&containers).enumerate() {
        let name = format!("c{n}");
        if outcome.code == Some(0) {
            let check = with(&conf, json!({ "prevResult": outcome.succeeded() }));
            world.call(Call::check(&name, container).conf(&check)).succeeded();
        }
        world.call(Call::del(&name, container).conf(&conf)).succeeded();
        assert!(container.link("eth0").is_none());
    }
    before.assert_same(&Inventory::of(&world.host), "the host after all DELs");
    world.call(Call::del("warm", &warm).conf(&conf)).succeeded();
    fill_and_empty(&world, &conf, 29);
}

#[test]
fn a_stop_amid_a_burst_fails_nobody() {
    amid_a_burst(world!(), true, |daemon| daemon.signal(Signal::SIGTERM));
}

#[test]
fn a_kill_amid_a_burst_loses_nothing() {
    amid_a_burst(world!(), false, |daemon| daemon.signal(Signal::SIGKILL));
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
         link add qc2222222222222 type veth peer name prefix1\n\
         link set qc2222222222222 group {GROUP}\n\
         link add qc3333333333333 type veth peer name prefix2\n\
         link set qc3333333333333 alias \"{alias}\"\n\
         link add foreign0 type veth peer name foreign1\n\
         link set foreign0 group {GROUP}\n\
         link add foreign2 type veth peer name foreign3\n\
         link set foreign2 master quantum0 alias \"{alias}\"\n"
    ));
    let _daemon = world.daemon();
    assert!(world.host.link("qc0000000000000").is_none(), "all three marks and no record");
    for (name, why) in [
        ("qc1111111111111", "only the name is like ours"),
        ("qc2222222222222", "it has no alias"),
        ("qc3333333333333", "it is not in our group"),
        ("foreign0", "only the group is like ours"),
        ("foreign2", "only the alias is like ours"),
    ] {
        assert!(world.host.link(name).is_some(), "{name} was swept, but {why}");
    }
    assert_known(&world, &attached);
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
