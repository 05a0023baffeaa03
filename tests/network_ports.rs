//! Published ports, by real packets: from where they are reached, from where not, and whom they leave alone.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::daemon_http::sample;
use crate::support::conf::{network, with};
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::ports::{self, Sctp, publishing};
use crate::support::traffic::{Echo, PATIENCE, PORT, SILENCE};
use crate::support::world::{HOST, OUTSIDE, UPLINK, World};

/// The host and the outside on their uplink, which has IPv4 only by itself.
pub(crate) const HOST6: &str = "2001:db8:ffff::1";
pub(crate) const OUTSIDE6: &str = "2001:db8:ffff::2";
/// The port of the host in most tests.
pub(crate) const PUBLISHED: u16 = 8080;
/// The port of the container that hears SCTP.
const SCTP_PORT: u16 = 9899;
/// How a mapping of each transport to [`PUBLISHED`] is written.
pub(crate) const EACH: [(&str, u16, u16, &str); 3] = [
    ("tcp", PUBLISHED, PORT, ""),
    ("udp", PUBLISHED, PORT, ""),
    ("sctp", PUBLISHED, SCTP_PORT, ""),
];

/// A network of both families, with `NAME0` for its bridge.
pub(crate) fn dual(name: &str, number: u8) -> Value {
    let ipam = json!({
        "subnet": null,
        "ranges": [
            [{ "subnet": format!("10.{number}.0.0/24") }],
            [{ "subnet": format!("fd00:{number}::/64") }]
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]
    });
    with(&network(name, &format!("{name}0"), ""), json!({ "ipam": ipam }))
}

/// The uplink has IPv6, too.
pub(crate) fn with_ipv6(world: World) -> World {
    world.host.ip(&format!("address add {HOST6}/64 dev {UPLINK} nodad"));
    world.outside.ip(&format!("address add {OUTSIDE6}/64 dev {UPLINK} nodad"));
    world
}

/// The addresses that an ADD gave, without the lengths of their prefixes.
pub(crate) fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().expect("addresses");
    let cidr = |ip: &Value| ip["address"].as_str().expect("an address").to_owned();
    ips.iter().map(|ip| cidr(ip).split('/').next().expect("an address").to_owned()).collect()
}

/// A container that serves by all transports on all its addresses.
pub(crate) struct Server {
    echoes: Vec<Echo>,
    sctp: Vec<(bool, Sctp)>,
}

impl Server {
    pub(crate) fn start(container: &Netns, result: &Value) -> Self {
        let own = addresses(result);
        Self {
            echoes: own.iter().map(|address| Echo::serve(container, address)).collect(),
            sctp: own
                .iter()
                .map(|address| (address.contains(':'), Sctp::open(container, address)))
                .collect(),
        }
    }

    /// Who asked so far by TCP and UDP.
    pub(crate) fn seen(&self) -> Vec<IpAddr> {
        self.echoes.iter().flat_map(Echo::seen).collect()
    }

    fn sctp(&self, from: &Netns, to: &str) -> Option<IpAddr> {
        let (_, socket) = self.sctp.iter().find(|(six, _)| *six == to.contains(':'))?;
        ports::sctp(from, (to, PUBLISHED), socket, SCTP_PORT, PATIENCE)
    }
}

/// By which transports `from` gets an answer at the published port of `to`, and as whom it is seen.
#[track_caller]
fn assert_reached(server: &Server, from: &Netns, to: &str, what: &str, seen_as: Option<&str>) {
    let before = server.seen().len();
    assert!(ports::tcp(from, to, PUBLISHED, PATIENCE), "TCP from {what} to {to}");
    assert!(ports::udp(from, to, PUBLISHED, PATIENCE), "UDP from {what} to {to}");
    let by_sctp = server.sctp(from, to);
    assert!(by_sctp.is_some(), "SCTP from {what} to {to}");
    let mut seen = server.seen().split_off(before.min(server.seen().len()));
    seen.extend(by_sctp);
    if let Some(expected) = seen_as {
        let expected: IpAddr = expected.parse().expect("an address");
        assert!(seen.contains(&expected), "{what} is seen as {seen:?}");
    }
}

/// What bridges hand to the rules by the sysctls of all bridges. False if this machine has none.
fn bridges_call(world: &World, value: u8) -> bool {
    ["iptables", "ip6tables"].iter().all(|family| {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        world.host.run(|| std::fs::write(path, value.to_string()).is_ok())
    })
}

