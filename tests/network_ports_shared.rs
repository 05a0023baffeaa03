//! Published ports of a container that has several networks: a runtime asks for the same ones at each.

use serde_json::{Value, json};

use crate::network_ports::{PUBLISHED, Server};
use crate::support::conf::{network, with};
use crate::support::daemon::Daemon;
use crate::support::inventory::veths;
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::ports::{self, publishing};
use crate::support::traffic::{PATIENCE, PORT, SILENCE};
use crate::support::world::{HOST, World};

const EXISTS: u64 = 101;
const TCP: [(&str, u16, u16, &str); 1] = [("tcp", PUBLISHED, PORT, "")];

fn call(verb: &str, netns: &Netns, ifname: &str, conf: &Value) -> Call {
    Call::attachment(verb, "c1", netns).var("CNI_IFNAME", ifname).conf(conf)
}

fn answers(world: &World, within: std::time::Duration) -> bool {
    ports::tcp(&world.outside, HOST, PUBLISHED, within)
}

/// The log's line that begins so, which must name all of these.
#[track_caller]
fn is_said(daemon: &Daemon, beginning: &str, words: &[&str]) {
    let log = daemon.log();
    let begins = |line: &&Value| line["msg"].as_str().is_some_and(|m| m.starts_with(beginning));
    let line = log.iter().find(begins).expect(beginning).to_string();
    for word in words {
        assert!(line.contains(word), "{word}: {line}");
    }
}

#[test]
fn the_first_of_two_networks_has_the_ports_until_its_del() {
    let world = world!();
    let daemon = world.daemon();
    let one = publishing(&network("one", "one0", "10.233.0.0/24"), &TCP);
    // It has a port of its own besides.
    let both = [TCP[0], ("tcp", 9009, PORT, "")];
    let two = publishing(&network("two", "two0", "10.234.0.0/24"), &both);
    let container = world.container();
    let first = world.call(call("ADD", &container, "eth0", &one)).succeeded();
    // The container answers by the interface of its only default route.
    let plain = with(&two, json!({ "ipam": { "routes": null } }));
    let second = world.call(call("ADD", &container, "eth1", &plain)).succeeded();
    is_said(&daemon, "another interface of the container", &["c1", "eth1", "two", "tcp/8080"]);
    let _server = Server::start(&container, &first);
    assert!(answers(&world, PATIENCE));
    for (ifname, conf, result) in [("eth0", &one, &first), ("eth1", &plain, &second)] {
        let checked = with(conf, json!({ "prevResult": result }));
        world.call(call("CHECK", &container, ifname, &checked)).succeeded();
    }
    // Another port of the container is another mapping, and another container another one.
    let elsewhere =
        publishing(&network("three", "three0", "10.235.0.0/24"), &[("tcp", PUBLISHED, 1, "")]);
    world.call(call("ADD", &container, "eth2", &elsewhere)).failed_with(EXISTS);
    let other = world.container();
    world.call(Call::add("other", &other).conf(&two)).failed_with(EXISTS);
    // The next daemon knows it as this one did.
    daemon.kill();
    let _daemon = world.daemon();
    assert!(answers(&world, PATIENCE));
    // Who never had the port does not take it along, and who had it does.
    world.call(call("DEL", &container, "eth1", &plain)).succeeded();
    assert!(answers(&world, PATIENCE), "eth0 has it");
    world.call(call("ADD", &container, "eth1", &plain)).succeeded();
    world.call(call("DEL", &container, "eth0", &one)).succeeded();
    assert!(!answers(&world, SILENCE), "its interface is gone");
    world.call(Call::add("other", &other).conf(&publishing(&one, &TCP))).succeeded();
    world.call(Call::del("other", &other).conf(&one)).succeeded();
    world.call(call("DEL", &container, "eth1", &plain)).succeeded();
    assert_eq!(veths(&world.host), [""; 0]);
}
