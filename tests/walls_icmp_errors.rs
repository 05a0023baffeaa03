//! Errors of ICMP about a connection come from an end of it. Who else knows its numbers, or guesses them, may
//! not end it or slow it down: not a neighbour, not another network, not the world beyond a connection that does
//! not go there. What routers say of a path's MTU comes from anywhere but from containers.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use serde_json::json;

use crate::network_isolation::{HOST6, v4, v6};
use crate::policy_live::network_policy;
use crate::support::ctl::apply;
use crate::support::forged::Side;
use crate::support::frames::{IP4, IP6, frame, icmp4, icmp6, ip, mark, protocol, tcp, udp};
use crate::support::netns::Netns;
use crate::support::traffic::{Echo, PATIENCE, PORT};
use crate::support::world::{HOST, World};
use crate::walls_probes::{Expect, Report, Volley, Watch};
use crate::walls_town::{Place, Town, Way};

const SYN: u8 = 2;
const VICTIMS: [&str; 3] = ["a", "b", "masked"];
const SENDERS: [&str; 8] = ["outside", "a", "b", "near", "mute", "far", "zero", "masked"];
/// A machine of the LAN that is no end of any connection.
const BESIDE: [&str; 2] = ["192.0.2.77", "2001:db8:ffff::77"];

fn town(world: World, way: Way, number: u8) -> Town {
    let mut town = Town::new(world, way, &[number, number + 1, number + 2]);
    let plain = json!({ "ipMasq": false });
    for name in ["a", "b", "near", "mute", "deaf"] {
        town.add(name, ("shop", number), plain.clone());
    }
    town.add("far", ("other", number + 1), plain);
    let zero = json!({ "ipMasq": false, "policy": { "posture": "zero-trust" } });
    town.add("zero", ("zero", number + 2), zero);
    town.add("masked", ("masq", number + 3), json!({}));
    let mute = json!({ "podSelector": { "matchLabels": { "app": "mute" } },
        "policyTypes": ["Egress"], "egress": [] });
    apply(&town.world, &network_policy("mute", mute));
    let deaf = json!({ "podSelector": { "matchLabels": { "app": "deaf" } },
        "policyTypes": ["Ingress"], "ingress": [] });
    apply(&town.world, &network_policy("deaf", deaf));
    town
}

/// Type and code of an error, in both families.
fn errors(is_v4: bool) -> Vec<(u8, u8)> {
    let codes: &[(u8, u8)] = match is_v4 {
        true => &[(3, 15), (4, 0), (5, 3), (11, 1), (12, 2)],
        false => &[(1, 8), (2, 0), (3, 1), (4, 2)],
    };
    codes.iter().flat_map(|(kind, last)| (0..=*last).map(|code| (*kind, code))).collect()
}

/// The true word of a receiver that nobody listens there, and that of a router about a path's MTU.
fn is_refusal(is_v4: bool, error: (u8, u8)) -> bool {
    error == if is_v4 { (3, 3) } else { (1, 4) }
}

fn is_narrow(is_v4: bool, error: (u8, u8)) -> bool {
    error == if is_v4 { (3, 4) } else { (2, 0) }
}

/// What a host sends to one of its own that does not use the best way there.
fn is_redirect(is_v4: bool, (kind, _): (u8, u8)) -> bool {
    is_v4 && kind == 5
}

#[derive(Debug, Clone, Copy)]
enum Load {
    Udp,
    Tcp,
}

fn packet(load: Load, from: (IpAddr, u16), to: (IpAddr, u16), number: u16) -> Vec<u8> {
    match load {
        Load::Udp => ip(from.0, to.0, protocol::UDP, &udp(from, to, &mark(number))),
        Load::Tcp => ip(from.0, to.0, protocol::TCP, &tcp(from, to, SYN, &mark(number))),
    }
}

/// An error of who is `from` to `to`, about this packet.
fn error(from: IpAddr, to: IpAddr, (kind, code): (u8, u8), about: &[u8]) -> Vec<u8> {
    let narrow = [0, 0, 5, 0];
    match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => {
            ip(from, to, protocol::ICMP4, &icmp4(kind, code, narrow, about))
        }
        (IpAddr::V6(own), IpAddr::V6(there)) => {
            let mut message = icmp6((own, there), kind, narrow, about);
            // The checksum is of ones' complement: what the code adds is taken off.
            message[1] = code;
            let sum = u16::from_be_bytes([message[2], message[3]]);
            let (less, borrow) = sum.overflowing_sub(code.into());
            message[2..4].copy_from_slice(&less.wrapping_sub(borrow.into()).to_be_bytes());
            ip(from, to, protocol::ICMP6, &message)
        }
        _ => panic!("{from} and {to} are of different families"),
    }
}

