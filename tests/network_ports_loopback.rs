//! Ports at 127.0.0.0/8: only where somebody asked for it, and for processes of the host alone.

use std::net::{IpAddr, UdpSocket};

use serde_json::{Value, json};

use crate::network_ports::{EACH, PUBLISHED, Server, addresses, dual};
use crate::support::conf::with;
use crate::support::eventually::eventually;
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::ports::{self, publishing};
use crate::support::traffic::{PATIENCE, PORT, SILENCE};
use crate::support::world::{HOST, UPLINK, World};

/// A port that is at 127.0.0.1 only.
const PRIVATE: u16 = 8081;

fn answered(from: &Netns, to: &str) -> bool {
    ports::tcp(from, to, PUBLISHED, PATIENCE) && ports::udp(from, to, PUBLISHED, PATIENCE)
}

fn silent(from: &Netns, to: &str) -> bool {
    !ports::tcp(from, to, PUBLISHED, SILENCE) && !ports::udp(from, to, PUBLISHED, SILENCE)
}

/// Which links of the host let 127.0.0.0/8 pass.
fn opened(world: &World) -> Vec<String> {
    let links = world.host.ip_json("link show").into_iter();
    let names = links.map(|link| link["ifname"].as_str().expect("a name").to_owned());
    let all = names.chain(["all".to_owned(), "default".to_owned()]);
    all.filter(|name| {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/route_localnet");
        world.host.output("cat", &path).trim() == "1"
    })
    .collect()
}

fn shown(conf: &Value) -> Value {
    with(conf, json!({ "policy": { "publishLoopback": true } }))
}

#[test]
fn a_port_is_not_there_unless_somebody_asks() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let conf = publishing(&dual("hidden", 95), &EACH);
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let _server = Server::start(&container, &result);
    assert!(answered(&world.host, HOST) && silent(&world.host, "127.0.0.1"));
    assert_eq!(opened(&world), Vec::<String>::new());
}

#[test]
fn a_network_can_ask_for_all_of_its_ports() {
    let world = world!();
    let _daemon = world.daemon();
    let (one, two) = (world.container(), world.container());
    let conf = shown(&dual("shown", 96));
    let first = publishing(&conf, &[("tcp", PUBLISHED, PORT, ""), ("udp", PUBLISHED, PORT, "")]);
    let result = world.call(Call::add("one", &one).conf(&first)).succeeded();
    let second = publishing(&conf, &[("tcp", 8081, PORT, "")]);
    world.call(Call::add("two", &two).conf(&second)).succeeded();
    let _server = Server::start(&one, &result);
    for to in ["127.0.0.1", "127.0.0.9", HOST] {
        assert!(answered(&world.host, to), "{to}");
    }
    assert!(answered(&world.outside, HOST));
    assert_eq!(opened(&world), ["shown0"], "the bridge, and nothing else");
    world.call(Call::del("two", &two).conf(&second)).succeeded();
    assert_eq!(opened(&world), ["shown0"], "one is left");
    world.call(Call::del("one", &one).conf(&first)).succeeded();
    assert_eq!(opened(&world), Vec::<String>::new(), "none is left");
}

#[test]
fn a_mapping_can_ask_for_itself() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let at = |ip| [("tcp", PUBLISHED, PORT, ip), ("udp", PUBLISHED, PORT, ip)];
    let conf = publishing(&dual("asked", 97), &at("127.0.0.1"));
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let server = Server::start(&container, &result);
    assert!(answered(&world.host, "127.0.0.1") && silent(&world.host, "127.0.0.2"));
    assert!(silent(&world.host, HOST) && silent(&world.outside, HOST));
    assert_eq!(opened(&world), ["asked0"]);
    let gateway: IpAddr = "10.97.0.1".parse().expect("an address");
    assert!(server.seen().iter().all(|peer| *peer == gateway), "{:?}", server.seen());
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    assert_eq!(opened(&world), Vec::<String>::new());
    let nowhere = publishing(&dual("asked", 97), &at("::1"));
    let said = world.call(Call::add("c1", &container).conf(&nowhere)).failed_with(7);
    assert!(said.contains("::1"), "{said}");
}

/// From here on what the namespace sends to 127.0.0.0/8 leaves by `link`.
fn sends_loopback_away(netns: &Netns, link: &str, to: &str) {
    // With the address go the local routes, which are looked at first.
    netns.ip("address flush dev lo");
    netns.run(|| {
        for name in ["all", link] {
            let path = format!("/proc/sys/net/ipv4/conf/{name}/route_localnet");
            std::fs::write(path, "1").expect("a setting");
        }
    });
    netns.ip(&format!("route replace 127.0.0.0/8 via {to} dev {link}"));
}

/// A datagram to each of the ports at 127.0.0.1 over the wire, from the sender's own address.
fn knock(from: &Netns, own: &str) {
    let socket = from.run(|| UdpSocket::bind((own, 0)).expect("a socket"));
    for port in [PUBLISHED, PRIVATE] {
        socket.send_to(b"a knock", ("127.0.0.1", port)).expect("sent");
    }
}

#[test]
fn a_neighbour_on_the_wire_cannot_ask_there() {
    let world = world!();
    let _daemon = world.daemon();
    let (container, peer) = (world.container(), world.container());
    let conf = shown(&dual("wire", 98));
    let mappings = [
        ("udp", PUBLISHED, PORT, ""),
        ("tcp", PUBLISHED, PORT, ""),
        ("udp", PRIVATE, PORT, "127.0.0.1"),
    ];
    let published = publishing(&conf, &mappings);
    let result = world.call(Call::add("c1", &container).conf(&published)).succeeded();
    let near = addresses(&world.call(Call::add("peer", &peer).conf(&conf)).succeeded());
    let server = Server::start(&container, &result);
    assert!(ports::udp(&world.host, "127.0.0.1", PRIVATE, PATIENCE), "the host itself");
    // As kubelet may have it.
    world.host.run(|| {
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").expect("a setting");
    });
    let outside = "192.0.2.2".to_owned();
    let wires =
        [(&world.outside, UPLINK, HOST, outside), (&peer, "eth0", "10.98.0.1", near[0].clone())];
    for (from, link, gateway, own) in &wires {
        sends_loopback_away(from, link, gateway);
        let arrived = || {
            let text = world.host.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"));
            let name = if *link == UPLINK { UPLINK } else { "wire0" };
            let text = text.expect("counters");
            let line = text.lines().find(|l| l.trim_start().starts_with(&format!("{name}:")));
            let packets = line.and_then(|l| l.split_ascii_whitespace().nth(2)?.parse::<u64>().ok());
            packets.expect("a counter")
        };
        // Neighbours know each other from here on.
        assert!(answered(from, gateway), "{link}");
        let (before, heard) = (arrived(), server.seen().len());
        knock(from, own);
        eventually("both to arrive at the host", || (arrived() > before + 1).then_some(()));
        // Whatever was let through would have come before this.
        let socket = ports::udp_client(from, gateway, PUBLISHED).expect("a route");
        assert!(ports::udp_once(&socket, PATIENCE), "{link}");
        let own: IpAddr = own.parse().expect("an address");
        let since = server.seen().split_off(heard);
        assert!(since.iter().all(|peer| *peer == own), "{since:?}");
        assert_eq!(since.len(), 1, "the knock on {link} was heard");
    }
}
