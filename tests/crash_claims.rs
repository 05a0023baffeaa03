//! What an attempt took that came to nothing is free again: ports of the host, a network whose actor died,
//! a turn at a network that is defined otherwise.

use serde_json::{Value, json};

use crate::spec_del::{fill, on_small_disk};
use crate::support::chain::{Chain, called_as};
use crate::support::conf::{network, with};
use crate::support::daemon::Options;
use crate::support::eventually::{BOUND, eventually, eventually_within};
use crate::support::inventory::veths;
use crate::support::netns::Netns;
use crate::support::plugin::{Call, Outcome};
use crate::support::ports::publishing;
use crate::support::traffic::{Echo, PORT};
use crate::support::world::{HOST, World};

const NERDCTL: &str = include_str!("data/conflists/nerdctl.json");
const EXISTS: u64 = 101;
const UNKNOWN_CONTAINER: u64 = 3;

/// A conflist whose `portmap` is asked for these ports of the host.
fn chain(text: &str, ports: &[u16]) -> Chain {
    let mapping =
        |port: &u16| json!({ "hostPort": port, "containerPort": PORT, "protocol": "tcp" });
    let mappings: Vec<Value> = ports.iter().map(mapping).collect();
    Chain::new(text).told(json!({ "portMappings": mappings }))
}

#[test]
fn a_chained_portmap_that_is_refused_holds_no_port() {
    let world = world!();
    let daemon = world.daemon_with(Options::default().args("--refuse-ports-in-use true"));
    let (one, two) = (world.container(), world.container());
    let published = |count| {
        let (_, metrics) = daemon.get("/metrics");
        assert!(
            metrics.contains(&format!("\ncni_published_ports {count}\n")),
            "{count}: {metrics}"
        );
    };
    let process = Echo::serve(&world.host, HOST);
    let answers = chain(NERDCTL, &[PORT]).try_add(&world, "c1", &one);
    let said = answers.last().expect("an answer").failed_with(EXISTS);
    assert!(said.contains("process of the host"), "{said}");
    published(0);
    drop(process);
    // Before any DEL of the first.
    let result = chain(NERDCTL, &[PORT]).add(&world, "c2", &two);
    published(1);

    // What it had before stays its own when it is refused another.
    let process = Echo::serve(&world.host, HOST);
    chain(NERDCTL, &[PORT]).del(&world, "c2", &two, Some(&result));
    chain(NERDCTL, &[]).del(&world, "c1", &one, None);
    let result = chain(NERDCTL, &[8080]).add(&world, "c1", &one);
    let mut again: Value = serde_json::from_str(NERDCTL).expect("JSON");
    let portmap = again["plugins"].as_array().expect("plugins").iter();
    let mut portmap = portmap.clone().find(|p| p["type"] == "portmap").expect("portmap").clone();
    portmap["prevResult"] = result.clone();
    again["plugins"] = json!([portmap]);
    let again = again.to_string();
    let refused = chain(&again, &[8080, PORT]).try_add(&world, "c1", &one);
    assert!(refused[0].failed_with(EXISTS).contains("process of the host"));
    published(1);
    let answers = chain(NERDCTL, &[8080]).try_add(&world, "c2", &two);
    assert!(answers.last().expect("an answer").failed_with(EXISTS).contains("container c1"));
    drop(process);
    chain(NERDCTL, &[]).del(&world, "c2", &two, None);
    chain(NERDCTL, &[]).del(&world, "c1", &one, Some(&result));
    published(0);
}

/// What a plugin that attaches by itself hands to `host-local`.
fn lent(network: &str, subnet: &str) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": network, "type": "macvlan", "master": "uplink",
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": subnet }]] }
    })
}

fn host_local(world: &World, verb: &str, id: &str, netns: &Netns, conf: &Value) -> Outcome {
    Call::attachment(verb, id, netns).conf(conf).run(called_as(world, "host-local"))
}