fn reached_from_everywhere(world: World, sysctl: u8, enforcement: &str) {
    let world = with_ipv6(world);
    if !bridges_call(&world, sysctl) {
        return crate::support::skip("no bridge-nf-call-iptables");
    }
    let _daemon = world.daemon();
    let (own, peer, other) = (world.container(), world.container(), world.container());
    let policy = json!({ "policy": { "enforcement": enforcement } });
    let conf = with(&dual("serve", 90), policy);
    let published = publishing(&conf, &EACH);
    let result = world.call(Call::add("own", &own).conf(&published)).succeeded();
    let near = addresses(&world.call(Call::add("peer", &peer).conf(&conf)).succeeded());
    world.call(Call::add("other", &other).conf(&dual("apart", 91))).succeeded();
    let server = Server::start(&own, &result);
    for (family, host, outside) in [(0, HOST, OUTSIDE), (1, HOST6, OUTSIDE6)] {
        assert_reached(&server, &world.outside, host, "outside", Some(outside));
        assert_reached(&server, &world.host, host, "the host", Some(host));
        assert_reached(&server, &peer, host, "a neighbour", Some(&near[family]));
        assert_reached(&server, &own, host, "itself", None);
        assert_reached(&server, &other, host, "another network", None);
        let gateway = ["10.90.0.1", "fd00:90::1"][family];
        assert_reached(&server, &peer, gateway, "a neighbour", Some(&near[family]));
        assert_reached(&server, &own, gateway, "itself", None);
        assert_reached(&server, &world.host, gateway, "the host", Some(gateway));
        let elsewhere = PUBLISHED + 1;
        assert!(!ports::tcp(&world.outside, host, elsewhere, SILENCE), "another port");
    }
    // By nothing but the port.
    assert!(!ports::tcp(&other, &addresses(&result)[0], PORT, SILENCE), "its address");
    world.host.output("nft", "list ruleset");
    world.call(Call::del("own", &own).conf(&published)).succeeded();
    for (from, host) in [(&world.outside, HOST), (&world.host, HOST6), (&peer, HOST)] {
        assert!(!ports::udp(from, host, PUBLISHED, SILENCE), "{host} after DEL");
    }
}

#[test]
fn a_port_is_reached_from_everywhere() {
    reached_from_everywhere(world!(), 0, "auto");
}

#[test]
fn also_where_every_bridge_calls_the_rules() {
    reached_from_everywhere(world!(), 1, "auto");
}

#[test]
fn also_where_the_host_routes_between_ports() {
    reached_from_everywhere(world!(), 0, "routed");
}

#[test]
fn whoever_routes_to_a_container_reaches_its_ports_only() {
    let world = with_ipv6(world!());
    let _daemon = world.daemon();
    let direct = json!({ "policy": { "directAccess": true } });
    for (name, number, keys) in [("kept", 108, json!({})), ("direct", 109, direct)] {
        let container = world.container();
        let conf = with(&dual(name, number), keys);
        let published = publishing(&conf, &[("tcp", 8000 + u16::from(number), PORT, "")]);
        let result = world.call(Call::add(name, &container).conf(&published)).succeeded();
        let _server = Server::start(&container, &result);
        world.outside.ip(&format!("route add 10.{number}.0.0/24 via {HOST}"));
        world.outside.ip(&format!("-6 route add fd00:{number}::/64 via {HOST6}"));
        let is_direct = name == "direct";
        let within = if is_direct { PATIENCE } else { SILENCE };
        for own in addresses(&result) {
            assert_eq!(ports::tcp(&world.outside, &own, PORT, within), is_direct, "{own}");
            assert_eq!(ports::udp(&world.outside, &own, PORT, within), is_direct, "{own}");
        }
        let port = 8000 + u16::from(number);
        assert!(ports::tcp(&world.outside, HOST, port, PATIENCE), "{name}");
        assert!(ports::tcp(&world.outside, HOST6, port, PATIENCE), "{name}");
    }
}

#[test]
fn a_port_of_one_address_is_of_no_other() {
    let world = with_ipv6(world!());
    let _daemon = world.daemon();
    world.host.ip(&format!("address add 192.0.2.11/24 dev {UPLINK}"));
    let (one, two) = (world.container(), world.container());
    let conf = dual("single", 92);
    let of = |ip| publishing(&conf, &[("tcp", PUBLISHED, PORT, ip)]);
    let first = world.call(Call::add("one", &one).conf(&of(HOST))).succeeded();
    let second = world.call(Call::add("two", &two).conf(&of("192.0.2.11"))).succeeded();
    let (first, second) = (Server::start(&one, &first), Server::start(&two, &second));
    assert!(ports::tcp(&world.outside, HOST, PUBLISHED, PATIENCE));
    assert!(ports::tcp(&world.host, HOST, PUBLISHED, PATIENCE));
    assert!(!first.seen().is_empty() && second.seen().is_empty());
    let before = first.seen().len();
    assert!(ports::tcp(&world.outside, "192.0.2.11", PUBLISHED, PATIENCE));
    assert!(!second.seen().is_empty() && first.seen().len() == before);
    assert!(!ports::tcp(&world.outside, HOST6, PUBLISHED, SILENCE), "by the other family");
    // 0.0.0.0 and :: are every address of their family, and meet those.
    let third = world.container();
    let said = world.call(Call::add("three", &third).conf(&of("0.0.0.0"))).failed_with(101);
    assert!(said.contains("container one") || said.contains("container two"), "{said}");
    let result = world.call(Call::add("three", &third).conf(&of("::"))).succeeded();
    let _server = Server::start(&third, &result);
    assert!(ports::tcp(&world.outside, HOST6, PUBLISHED, PATIENCE), "every IPv6 address");
}

