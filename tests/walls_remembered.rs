//! What was allowed once is remembered for its connection. The same five numbers are sent by every other
//! path: to the host and then to a neighbour, to everybody, to groups, in every order. Whom policy or posture
//! does not let receive it does not receive it the second time either.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};

use serde_json::json;

use crate::network_isolation::{HOST6, OUTSIDE6, v4, v6};
use crate::policy_live::network_policy;
use crate::support::ctl::apply;
use crate::support::eventually::eventually;
use crate::support::forged::{ALL_NODES, Side};
use crate::support::frames::{
    EVERYBODY, IP4, IP6, Mac, frame, icmp4, icmp6, ip, link_local, mark, protocol, tcp, udp,
};
use crate::support::netns::Netns;
use crate::support::world::{HOST, OUTSIDE, World};
use crate::walls_probes::{Expect, Report, Volley, Watch};
use crate::walls_town::{Place, Town, Way};

const AT: u16 = 7300;
/// So often the same is sent.
const TIMES: usize = 5;
const GROUPS: [&str; 8] = [
    "255.255.255.255",
    "224.0.0.1",
    "224.0.0.251",
    "239.1.2.3",
    "ff02::1",
    "ff02::fb",
    "ff05::1",
    "ff02::1:2",
];
const SYN: u8 = 2;

/// `x` sends; `db` and `other` are its neighbours. In the isolated network nobody may send to db, in the other
/// one nobody to anybody, but x to everybody.
fn town(world: World, way: Way, number: u8, posture: &str) -> Town {
    let mut town = Town::new(world, way, &[number]);
    let keys = json!({ "ipMasq": false, "policy": { "posture": posture } });
    for name in ["x", "db", "other"] {
        town.add(name, ("shop", number), keys.clone());
    }
    let who = |app: &str| json!({ "matchLabels": { "app": app } });
    let closed = json!({ "podSelector": who("db"), "policyTypes": ["Ingress"], "ingress": [] });
    let blocks = ["0.0.0.0/0", "::/0"].map(|cidr| json!({ "ipBlock": { "cidr": cidr } }));
    let sends = json!({ "podSelector": who("x"), "policyTypes": ["Egress"],
        "egress": [{ "to": blocks }] });
    match posture {
        "isolated" => apply(&town.world, &network_policy("closed", closed)),
        _ => apply(&town.world, &network_policy("sends", sends)),
    }
    town
}

/// The same of zero-trust without any policy: there only the host speaks, to see who lives.
fn probed(world: World, way: Way, number: u8) -> Town {
    let mut town = Town::new(world, way, &[]);
    for name in ["x", "db"] {
        town.add(name, ("shop", number), json!({ "policy": { "posture": "zero-trust" } }));
    }
    town
}

/// A socket bound to an address, a port and a link, which may send to everybody.
pub(crate) fn socket(netns: &Netns, own: IpAddr, port: u16, link: &str) -> UdpSocket {
    netns.run(|| {
        let index = nix::net::if_::if_nametoindex(link).expect(link);
        let at = match own {
            IpAddr::V6(own) if own.is_unicast_link_local() => {
                SocketAddr::V6(SocketAddrV6::new(own, port, 0, index))
            }
            own => SocketAddr::new(own, port),
        };
        // A link-local address is not there before nobody else was found to have it.
        let socket = eventually(&format!("a socket at {at}"), || UdpSocket::bind(at).ok());
        socket.set_broadcast(true).expect("allowed");
        let option = nix::sys::socket::sockopt::BindToDevice;
        nix::sys::socket::setsockopt(&socket, option, &link.into()).expect("bound to a link");
        socket
    })
}

pub(crate) fn to(address: IpAddr, netns: &Netns, link: &str) -> SocketAddr {
    let index = netns.run(|| nix::net::if_::if_nametoindex(link).expect(link));
    match address {
        IpAddr::V6(address) => SocketAddr::V6(SocketAddrV6::new(address, AT, 0, index)),
        address => SocketAddr::new(address, AT),
    }
}

pub(crate) fn all_groups(broadcast: Ipv4Addr) -> Vec<IpAddr> {
    let groups = GROUPS.map(|group| group.parse().expect("a group"));
    groups.into_iter().chain([broadcast.into()]).collect()
}

