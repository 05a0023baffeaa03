//! Isolation between networks: who reaches whom in which posture, by real packets of both families.
//!
//! ```text
//!   c1, c2 ── first0  ┐
//!   c3     ── second0 ┴ host 192.0.2.1 ── 192.0.2.2 outside
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};

use crate::network_routed::without_br_netfilter;
use crate::support::conf::{network, with};
use crate::support::eventually::eventually;
use crate::support::forged::{ALL_NODES, ANSWERS, ASKS};
use crate::support::frames::{
    EVERYBODY, IP4, IP6, Wire, frame, icmp6, ip4, ip6, mac, mark, option, protocol, udp,
};
use crate::support::inventory::nft_elements;
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, SILENCE, tcp_answers, udp_answers};
use crate::support::world::{HOST, OUTSIDE, UPLINK, World};

const CHECK_FAILED: u64 = 105;
const INVALID_CONFIG: u64 = 7;
pub(crate) const HOST6: &str = "2001:db8:ffff::1";
pub(crate) const OUTSIDE6: &str = "2001:db8:ffff::2";

/// A network of both families.
pub(crate) fn dual(name: &str, number: u8, keys: Value) -> Value {
    let ranges = json!([[{ "subnet": format!("10.{number}.0.0/24") }],
                        [{ "subnet": format!("fd00:{number}::/64") }]]);
    let routes = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
    let ipam = json!({ "subnet": null, "ranges": ranges, "routes": routes });
    with(&with(&network(name, &format!("{name}0"), ""), json!({ "ipam": ipam })), keys)
}

/// A container and what it is.
pub(crate) struct Attached {
    pub(crate) netns: Netns,
    pub(crate) mac: [u8; 6],
    pub(crate) bridge: [u8; 6],
    /// IPv4, then IPv6.
    pub(crate) addresses: [String; 2],
    pub(crate) gateways: [String; 2],
    pub(crate) result: Value,
}

pub(crate) fn attach(world: &World, id: &str, conf: &Value) -> Attached {
    attach_as(world, id, conf, "")
}

/// The same with CNI_ARGS.
pub(crate) fn attach_as(world: &World, id: &str, conf: &Value, args: &str) -> Attached {
    let netns = world.container();
    let add = Call::add(id, &netns).conf(conf).var("CNI_ARGS", args);
    let result = world.call(add).succeeded();
    let part = |at: usize, key: &str| {
        let text = result["ips"][at][key].as_str().expect("an address");
        text.split('/').next().expect("its front").to_owned()
    };
    let hardware = |at: usize| mac(result["interfaces"][at]["mac"].as_str().expect("a MAC"));
    Attached {
        mac: hardware(2),
        bridge: hardware(0),
        addresses: [0, 1].map(|at| part(at, "address")),
        gateways: [0, 1].map(|at| part(at, "gateway")),
        netns,
        result,
    }
}

pub(crate) fn v4(text: &str) -> Ipv4Addr {
    text.parse().expect("an IPv4 address")
}

pub(crate) fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an IPv6 address")
}

/// Gives host and outside IPv6 on their link, and outside a way to a network's containers.
pub(crate) fn connect(world: &World, numbers: &[u8]) {
    world.host.ip(&format!("address add {HOST6}/64 dev {UPLINK} nodad"));
    world.host.ip(&format!("route add default via {OUTSIDE6}"));
    world.outside.ip(&format!("address add {OUTSIDE6}/64 dev {UPLINK} nodad"));
    for number in numbers {
        world.outside.ip(&format!("route add 10.{number}.0.0/24 via {HOST}"));
        world.outside.ip(&format!("route add fd00:{number}::/64 via {HOST6}"));
    }
}

/// `from` reaches each of these, by UDP and TCP.
#[track_caller]
pub(crate) fn reaches(from: &Netns, netns: &Netns, addresses: &[String]) {
    for to in addresses {
        let _echo = Echo::serve(netns, to);
        assert!(udp_answers(from, to, PATIENCE), "{to} by UDP");
        assert!(tcp_answers(from, to, PATIENCE), "{to} by TCP");
    }
}

/// Nothing of what `from` sends comes to these.
#[track_caller]
fn does_not_reach(from: &Netns, netns: &Netns, addresses: &[String]) {
    for to in addresses {
        let echo = Echo::serve(netns, to);
        assert!(!udp_answers(from, to, SILENCE), "{to} by UDP");
        assert!(!tcp_answers(from, to, SILENCE), "{to} by TCP");
        assert_eq!(echo.seen(), [] as [IpAddr; 0], "{to} was asked");
    }
}

