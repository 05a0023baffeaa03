//! `config_dir`: networks that an operator defines in files, read at the start and on SIGHUP.

use serde_json::{Value, json};

use crate::spec_add::address;
use crate::support::conf::{network, with};
use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::inventory::veths;
use crate::support::netns::Netns;
use crate::support::plugin::{Call, Outcome};
use crate::support::world::World;

/// A configuration that only names its network.
fn thin(name: &str) -> Value {
    json!({ "cniVersion": "1.0.0", "name": name, "type": "quantum-cni" })
}

fn write(world: &World, file: &str, text: &str) {
    std::fs::write(world.paths().config_dir.join(file), text).expect("a definition");
}

/// ADD and, if that succeeded, DEL of a fresh container.
fn try_network(world: &World, conf: &Value) -> Outcome {
    let container = world.container();
    let outcome = world.call(Call::add("try", &container).conf(conf));
    if outcome.code == Some(0) {
        world.call(Call::del("try", &container).conf(conf)).succeeded();
    }
    outcome
}

/// Reloads, and waits until an ADD to the network ends as wanted.
#[track_caller]
fn reload_until(world: &World, daemon: &Daemon, conf: &Value, wanted: impl Fn(&Outcome) -> bool) {
    daemon.reload();
    eventually("the reload to be felt", || wanted(&try_network(world, conf)).then_some(()));
}

/// What the daemon tells an operator: its log, `/readyz` and the status of `quantumctl`.
fn reports(world: &World, daemon: &Daemon) -> String {
    let mut text = std::fs::read_to_string(&world.paths().log).expect("the log");
    text.push_str(&daemon.get("/readyz").1);
    text
}

#[test]
fn a_network_of_a_file_is_used_by_its_name() {
    let world = world!();
    write(&world, "10-lan.conf", &network("lan", "lan0", "10.51.0.0/24").to_string());
    let list = json!({
        "cniVersion": "1.0.0",
        "name": "listed",
        "plugins": [
            { "type": "tuning" },
            with(&network("x", "listed0", "10.52.0.0/24"), json!({ "name": null, "cniVersion": null })),
        ]
    });
    write(&world, "20-listed.conflist", &list.to_string());
    write(&world, "30-json.json", &network("json", "json0", "10.53.0.0/24").to_string());
    write(&world, "40-not-ours.txt", "{");
    let _daemon = world.daemon();
    for (name, subnet) in [("lan", "10.51.0."), ("listed", "10.52.0."), ("json", "10.53.0.")] {
        let container = world.container();
        let result = world.call(Call::add("c1", &container).conf(&thin(name))).succeeded();
        assert!(address(&result).starts_with(subnet), "{name}: {result}");
        assert_eq!(result["ips"][0]["gateway"], format!("{subnet}1"));
        let check = with(&thin(name), json!({ "prevResult": result }));
        world.call(Call::check("c1", &container).conf(&check)).succeeded();
        world.call(Call::del("c1", &container).conf(&thin(name))).succeeded();
    }
    assert_eq!(veths(&world.host), Vec::<String>::new());
}

#[test]
fn an_unknown_name_is_an_error_that_says_so() {
    let world = world!();
    let _daemon = world.daemon();
    let said = try_network(&world, &thin("nowhere")).failed_with(7);
    assert!(said.contains("nowhere"), "{said}");
}

#[test]
fn a_bad_file_is_reported_and_stops_nothing() {
    let world = world!();
    write(&world, "10-cut-off.conf", "{\"name\": \"cut");
    write(
        &world,
        "20-trunk.conf",
        &with(&network("v", "v0", "10.54.0.0/24"), json!({ "vlanTrunk": [{ "id": 7 }] }))
            .to_string(),
    );
    write(&world, "30-good.conf", &network("good", "good0", "10.55.0.0/24").to_string());
    std::fs::create_dir(world.paths().config_dir.join("40-folder.conf")).expect("a folder");
    write(&world, "50-again.conf", &network("good", "good1", "10.56.0.0/24").to_string());
    let daemon = world.daemon();
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&thin("good"))).succeeded();
    assert!(address(&result).starts_with("10.55.0."), "the first file of a name counts: {result}");
    try_network(&world, &thin("v")).failed();
    let said = reports(&world, &daemon);
    for file in ["10-cut-off.conf", "20-trunk.conf", "40-folder.conf", "50-again.conf"] {
        assert!(said.contains(file), "{file} is not reported");
    }
    assert!(said.contains("a vlanTrunk without vlan"), "the reason is reported");
    assert!(!said.contains("30-good.conf: ") || !said.contains("30-good.conf: cannot"));
}

