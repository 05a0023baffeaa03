//! Walls and what is neither UDP nor TCP: every type of ICMP and ICMPv6, IGMP and other protocols, from every
//! source to every kind of destination with every hop limit, across each wall. What no policy and no posture
//! allows never arrives; of what is for one link only, it does not leave that link.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::json;

use crate::policy_live::network_policy;
use crate::support::ctl::apply;
use crate::support::forged::{ALL_NODES, Side};
use crate::support::frames::{
    EVERYBODY, IP4, IP6, Mac, frame, hops, icmp4, icmp6, ip4, ip6, link_local, mark, option,
    protocol, udp,
};
use crate::support::world::UPLINK;
use crate::walls_probes::{Expect, Report, Volley, Watch};
use crate::walls_town::{Town, Way};

const HOPS: [u8; 3] = [1, 64, 255];
const ECHO4: u8 = 8;
const ECHO6: u8 = 128;
/// Solicitations and advertisements of neighbours, and solicitations of routers.
const DISCOVERY: [u8; 3] = [133, 135, 136];
/// Queries, reports and ends of listeners (RFC 2710, RFC 3810).
const LISTENERS: [u8; 4] = [130, 131, 132, 143];
/// What is for one link only: the above, and what routers say there (RFC 4861, RFC 4286).
const LINK_ONLY: [u8; 11] = [130, 131, 132, 133, 134, 135, 136, 137, 151, 152, 143];
/// IP in IP, IGMP, IPv6 in IP, GRE, ESP, AH, OSPF, PIM, VRRP, SCTP, and what is nothing.
const PROTOCOLS: [u8; 11] = [2, 4, 41, 47, 50, 51, 89, 103, 112, 132, 255];
/// The protocols that sockets of the host listen for: a raw socket of 255 receives nothing.
const HEARD: [u8; 14] = [1, 2, 4, 6, 17, 41, 47, 50, 51, 58, 89, 103, 112, 132];

/// What stands between sender and receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wall {
    /// Nothing is allowed, and they are on different links.
    Apart,
    /// Nothing is allowed, and they are on one link.
    OnOneLink,
    /// Everything is allowed that a router passes on: what is for a link has no effect beyond it.
    World,
    /// Nothing is allowed from the world but what routers say of a path's MTU.
    FromWorld,
    /// Nothing is allowed to the host, which hears the groups that it has joined.
    Host,
    /// Everything is allowed on one link, but to everybody at once.
    Open,
    /// The same where the host routes between the ports.
    Within,
}

/// An ICMPv6 message of a type that looks as it should, and carries a mark.
fn message6(kind: u8, ends: (Ipv6Addr, Ipv6Addr), own: Ipv6Addr, number: u16) -> Vec<u8> {
    let mark = mark(number);
    let target = |of: Ipv6Addr| [&of.octets()[..], &option(mark)].concat();
    let unspecified = ends.0.is_unspecified();
    let body = match kind {
        1..=4 => {
            let lost = udp((ends.1.into(), 5), (own.into(), 6), &mark);
            ip6(ends.1, own, protocol::UDP, &lost)
        }
        133 => option(mark),
        134 => [&[0; 8][..], &option(mark)].concat(),
        135 if unspecified || ends.1.is_multicast() => target(own),
        135 => target(ends.1),
        136 => target(if unspecified { own } else { ends.0 }),
        137 => [&own.octets()[..], &target(own)].concat(),
        130..=132 => [&ends.1.octets()[..], &mark].concat(),
        143 => [&[4, 0, 0, 0][..], &ends.1.octets(), &mark].concat(),
        _ => [&mark[..], &[0; 26]].concat(),
    };
    let rest = if kind == 143 {
        [0, 0, 0, 1]
    } else {
        [0, 0, number.to_be_bytes()[0], number.to_be_bytes()[1]]
    };
    icmp6(ends, kind, rest, &body)
}

/// How the message lies in its packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    /// Behind options for every router, with an alert in them, as listeners send it.
    Alert,
    /// Behind options for the receiver.
    Options,
    /// In its only fragment.
    Atomic,
}