#[test]
fn isolated_networks_are_apart_and_within_themselves_together() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[]);
    let (first, second) = (dual("first", 101, json!({})), dual("second", 102, json!({})));
    let (c1, c2) = (attach(&world, "c1", &first), attach(&world, "c2", &first));
    let c3 = attach(&world, "c3", &second);
    reaches(&c1.netns, &c2.netns, &c2.addresses);
    does_not_reach(&c1.netns, &c3.netns, &c3.addresses);
    does_not_reach(&c3.netns, &c1.netns, &c1.addresses);
    // The gateway of another network is an address of the host, and belongs to that network.
    does_not_reach(&c1.netns, &world.host, &c3.gateways);
    does_not_reach(&c3.netns, &world.host, &c1.gateways);
    let host = [HOST, HOST6].map(str::to_owned);
    reaches(&c1.netns, &world.host, &c1.gateways);
    reaches(&c1.netns, &world.host, &host);
    reaches(&world.host, &c1.netns, &c1.addresses);
    reaches(&world.host, &c3.netns, &c3.addresses);
    // What they send to the world is the host's; nobody there has a way to them.
    for (to, host) in [(OUTSIDE, HOST), (OUTSIDE6, HOST6)] {
        let outside = Echo::serve(&world.outside, to);
        assert!(udp_answers(&c1.netns, to, PATIENCE) && tcp_answers(&c3.netns, to, PATIENCE));
        let host: IpAddr = host.parse().expect("an address");
        assert!(outside.seen().iter().all(|peer| *peer == host), "{:?}", outside.seen());
    }
}

#[test]
fn another_networks_bridge_is_no_way_to_it() {
    let world = world!();
    let _daemon = world.daemon();
    let (first, second) = (dual("left", 103, json!({})), dual("right", 104, json!({})));
    let (c1, c2) = (attach(&world, "c1", &first), attach(&world, "c2", &first));
    let c3 = attach(&world, "c3", &second);
    let wire = Wire::on(&c1.netns, "eth0");
    let mut there = Wire::on(&c3.netns, "eth0");
    let send = |whom: [u8; 6], to: &Attached, number: u16| {
        let [from4, from6] = [v4(&c1.addresses[0]).into(), v6(&c1.addresses[1]).into()];
        let [to4, to6] = [v4(&to.addresses[0]).into(), v6(&to.addresses[1]).into()];
        let four = udp((from4, 5), (to4, 6), &mark(number));
        let six = udp((from6, 5), (to6, 6), &mark(number));
        let four = ip4(v4(&c1.addresses[0]), v4(&to.addresses[0]), protocol::UDP, &four);
        let six = ip6(v6(&c1.addresses[1]), v6(&to.addresses[1]), protocol::UDP, &six);
        wire.send(&frame(whom, c1.mac, IP4, &four));
        wire.send(&frame(whom, c1.mac, IP6, &six));
    };
    // The host knows where c3 is, so that nothing waits for that.
    reaches(&world.host, &c3.netns, &c3.addresses);
    for (number, whom) in (0..).zip([c1.bridge, c3.bridge, c3.mac]) {
        send(whom, &c3, number);
    }
    let mut neighbour = Wire::on(&c2.netns, "eth0");
    send(c2.mac, &c2, 9);
    eventually("both packets at the neighbour", || (neighbour.seen(9) >= 2).then_some(()));
    for number in 0..3 {
        assert_eq!(there.seen(number), 0, "by way {number}");
    }
}

#[test]
fn a_network_that_cannot_be_prepared_opens_no_other() {
    let world = world!();
    let _daemon = world.daemon();
    let closed = || world.host.output("nft", "list set inet quantum closed");
    let conf = dual("kept", 61, json!({}));
    let _kept = attach(&world, "kept", &conf);
    assert!(closed().contains("kept0"), "{}", closed());
    let mut other = dual("other", 62, json!({ "policy": { "posture": "open" } }));
    other["bridge"] = json!("kept0");
    let container = world.container();
    world.call(Call::add("other", &container).conf(&other)).failed_with(7);
    assert!(closed().contains("kept0"), "{}", closed());
}