/// Connections that live, of UDP and TCP, to one address.
#[derive(Debug)]
struct Live {
    udp: UdpSocket,
    tcp: TcpStream,
}

impl Live {
    fn begin(from: &Netns, to: IpAddr) -> Self {
        let at = SocketAddr::new(to, PORT);
        let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let (udp, tcp) = from.run(|| {
            let udp = UdpSocket::bind(any).expect("a socket");
            udp.connect(at).expect("a route");
            (udp, TcpStream::connect_timeout(&at, PATIENCE).expect("a connection"))
        });
        udp.set_read_timeout(Some(PATIENCE)).expect("a bound");
        udp.send(b"a question").expect("sent");
        udp.recv(&mut [0; 16]).expect("an answer");
        Self { udp, tcp }
    }

    fn port(&self, load: Load) -> u16 {
        let at = match load {
            Load::Udp => self.udp.local_addr(),
            Load::Tcp => self.tcp.local_addr(),
        };
        at.expect("an address").port()
    }
}

/// A connection, as an error about it would be sent.
#[derive(Debug)]
struct Flow<'l> {
    name: &'static str,
    /// At whose link errors about it arrive.
    victim: &'static str,
    /// The packet that the error is about, and whom the error is sent to; of the other direction if it is turned.
    ends: [IpAddr; 2],
    turned: bool,
    live: &'l Live,
    /// Who is at its other end.
    end: &'static str,
}

impl Flow<'_> {
    fn quoted(&self, load: Load) -> [(IpAddr, u16); 2] {
        let [from, to] = self.ends;
        let ends = [(from, self.live.port(load)), (to, PORT)];
        if self.turned { [ends[1], ends[0]] } else { ends }
    }
}

/// Name, victim, whose connection it is, the sender and the receiver as an error sees them, and the end.
fn routes(town: &Town) -> [(&'static str, &'static str, &'static str, [Side; 2], &'static str); 6] {
    let side = |name| town.place(name).me;
    let (a, b, world) = (side("a"), side("b"), side("outside"));
    let gate = town.place("a").gateway;
    let uplink = Side { v4: v4(HOST), v6: v6(HOST6), ..gate };
    [
        ("a to b", "a", "a", [a, b], "b"),
        ("b's answers to a", "b", "a", [a, b], "a"),
        ("a to its gateway", "a", "a", [a, gate], "host"),
        ("a to the host", "a", "a", [a, uplink], "host"),
        ("a to the world", "a", "a", [a, world], "outside"),
        ("masked to the world", "masked", "masked", [uplink, world], "outside"),
    ]
}

/// Whether an error about a flow may come from who sends it.
fn expect(flow: &Flow<'_>, sender: &str, error: (u8, u8)) -> Expect {
    let is_v4 = flow.ends[0].is_ipv4();
    let from_world = ["outside", "beside"].contains(&sender);
    match sender {
        _ if is_redirect(is_v4, error) => Expect::Never,
        sender if sender == flow.end && is_refusal(is_v4, error) => Expect::Must,
        sender if sender == flow.end => Expect::May,
        _ if from_world && is_narrow(is_v4, error) => Expect::May,
        // Any router on the way may say that it goes no further.
        _ if from_world && flow.end == "outside" => Expect::May,
        // Which addresses the host has besides its gateways' no rule knows.
        _ if from_world && flow.name == "a to the host" => Expect::May,
        _ => Expect::Never,
    }
}

