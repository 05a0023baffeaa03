//! The frame's hardware address and the packet's address are of the same one: whoever sends to a container's
//! hardware address what is for another address goes round the policy that is asked for that address. What is
//! delivered as a frame to one port is for an address of that port.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use serde_json::json;

use crate::network_isolation::{OUTSIDE6, v4, v6};
use crate::policy_live::network_policy;
use crate::support::ctl::apply;
use crate::support::forged::{ALL_NODES, ANSWERS, ASKS, Side, answer};
use crate::support::frames::{
    ARP, EVERYBODY, IP4, IP6, Mac, arp, frame, icmp6, ip4, ip6, link_local, mark, option, protocol,
    udp,
};
use crate::support::world::{OUTSIDE, World};
use crate::walls_probes::{Expect, Report, Volley, Watch};
use crate::walls_town::{Place, Town, Way};

/// The port of the sockets that listen at every address.
const AT: u16 = 7514;
/// What db has besides: an address of a second interface, and addresses of no network of ours.
const SECOND: [&str; 2] = ["172.17.0.5", "fd99::5"];
const LOOPBACK: [&str; 2] = ["172.18.0.1", "fd98::1"];
const LOCAL: &str = "fe80::1234:5678";
const GROUP4: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
/// Three from one port: what was remembered of the first is believed of the others.
const TIMES: usize = 3;

/// A network of this posture with `x`, who sends, `db` and `other`; db is sent to by nobody if it is closed.
fn town(world: World, way: Way, number: u8, posture: &str, closed: bool) -> Town {
    let mut town = Town::new(world, way, &[]);
    let keys = json!({ "ipMasq": false, "policy": { "posture": posture } });
    for name in ["x", "db", "other"] {
        town.add(name, ("shop", number), keys.clone());
    }
    if closed {
        let spec = json!({ "podSelector": { "matchLabels": { "app": "db" } },
            "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": [] });
        apply(&town.world, &network_policy("closed", spec));
    }
    let db = &town.container("db").netns;
    let [second, loopback] = [SECOND, LOOPBACK];
    db.ip_batch(&format!(
        "link add second type veth peer name beyond\nlink set beyond up\nlink set second up\n\
         address add {}/24 dev second\naddress add {}/64 dev second nodad\n\
         address add {}/32 dev lo\naddress add {}/128 dev lo\n\
         address add {LOCAL}/64 dev eth0 nodad\n",
        second[0], second[1], loopback[0], loopback[1]
    ));
    town
}

/// Addresses of packets by what they are, IPv4 and IPv6.
fn addresses(
    x: Side,
    db: Side,
    other: Side,
    gate: Side,
    broadcast: Ipv4Addr,
) -> Vec<(&'static str, Option<Ipv4Addr>, Option<Ipv6Addr>)> {
    let group = "ff02::fb".parse().ok();
    vec![
        ("db", Some(db.v4), Some(db.v6)),
        ("db's link-local address", None, Some(link_local(db.mac))),
        ("another link-local address of db", None, Some(v6(LOCAL))),
        ("db's second interface", Some(v4(SECOND[0])), Some(v6(SECOND[1]))),
        ("an address at db's lo", Some(v4(LOOPBACK[0])), Some(v6(LOOPBACK[1]))),
        ("db's 127.0.0.1", Some(Ipv4Addr::LOCALHOST), Some(Ipv6Addr::LOCALHOST)),
        ("the neighbour", Some(other.v4), Some(other.v6)),
        ("itself", Some(x.v4), Some(x.v6)),
        ("the gateway", Some(gate.v4), Some(gate.v6)),
        ("the host", Some(v4("192.0.2.1")), Some(v6("2001:db8:ffff::1"))),
        ("the world", Some(v4(OUTSIDE)), Some(v6(OUTSIDE6))),
        ("nobody", Some(v4("203.0.113.7")), Some(v6("2001:db8:77::7"))),
        ("0.0.0.0", Some(Ipv4Addr::UNSPECIFIED), Some(Ipv6Addr::UNSPECIFIED)),
        ("the broadcast of the network", Some(broadcast), None),
        ("255.255.255.255", Some(Ipv4Addr::BROADCAST), None),
        ("a group", Some(GROUP4), group),
        ("all nodes", Some(Ipv4Addr::new(224, 0, 0, 1)), Some(ALL_NODES)),
        ("all nodes of the site", None, "ff05::1".parse().ok()),
    ]
}

