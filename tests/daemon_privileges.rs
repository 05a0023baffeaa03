//! What the unit grants is what the daemon needs: all that it does is done under the unit's capabilities,
//! filter of system calls and read-only file system, and nothing of it is refused. What it was not given it
//! says at its start.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::daemon_status::quantumctl;
use crate::network_isolation::{attach, dual};
use crate::policy_live::{network_policy, pod};
use crate::support::conf::{at, network, with};
use crate::support::ctl::{apply, quantumctl_with, told};
use crate::support::daemon::{Daemon, Options, command};
use crate::support::docker::{Dockerd, id};
use crate::support::enter::{Entered, entered};
use crate::support::eventually::eventually;
use crate::support::plugin::Call;
use crate::support::ports::publishing;
use crate::support::skip;
use crate::support::traffic::{Echo, PATIENCE, SILENCE, udp_answers};
use crate::support::unit::{self, Settings, Unit};
use crate::support::world::{OUTSIDE, World};

/// As `systemd-analyze` counts: 0 is locked up, 10 is unsafe.
const EXPOSURE: f64 = 2.8;

#[test]
fn systemd_calls_the_unit_safe() {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager"]).arg(unit::path());
    let Ok(output) = analyze.output() else { return skip("there is no systemd-analyze") };
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|line| line.contains("Overall exposure level"));
    let level = line.and_then(|line| line.split_once("service: ")?.1.split(' ').next());
    let Some(level) = level.and_then(|level| level.parse::<f64>().ok()) else {
        return skip("this systemd-analyze does not look at units that are not installed");
    };
    assert!(level <= EXPOSURE, "{level}:\n{said}");
}

/// The daemon under the unit, ready.
fn confined(world: &World, options: &Options, unit: &Unit) -> Daemon {
    let mut daemon = begun(world, options, unit, Settings::InPlace);
    daemon.wait_ready();
    daemon
}

fn begun(world: &World, options: &Options, unit: &Unit, settings: Settings<'_>) -> Daemon {
    let mut command = command(&world.host, world.paths(), &options.args);
    command.envs(options.vars.clone());
    unit.confine(&mut command, &[&world.paths().root], settings);
    Daemon::spawn(command, &world.host, world.paths())
}

