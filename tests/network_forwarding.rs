//! The host forwards while a network of ours has a gateway on it, and is as it was before afterwards. What
//! it has learned from the routers of its own links it keeps, and goes on learning.

use std::net::Ipv6Addr;

use serde_json::{Value, json};

use crate::network_isolation::{HOST6, OUTSIDE6, dual};
use crate::support::conf::{network, with};
use crate::support::daemon::Options;
use crate::support::docker::{Dockerd, id};
use crate::support::eventually::eventually;
use crate::support::frames::{IP6, Mac, Wire, frame, icmp6, ip6, link_local, mac, protocol};
use crate::support::netns::Netns;
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, SILENCE, udp_answers};
use crate::support::world::{HOST, OUTSIDE, UPLINK, World};

const FORWARD4: &str = "ipv4/ip_forward";
const FORWARD6: &str = "ipv6/conf/all/forwarding";
const ROUTER_ADVERTISEMENT: u8 = 134;

fn setting(netns: &Netns, path: &str) -> String {
    netns.output("cat", &format!("/proc/sys/net/{path}")).trim().to_owned()
}

fn set(netns: &Netns, path: &str, value: &str) {
    netns.output("sysctl", &format!("-qw net/{path}={value}"));
}

fn becomes(netns: &Netns, path: &str, value: &str) {
    eventually(&format!("{path} to be {value}"), || (setting(netns, path) == value).then_some(()));
}

/// A host that forwards nothing, whatever the machine does.
fn at_rest(world: &World) {
    for path in [FORWARD4, FORWARD6] {
        set(&world.host, path, "0");
    }
    set(&world.host, &format!("ipv6/conf/{UPLINK}/accept_ra"), "1");
}

/// Removes a network's last container, and its bridge: one that has containers would come back.
fn remove(world: &World, id: &str, container: &Netns, conf: &Value) {
    world.call(Call::del(id, container).conf(conf)).succeeded();
    world.host.ip(&format!("link del {}", conf["bridge"].as_str().expect("a bridge")));
}

fn network6(name: &str, subnet: &str) -> Value {
    let ipam = json!({ "subnet": subnet, "routes": [{ "dst": "::/0" }] });
    with(&network(name, &format!("{name}0"), ""), json!({ "ipam": ipam }))
}

/// The router beyond the uplink.
struct Router {
    wire: Wire,
    mac: Mac,
}

impl Router {
    fn of(world: &World) -> Self {
        let link = world.outside.link(UPLINK).expect("the uplink");
        let mac = mac(link["address"].as_str().expect("a hardware address"));
        Self { wire: Wire::on(&world.outside, UPLINK), mac }
    }

