//! The memory of the daemon: a burst of calls with all that a runtime may send is served within what the daemon
//! has, and is given back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::network_burst::together;
use crate::support::cgroup::MemoryGroup;
use crate::support::conf::{network, with};
use crate::support::daemon::Daemon;
use crate::support::eventually::eventually_within;
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::skip;
use crate::support::world::World;

/// As much as the daemon gets, in KiB.
const ENOUGH: u64 = 64 << 10;
/// How many containers come together. Whole configurations of them would be twice as much as there is.
const MANY: usize = 500;
/// How many DELs find no daemon.
const SPOOLED: usize = 150;
/// What a pod's annotations may have at most (Kubernetes: 256 KiB), in bytes.
const ANNOTATIONS: usize = 250 << 10;

/// A value of `/proc/PID/status`, in KiB.
fn memory(daemon: &Daemon, of: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid()));
    let status = status.expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix(of)?.strip_prefix(':'));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).expect("a number")
}

fn annotated(conf: &Value) -> Value {
    let annotations = json!({ "someone.else/notes": "x".repeat(ANNOTATIONS),
        "policy.quantum/labels": "tier=web" });
    with(conf, json!({ "runtimeConfig": { "io.kubernetes.cri.pod-annotations": annotations } }))
}

/// ADDs of all of them together, then DELs.
fn burst(world: &World, containers: &[Netns], conf: &Value) {
    for make in [Call::add, Call::del] {
        let each = containers.iter().enumerate();
        let calls = each.map(|(n, c)| make(&format!("c{n}"), c).conf(conf)).collect();
        for outcome in together(world, calls) {
            outcome.succeeded();
        }
    }
}

#[test]
fn a_burst_of_fat_calls_is_served_in_little_memory_and_given_back() {
    let world = world!();
    let mut daemon = world.daemon();
    let conf = annotated(&network("fat", "fat0", "10.92.0.0/16"));
    let containers: Vec<Netns> = (0..MANY).map(|_| world.container()).collect();
    burst(&world, &containers[..1], &conf);
    let before = memory(&daemon, "RssAnon");
    burst(&world, &containers, &conf);
    let peak = memory(&daemon, "VmHWM");
    assert!(peak < ENOUGH, "{peak} KiB of {ENOUGH}");
    eventually_within(Duration::from_secs(30), "its memory to be given back", || {
        let now = memory(&daemon, "RssAnon");
        (now < before + (6 << 10)).then_some(())
    });
    assert!(daemon.is_running());
}

#[test]
#[ignore = "takes a minute or two; it prints what was measured"]
fn nine_hundred_fat_calls_together() {
    let world = world!();
    let daemon = world.daemon();
    let conf = annotated(&network("fat", "fat0", "10.92.0.0/16"));
    let containers: Vec<Netns> = (0..900).map(|_| world.container()).collect();
    burst(&world, &containers, &conf);
    let peak = memory(&daemon, "VmHWM");
    println!("{peak} KiB at the peak, {} of them the program's file", memory(&daemon, "RssFile"));
    assert!(peak < ENOUGH, "{peak} KiB of {ENOUGH}");
}

#[test]
fn a_spool_of_fat_tombstones_is_carried_out_in_little_memory() {
    let world = world!();
    let conf = annotated(&network("spool", "spool0", "10.95.0.0/16"));
    let container = world.container();
    let daemon = world.daemon();
    world.call(Call::add("c0", &container).conf(&conf)).succeeded();
    daemon.kill();
    let dels = (0..SPOOLED).map(|n| Call::del(&format!("c{n}"), &container).conf(&conf)).collect();
    for outcome in together(&world, dels) {
        outcome.succeeded();
    }
    assert_eq!(world.tombstones().len(), SPOOLED);
    let daemon = world.daemon();
    let peak = memory(&daemon, "VmHWM");
    assert!(peak < ENOUGH, "{peak} KiB of {ENOUGH}");
    assert_eq!(world.tombstones(), Vec::<String>::new());
    assert!(container.link("eth0").is_none());
}

#[test]
fn a_burst_is_served_by_a_daemon_that_has_no_more_memory() {
    let group = match MemoryGroup::of(ENOUGH << 10) {
        Ok(group) => group,
        Err(reason) => return skip(&reason),
    };
    let world = world!();
    let mut daemon = world.daemon();
    group.add(daemon.pid());
    let conf = network("tight", "tight0", "10.93.0.0/16");
    let containers: Vec<Netns> = (0..MANY).map(|_| world.container()).collect();
    burst(&world, &containers, &annotated(&conf));
    assert!(daemon.is_running());
}