/// Nothing in the log is about something that the daemon may not do.
fn nothing_was_refused(world: &World) {
    let log = std::fs::read_to_string(&world.paths().log).expect("the log");
    let words = ["EPERM", "EACCES", "EROFS", "not permitted", "Permission denied", "Read-only"];
    let of_refusal = |line: &&str| words.iter().any(|word| line.contains(word));
    let refused: Vec<&str> = log.lines().filter(of_refusal).collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn all_that_it_does_it_does_under_the_unit() {
    if !cfg!(target_arch = "x86_64") {
        return skip("the numbers of the system calls are those of x86_64");
    }
    let world = world!();
    let unit = Unit::read();
    let dockerd = Dockerd::beside(&world);
    // Anybody may flush them, so that they have to be put right.
    let options = Options::without_own_tables().args(&dockerd.flag());
    let daemon = confined(&world, &options, &unit);
    let _outside = Echo::serve(&world.outside, OUTSIDE);

    // Every posture, with what else a network can say.
    let keys = [
        json!({ "policy": { "posture": "open" } }),
        json!({ "policy": { "posture": "isolated", "directAccess": true } }),
        json!({ "policy": { "posture": "zero-trust" } }),
        json!({ "ingressPolicy": "isolated", "policy": { "enforcement": "routed" } }),
        json!({ "promiscMode": true, "mtu": 1400 }),
    ];
    for (n, keys) in (0..).zip(keys) {
        attach(&world, &format!("posture{n}"), &dual(&format!("p{n}"), 50 + n, keys));
    }
    // Settings, limits, and published ports.
    let keys = json!({
        "sysctl": { "net.ipv4.conf.IFNAME.rp_filter": "2", "net/core/somaxconn": "777" },
        "runtimeConfig": { "bandwidth": { "ingressRate": 10_000_000, "ingressBurst": 96_000,
            "egressRate": 10_000_000, "egressBurst": 96_000 } },
        "policy": { "publishLoopback": true },
    });
    let conf = publishing(
        &with(&network("much", "much0", "10.56.0.0/24"), keys),
        &[("udp", 8053, 53, "")],
    );
    let much = world.container();
    let result = world.call(Call::add("much", &much).conf(&conf)).succeeded();
    world
        .call(Call::check("much", &much).conf(&with(&conf, json!({ "prevResult": result }))))
        .succeeded();
    world.call(Call::new("STATUS").conf(&at(&conf, "1.1.0"))).succeeded();
    assert!(udp_answers(&much, OUTSIDE, PATIENCE));

    // Policy, and what it denies.
    let shop = dual("shop", 57, json!({}));
    let (web, db) = (pod(&world, "web", &shop), pod(&world, "db", &shop));
    let _served = Echo::serve(&db.netns, &db.addresses[0]);
    assert!(udp_answers(&web.netns, &db.addresses[0], PATIENCE));
    apply(&world, &network_policy("none", json!({ "podSelector": {}, "ingress": [] })));
    assert!(!udp_answers(&web.netns, &db.addresses[0], SILENCE));
    told(&world, "policy label shop/web tier=front", "");
    eventually("the denial to be recorded", || {
        let denied = quantumctl_with(&world, "policy denied", "");
        String::from_utf8_lossy(&denied.stdout).contains("shop/db").then_some(())
    });
    told(&world, "policy delete NetworkPolicy shop/none", "");

    // Rules that somebody flushed are put right, and the definitions are read again.
    world.host.output("nft", "flush ruleset");
    eventually("the rules to be back", || {
        daemon
            .log()
            .iter()
            .any(|record| record["msg"].as_str().is_some_and(|m| m.contains("put right")))
            .then_some(())
    });
    let file = world.paths().config_dir.join("10-late.conf");
    std::fs::write(file, network("late", "late0", "10.58.0.0/24").to_string()).expect("written");
    daemon.reload();

    // Docker's network, from its beginning to its end.
    dockerd.activate();
    let docker = dockerd.create_network('a', 59, json!({}));
    let container = dockerd.run(&docker, 'b', "10.59.0.2/24", &json!([]));
    dockerd.stop(container);
    dockerd.ok("NetworkDriver.DeleteNetwork", json!({ "NetworkID": id('a') }));

    // A kill, a DEL that finds no daemon, and the next daemon.
    daemon.kill();
    world.call(Call::del("much", &much).conf(&conf)).succeeded();
    assert_eq!(world.tombstones().len(), 1);
    let mut daemon = confined(&world, &options, &unit);
    assert_eq!(world.tombstones().len(), 0);
    assert!(much.link("eth0").is_none());
    world
        .call(
            Call::new("GC")
                .conf(&with(&at(&shop, "1.1.0"), json!({ "cni.dev/valid-attachments": [] }))),
        )
        .succeeded();
    assert!(web.netns.link("eth0").is_none());
    assert!(daemon.is_running());
    nothing_was_refused(&world);
    assert!(daemon.terminate().success());
}

#[test]
fn what_it_was_not_given_it_says_at_its_start() {
    if !cfg!(target_arch = "x86_64") {
        return skip("the numbers of the system calls are those of x86_64");
    }
    let world = world!();
    let unit = Unit::read().with_capabilities(&["CAP_NET_ADMIN"]);
    let has_mounts = entered() == Ok(Entered::Root);
    let mut daemon = begun(&world, &Options::default(), &unit, Settings::Nowhere);
    assert!(daemon.serves_or_ended(), "it goes on without");
    let expected = ["CAP_SYS_ADMIN", "/proc/sys/net"];
    let expected = &expected[..if has_mounts { 2 } else { 1 }];
    let log = daemon.log();
    let errors = log.iter().filter(|record| record["level"] == "error");
    let said: Vec<&str> = errors.filter_map(|record| record["error"].as_str()).collect();
    let (status, reasons) = daemon.get("/readyz");
    assert_eq!(status, 503);
    let output = quantumctl(&world, "status");
    assert!(!output.status.success());
    let shown = String::from_utf8(output.stdout).expect("UTF-8");
    let conf = network("n", "n0", "10.60.0.0/24");
    let answer = world.call(Call::new("STATUS").conf(&at(&conf, "1.1.0"))).failed_with(50);
    for need in expected {
        let lines = said.iter().filter(|line| line.contains(need)).count();
        assert_eq!(lines, 1, "{need}: {said:?}");
        assert!(reasons.contains(need), "{need}: {reasons}");
        assert!(shown.contains("unmet: ") && shown.contains(need), "{need}: {shown}");
        assert!(answer.contains(need), "{need}: {answer}");
    }
    assert!(!said.iter().any(|line| line.contains("CAP_NET_ADMIN")), "{said:?}");
    assert!(Path::new(&world.paths().socket).exists());
}

#[test]
fn where_settings_cannot_be_written_it_is_given_another_place() {
    if !cfg!(target_arch = "x86_64") {
        return skip("the numbers of the system calls are those of x86_64");
    }
    let world = world!();
    if entered() != Ok(Entered::Root) {
        return skip("the mounts of the machine are left to root of the machine");
    }
    let folder = world.paths().root.join("settings");
    std::fs::create_dir(&folder).expect("a folder");
    let place = folder.to_str().expect("UTF-8");
    let options = Options::default().var("QUANTUM_PROC_SYS_NET", place);
    let mut daemon = begun(&world, &options, &Unit::read(), Settings::At(&folder));
    daemon.wait_ready();
    let keys = json!({ "sysctl": { "net.ipv4.conf.IFNAME.rp_filter": "2" } });
    let container = attach(&world, "c1", &dual("else", 61, keys));
    let inside = |path: &str| container.netns.output("cat", &format!("/proc/sys/net/{path}"));
    assert_eq!(inside("ipv4/conf/eth0/rp_filter").trim(), "2");
    assert_eq!(inside("ipv6/conf/eth0/keep_addr_on_down").trim(), "1");
    let outside = world.host.output("cat", "/proc/sys/net/ipv4/ip_forward");
    assert_eq!(outside.trim(), "1");
    nothing_was_refused(&world);
}