/// Every error about each of the flows, from one who may be an end of it or nobody.
fn volley(
    town: &Town,
    flows: &[Flow<'_>],
    (sender, place, me): (&str, &Place<'_>, Side),
) -> Volley {
    let mut volley = Volley::default();
    let shares = ["a", "b", "near", "mute"];
    for flow in flows.iter().filter(|flow| flow.victim != sender) {
        let victim = town.place(flow.victim);
        let (kind, own, family) = match flow.ends[0] {
            IpAddr::V4(_) => (IP4, IpAddr::V4(me.v4), "ICMP"),
            IpAddr::V6(_) => (IP6, IpAddr::V6(me.v6), "ICMPv6"),
        };
        let direct =
            town.way == Way::Bridged && [sender, flow.victim].iter().all(|it| shares.contains(it));
        let whom = if direct { victim.me.mac } else { place.gateway.mac };
        for load in [Load::Udp, Load::Tcp] {
            let [from, to] = flow.quoted(load);
            for which in errors(own.is_ipv4()) {
                let about = packet(load, from, to, volley.next());
                let packet = error(own, from.0, which, &about);
                let what = format!("{load:?}, type {}, code {}, from {own}", which.0, which.1);
                let expected = expect(flow, sender, which);
                let at = |it: &str| if it == flow.victim { expected } else { Expect::Never };
                let at = VICTIMS.iter().map(|it| at(it)).collect();
                let kind_of = format!("{family} about {}", flow.name);
                volley.add(kind_of, what, vec![frame(whom, me.mac, kind, &packet)], at);
            }
        }
    }
    volley
}

/// An end of a connection speaks of it to the other end, and to nobody else: what it sends to another is a packet
/// of its own. b may not send to any of these.
fn errors_to_others(town: &Town, flows: &[Flow<'_>], report: &mut Report) {
    let b = town.place("b");
    let others = ["deaf", "far", "zero"].map(|name| town.place(name));
    let mut volley = Volley::default();
    for flow in flows.iter().filter(|flow| flow.name == "a to b") {
        for other in &others {
            let (own, there, kind) = match flow.ends[0] {
                IpAddr::V4(_) => (IpAddr::V4(b.me.v4), IpAddr::V4(other.me.v4), IP4),
                IpAddr::V6(_) => (IpAddr::V6(b.me.v6), IpAddr::V6(other.me.v6), IP6),
            };
            let direct = town.way == Way::Bridged && other.name == "deaf";
            let whom = if direct { other.me.mac } else { b.gateway.mac };
            for load in [Load::Udp, Load::Tcp] {
                let [from, to] = flow.quoted(load);
                for which in errors(own.is_ipv4()) {
                    let about = packet(load, from, to, volley.next());
                    let packet = error(own, there, which, &about);
                    let what = format!("{load:?}, type {}, code {}", which.0, which.1);
                    let at = vec![Expect::Never; others.len()];
                    let frames = vec![frame(whom, b.me.mac, kind, &packet)];
                    volley.add(
                        format!("an error about a to b, for {}", other.name),
                        what,
                        frames,
                        at,
                    );
                }
            }
        }
    }
    let mut watches = others.each_ref().map(Watch::link);
    volley.fire(&format!("b in {:?}", town.way), &b, &mut watches, report);
}

fn errors_come_from_an_end(town: &Town) {
    let mut served = Vec::new();
    let mut lives = Vec::new();
    for (_, _, who, [_, to], end) in routes(town) {
        let from = town.place(who);
        for to in [to.v4.into(), IpAddr::from(to.v6)] {
            let at = if end == "host" {
                &town.world.host
            } else {
                town.place(if end == "a" { "b" } else { end }).netns
            };
            if !served.iter().any(|(_, address)| *address == to) {
                served.push((Echo::serve(at, &to.to_string()), to));
            }
            lives.push(Live::begin(from.netns, to));
        }
    }
    let each = routes(town).into_iter().zip(lives.chunks(2)).flat_map(
        |((name, victim, _, ends, end), lives)| {
            let [from, to] = ends;
            let both = [[from.v4.into(), to.v4.into()], [from.v6.into(), IpAddr::from(to.v6)]];
            both.into_iter().zip(lives).map(move |(ends, live)| Flow {
                name,
                victim,
                ends,
                turned: end == "a",
                live,
                end,
            })
        },
    );
    let flows: Vec<Flow<'_>> = each.collect();
    let places = SENDERS.map(|name| town.place(name));
    let outside = &places[0];
    let beside = Side { v4: v4(BESIDE[0]), v6: v6(BESIDE[1]), ..outside.me };
    let mut senders: Vec<_> = places.iter().map(|place| (place.name, place, place.me)).collect();
    senders.push(("beside", outside, beside));
    let mut report = Report::default();
    for sender in senders {
        let mut watches = VICTIMS.map(|name| Watch::link(&town.place(name)));
        let wall = format!("{} in {:?}", sender.0, town.way);
        volley(town, &flows, sender).fire(&wall, sender.1, &mut watches, &mut report);
    }
    errors_to_others(town, &flows, &mut report);
    report.is_clean();
}

#[test]
fn errors_about_a_connection_come_from_an_end_of_it() {
    errors_come_from_an_end(&town(world!(), Way::Bridged, 80));
}

#[test]
fn errors_about_a_connection_come_from_an_end_of_it_where_the_host_routes() {
    errors_come_from_an_end(&town(world!(), Way::Routed, 84));
}
