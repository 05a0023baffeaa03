//! The store damaged, lost, or of another boot: what lives in the kernel keeps its network and its
//! addresses, and every DEL is served.

use std::os::unix::process::CommandExt;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use crate::spec_add::address;
use crate::spec_del::fill_and_empty;
use crate::support::conf::network;
use crate::support::daemon::{Daemon, command};
use crate::support::inventory::veths;
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, Steady};
use crate::support::world::{World, names_in};

fn conf() -> Value {
    network("state", "state0", "10.61.0.0/29")
}

/// Two containers that talk while `harm` is done to the daemon's files: they keep talking and keep
/// their addresses, and their DELs are served.
fn survives(world: World, names: [&str; 2], harm: impl Fn(&World)) {
    let daemon = world.daemon();
    let containers: Vec<Netns> = (0..2).map(|_| world.container()).collect();
    let taken: Vec<String> = names
        .iter()
        .zip(&containers)
        .map(|(name, c)| address(&world.call(Call::add(name, c).conf(&conf())).succeeded()))
        .collect();
    let _echo = Echo::serve(&containers[1], &taken[1]);
    let steady = Steady::start(&containers[0], &taken[1]);
    daemon.kill();
    harm(&world);

    let mut daemon = Daemon::start(&world.host, world.paths(), Default::default());
    // It may say that it is degraded; it must serve.
    assert!(daemon.serves_or_ended(), "it does not start");
    assert_eq!(veths(&world.host).len(), 2, "nothing that lives is swept");
    // All that is left of the pool, and nothing of what is taken.
    let new: Vec<Netns> = (0..3).map(|_| world.container()).collect();
    for (n, container) in new.iter().enumerate() {
        let add = Call::add(&format!("new{n}"), container).conf(&conf());
        let given = address(&world.call(add).succeeded());
        assert!(!taken.contains(&given), "{given} was given twice");
    }
    let container = world.container();
    world.call(Call::add("one-more", &container).conf(&conf())).failed_with(7);
    steady.was_undisturbed();
    for n in 0..3 {
        let del = Call::del(&format!("new{n}"), &container).var("CNI_NETNS", "");
        world.call(del.conf(&conf())).succeeded();
    }
    for (name, container) in names.iter().zip(&containers) {
        world.call(Call::del(name, container).conf(&conf())).succeeded();
        assert!(container.link("eth0").is_none(), "{name} was not taken away");
    }
    assert_eq!(veths(&world.host), Vec::<String>::new());
    fill_and_empty(&world, &conf(), 5);
}

/// Overwrites the database.
fn spoil(world: &World) {
    let mut spoiled = 0;
    for name in names_in(&world.paths().state_dir) {
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
}

#[test]
fn a_damaged_store_is_rebuilt_from_the_kernel() {
    survives(world!(), ["c0", "c1"], spoil);
}

#[test]
fn a_damaged_store_is_set_aside_and_not_thrown_away() {
    survives(world!(), ["c0", "c1"], |world| {
        spoil(world);
        let before = names_in(&world.paths().state_dir).len();
        let daemon = world.daemon();
        let after = names_in(&world.paths().state_dir);
        assert!(after.len() > before, "an operator may want to look at it: {after:?}");
        daemon.kill();
    });
}

#[test]
fn names_too_long_for_an_alias_survive_a_damaged_store() {
    let (one, two) = ("a".repeat(250), "b".repeat(250));
    survives(world!(), [&one, &two], spoil);
}

#[test]
fn what_only_the_kernel_knows_is_no_reason_to_take_networks_away() {
    for names in [["c0", "c1"], [&"a".repeat(250), &"b".repeat(250)]] {
        survives(world!(), names, World::forget);
    }
}

#[test]
fn a_lost_store_is_no_reason_to_take_networks_away() {
    survives(world!(), ["c0", "c1"], |world| {
        std::fs::remove_dir_all(&world.paths().state_dir).expect("removed");
    });
}

#[test]
fn a_cut_off_store_is_rebuilt_from_the_kernel() {
    survives(world!(), ["c0", "c1"], |world| {
        for name in names_in(&world.paths().state_dir) {
            let path = world.paths().state_dir.join(&name);
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.starts_with(b"SQLite format 3\0") {
                std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("cut off");
            } else if name.ends_with("-wal") || name.ends_with("-shm") {
                std::fs::remove_file(&path).expect("removed");
            }
        }
    });
}

#[test]
fn a_reboot_frees_what_the_containers_had() {
    let world = world!();
    let daemon = world.daemon();
    let containers: Vec<Netns> = (0..5).map(|_| world.container()).collect();
    for (n, container) in containers.iter().enumerate() {
        world.call(Call::add(&format!("c{n}"), container).conf(&conf())).succeeded();
    }
    daemon.kill();
    // A boot takes every namespace and every link with it.
    let dels: Vec<Call> =
        containers.iter().enumerate().map(|(n, c)| Call::del(&format!("c{n}"), c)).collect();
    drop(containers);
    world.host.ip("link del state0");
    world.host.output("nft", "flush ruleset");
    let boot = world.paths().root.join("boot_id");
    std::fs::write(&boot, "11111111-2222-3333-4444-555555555555\n").expect("a boot id");
    let mut command = command(&world.host, world.paths(), &[]);
    // SAFETY: system calls only; the path was made before the fork.
    unsafe {
        command.pre_exec(move || {
            let (none, at) = (None::<&str>, "/proc/sys/kernel/random/boot_id");
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(Some(&boot), at, none, MsFlags::MS_BIND, none)?;
            Ok(())
        });
    }
    let mut daemon = Daemon::spawn(command, &world.host, world.paths());
    daemon.wait_ready();
    // The runtime cleans up after its reboot.
    for del in dels {
        world.call(del.conf(&conf())).succeeded();
    }
    fill_and_empty(&world, &conf(), 5);
}