/// Ordinary sockets that send the same several times to everybody; nobody else needs a capability either.
fn by_sockets(town: &Town, from: &'static str, expect: &[Expect], report: &mut Report) {
    let (x, db, other) = (town.place(from), town.place("db"), town.place("other"));
    let mut volley = Volley::default();
    let mut send = Vec::new();
    for group in all_groups(town.broadcast(from)) {
        for own in [x.me.v4.into(), x.me.v6.into(), link_local(x.me.mac).into()] {
            if IpAddr::is_ipv4(&own) != group.is_ipv4() {
                continue;
            }
            let socket = socket(x.netns, own, 0, x.link);
            for time in 1..=TIMES {
                let kind = format!("by a socket, to {group}");
                volley.add(kind, format!("from {own}, time {time}"), vec![], expect.to_vec());
                let again = socket.try_clone().expect("a second descriptor");
                send.push((again, to(group, x.netns, x.link)));
            }
        }
    }
    let wall = format!("{from} in {:?}", town.way);
    let watches = &mut [Watch::link(&db), Watch::link(&other)];
    volley.fire_by(&wall, &[&x], watches, report, |n| {
        let (socket, to) = &send[n];
        let mark = mark(u16::try_from(n).expect("a number"));
        socket.send_to(&mark, to).expect("sent");
    });
}

/// What a packet carries: the same five numbers each time, and its own mark.
#[derive(Debug, Clone, Copy)]
enum Load {
    Udp,
    Syn,
    Echo,
}

fn packet(load: Load, from: IpAddr, to: IpAddr, port: u16, number: u16) -> Vec<u8> {
    let mark = mark(number);
    let (protocol, payload) = match (load, from, to) {
        (Load::Udp, ..) => (protocol::UDP, udp((from, port), (to, AT), &mark)),
        (Load::Syn, ..) => (protocol::TCP, tcp((from, port), (to, AT), SYN, &mark)),
        (Load::Echo, IpAddr::V6(from), IpAddr::V6(to)) => {
            let [high, low] = port.to_be_bytes();
            (protocol::ICMP6, icmp6((from, to), 128, [high, low, 0, 1], &mark))
        }
        (Load::Echo, ..) => {
            let [high, low] = port.to_be_bytes();
            (protocol::ICMP4, icmp4(8, 0, [high, low, 0, 1], &mark))
        }
    };
    ip(from, to, protocol, &payload)
}

/// Every order of these.
fn orders<T: Copy>(all: &[T]) -> Vec<Vec<T>> {
    if all.is_empty() {
        return vec![vec![]];
    }
    let each = all.iter().enumerate().flat_map(|(n, first)| {
        let rest: Vec<T> = [&all[..n], &all[n + 1..]].concat();
        orders(&rest).into_iter().map(move |order| [&[*first][..], &order].concat())
    });
    each.collect()
}

/// One packet in frames to the host, to db, to its neighbour, to everybody and to a group, in every order; and
/// none of it is for db.
fn by_frames(town: &Town, report: &mut Report) {
    let (x, db, other) = (town.place("x"), town.place("db"), town.place("other"));
    let frames = |group: Mac| {
        [
            ("the gateway", x.gateway.mac),
            ("db", db.me.mac),
            ("other", other.me.mac),
            ("everybody", EVERYBODY),
            ("a group", group),
        ]
    };
    let four = [
        x.gateway.v4,
        v4(HOST),
        v4(OUTSIDE),
        other.me.v4,
        db.me.v4,
        Ipv4Addr::BROADCAST,
        town.broadcast("x"),
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::new(239, 1, 2, 3),
    ];
    let six = [
        x.gateway.v6,
        v6(HOST6),
        v6(OUTSIDE6),
        other.me.v6,
        db.me.v6,
        link_local(x.gateway.mac),
        link_local(db.me.mac),
        ALL_NODES,
        v6("ff02::fb"),
        v6("ff05::1"),
    ];
    let receivers = four.map(IpAddr::V4).into_iter().chain(six.map(IpAddr::V6));
    let mut port = 10_000;
    for receiver in receivers {
        let mut volley = Volley::default();
        for load in [Load::Udp, Load::Syn, Load::Echo] {
            let (own, kind, group) = match receiver {
                IpAddr::V4(_) => (IpAddr::V4(x.me.v4), IP4, [1, 0, 0x5e, 0, 0, 1]),
                IpAddr::V6(_) => (IpAddr::V6(x.me.v6), IP6, [0x33, 0x33, 0, 0, 0, 1]),
            };
            for order in orders(&frames(group)) {
                port += 1;
                let mut before = Vec::new();
                for (whom, mac) in order {
                    let packet = packet(load, own, receiver, port, volley.next());
                    let what = format!("{load:?} in a frame to {whom}, after {before:?}");
                    let name = name_of(receiver, &x, &db.me, &other.me);
                    let kind_of = format!("packet to {name} in a frame to {whom}");
                    volley.add(
                        kind_of,
                        what,
                        vec![frame(mac, x.me.mac, kind, &packet)],
                        vec![Expect::Never],
                    );
                    before.push(whom);
                }
            }
        }
        let wall = format!("x to db in {:?}", town.way);
        volley.fire(&wall, &x, &mut [Watch::link(&db)], report);
    }
}

