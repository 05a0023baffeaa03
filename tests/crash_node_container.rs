//! The daemon in another network namespace than its attachments were made in. A node that is a container is
//! restarted so: its namespaces, and what it has in /run, are others, and its disk and the boot are the same.
//! What was there before ended, and all of it is free. Where it may live, it is kept, and that is said.

use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon_http::sample;
use crate::ipam_requested::add;
use crate::spec_add::address;
use crate::support::chain::called_as;
use crate::support::conf::{network, with};
use crate::support::daemon::{Daemon, Options};
use crate::support::eventually::eventually_within;
use crate::support::netns::Netns;
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::ports::publishing;
use crate::support::traffic::{PATIENCE, PORT};
use crate::support::world::World;

const INVALID_CONFIG: u64 = 7;
const DEGRADED: u64 = 51;

fn conf() -> Value {
    with(&network("node", "node0", "10.110.0.0/29"), json!({ "cniVersion": "1.1.0" }))
}

fn ingress() -> Value {
    publishing(&conf(), &[("tcp", 80, PORT, "")])
}

fn fixed() -> Value {
    with(&conf(), json!({ "args": { "cni": { "ips": ["10.110.0.6"] } } }))
}

/// What another plugin attaches.
fn lent() -> Value {
    with(&network("lent", "", "10.111.0.0/30"), json!({ "type": "macvlan" }))
}

/// Fills a node, and kills the daemon. Gives the containers.
fn fill(world: &World, daemon: Daemon) -> Vec<Netns> {
    let all: Vec<Netns> = (0..6).map(|_| world.container()).collect();
    for (n, conf) in [ingress(), fixed(), conf(), conf(), conf()].iter().enumerate() {
        world.call(Call::add(&format!("c{n}"), &all[n]).conf(conf)).succeeded();
    }
    let call = Call::add("vm", &all[5]).conf(&lent());
    call.run(called_as(world, "host-local")).succeeded();
    daemon.kill();
    all
}

/// Another network namespace for the daemon. Gives the one it was in.
fn move_host(world: &mut World, name: &str) -> Netns {
    let path = world.paths().root.join("netns").join(name);
    let other = Netns::create(path);
    other.ip("link set lo up");
    std::mem::replace(&mut world.host, other)
}

/// What is on a file system of the node's own memory.
fn lose_run(world: &World) {
    let root = &world.paths().root;
    for name in ["host.json", "generation", "policy.json"] {
        let _ = std::fs::remove_file(root.join(name));
    }
    let _ = std::fs::remove_dir_all(root.join("attachments"));
}

/// Starts the daemon where the old namespace is gone. Others of these tests may have it for a moment: with what
/// they mount for themselves, or a program that they start.
fn restarted(world: &World) -> Daemon {
    eventually_within(Duration::from_secs(60), "nobody to have the old namespace", || {
        let options = Options::default().args("--orphan-seconds 86400");
        let mut daemon = Daemon::start(&world.host, world.paths(), options);
        assert!(daemon.serves_or_ended());
        (world.call(status()).code == Some(0)).then_some(daemon)
    })
}

fn status() -> Call {
    Call::new("STATUS").conf(&conf())
}

#[test]
fn a_node_that_was_restarted_has_everything_free() {
    let mut world = world!();
    let containers = fill(&world, world.daemon());
    drop(containers);
    drop(move_host(&mut world, "restarted"));
    lose_run(&world);
    let daemon = restarted(&world);
    let metric = |name: &str| sample(&daemon.get("/metrics").1, name, &[]);
    assert_eq!((metric("cni_orphans"), metric("cni_published_ports")), (0.0, 0.0));
    let mut given: Vec<String> = [ingress(), fixed(), conf(), conf(), conf()]
        .iter()
        .enumerate()
        .map(|(n, conf)| address(&add(&world, &format!("new{n}"), conf, "").succeeded()))
        .collect();
    given.sort();
    given.dedup();
    assert_eq!(given.len(), 5, "{given:?}");
    let other = world.container();
    let call = Call::add("other-vm", &other).conf(&lent());
    call.run(called_as(&world, "host-local")).succeeded();
    let says = |record: &Value| {
        record["msg"].as_str().unwrap_or_default().contains("attachments dropped")
            && record["attachments"] == 6
    };
    assert!(daemon.log().iter().any(says));
    // Of its own namespace it is not asked again.
    daemon.kill();
    let daemon = world.daemon();
    world.call(status()).failed_with(50); // exhausted
    assert_eq!(sample(&daemon.get("/metrics").1, "cni_published_ports", &[]), 1.0);
}

#[test]
fn what_may_live_in_the_other_namespace_is_kept_and_that_is_said() {
    let mut world = world!();
    let containers = fill(&world, world.daemon());
    let home = move_host(&mut world, "mistaken");
    for lost in [false, true] {
        if lost {
            // Some process of the old one's is there, whatever became of /run.
            lose_run(&world);
        }
        let mut daemon = Daemon::start(&world.host, world.paths(), Options::default());
        assert!(daemon.serves_or_ended());
        let said = world.call(status()).failed_with(DEGRADED);
        assert!(said.contains("another network namespace"), "{said}");
        let said = add(&world, "thief", &fixed(), "").failed_with(INVALID_CONFIG);
        assert!(said.contains("c1"), "{said}");
        daemon.kill();
    }
    let strayed = std::mem::replace(&mut world.host, home);
    let daemon = world.daemon();
    world.call(status()).failed_with(50); // exhausted, as it was
    for container in &containers[..5] {
        assert!(ping(container, "10.110.0.1", PATIENCE));
    }
    assert_eq!(sample(&daemon.get("/metrics").1, "cni_published_ports", &[]), 1.0);
    drop(strayed);
}

#[test]
fn what_was_in_run_may_be_lost_where_the_daemon_stays() {
    let world = world!();
    let containers = fill(&world, world.daemon());
    lose_run(&world);
    let _daemon = world.daemon();
    let said = add(&world, "thief", &fixed(), "").failed_with(INVALID_CONFIG);
    assert!(said.contains("c1"), "{said}");
    assert!(ping(&containers[1], "10.110.0.1", PATIENCE));
}

#[test]
fn what_a_daemon_left_that_noted_nothing_is_kept_until_an_operator_says_otherwise() {
    let mut world = world!();
    let containers = fill(&world, world.daemon());
    drop(containers);
    drop(move_host(&mut world, "upgraded"));
    lose_run(&world);
    let _ = std::fs::remove_file(world.paths().state_dir.join("host.json"));
    let mut daemon = Daemon::start(&world.host, world.paths(), Options::default());
    assert!(daemon.serves_or_ended());
    let said = world.call(status()).failed_with(DEGRADED);
    assert!(said.contains("host.json"), "{said}");
    daemon.kill();
    lose_run(&world);
    let _daemon = restarted(&world);
    add(&world, "db", &fixed(), "").succeeded();
}