#[test]
fn definitions_that_come_at_one_time_are_served_one_after_the_other() {
    let world = world!();
    let _daemon = world.daemon();
    let netns = world.container();
    let subnets = ["10.79.3.0/24", "10.79.4.0/24", "10.79.5.0/24"];
    std::thread::scope(|scope| {
        let add = |number: usize| {
            let (world, netns) = (&world, &netns);
            scope.spawn(move || {
                let subnet = subnets[number % subnets.len()];
                let mut conf = lent("ranges", "10.79.6.0/24");
                conf["runtimeConfig"] = json!({ "ipRanges": [[{ "subnet": subnet }]] });
                let result =
                    host_local(world, "ADD", &format!("c{number}"), netns, &conf).succeeded();
                let address = result["ips"][0]["address"].as_str().expect("an address").to_owned();
                assert_eq!(address[..8], subnet[..8], "{address} is of what it asked for");
            })
        };
        for thread in (0..60).map(add).collect::<Vec<_>>() {
            thread.join().expect("served");
        }
    });
}

#[test]
fn a_network_that_died_is_rebuilt_for_whoever_comes_next() {
    let world = world!();
    let (container, other) = (world.container(), world.container());
    let conf = network("fallen", "fallen0", "10.84.0.0/24");
    let first = world.daemon();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let lent = lent("fallen", "10.84.0.0/24");
    host_local(&world, "ADD", "theirs", &other, &lent).succeeded();
    first.kill();
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    assert_eq!(world.tombstones().len(), 1);
    // The spool's DEL is the first to meet the network, which dies of it.
    let daemon = world.daemon_with(Options::default().var("QUANTUM_PANIC_AT", "del-marked"));
    for id in ["a", "b"] {
        host_local(&world, "ADD", id, &other, &lent).succeeded();
    }
    eventually("the link to go", || veths(&world.host).is_empty().then_some(()));
    // It is tried again every ten seconds.
    let carried_out = || world.tombstones().is_empty().then_some(());
    eventually_within(2 * BOUND, "the spool to be carried out", carried_out);
    assert!(daemon.terminate().success(), "nobody is inside for ever");
}

#[test]
fn the_del_of_an_add_that_died_gives_its_port_back() {
    let world = world!();
    for point in ["add-applied", "add-remembered"] {
        let _daemon = world.daemon_with(Options::default().var("QUANTUM_PANIC_AT", point));
        let (one, two) = (world.container(), world.container());
        let conf = publishing(&network("died", "died0", "10.85.0.0/24"), &[("tcp", 8080, 80, "")]);
        world.call(Call::add("c1", &one).conf(&conf)).failed();
        world.call(Call::del("c1", &one).conf(&conf)).succeeded();
        world.call(Call::add("c2", &two).conf(&conf)).succeeded();
        world.call(Call::del("c2", &two).conf(&conf)).succeeded();
    }
}

/// The mark of a DEL cannot be written, and the kernel does not take the link back.
#[test]
fn what_a_del_was_asked_for_is_no_living_attachment() {
    let world = world!();
    let state = on_small_disk(&world);
    let refusals = ["del-unfiltered"; 1000].join(",");
    let daemon = world.daemon_with(Options::default().var("QUANTUM_FAIL_AT", &refusals));
    let conf = network("marked", "marked0", "10.86.0.0/24");
    let containers: Vec<Netns> = (0..30).map(|_| world.container()).collect();
    let mut attached = Vec::new();
    for (number, container) in containers.iter().enumerate() {
        let id = format!("c{number}");
        let result = world.call(Call::add(&id, container).conf(&conf)).succeeded();
        attached.push((id, container, with(&conf, json!({ "prevResult": result }))));
    }
    let filler = fill(state);
    for (id, container, checked) in &attached {
        world.call(Call::check(id, container).conf(checked)).succeeded();
        world.call(Call::del(id, container).conf(&conf)).succeeded();
        assert!(container.link("eth0").is_some(), "{id}: the kernel refused");
        world.call(Call::check(id, container).conf(checked)).failed_with(UNKNOWN_CONTAINER);
    }
    std::fs::remove_file(filler).expect("removed");
    daemon.kill();
    nix::mount::umount(state).expect("unmounted");
}