#[test]
fn a_reload_brings_changes_and_takes_nothing_from_what_runs() {
    let world = world!();
    write(&world, "10-old.conf", &network("old", "old0", "10.57.0.0/24").to_string());
    let daemon = world.daemon();
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&thin("old"))).succeeded();
    try_network(&world, &thin("new")).failed_with(7);

    write(&world, "20-new.conf", &network("new", "new0", "10.58.0.0/24").to_string());
    write(&world, "30-bad.conf", "[");
    reload_until(&world, &daemon, &thin("new"), |o| o.code == Some(0));
    assert!(reports(&world, &daemon).contains("30-bad.conf"));

    std::fs::remove_file(world.paths().config_dir.join("10-old.conf")).expect("removed");
    reload_until(&world, &daemon, &thin("old"), |o| o.code == Some(1));
    assert_eq!(container.addresses("eth0", 4), [format!("{}/24", address(&result))]);
    let check = with(&thin("old"), json!({ "prevResult": result }));
    world.call(Call::check("c1", &container).conf(&check)).succeeded();
    world.call(Call::del("c1", &container).conf(&thin("old"))).succeeded();
    assert!(container.link("eth0").is_none());
}

#[test]
fn a_changed_network_is_changed_for_new_containers() {
    let world = world!();
    write(&world, "10-lan.conf", &network("lan", "lan0", "10.59.0.0/24").to_string());
    let daemon = world.daemon();
    let old: Netns = world.container();
    world.call(Call::add("old", &old).conf(&thin("lan"))).succeeded();
    let changed = with(&network("lan", "lan0", "10.59.0.0/24"), json!({ "mtu": 1300 }));
    write(&world, "10-lan.conf", &changed.to_string());
    daemon.reload();
    eventually("a container with the new MTU", || {
        let container = world.container();
        world.call(Call::add("new", &container).conf(&thin("lan"))).succeeded();
        let mtu = container.link("eth0").expect("eth0")["mtu"].clone();
        world.call(Call::del("new", &container).conf(&thin("lan"))).succeeded();
        (mtu == 1300).then_some(())
    });
    assert_eq!(old.link("eth0").expect("eth0")["mtu"], 1500, "what runs stays as it is");
    world.call(Call::del("old", &old).conf(&thin("lan"))).succeeded();
}

#[test]
fn a_whole_configuration_needs_no_file() {
    let world = world!();
    std::fs::remove_dir(&world.paths().config_dir).expect("removed");
    let daemon = world.daemon();
    try_network(&world, &network("whole", "whole0", "10.60.0.0/24")).succeeded();
    daemon.reload();
    try_network(&world, &network("whole", "whole0", "10.60.0.0/24")).succeeded();
}

#[test]
fn what_is_no_file_does_not_hang_the_daemon() {
    let world = world!();
    let mkfifo = |path: std::path::PathBuf| {
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    };
    std::fs::create_dir_all(&world.paths().spool_dir).expect("a folder");
    mkfifo(world.paths().config_dir.join("00-fifo.conf"));
    mkfifo(world.paths().spool_dir.join("00.del"));
    std::os::unix::fs::symlink("/dev/zero", world.paths().config_dir.join("01-zero.conf"))
        .expect("a link");
    let daemon = world.daemon();
    let (_, page) = daemon.get("/readyz");
    assert!(page.contains("00-fifo.conf") && page.contains("01-zero.conf"), "{page}");
    assert!(daemon.terminate().success());
}