#[test]
fn from_outside_containers_are_reached_where_that_is_said() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[105, 106, 107]);
    // Without masquerade, so that answers are as they were asked for.
    let conf = |name, number, policy: Value| {
        dual(name, number, json!({ "ipMasq": false, "policy": policy }))
    };
    let shut = attach(&world, "c1", &conf("shut", 105, json!({})));
    let direct = attach(&world, "c2", &conf("direct", 106, json!({ "directAccess": true })));
    let open = attach(&world, "c3", &conf("open", 107, json!({ "posture": "open" })));
    does_not_reach(&world.outside, &shut.netns, &shut.addresses);
    reaches(&world.outside, &direct.netns, &direct.addresses);
    reaches(&world.outside, &open.netns, &open.addresses);
    // Whoever asks the world is answered.
    reaches(&shut.netns, &world.outside, &[OUTSIDE, OUTSIDE6].map(str::to_owned));
    // Other networks are not the outside, and an open one is open to those that are not isolated.
    does_not_reach(&open.netns, &direct.netns, &direct.addresses);
    does_not_reach(&shut.netns, &open.netns, &open.addresses);
    does_not_reach(&open.netns, &shut.netns, &shut.addresses);
    let other =
        attach(&world, "c4", &dual("ajar", 108, json!({ "policy": { "posture": "open" } })));
    reaches(&open.netns, &other.netns, &other.addresses);
    reaches(&other.netns, &open.netns, &open.addresses);
}

#[test]
fn the_firewall_plugins_words_mean_the_same() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[]);
    let conf = |name, number, word: &str| dual(name, number, json!({ "ingressPolicy": word }));
    let (alone, same) = (conf("alone", 111, "isolated"), conf("same", 112, "same-bridge"));
    let (a1, a2) = (attach(&world, "a1", &alone), attach(&world, "a2", &alone));
    let (s1, s2) = (attach(&world, "s1", &same), attach(&world, "s2", &same));
    let (o1, o2) = (conf("any", 113, "open"), conf("all", 114, "open"));
    let (o1, o2) = (attach(&world, "o1", &o1), attach(&world, "o2", &o2));
    does_not_reach(&a1.netns, &a2.netns, &a2.addresses);
    reaches(&a1.netns, &world.host, &a1.gateways);
    reaches(&world.host, &a1.netns, &a1.addresses);
    reaches(&a1.netns, &world.outside, &[OUTSIDE, OUTSIDE6].map(str::to_owned));
    reaches(&s1.netns, &s2.netns, &s2.addresses);
    reaches(&o1.netns, &o2.netns, &o2.addresses);
    for (one, other) in [(&a1, &s1), (&s1, &a1), (&s1, &o1), (&o1, &s1), (&o1, &a1)] {
        does_not_reach(&one.netns, &other.netns, &other.addresses);
    }
    let container = world.container();
    let unknown = conf("unknown", 115, "half-open");
    let said = world.call(Call::add("c1", &container).conf(&unknown)).failed_with(INVALID_CONFIG);
    assert!(said.contains("half-open"), "{said}");
}

#[test]
fn multicast_and_neighbours_see_the_source_as_it_is() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("group", 124, json!({}));
    let (c1, c2) = (attach(&world, "c1", &conf), attach(&world, "c2", &conf));
    for (netns, addresses) in [(&c2.netns, &c2.addresses), (&world.host, &c1.gateways)] {
        for (to, own) in addresses.iter().zip(&c1.addresses) {
            let echo = Echo::serve(netns, to);
            assert!(udp_answers(&c1.netns, to, PATIENCE) && tcp_answers(&c1.netns, to, PATIENCE));
            let own: IpAddr = own.parse().expect("an address");
            assert!(echo.seen().iter().all(|peer| *peer == own), "{:?}", echo.seen());
        }
    }
    for (at, family) in [("239.1.2.3:7300", 0), ("[ff05::1234]:7300", 1)] {
        let at: SocketAddr = at.parse().expect("an address");
        let (any, own) = match at.ip() {
            IpAddr::V4(_) => ("0.0.0.0:7300", v4(&c1.addresses[0]).into()),
            IpAddr::V6(_) => ("[::]:7300", IpAddr::V6(v6(&c1.addresses[1]))),
        };
        let join = |netns: &Netns, link: &str| {
            let index = netns.run(|| nix::net::if_::if_nametoindex(link).expect("a link"));
            let socket = netns.run(|| UdpSocket::bind(any).expect("a socket"));
            let address = netns.addresses(link, if family == 0 { 4 } else { 6 })[0].clone();
            match at.ip() {
                IpAddr::V4(group) => {
                    let own = v4(address.split('/').next().expect("its front"));
                    netns.run(|| socket.join_multicast_v4(&group, &own)).expect("joined");
                }
                IpAddr::V6(group) => {
                    netns.run(|| socket.join_multicast_v6(&group, index)).expect("joined");
                }
            }
            socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a bound");
            socket
        };
        let sender = join(&c1.netns, "eth0");
        for receiver in [join(&c2.netns, "eth0"), join(&world.host, "group0")] {
            let peer = eventually("a datagram to the group", || {
                sender.send_to(b"to all", at).expect("sent");
                receiver.recv_from(&mut [0; 16]).ok()
            });
            assert_eq!(peer.1.ip(), own, "{at}");
        }
    }
}