/// Frames of a datagram from x, by the destination of the frame and the address of the packet.
fn datagrams(
    x: Side,
    to: &[(&str, Mac)],
    of: &[(&'static str, Option<Ipv4Addr>, Option<Ipv6Addr>)],
    expect: impl Fn(&str, &str, bool) -> Vec<Expect>,
) -> Volley {
    let mut volley = Volley::default();
    let mut port = 20_000;
    for (whom, mac) in to {
        for (name, four, six) in of {
            port += 1;
            for _ in 0..TIMES {
                if let Some(four) = four {
                    let data = udp((x.v4.into(), port), ((*four).into(), AT), &mark(volley.next()));
                    let packet = ip4(x.v4, *four, protocol::UDP, &data);
                    let frames = vec![frame(*mac, x.mac, IP4, &packet)];
                    let kind = format!("frame to {whom}, packet to {name}");
                    volley.add(kind, format!("{four}"), frames, expect(whom, name, false));
                }
                for own in [x.v6, link_local(x.mac)] {
                    let Some(six) = six else { continue };
                    let data = udp((own.into(), port), ((*six).into(), AT), &mark(volley.next()));
                    let packet = ip6(own, *six, protocol::UDP, &data);
                    let frames = vec![frame(*mac, x.mac, IP6, &packet)];
                    let kind = format!("frame to {whom}, packet to {name}");
                    volley.add(
                        kind,
                        format!("{own} to {six}"),
                        frames,
                        expect(whom, name, own != x.v6),
                    );
                }
            }
        }
    }
    volley
}

/// Where what x sends to a hardware address may come, at db and at its neighbour.
#[derive(Debug, Clone, Copy)]
struct Rules {
    way: Way,
    /// Whether db may be sent to, and the neighbour.
    db: bool,
    other: bool,
}

impl Rules {
    fn expect(self, frame: &str, packet: &str) -> Vec<Expect> {
        let many = [
            "the broadcast of the network",
            "255.255.255.255",
            "a group",
            "all nodes",
            "all nodes of the site",
        ];
        let many = many.contains(&packet);
        let [to_db, to_other] = ["db", "the neighbour"].map(|who| {
            let own = packet == who || (who == "db" && packet == "db's link-local address");
            let (whom, allowed) = match who {
                "db" => ("db", self.db),
                _ => ("the neighbour", self.other),
            };
            if self.way == Way::Routed {
                // The host alone decides who a packet is for.
                return match frame == "the gateway" && own && allowed {
                    true => Expect::May,
                    false => Expect::Never,
                };
            }
            let alone = ["db", "the neighbour", "the gateway"].contains(&frame);
            let broadcast = ["255.255.255.255", "the broadcast of the network"].contains(&packet);
            match (own, many) {
                _ if !own && !many => Expect::Never,
                // To everybody is to nobody where somebody may not be sent to.
                _ if many && !(self.db && self.other) => Expect::Never,
                _ if !allowed => Expect::Never,
                (true, _) if frame == whom && packet == who => Expect::Must,
                (_, true) if frame == "everybody" && broadcast => Expect::Must,
                // The host may send on what came to it, and to everybody may be to one.
                (true, _) if !alone || frame == whom || frame == "the gateway" => Expect::May,
                (_, true) if !alone || frame == whom => Expect::May,
                _ => Expect::Never,
            }
        });
        let to_socket = if to_db == Expect::Never { to_db } else { Expect::May };
        vec![to_db, to_other, to_socket]
    }
}

fn to_all(town: &Town) -> (Place<'_>, Place<'_>, Place<'_>) {
    (town.place("x"), town.place("db"), town.place("other"))
}

/// Everything that x can send, to every hardware address.
fn frames_are_for_whom_the_packet_is(town: &Town, rules: Rules, name: &str, report: &mut Report) {
    let (x, db, other) = to_all(town);
    let of = addresses(x.me, db.me, other.me, x.gateway, town.broadcast("x"));
    let to = [
        ("the gateway", x.gateway.mac),
        ("db", db.me.mac),
        ("the neighbour", other.me.mac),
        // A bridge floods what is for a hardware address that it does not know.
        ("nobody", [2, 0x66, 0x66, 0x66, 0x66, 0x66]),
        ("everybody", EVERYBODY),
        ("a group", [0x01, 0, 0x5e, 1, 2, 3]),
        ("a group", [0x33, 0x33, 0, 0, 0, 1]),
    ];
    let volley = datagrams(x.me, &to, &of, |whom, packet, _| rules.expect(whom, packet));
    // It takes IPv4 as well.
    let socket = db.netns.run(|| UdpSocket::bind(("::", AT)).expect("a socket"));
    let sockets = Watch::of("db's sockets", vec![socket]);
    volley.fire(name, &x, &mut [Watch::link(&db), Watch::link(&other), sockets], report);
}

/// ARP and neighbour discovery say who is where, and come as frames to one as well as to everybody.
fn discovery_in_frames_to_one(town: &Town, name: &str, report: &mut Report) {
    let (x, db, _) = to_all(town);
    let me = x.me;
    let local = link_local(me.mac);
    let must = Expect::exactly(town.way == Way::Bridged);
    let mut volley = Volley::default();
    for whom in [db.me.mac, EVERYBODY] {
        for operation in [1, 2] {
            let says = arp(operation, (me.mac, me.v4), db.me.v4, mark(volley.next()));
            volley.add(
                "ARP",
                format!("operation {operation}"),
                vec![frame(whom, me.mac, ARP, &says)],
                vec![must],
            );
        }
    }
    let to_all = [
        (db.me.v6, db.me.mac),
        (link_local(db.me.mac), db.me.mac),
        (ALL_NODES, [0x33, 0x33, 0, 0, 0, 1]),
    ];
    for (to, whom) in to_all {
        for from in [me.v6, local] {
            let number = volley.next();
            let asks = [&db.me.v6.octets()[..], &[1, 1], &me.mac, &option(mark(number))].concat();
            let asks = icmp6((from, to), ASKS, [0; 4], &asks);
            let packet = ip6(from, to, protocol::ICMP6, &asks);
            volley.add(
                "NS",
                format!("{from} to {to}"),
                vec![frame(whom, me.mac, IP6, &packet)],
                vec![must],
            );
            let number = volley.next();
            let says =
                icmp6((from, to), ANSWERS, [0x60, 0, 0, 0], &answer(from, me.mac, mark(number)));
            let packet = ip6(from, to, protocol::ICMP6, &says);
            volley.add(
                "NA",
                format!("{from} to {to}"),
                vec![frame(whom, me.mac, IP6, &packet)],
                vec![must],
            );
        }
    }
    volley.fire(name, &x, &mut [Watch::link(&db)], report);
}

fn holds(worlds: [World; 4], way: Way, number: u8) {
    let mut report = Report::default();
    let shapes = [("isolated", true), ("zero-trust", false), ("isolated", false), ("open", true)];
    for ((world, (posture, closed)), number) in worlds.into_iter().zip(shapes).zip(number..) {
        let town = town(world, way, number, posture, closed);
        let open = posture != "zero-trust";
        let rules = Rules { way, db: open && !closed, other: open };
        let name = format!("{posture}{}, {way:?}", if closed { ", db closed" } else { "" });
        frames_are_for_whom_the_packet_is(&town, rules, &name, &mut report);
        discovery_in_frames_to_one(&town, &name, &mut report);
        if open {
            // What is routed arrives: this is the control where nothing passes on the link.
            let (x, _, other) = to_all(&town);
            let of = [("the neighbour", Some(other.me.v4), Some(other.me.v6))];
            let mac = if way == Way::Routed { x.gateway.mac } else { other.me.mac };
            let control = datagrams(x.me, &[("the way", mac)], &of, |_, _, local| {
                vec![if local { Expect::May } else { Expect::Must }]
            });
            control.fire(&name, &x, &mut [Watch::link(&other)], &mut report);
        }
    }
    report.is_clean();
}

#[test]
fn a_frame_to_a_port_is_for_an_address_of_that_port() {
    holds([world!(), world!(), world!(), world!()], Way::Bridged, 40);
}

#[test]
fn where_the_host_routes_it_decides_whom_a_packet_is_for() {
    holds([world!(), world!(), world!(), world!()], Way::Routed, 44);
}