#[test]
fn what_only_passes_by_is_left_alone() {
    let world = with_ipv6(world!());
    // The host is a router already.
    for path in ["ipv4.ip_forward", "ipv6.conf.all.forwarding"] {
        world.host.output("sysctl", &format!("-qw net.{path}=1"));
    }
    let _daemon = world.daemon();
    // Somebody beyond another link of the host, and a client of an open network.
    let beyond = world.container();
    world.host.ip_batch(&format!(
        "link add side type veth peer name side netns {}\n\
         address add 198.51.100.1/24 dev side\naddress add 2001:db8:51::1/64 dev side nodad\n\
         link set side up\n",
        beyond.text()
    ));
    beyond.ip_batch(
        "link set lo up\naddress add 198.51.100.2/24 dev side\n\
         address add 2001:db8:51::2/64 dev side nodad\nlink set side up\n\
         route add default via 198.51.100.1\nroute add default via 2001:db8:51::1\n",
    );
    world.outside.ip(&format!("route add 198.51.100.0/24 via {HOST}"));
    world.outside.ip(&format!("-6 route add 2001:db8:51::/64 via {HOST6}"));
    let (server, client) = (world.container(), world.container());
    let conf = dual("transit", 93);
    // The port of everybody's echo servers is published.
    let all = [("tcp", PORT, PORT, ""), ("udp", PORT, PORT, "")];
    let result = world.call(Call::add("s", &server).conf(&publishing(&conf, &all))).succeeded();
    world.call(Call::add("c", &client).conf(&conf)).succeeded();
    let taker = Server::start(&server, &result);
    for outside in [OUTSIDE, OUTSIDE6] {
        let meant = Echo::serve(&world.outside, outside);
        for (from, name) in [(&client, "container"), (&world.host, "host"), (&beyond, "beyond")] {
            let before = meant.seen().len();
            assert!(ports::tcp(from, outside, PORT, PATIENCE), "TCP from the {name} to {outside}");
            assert!(ports::udp(from, outside, PORT, PATIENCE), "UDP from the {name} to {outside}");
            assert!(meant.seen().len() >= before + 2, "somebody else answered the {name}");
        }
    }
    assert_eq!(taker.seen(), Vec::<IpAddr>::new(), "none of it was sent to the host");
    assert!(ports::tcp(&world.outside, HOST, PORT, PATIENCE), "what was sent to it");
}

#[test]
fn thousands_are_published_at_once() {
    let world = world!();
    let daemon = world.daemon();
    let container = world.container();
    let conf = network("range", "range0", "10.94.0.0/24");
    let range = |protocol| (10_000..12_000).map(move |port| (protocol, port, PORT, ""));
    let all: Vec<_> = range("tcp").chain(range("udp")).collect();
    let conf = publishing(&conf, &all);
    let added = world.call(Call::add("c1", &container).conf(&conf));
    let result = added.succeeded();
    let _server = Server::start(&container, &result);
    for port in [10_000, 10_777, 11_999] {
        assert!(ports::tcp(&world.outside, HOST, port, PATIENCE), "TCP {port}");
        assert!(ports::udp(&world.outside, HOST, port, PATIENCE), "UDP {port}");
    }
    let counted = || sample(&daemon.get("/metrics").1, "cni_published_ports", &[]);
    assert_eq!(counted(), 4000.0);
    let check = with(&conf, json!({ "prevResult": result }));
    world.call(Call::check("c1", &container).conf(&check)).succeeded();
    let gone = world.call(Call::del("c1", &container).conf(&conf));
    gone.succeeded();
    println!("4000 ports: ADD {:?}, DEL {:?}", added.took, gone.took);
    let left = world.host.output("nft", "list map inet quantum port4");
    assert!(!left.contains("elements"), "{left}");
    assert_eq!(counted(), 0.0);
}