    /// Says that it is a router for so many seconds, and that addresses of `prefix` are on the link.
    fn advertise(&self, lifetime: u16, prefix: Ipv6Addr) {
        let [high, low] = lifetime.to_be_bytes();
        let hour = 3600_u32.to_be_bytes();
        // Reachable time and retransmission timer, not said; then a prefix that is on the link and that
        // addresses are made of.
        let option = [&[3, 4, 64, 0xc0][..], &hour, &hour, &[0; 4], &prefix.octets()].concat();
        let (from, to) = (link_local(self.mac), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
        let body = [&[0; 8][..], &option].concat();
        let message = icmp6((from, to), ROUTER_ADVERTISEMENT, [64, 0, high, low], &body);
        let packet = ip6(from, to, protocol::ICMP6, &message);
        self.wire.send(&frame([0x33, 0x33, 0, 0, 0, 1], self.mac, IP6, &packet));
    }

    /// Has the host learn a prefix; the advertisement is repeated, as those of routers are.
    fn is_believed(&self, world: &World, lifetime: u16, prefix: &str) {
        let prefix: Ipv6Addr = prefix.parse().expect("a prefix");
        let front = prefix.to_string().replace("::", ":");
        eventually(&format!("an address of {prefix}"), || {
            self.advertise(lifetime, prefix);
            let has = world.host.addresses(UPLINK, 6).iter().any(|a| a.starts_with(&front));
            (has && default_route(&world.host).is_some()).then_some(())
        });
    }
}

/// How long the default route that an advertisement brought has left, in seconds.
fn default_route(netns: &Netns) -> Option<u64> {
    let routes = netns.ip_json("-6 route show default proto ra");
    routes.first().map(|route| route["expires"].as_u64().expect("how long it has left"))
}

#[test]
fn a_host_keeps_what_routers_tell_it_while_it_forwards() {
    let world = world!();
    at_rest(&world);
    let accepts = format!("ipv6/conf/{UPLINK}/accept_ra");
    let router = Router::of(&world);
    router.is_believed(&world, 1800, "2001:db8:a::");
    let daemon = world.daemon();
    let conf = network6("router", "fd00:91::/64");
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!(setting(&world.host, FORWARD6), "1");
    assert!(default_route(&world.host).is_some(), "the default route went with the first network");
    assert_eq!(setting(&world.host, &accepts), "2");
    router.is_believed(&world, 9000, "2001:db8:b::");
    assert!(default_route(&world.host) > Some(1800), "a later advertisement says for how long");

    // Another daemon knows it, too.
    daemon.kill();
    let daemon = world.daemon();
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    assert_eq!(setting(&world.host, FORWARD6), "1", "the network is still there");
    world.host.ip("link del router0");
    becomes(&world.host, FORWARD6, "0");
    becomes(&world.host, &accepts, "1");
    assert!(default_route(&world.host).is_some(), "the default route went with the last network");
    router.is_believed(&world, 1800, "2001:db8:c::");

    // And once more: nothing was left behind that makes it another host.
    let again = world.container();
    world.call(Call::add("c2", &again).conf(&conf)).succeeded();
    assert_eq!((setting(&world.host, FORWARD6), setting(&world.host, &accepts)), both("1", "2"));
    router.is_believed(&world, 1800, "2001:db8:d::");
    drop(daemon);
}

fn both(one: &str, two: &str) -> (String, String) {
    (one.to_owned(), two.to_owned())
}

#[test]
fn links_that_forwarded_by_themselves_do_so_afterwards() {
    let world = world!();
    at_rest(&world);
    world.host.ip("link add own0 type veth peer name own1");
    let of_own = "ipv4/conf/own0/forwarding";
    set(&world.host, of_own, "1");
    set(&world.host, "ipv6/conf/own0/forwarding", "1");
    let redirects = "ipv4/conf/all/accept_redirects";
    set(&world.host, redirects, "0");
    let _daemon = world.daemon();
    let (one, two) =
        (network("one", "one0", "10.91.0.0/24"), network("two", "two0", "10.92.0.0/24"));
    let containers = [&one, &two].map(|conf| {
        let container = world.container();
        world.call(Call::add("c", &container).conf(conf)).succeeded();
        container
    });
    let uplink = format!("ipv4/conf/{UPLINK}/forwarding");
    assert_eq!((setting(&world.host, FORWARD4), setting(&world.host, &uplink)), both("1", "1"));
    // With the first of two nothing changes; the second bridge's end is seen after it.
    remove(&world, "c", &containers[0], &one);
    let six = network6("six", "fd00:92::/64");
    let container = world.container();
    world.call(Call::add("c6", &container).conf(&six)).succeeded();
    assert_eq!(setting(&world.host, FORWARD4), "1");
    remove(&world, "c", &containers[1], &two);
    becomes(&world.host, FORWARD4, "0");
    assert_eq!(setting(&world.host, FORWARD6), "1", "that family has a gateway");
    assert_eq!((setting(&world.host, of_own), setting(&world.host, &uplink)), both("1", "0"));
    assert_eq!(setting(&world.host, redirects), "0", "what forwarding itself changes");
    remove(&world, "c6", &container, &six);
    becomes(&world.host, FORWARD6, "0");
    becomes(&world.host, "ipv6/conf/own0/forwarding", "1");
}

#[test]
fn what_others_turned_on_or_rely_on_stays_on() {
    let world = world!();
    at_rest(&world);
    set(&world.host, FORWARD6, "1");
    let mut daemon = world.daemon();
    let conf = network("both", "both0", "");
    let ranges = json!([[{ "subnet": "10.93.0.0/24" }], [{ "subnet": "fd00:93::/64" }]]);
    let conf = with(&conf, json!({ "ipam": { "subnet": null, "routes": null, "ranges": ranges } }));
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!(setting(&world.host, FORWARD4), "1");
    // Somebody else's bridge, which found forwarding on.
    world.host.ip_batch("link add docker0 type bridge\naddress add 172.17.0.1/16 dev docker0\n");
    remove(&world, "c1", &container, &conf);
    let said = |daemon: &crate::support::daemon::Daemon| {
        let log = daemon.log();
        let mut changes = log.iter().filter_map(|record| record["change"].as_str());
        changes.find(|change| change.contains("docker0")).map(str::to_owned)
    };
    let said = eventually("the log to say why it stays on", || said(&daemon));
    assert!(said.contains("left IPv4 forwarding on"), "{said}");
    assert!(daemon.is_running());
    assert_eq!((setting(&world.host, FORWARD4), setting(&world.host, FORWARD6)), both("1", "1"));
    // From now on it is not ours: with the other bridge it does not go either.
    world.host.ip("link del docker0");
    let again = world.container();
    world.call(Call::add("c2", &again).conf(&conf)).succeeded();
    remove(&world, "c2", &again, &conf);
    drop(daemon);
    let _daemon = world.daemon();
    assert_eq!((setting(&world.host, FORWARD4), setting(&world.host, FORWARD6)), both("1", "1"));
}

#[test]
fn an_add_turns_it_on_itself() {
    let world = world!();
    let _daemon = world.daemon_that_mends_nothing();
    crate::network_isolation::connect(&world, &[]);
    let conf = dual("both", 97, json!({}));
    let first = world.container();
    world.call(Call::add("first", &first).conf(&conf)).succeeded();
    let _outside = [OUTSIDE, OUTSIDE6].map(|address| Echo::serve(&world.outside, address));
    for path in [FORWARD4, FORWARD6, "ipv4/conf/both0/forwarding"] {
        set(&world.host, path, "0");
    }
    world.host.ip("link set both0 down");
    world.host.ip("address add fd00:97::1/64 dev both0 nodad");
    let second = world.container();
    world.call(Call::add("second", &second).conf(&conf)).succeeded();
    for container in [&first, &second] {
        for to in [OUTSIDE, OUTSIDE6] {
            assert!(udp_answers(container, to, PATIENCE), "{to}");
        }
    }
}

#[test]
fn dockers_last_network_gives_it_back() {
    let world = world!();
    at_rest(&world);
    let (_daemon, dockerd) = Dockerd::start(&world);
    let network = dockerd.create_network('a', 94, json!({}));
    let container = dockerd.run(&network, 'b', "10.94.0.2/24", &json!([]));
    assert_eq!(setting(&world.host, FORWARD4), "1");
    dockerd.stop(container);
    dockerd.ok("NetworkDriver.DeleteNetwork", json!({ "NetworkID": id('a') }));
    assert_eq!(setting(&world.host, FORWARD4), "0");
}

/// A second link of the host, to a machine of a LAN of its own.
fn second_link(world: &World, name: &str, network: &str) -> Netns {
    let machine = world.container();
    world.host.ip(&format!("link add {name} type veth peer name eth0 netns {}", machine.text()));
    for (netns, link, last, prefix6) in
        [(&world.host, name, 1, "fd00:5e::1"), (&machine, "eth0", 2, "fd00:5e::2")]
    {
        netns.ip_batch(&format!(
            "address add {network}.{last}/24 dev {link}\n\
             address add {prefix6}/64 dev {link} nodad\nlink set {link} up\n"
        ));
    }
    machine.ip(&format!("route add default via {network}.1"));
    machine.ip("-6 route add default via fd00:5e::1");
    machine
}

#[test]
fn a_host_that_was_no_router_does_not_become_one_between_its_links() {
    let world = world!();
    at_rest(&world);
    world.host.ip(&format!("address add {HOST6}/64 dev {UPLINK} nodad"));
    world.outside.ip(&format!("address add {OUTSIDE6}/64 dev {UPLINK} nodad"));
    world.outside.ip(&format!("route add 10.94.0.0/16 via {HOST}"));
    world.outside.ip(&format!("-6 route add fd00:5e::/64 via {HOST6}"));
    let lan = second_link(&world, "lan0", "10.94.1");
    let of = |netns: &Netns, addresses: [&str; 2]| addresses.map(|at| Echo::serve(netns, at));
    let _served = [
        of(&world.outside, [OUTSIDE, OUTSIDE6]),
        of(&world.host, [HOST, HOST6]),
        of(&lan, ["10.94.1.2", "fd00:5e::2"]),
    ];
    let reaches = udp_answers;
    let daemon = world.daemon();
    let conf = dual("router", 95, json!({}));
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!((setting(&world.host, FORWARD4), setting(&world.host, FORWARD6)), both("1", "1"));
    assert!(reaches(&container, "10.94.1.2", PATIENCE), "containers reach what the host reaches");
    assert!(reaches(&container, "fd00:5e::2", PATIENCE), "by IPv6, too");
    for (from, to) in [
        (&lan, OUTSIDE),
        (&lan, OUTSIDE6),
        (&world.outside, "10.94.1.2"),
        (&world.outside, "fd00:5e::2"),
    ] {
        assert!(!reaches(from, to, SILENCE), "to {to}, between the host's links");
    }
    assert!(reaches(&lan, HOST, PATIENCE) && reaches(&lan, HOST6, PATIENCE), "the host itself");

    // Somebody's bridge that came later is there in order to be forwarded for.
    let other = second_link(&world, "docker0", "10.94.2");
    assert!(reaches(&other, OUTSIDE, PATIENCE), "what others route for");
    assert!(reaches(&other, "10.94.1.2", PATIENCE), "what others route for");

    // Another daemon knows it, too.
    daemon.kill();
    let daemon = world.daemon();
    assert!(!reaches(&lan, OUTSIDE, SILENCE) && !reaches(&lan, OUTSIDE6, SILENCE));
    drop(daemon);
    let _daemon = world.daemon_with(Options::default().args("--forward-between-links true"));
    eventually("the links to be forwarded between", || {
        (reaches(&lan, OUTSIDE, SILENCE) && reaches(&lan, OUTSIDE6, SILENCE)).then_some(())
    });
}

#[test]
fn a_host_that_was_a_router_goes_on_being_one() {
    let world = world!();
    set(&world.host, FORWARD4, "1");
    world.outside.ip(&format!("route add 10.94.0.0/16 via {HOST}"));
    let lan = second_link(&world, "lan0", "10.94.1");
    let _daemon = world.daemon();
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&dual("router", 96, json!({})))).succeeded();
    assert!(ping(&lan, OUTSIDE, PATIENCE));
}
