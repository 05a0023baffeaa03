//! Which link a packet comes in by says nothing of which of the host's addresses it may be for: Linux is a host of
//! the weak model (RFC 1122, 3.3.4.2), and so are published ports and gateways. A port that is published at one
//! address is reached at this address by every link, and at no other address.

use serde_json::json;

use crate::network_isolation::{Attached, attach, connect, dual};
use crate::support::netns::Netns;
use crate::support::ports::publishing;
use crate::support::traffic::{Echo, PATIENCE, PORT, SILENCE, tcp_answers, udp_answers};
use crate::support::world::{HOST, World};

/// The host's address on its second link, and who is there.
const SECOND: &str = "198.51.100.1";
const BEYOND: &str = "198.51.100.2";

/// A machine on a second link of the host, which has all its ways by the host.
fn beyond(world: &World) -> Netns {
    let netns = world.container();
    world.host.ip_batch(&format!(
        "link add second type veth peer name eth0 netns {}\n\
         address add {SECOND}/24 dev second\nlink set second up\n",
        netns.text()
    ));
    netns.ip_batch(&format!(
        "link set lo up\naddress add {BEYOND}/24 dev eth0\nlink set eth0 up\n\
         route add default via {SECOND}\n"
    ));
    netns
}

#[track_caller]
fn reached(from: &Netns, at: &str, expected: bool, what: &str) {
    let within = if expected { PATIENCE } else { SILENCE };
    assert_eq!(udp_answers(from, at, within), expected, "{at} by UDP: {what}");
    assert_eq!(tcp_answers(from, at, within), expected, "{at} by TCP: {what}");
}

fn published(world: &World, name: &str, number: u8, at: &str) -> Attached {
    let ports = ["udp", "tcp"].map(|protocol| (protocol, PORT, PORT, at));
    attach(world, name, &publishing(&dual(name, number, json!({})), &ports))
}

#[test]
fn a_port_that_is_published_at_one_address_is_reached_there_by_every_link() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[]);
    let lan = beyond(&world);
    let c = published(&world, "one", 151, HOST);
    let _echo = Echo::serve(&c.netns, &c.addresses[0]);
    let other = attach(&world, "other", &dual("other", 152, json!({})));
    reached(&world.outside, HOST, true, "by the link of that address");
    reached(&lan, HOST, true, "by another link");
    reached(&other.netns, HOST, true, "by another network's bridge");
    reached(&lan, SECOND, false, "at another address of the host");
    reached(&other.netns, SECOND, false, "at another address of the host");
    // The container's own address is not published.
    reached(&lan, &c.addresses[0], false, "at the container's address");
}

#[test]
fn a_gateway_is_an_address_of_the_host_for_every_link_but_other_networks() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[153, 154]);
    let lan = beyond(&world);
    let (c, other) = (
        attach(&world, "c", &dual("first", 153, json!({}))),
        attach(&world, "other", &dual("second", 154, json!({}))),
    );
    let _echo = Echo::serve(&world.host, &c.gateways[0]);
    reached(&c.netns, &c.gateways[0], true, "by its own bridge");
    reached(&lan, &c.gateways[0], true, "by another link");
    reached(&world.outside, &c.gateways[0], true, "by the uplink");
    reached(&other.netns, &c.gateways[0], false, "by another network's bridge");
}