fn packet6(form: Form, ends: (Ipv6Addr, Ipv6Addr), message: &[u8]) -> Vec<u8> {
    let (next, before) = match form {
        Form::Plain => return ip6(ends.0, ends.1, protocol::ICMP6, message),
        Form::Alert => (protocol::HOP_BY_HOP, [protocol::ICMP6, 0, 5, 2, 0, 0, 1, 0]),
        Form::Options => (protocol::OPTIONS, [protocol::ICMP6, 0, 1, 4, 0, 0, 0, 0]),
        Form::Atomic => (44, [protocol::ICMP6, 0, 0, 0, 0, 0, 0, 7]),
    };
    ip6(ends.0, ends.1, next, &[&before, message].concat())
}

fn group_mac6(to: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = to.octets();
    [0x33, 0x33, a, b, c, d]
}

fn solicited(of: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = of.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// Whether a message of IPv6 has to arrive; `to_me` is the receiver's address that is known everywhere.
fn expect6(
    wall: Wall,
    (kind, left, form): (u8, u8, Form),
    to_me: bool,
    (from, to): (Ipv6Addr, Ipv6Addr),
) -> Expect {
    let local = from.segments()[0] == 0xfe80;
    let genuine = !from.is_unspecified();
    let global = genuine && !local;
    let plain = form == Form::Plain;
    let echo = kind == ECHO6 && plain && to_me;
    let discovery = DISCOVERY.contains(&kind) && left == 255;
    let listener = LISTENERS.contains(&kind) && left == 1 && to.is_multicast() && !global;
    match wall {
        Wall::FromWorld if kind == 2 => Expect::May,
        Wall::Apart | Wall::FromWorld => Expect::Never,
        Wall::World if to.is_multicast() || !global => Expect::Never,
        Wall::Within if to.is_multicast() || !genuine => Expect::Never,
        Wall::World | Wall::Within if echo && global && left > 1 => Expect::Must,
        Wall::World | Wall::Within => Expect::May,
        Wall::Host if discovery || listener => Expect::May,
        // The bridge itself passes other groups on only to those who listen to them.
        Wall::OnOneLink | Wall::Open if discovery || listener => {
            let sure = genuine && plain && ![130, 133].contains(&kind);
            let heard = !to.is_multicast() || to == ALL_NODES;
            if sure && heard { Expect::Must } else { Expect::May }
        }
        Wall::Host | Wall::OnOneLink => Expect::Never,
        // Somebody on the bridge may not be sent to, so nobody is by sending to all.
        Wall::Open if to.is_multicast() || !genuine => Expect::Never,
        Wall::Open if echo => Expect::Must,
        Wall::Open => Expect::May,
    }
}

/// Each type, hop limit, destination and source, of IPv6.
fn volley6(me: Side, them: Side, next: Mac, wall: Wall, on_link: bool) -> Volley {
    let mut volley = Volley::default();
    let (local, their) = (link_local(me.mac), link_local(them.mac));
    let group = |text: &str| text.parse::<Ipv6Addr>().expect("a group");
    let to_all =
        [them.v6, their, ALL_NODES, group("ff02::16"), group("ff05::1"), solicited(them.v6)];
    let special = |kind| LINK_ONLY.contains(&kind) || kind == ECHO6;
    for kind in 1..=255 {
        for form in [Form::Plain, Form::Alert, Form::Options, Form::Atomic] {
            if form != Form::Plain && !special(kind) {
                continue;
            }
            for left in HOPS {
                for to in to_all {
                    for from in [me.v6, local, Ipv6Addr::UNSPECIFIED] {
                        let number = volley.next();
                        let own = if from == local { local } else { me.v6 };
                        let packet =
                            packet6(form, (from, to), &message6(kind, (from, to), own, number));
                        let whom = match to.is_multicast() {
                            true => group_mac6(to),
                            false if on_link => them.mac,
                            false => next,
                        };
                        let frames = vec![frame(whom, me.mac, IP6, &hops(packet, left))];
                        let what = format!(
                            "ICMPv6 type {kind} {form:?}, hop limit {left}, {from} to {to}"
                        );
                        let expect = expect6(wall, (kind, left, form), to == them.v6, (from, to));
                        volley.add(format!("ICMPv6 type {kind}"), what, frames, vec![expect]);
                    }
                }
            }
        }
    }
    volley
}

fn group_mac4(to: Ipv4Addr) -> Mac {
    let [_, b, c, d] = to.octets();
    [1, 0, 0x5e, b & 0x7f, c, d]
}

/// Types of ICMP and IGMP, and other protocols, of IPv4.
fn volley4(
    me: Side,
    them: Side,
    next: Mac,
    broadcast: Ipv4Addr,
    wall: Wall,
    on_link: bool,
) -> Volley {
    let mut volley = Volley::default();
    let groups = ["224.0.0.1", "224.0.0.22", "224.0.0.251", "239.1.2.3"];
    let groups = groups.map(|text| text.parse::<Ipv4Addr>().expect("a group"));
    let mut to_all = vec![them.v4, broadcast, Ipv4Addr::BROADCAST];
    to_all.extend(groups);
    let icmp = (0..=40).map(|kind| (protocol::ICMP4, kind));
    let igmp = [0x11, 0x12, 0x16, 0x17, 0x22].map(|kind| (2, kind));
    let others = PROTOCOLS.iter().filter(|p| **p != 2).map(|p| (*p, 0));
    for (protocol, kind) in icmp.chain(igmp).chain(others) {
        for left in HOPS {
            for to in &to_all {
                let number = volley.next();
                let mark = mark(number);
                let rest = [number.to_be_bytes()[0], number.to_be_bytes()[1], 0, 1];
                let payload = match protocol {
                    protocol::ICMP4 if [3, 4, 5, 11, 12].contains(&kind) => {
                        let lost = udp(((*to).into(), 5), (me.v4.into(), 6), &mark);
                        icmp4(kind, 0, rest, &ip4(*to, me.v4, protocol::UDP, &lost))
                    }
                    protocol::ICMP4 => icmp4(kind, 0, rest, &[&mark[..], &[0; 22]].concat()),
                    2 => icmp4(kind, 0, to.octets(), &mark),
                    _ => [&[0; 12][..], &mark, &[0; 26]].concat(),
                };
                let packet = hops(ip4(me.v4, *to, protocol, &payload), left);
                let whom = match to {
                    to if *to == broadcast || to.is_broadcast() => EVERYBODY,
                    to if to.is_multicast() => group_mac4(*to),
                    _ if on_link => them.mac,
                    _ => next,
                };
                let what =
                    format!("protocol {protocol} type {kind}, TTL {left}, {} to {to}", me.v4);
                let echo = (protocol, kind) == (protocol::ICMP4, ECHO4) && *to == them.v4;
                let expect = match wall {
                    Wall::Apart | Wall::FromWorld | Wall::Host | Wall::OnOneLink => Expect::Never,
                    _ if *to != them.v4 => Expect::Never,
                    _ if echo && (left > 1 || on_link) => Expect::Must,
                    Wall::World | Wall::Within | Wall::Open => Expect::May,
                };
                volley.add(
                    format!("protocol {protocol} type {kind}"),
                    what,
                    vec![frame(whom, me.mac, IP4, &packet)],
                    vec![expect],
                );
            }
        }
    }
    volley
}

/// Both families from one to the other.
fn across(town: &Town, (from, to, wall): (&'static str, &'static str, Wall), report: &mut Report) {
    let (one, other) = (town.place(from), town.place(to));
    let on_link = matches!(wall, Wall::OnOneLink | Wall::Open) && town.way == Way::Bridged;
    let broadcast = match from {
        "outside" => Ipv4Addr::new(192, 0, 2, 255),
        name => town.broadcast(name),
    };
    let name = format!("{from} to {to}");
    let six = volley6(one.me, other.me, one.gateway.mac, wall, on_link);
    six.fire(&name, &one, &mut [Watch::link(&other)], report);
    let four = volley4(one.me, other.me, one.gateway.mac, broadcast, wall, on_link);
    four.fire(&name, &one, &mut [Watch::link(&other)], report);
}

/// Networks of every kind, and policies that close two containers of one of them.
fn town(world: crate::support::world::World, way: Way, number: u8) -> Town {
    let mut town = Town::new(world, way, &[number, number + 1, number + 2, number + 3]);
    let plain = json!({ "ipMasq": false });
    let zero = json!({ "ipMasq": false, "policy": { "posture": "zero-trust" } });
    for name in ["web", "deaf", "mute", "friend"] {
        town.add(name, ("shop", number), plain.clone());
    }
    town.add("other", ("other", number + 1), plain);
    let direct = json!({ "ipMasq": false, "policy": { "directAccess": true } });
    town.add("direct", ("direct", number + 3), direct);
    for name in ["zero", "zest"] {
        town.add(name, ("zero", number + 2), zero.clone());
    }
    let alone = json!({ "ipMasq": false, "ingressPolicy": "isolated" });
    for name in ["hermit", "recluse"] {
        town.add(name, ("alone", number + 4), alone.clone());
    }
    let who = |app: &str| json!({ "matchLabels": { "app": app } });
    let deaf = json!({ "podSelector": who("deaf"), "policyTypes": ["Ingress"], "ingress": [] });
    let mute = json!({ "podSelector": who("mute"), "policyTypes": ["Egress"], "egress": [] });
    apply(&town.world, &network_policy("deaf", deaf));
    apply(&town.world, &network_policy("mute", mute));
    town
}

/// Where ports are isolated nothing passes on the link; the host routes.
fn within(way: Way, wall: Wall) -> Wall {
    match (way, wall) {
        (Way::Routed, Wall::OnOneLink) => Wall::Apart,
        (Way::Routed, Wall::Open) => Wall::Within,
        _ => wall,
    }
}

fn nothing_crosses_a_wall(town: &Town) {
    let here = within(town.way, Wall::OnOneLink);
    let mut report = Report::default();
    for wall in [
        ("web", "other", Wall::Apart),
        ("web", "zero", Wall::Apart),
        ("zero", "web", Wall::Apart),
        ("zero", "zest", here),
        ("zero", "outside", Wall::Apart),
        ("outside", "zero", Wall::FromWorld),
        ("outside", "web", Wall::FromWorld),
        ("web", "deaf", here),
        ("mute", "friend", here),
        ("mute", "outside", Wall::Apart),
        ("web", "outside", Wall::World),
        ("web", "friend", within(town.way, Wall::Open)),
        ("hermit", "recluse", here),
        ("web", "direct", Wall::Apart),
        ("direct", "zero", Wall::Apart),
        ("outside", "direct", Wall::World),
    ] {
        across(town, wall, &mut report);
    }
    report.is_clean();
}

/// What a container of zero-trust, and one that policy lets send nothing, sends to the host: at its gateway and at
/// another address.
fn nothing_reaches_a_host_that_is_denied(town: &Town) {
    let web = town.place("web");
    let uplink = town.place("outside").gateway;
    let watch = || Watch::sockets(&town.world.host, "the host's sockets", &HEARD);
    let mut report = Report::default();
    for who in ["zero", "mute"] {
        let me = town.place(who);
        let (gateway, whom) = (me.gateway, me.gateway.mac);
        for (host, name) in [(gateway, "its gateway"), (Side { mac: whom, ..uplink }, UPLINK)] {
            let wall = format!("{who} to the host, {name}");
            let six = volley6(me.me, host, whom, Wall::Host, true);
            six.fire(&wall, &me, &mut [watch()], &mut report);
            let four = volley4(me.me, host, whom, town.broadcast(who), Wall::Host, true);
            four.fire(&wall, &me, &mut [watch()], &mut report);
        }
    }
    let four =
        volley4(web.me, web.gateway, web.gateway.mac, town.broadcast("web"), Wall::Open, true);
    // The host hears the groups that it has joined.
    let four = four.instead(Expect::Never, Expect::May);
    four.fire("web to the host", &web, &mut [watch()], &mut report);
    report.is_clean();
}

#[test]
fn no_type_of_icmp_crosses_a_wall() {
    nothing_crosses_a_wall(&town(world!(), Way::Bridged, 20));
}

#[test]
fn no_type_of_icmp_crosses_a_wall_where_the_host_routes() {
    nothing_crosses_a_wall(&town(world!(), Way::Routed, 25));
}

#[test]
fn no_type_of_icmp_reaches_a_host_that_is_denied() {
    nothing_reaches_a_host_that_is_denied(&town(world!(), Way::Bridged, 160));
}

#[test]
fn no_type_of_icmp_reaches_a_host_that_is_denied_where_it_routes() {
    nothing_reaches_a_host_that_is_denied(&town(world!(), Way::Routed, 165));
}