#[test]
fn a_del_without_namespace_and_configuration_takes_all_elements_with_it() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("brief", 125, json!({}));
    let stays = attach(&world, "c0", &conf);
    let before = nft_elements(&world.host);
    let c = attach(&world, "c1", &conf);
    assert!(nft_elements(&world.host).len() > before.len());
    let named = json!({ "cniVersion": "1.0.0", "name": "brief", "type": "quantum-cni" });
    let gone = Call::del("c1", &c.netns).without("CNI_NETNS").conf(&named);
    world.call(gone).succeeded();
    assert_eq!(nft_elements(&world.host), before);
    reaches(&world.host, &stays.netns, &stays.addresses);
}

#[test]
fn check_notices_a_bridge_that_does_not_filter_any_more() {
    let world = world!();
    let _daemon = world.daemon();
    if !world.host.run(|| std::path::Path::new("/proc/sys/net/bridge").exists()) {
        return crate::support::skip("needs br_netfilter");
    }
    let conf = dual("unseen", 126, json!({}));
    let c = attach(&world, "c1", &conf);
    let check = Call::check("c1", &c.netns).conf(&with(&conf, json!({ "prevResult": c.result })));
    world.call(check.clone()).succeeded();
    for (key, family) in [("nf_call_iptables", "IPv4"), ("nf_call_ip6tables", "IPv6")] {
        world.host.ip(&format!("link set unseen0 type bridge {key} 0"));
        let said = world.call(check.clone()).failed_with(CHECK_FAILED);
        assert!(said.contains("unseen0") && said.contains(family), "{said}");
        world.host.ip(&format!("link set unseen0 type bridge {key} 1"));
        world.call(check.clone()).succeeded();
    }
}

#[test]
fn those_who_are_to_be_alone_are_so_without_rules_between_them() {
    let world = world!();
    without_br_netfilter(&world);
    let _daemon = world.daemon();
    let keys = json!({ "ingressPolicy": "isolated", "policy": { "enforcement": "none" } });
    let conf = dual("apart", 127, keys);
    let (c1, c2) = (attach(&world, "c1", &conf), attach(&world, "c2", &conf));
    does_not_reach(&c1.netns, &c2.netns, &c2.addresses);
    reaches(&c1.netns, &world.host, &c1.gateways);
    reaches(&world.host, &c2.netns, &c2.addresses);
    let check = with(&conf, json!({ "prevResult": c1.result }));
    world.call(Call::check("c1", &c1.netns).conf(&check)).succeeded();
}

#[test]
fn neighbours_are_found_also_where_they_are_not_reached() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("hermit", 128, json!({ "ingressPolicy": "isolated" }));
    let (c1, c2) = (attach(&world, "c1", &conf), attach(&world, "c2", &conf));
    let wire = Wire::on(&c1.netns, "eth0");
    let mut there = Wire::on(&c2.netns, "eth0");
    let own = v6(&c1.addresses[1]);
    let says = |from: Ipv6Addr, kind, target: Ipv6Addr, number| {
        let body = [&target.octets()[..], &option(mark(number))].concat();
        let message = icmp6((from, ALL_NODES), kind, [0; 4], &body);
        frame(EVERYBODY, c1.mac, IP6, &ip6(from, ALL_NODES, protocol::ICMP6, &message))
    };
    let echo = says(own, 128, own, 1);
    let asks = says(own, ASKS, v6(&c2.addresses[1]), 2);
    let asks_for_itself = says(Ipv6Addr::UNSPECIFIED, ASKS, own, 3);
    let answers = says(own, ANSWERS, own, 4);
    for frame in [echo, asks, asks_for_itself, answers] {
        wire.send(&frame);
    }
    for number in 2..5 {
        there.wait_for(number, &format!("neighbour discovery, {number}"));
    }
    assert_eq!(there.seen(1), 0, "an echo is not that");
}
