//! Our plugin in the place of `host-local`, which another plugin runs for addresses.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::chain::called_as;
use crate::support::inventory::Inventory;
use crate::support::netns::Netns;
use crate::support::ping::ping;
use crate::support::plugin::{Call, Outcome};
use crate::support::traffic::PATIENCE;
use crate::support::world::World;

const INVALID_CONFIG: u64 = 7;
const EXISTS: u64 = 101;
const CHECK_FAILED: u64 = 105;
/// Where Debian has the reference plugins.
const PEERS: &str = "/usr/lib/cni";

/// What a plugin that attaches hands to its IPAM plugin: all that it was told itself.
fn conf(subnet: &str) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "theirs",
        "type": "macvlan",
        "master": "uplink",
        "ipam": {
            "type": "host-local",
            "ranges": [[{ "subnet": subnet }]],
            "routes": [{ "dst": "0.0.0.0/0" }]
        }
    })
}

pub(crate) fn run(world: &World, verb: &str, id: &str, netns: &Netns, conf: &Value) -> Outcome {
    Call::attachment(verb, id, netns).conf(conf).run(called_as(world, "host-local"))
}

fn given(world: &World, id: &str, netns: &Netns, conf: &Value) -> String {
    let result = run(world, "ADD", id, netns, conf).succeeded();
    assert!(result["interfaces"].is_null() && result["ips"][0]["interface"].is_null(), "{result}");
    assert_eq!(result["routes"], conf["ipam"]["routes"]);
    result["ips"][0]["address"].as_str().expect("an address").to_owned()
}

#[test]
fn an_address_is_one_containers_until_its_del_and_nothing_is_made() {
    let world = world!();
    let daemon = world.daemon();
    let before = Inventory::of(&world.host);
    let conf = conf("10.79.0.0/29"); // five containers
    let netns = world.container();
    let ids = ["a", "b", "c", "d", "e"];
    let all: BTreeSet<String> = ids.iter().map(|id| given(&world, id, &netns, &conf)).collect();
    assert_eq!(all.len(), 5, "{all:?}");
    assert!(all.iter().all(|a| a.starts_with("10.79.0.") && a.ends_with("/29")), "{all:?}");
    let said = run(&world, "ADD", "f", &netns, &conf).failed_with(INVALID_CONFIG);
    assert!(said.contains("10.79.0.0/29"), "{said}");
    run(&world, "ADD", "a", &netns, &conf).failed_with(EXISTS);
    run(&world, "CHECK", "a", &netns, &conf).succeeded();
    run(&world, "CHECK", "f", &netns, &conf).failed_with(CHECK_FAILED);
    before.assert_same(&Inventory::of(&world.host), "no bridge, no rule");

    daemon.kill();
    let daemon = world.daemon();
    run(&world, "CHECK", "b", &netns, &conf).succeeded();
    run(&world, "ADD", "f", &netns, &conf).failed_with(INVALID_CONFIG);
    run(&world, "DEL", "b", &netns, &conf).succeeded();
    run(&world, "DEL", "b", &netns, &conf).succeeded();
    let again = given(&world, "f", &netns, &conf);
    assert!(all.contains(&again), "{again} was free");

    daemon.kill();
    run(&world, "DEL", "c", &netns, &conf).succeeded();
    assert_eq!(world.tombstones().len(), 1);
    let _daemon = world.daemon();
    given(&world, "g", &netns, &conf);
}

#[test]
fn what_is_asked_for_is_given() {
    let world = world!();
    let _daemon = world.daemon();
    let netns = world.container();
    let mut asking = conf("10.79.1.0/24");
    asking["runtimeConfig"] = json!({ "ips": ["10.79.1.77/24"] });
    assert_eq!(given(&world, "a", &netns, &asking), "10.79.1.77/24");
    run(&world, "ADD", "b", &netns, &asking).failed_with(INVALID_CONFIG);
    let env = Call::add("c", &netns).var("CNI_ARGS", "IP=10.79.1.78").conf(&conf("10.79.1.0/24"));
    let result = env.run(called_as(&world, "host-local")).succeeded();
    assert_eq!(result["ips"][0]["address"], "10.79.1.78/24");
}

/// The reference `ptp`, with ours in `CNI_PATH`.
#[test]
fn a_plugin_of_others_attaches_with_our_addresses() {
    let ptp = Path::new(PEERS).join("ptp");
    if !ptp.is_file() {
        return crate::support::skip(&format!("there is no {}", ptp.display()));
    }
    let world = world!();
    let _daemon = world.daemon();
    let conf = json!({ "cniVersion": "1.0.0", "name": "others", "type": "ptp",
        "ipam": { "type": "host-local", "subnet": "10.79.2.0/24" } });
    let ours = called_as(&world, "host-local");
    let folder = Path::new(ours.get_program()).parent().expect("a folder").to_owned();
    let container = world.container();
    let call = |verb: &str| {
        let mut command: Command = world.host.command(&ptp);
        for (key, value) in ours.get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        let call = Call::attachment(verb, "c1", &container).conf(&conf);
        call.var("CNI_PATH", folder.to_str().expect("UTF-8")).run(command)
    };
    let result = call("ADD").succeeded();
    let address = result["ips"][0]["address"].as_str().expect("an address");
    assert!(ping(&world.host, address.split('/').next().expect("an address"), PATIENCE));
    call("DEL").succeeded();
    let status = world
        .host
        .command(crate::support::binaries::quantumctl())
        .args(["status", "-o", "json"])
        .env("QUANTUM_CNI_SOCKET", &world.paths().socket)
        .output()
        .expect("quantumctl");
    let board: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(board["networks"]["others"]["held"], 0, "{board}");
}