/// What x may say to the host only, because the host has asked: in frames to the host, to db, to everybody and to
/// a group, in every order.
fn by_answers(town: &Town, report: &mut Report) {
    let (x, db) = (town.place("x"), town.place("db"));
    let mut port = 10_000;
    for (own, host, kind) in [
        (IpAddr::V4(x.me.v4), IpAddr::V4(x.gateway.v4), IP4),
        (x.me.v6.into(), x.gateway.v6.into(), IP6),
    ] {
        let asks = town.world.host.run(|| UdpSocket::bind((host, AT)).expect("a socket"));
        let group = if host.is_ipv4() { [1, 0, 0x5e, 0, 0, 1] } else { [0x33, 0x33, 0, 0, 0, 1] };
        let whom = [
            ("the gateway", x.gateway.mac),
            ("db", db.me.mac),
            ("everybody", EVERYBODY),
            ("a group", group),
        ];
        let mut volley = Volley::default();
        for order in orders(&whom) {
            port += 1;
            asks.send_to(b"a question", (own, port)).expect("sent");
            for (whom, mac) in order {
                let packet = packet(Load::Udp, own, host, port, volley.next());
                let answered = if whom == "the gateway" { Expect::Must } else { Expect::May };
                let frames = vec![frame(mac, x.me.mac, kind, &packet)];
                let what = format!("from {own} port {port}");
                volley.add(
                    format!("an answer in a frame to {whom}"),
                    what,
                    frames,
                    vec![Expect::Never, answered],
                );
            }
        }
        let watches = &mut [Watch::link(&db), Watch::of("the host's socket", vec![asks])];
        volley.fire(&format!("x in {:?}", town.way), &x, watches, report);
    }
}

fn name_of(receiver: IpAddr, x: &Place<'_>, db: &Side, other: &Side) -> String {
    let is = |side: &Side| {
        [IpAddr::V4(side.v4), side.v6.into(), link_local(side.mac).into()].contains(&receiver)
    };
    match receiver {
        _ if is(&x.gateway) => "the gateway".to_owned(),
        _ if is(db) => "db".to_owned(),
        _ if is(other) => "other".to_owned(),
        _ => receiver.to_string(),
    }
}

/// What must arrive does: so that silence means something.
fn control(town: &Town, report: &mut Report) {
    let x = town.place("x");
    let mut volley = Volley::default();
    for (own, to) in
        [(IpAddr::V4(x.me.v4), IpAddr::V4(v4(OUTSIDE))), (x.me.v6.into(), v6(OUTSIDE6).into())]
    {
        let kind = if own.is_ipv4() { IP4 } else { IP6 };
        for load in [Load::Udp, Load::Syn, Load::Echo] {
            let packet = packet(load, own, to, 9000, volley.next());
            volley.add(
                "to the world",
                format!("{load:?}"),
                vec![frame(x.gateway.mac, x.me.mac, kind, &packet)],
                vec![Expect::Must],
            );
        }
    }
    volley.fire("x", &x, &mut [Watch::link(&town.place("outside"))], report);
}

fn nothing_is_remembered_for_another(town: &Town) {
    let mut report = Report::default();
    by_sockets(town, "x", &[Expect::Never, Expect::Never], &mut report);
    by_frames(town, &mut report);
    control(town, &mut report);
    report.is_clean();
}

#[test]
fn who_receives_from_nobody_receives_nothing_that_another_was_allowed() {
    nothing_is_remembered_for_another(&town(world!(), Way::Bridged, 50, "isolated"));
}

#[test]
fn in_zero_trust_what_the_world_may_be_sent_no_neighbour_receives() {
    nothing_is_remembered_for_another(&town(world!(), Way::Bridged, 52, "zero-trust"));
}

#[test]
fn who_receives_from_nobody_receives_nothing_where_the_host_routes() {
    nothing_is_remembered_for_another(&town(world!(), Way::Routed, 54, "isolated"));
}

#[test]
fn in_zero_trust_no_neighbour_receives_it_where_the_host_routes() {
    nothing_is_remembered_for_another(&town(world!(), Way::Routed, 56, "zero-trust"));
}

#[test]
fn what_the_host_has_asked_for_no_neighbour_receives() {
    for (way, number) in [(Way::Bridged, 58), (Way::Routed, 59)] {
        let mut report = Report::default();
        by_answers(&probed(world!(), way, number), &mut report);
        report.is_clean();
    }
}
