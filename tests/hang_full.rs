//! A disk that takes no more: STATUS says so until it does, and no DEL that was answered with success comes back
//! as one that was not asked for.

use nix::mount::umount;
use serde_json::{Value, json};

use crate::daemon_http::sample;
use crate::daemon_status::quantumctl;
use crate::spec_del::{fill, on_small_disk};
use crate::support::conf::{at, network, with};
use crate::support::daemon::{Daemon, Options};
use crate::support::eventually::eventually;
use crate::support::netns::Netns;
use crate::support::plugin::{Call, Outcome};
use crate::support::world::{World, names_in};

const FULL: &str = "the disk is full";

fn status(world: &World, conf: &Value) -> Outcome {
    world.call(Call::new("STATUS").conf(&at(conf, "1.1.0")))
}

/// Attaches, until one cannot be kept: the log takes a few more changes before it needs room.
#[track_caller]
fn until_full(world: &World, conf: &Value) {
    let container = world.container();
    for n in 0..200 {
        let name = format!("x{n}");
        let outcome = world.call(Call::add(&name, &container).conf(conf));
        if outcome.code != Some(0) {
            let said = outcome.failed_with(11);
            assert!(said.contains(FULL), "{said}");
            return;
        }
        world.call(Call::del(&name, &container).conf(conf)).succeeded();
    }
    panic!("the disk does not fill");
}

#[track_caller]
fn is_seen(world: &World, daemon: &Daemon, conf: &Value) {
    let said = status(world, conf).failed_with(50);
    assert!(said.contains(FULL), "{said}");
    let (code, page) = daemon.get("/readyz");
    assert!(code == 503 && page.contains(FULL), "{code} {page}");
    assert_eq!(daemon.get("/healthz").0, 200, "another daemon would find the same disk");
    let shown = quantumctl(world, "status");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(!shown.status.success() && text.contains("failing: "), "{text}");
    let (_, metrics) = daemon.get("/metrics");
    assert_eq!(sample(&metrics, "cni_store_writable", &[]), 0.0);
    assert_eq!(sample(&metrics, "cni_ready", &[]), 0.0);
}

/// Three containers that stay attached while the disk fills.
fn attached(world: &World, conf: &Value) -> Vec<Netns> {
    let add = |n: &usize| {
        let container = world.container();
        world.call(Call::add(&format!("c{n}"), &container).conf(conf)).succeeded();
        container
    };
    [0, 1, 2].iter().map(add).collect()
}

fn del(world: &World, conf: &Value, n: usize, container: &Netns) {
    world.call(Call::del(&format!("c{n}"), container).conf(conf)).succeeded();
    assert!(container.link("eth0").is_none(), "what is in the kernel is gone");
}

fn held(daemon: &Daemon) -> f64 {
    sample(&daemon.get("/metrics").1, "cni_pool_addresses_held", &["=\"full\""])
}

#[test]
fn it_is_told_until_there_is_room_and_no_del_comes_back() {
    let world = world!();
    let state = on_small_disk(&world);
    let daemon = world.daemon_with(Options::default().args("--orphan-seconds 0"));
    let conf = network("full", "full0", "10.46.0.0/24");
    let containers = attached(&world, &conf);
    let filler = fill(state);
    until_full(&world, &conf);
    is_seen(&world, &daemon, &conf);
    // Without an ADD that would show it.
    std::fs::remove_file(&filler).expect("removed");
    eventually("the store to be written again", || {
        (status(&world, &conf).code == Some(0)).then_some(())
    });
    let filler = fill(state);
    until_full(&world, &conf);
    del(&world, &conf, 0, &containers[0]);
    del(&world, &conf, 1, &containers[1]);
    daemon.kill();
    std::fs::remove_file(&filler).expect("removed");
    let daemon = world.daemon_with(Options::default().args("--orphan-seconds 0"));
    eventually("the DELs to be finished", || (held(&daemon) == 1.0).then_some(()));
    world.call(Call::add("c0", &containers[0]).conf(&conf)).succeeded();
    world.call(Call::add("c2", &containers[2]).conf(&conf)).failed_with(101);
    daemon.kill();
    umount(state).expect("unmounted");
}

/// Its DELs were marked beside the store only.
#[test]
fn a_daemon_that_starts_on_a_full_disk_carries_out_what_was_asked_for() {
    let world = world!();
    let state = on_small_disk(&world);
    let start = || world.daemon_with(Options::default().args("--orphan-seconds 0"));
    let daemon = start();
    let conf = network("full", "full0", "10.46.0.0/24");
    let containers = attached(&world, &conf);
    let filler = fill(state);
    until_full(&world, &conf);
    del(&world, &conf, 0, &containers[0]);
    del(&world, &conf, 1, &containers[1]);
    daemon.kill();
    let mut daemon =
        Daemon::start(&world.host, world.paths(), Options::default().args("--orphan-seconds 0"));
    assert!(daemon.serves_or_ended(), "it starts");
    eventually("STATUS to say why", || {
        let outcome = status(&world, &conf);
        (outcome.code == Some(1) && outcome.stdout.contains(FULL)).then_some(())
    });
    del(&world, &conf, 2, &containers[2]);
    world.call(Call::add("late", &containers[0]).conf(&conf)).failed_with(11);
    std::fs::remove_file(&filler).expect("removed");
    eventually("the DELs to be finished", || (held(&daemon) == 0.0).then_some(()));
    daemon.kill();
    let daemon = start();
    assert_eq!(held(&daemon), 0.0, "none came back");
    world.call(Call::add("c0", &containers[0]).conf(&conf)).succeeded();
    daemon.kill();
    umount(state).expect("unmounted");
}

#[test]
fn where_nothing_can_be_written_a_del_is_kept_by_the_plugin_and_a_gc_says_so() {
    let world = world!();
    let state = on_small_disk(&world);
    let start = || world.daemon_with(Options::default().args("--orphan-seconds 0"));
    let daemon = start();
    let conf = network("full", "full0", "10.46.0.0/24");
    let containers = attached(&world, &conf);
    let filler = fill(state);
    until_full(&world, &conf);
    // Nor beside the store: what is not there takes no mark.
    let beside = world.paths().root.join("attachments");
    for name in names_in(&beside) {
        std::fs::remove_file(beside.join(name)).expect("removed");
    }
    del(&world, &conf, 0, &containers[0]);
    assert_eq!(world.tombstones().len(), 1, "{:?}", names_in(&world.paths().spool_dir));
    let valid = ["c0", "c2"].map(|id| json!({ "containerID": id, "ifname": "eth0" }));
    let gc = with(&at(&conf, "1.1.0"), json!({ "cni.dev/valid-attachments": valid }));
    let said = world.call(Call::new("GC").conf(&gc)).failed_with(11);
    assert!(said.contains("cannot be kept"), "{said}");
    daemon.kill();
    std::fs::remove_file(&filler).expect("removed");
    let daemon = start();
    assert_eq!(world.tombstones(), Vec::<String>::new(), "it was carried out");
    world.call(Call::new("GC").conf(&gc)).succeeded();
    eventually("one to be left", || (held(&daemon) == 1.0).then_some(()));
    daemon.kill();
    umount(state).expect("unmounted");
}
