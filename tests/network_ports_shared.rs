//! Published ports of a container that has several networks: a runtime asks for the same ones at each.

use serde_json::{Value, json};

use crate::network_ports::{PUBLISHED, Server};
use crate::support::chain::Chain;
use crate::support::conf::{network, with};
use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
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
    let begins = |line: &Value| line["msg"].as_str().is_some_and(|m| m.starts_with(beginning));
    // Records are written by a thread of their own.
    let line = eventually(beginning, || daemon.log().into_iter().find(begins)).to_string();
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

#[test]
fn a_network_without_a_gateway_takes_no_ports_and_says_so() {
    let world = world!();
    let daemon = world.daemon();
    let inner = with(
        &network("inner", "inner0", "10.236.0.0/24"),
        json!({ "isGateway": false, "ipMasq": false, "ipam": { "routes": null } }),
    );
    let outer = publishing(&network("outer", "outer0", "10.237.0.0/24"), &TCP);
    let container = world.container();
    world.call(call("ADD", &container, "eth0", &publishing(&inner, &TCP))).succeeded();
    let words = ["warning", "c1", "eth0", "inner", "tcp/8080"];
    is_said(&daemon, "ports are not published", &words);
    // Its other network has them, though it comes later.
    let result = world.call(call("ADD", &container, "eth1", &outer)).succeeded();
    let _server = Server::start(&container, &result);
    assert!(answers(&world, PATIENCE));
    world.call(call("DEL", &container, "eth0", &inner)).succeeded();
    assert!(answers(&world, PATIENCE));
}

#[test]
fn a_portmap_in_the_chain_leaves_the_ports_to_the_first_network_too() {
    let world = world!();
    let daemon = world.daemon();
    let chain = |name: &str, subnet: &str, is_gateway: bool| {
        let list = json!({ "cniVersion": "0.4.0", "name": name, "plugins": [
            { "type": "bridge", "bridge": format!("{name}0"), "isGateway": is_gateway,
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": subnet }]],
                    "routes": if is_gateway { json!([{ "dst": "0.0.0.0/0" }]) } else { json!([]) } } },
            { "type": "portmap", "capabilities": { "portMappings": true } }] });
        Chain::new(&list.to_string()).told(json!({ "portMappings": [
            { "hostPort": PUBLISHED, "containerPort": PORT, "protocol": "tcp" }] }))
    };
    let container = world.container();
    let blind = chain("blind", "10.238.0.0/24", false);
    blind.add(&world, "c1", &container);
    is_said(&daemon, "ports are not published", &["blind", "c1", "tcp/8080"]);
    blind.del(&world, "c1", &container, None);
    let seeing = chain("seeing", "10.239.0.0/24", true);
    let result = seeing.add(&world, "c1", &container);
    let _server = Server::start(&container, &result);
    assert!(answers(&world, PATIENCE));
    seeing.del(&world, "c1", &container, Some(&result));
    assert!(!answers(&world, SILENCE));
}
