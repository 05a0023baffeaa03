//! Errors of ICMP about a connection come from an end of it. Who else knows its numbers, or guesses them, may
//! not end it or slow it down: not a neighbour, not another network, not the world beyond a connection that does
//! not go there. What routers say of a path's MTU comes from anywhere but from containers.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use serde_json::json;

use crate::network_isolation::{HOST6, v4, v6};
use crate::policy_live::network_policy;
use crate::support::ctl::apply;
use crate::support::forged::Side;
use crate::support::frames::{
    IP4, IP6, Mac, frame, icmp4, icmp6, ip, link_local, mark, protocol, tcp, udp,
};
use crate::support::netns::Netns;
use crate::support::traffic::{Echo, PATIENCE, PORT};
use crate::support::world::{HOST, World};
use crate::walls_probes::{Expect, Report, Volley, Watch};
use crate::walls_town::{Place, Town, Way};

const SYN: u8 = 2;
const VICTIMS: [&str; 4] = ["a", "b", "masked", "open"];
const SENDERS: [&str; 9] = ["outside", "a", "b", "near", "mute", "far", "zero", "masked", "guest"];
/// Who is on one bridge.
const BRIDGES: [&[&str]; 2] = [&["a", "b", "near", "mute", "deaf"], &["open", "other", "guest"]];
/// A machine of the LAN that is no end of any connection.
const BESIDE: [&str; 2] = ["192.0.2.77", "2001:db8:ffff::77"];

fn town(world: World, way: Way, number: u8) -> Town {
    let mut town = Town::new(world, way, &[number, number + 1, number + 2, number + 4]);
    let plain = json!({ "ipMasq": false });
    for name in ["a", "b", "near", "mute", "deaf"] {
        town.add(name, ("shop", number), plain.clone());
    }
    town.add("far", ("other", number + 1), plain);
    let zero = json!({ "ipMasq": false, "policy": { "posture": "zero-trust" } });
    town.add("zero", ("zero", number + 2), zero);
    town.add("masked", ("masq", number + 3), json!({}));
    for name in ["open", "other", "guest"] {
        let keys = json!({ "ipMasq": false, "policy": { "posture": "open" } });
        town.add(name, ("open", number + 4), keys);
    }
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
    Echo,
}

const LOADS: [Load; 3] = [Load::Udp, Load::Tcp, Load::Echo];

/// A packet of a connection; of an echo it is the answer if it comes from the port that is asked.
fn packet(load: Load, from: (IpAddr, u16), to: (IpAddr, u16), number: u16) -> Vec<u8> {
    let mark = mark(number);
    let id = if from.1 == PORT { to.1 } else { from.1 };
    let ([high, low], answers) = (id.to_be_bytes(), from.1 == PORT);
    let rest = [high, low, 0, 1];
    let (protocol, payload) = match (load, from.0, to.0) {
        (Load::Udp, ..) => (protocol::UDP, udp(from, to, &mark)),
        (Load::Tcp, ..) => (protocol::TCP, tcp(from, to, SYN, &mark)),
        (Load::Echo, IpAddr::V6(own), IpAddr::V6(there)) => {
            let kind = if answers { 129 } else { 128 };
            (protocol::ICMP6, icmp6((own, there), kind, rest, &mark))
        }
        (Load::Echo, ..) => (protocol::ICMP4, icmp4(if answers { 0 } else { 8 }, 0, rest, &mark)),
    };
    ip(from.0, to.0, protocol, &payload)
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

/// Connections that live, of UDP and TCP, to one address; and an echo, whose number is the port of the former.
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
            Load::Udp | Load::Echo => self.udp.local_addr(),
            Load::Tcp => self.tcp.local_addr(),
        };
        at.expect("an address").port()
    }

    fn ping(&self, from: &Place<'_>, to: IpAddr, whom: Mac) {
        let (own, kind) = match to {
            IpAddr::V4(_) => (from.me.v4.into(), IP4),
            IpAddr::V6(_) => (from.me.v6.into(), IP6),
        };
        let packet = packet(Load::Echo, (own, self.port(Load::Echo)), (to, PORT), u16::MAX);
        from.wire.send(&frame(whom, from.me.mac, kind, &packet));
    }
}

/// Whose connection it is, and whom it is to.
#[derive(Debug, Clone, Copy)]
struct Route {
    name: &'static str,
    who: &'static str,
    /// At whose link errors about it arrive, and who is at its other end.
    victim: &'static str,
    end: &'static str,
    /// The sender and the receiver, as an error sees them.
    ends: [Side; 2],
}

/// A connection, as an error about it would be sent.
#[derive(Debug)]
struct Flow<'l> {
    route: Route,
    ends: [IpAddr; 2],
    live: &'l Live,
}

impl Flow<'_> {
    /// The packet that the error is about, and whom the error is sent to: also of the other direction.
    fn quoted(&self, load: Load) -> [(IpAddr, u16); 2] {
        let [from, to] = self.ends;
        let ends = [(from, self.live.port(load)), (to, PORT)];
        let turned = self.route.victim == "b";
        if turned { [ends[1], ends[0]] } else { ends }
    }
}

fn routes(town: &Town) -> [Route; 9] {
    let side = |name| town.place(name).me;
    let (a, b, masked, world) = (side("a"), side("b"), side("masked"), side("outside"));
    let gate = town.place("a").gateway;
    let uplink = Side { v4: v4(HOST), v6: v6(HOST6), ..gate };
    let masked = Side { mac: masked.mac, ..uplink };
    let route = |name, who, victim, end, ends| Route { name, who, victim, end, ends };
    [
        route("a to b", "a", "a", "b", [a, b]),
        route("b's answers to a", "a", "b", "a", [a, b]),
        route("a to its gateway", "a", "a", "host", [a, gate]),
        route("a to the host", "a", "a", "host", [a, uplink]),
        route("a to the world", "a", "a", "outside", [a, world]),
        route("masked to the world", "masked", "masked", "outside", [masked, world]),
        route("open to other", "open", "open", "other", [side("open"), side("other")]),
        route("the host to a", "host", "host", "a", [gate, a]),
        route("the host to the world", "host", "host", "outside", [uplink, world]),
    ]
}

/// Whether an error about a flow may come from who sends it.
fn expect(flow: &Flow<'_>, load: Load, sender: &str, error: (u8, u8)) -> Expect {
    let is_v4 = flow.ends[0].is_ipv4();
    let from_world = ["outside", "beside"].contains(&sender);
    let to_host = flow.route.victim == "host";
    match sender {
        // What the world says to the host is not ours to judge, but that the host hears the truth.
        _ if to_host && from_world && !is_refusal(is_v4, error) => Expect::May,
        _ if is_redirect(is_v4, error) => Expect::Never,
        sender if sender == flow.route.end && is_refusal(is_v4, error) => match load {
            // An echo is soon forgotten.
            Load::Echo => Expect::May,
            _ => Expect::Must,
        },
        sender if sender == flow.route.end => Expect::May,
        _ if from_world && is_narrow(is_v4, error) => Expect::May,
        // Any router on the way may say that it goes no further.
        _ if from_world && (flow.route.end == "outside" || to_host) => Expect::May,
        // Which addresses the host has besides its gateways' no rule knows.
        _ if from_world && flow.route.name == "a to the host" => Expect::May,
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
    let share = |one: &str, other: &str| {
        BRIDGES.iter().any(|all| all.contains(&one) && all.contains(&other))
    };
    for flow in flows.iter().filter(|flow| flow.route.victim != sender) {
        let (kind, own, family) = match flow.ends[0] {
            IpAddr::V4(_) => (IP4, IpAddr::V4(me.v4), "ICMP"),
            IpAddr::V6(_) => (IP6, IpAddr::V6(me.v6), "ICMPv6"),
        };
        let direct = town.way == Way::Bridged && share(sender, flow.route.victim);
        let whom = if direct { town.place(flow.route.victim).me.mac } else { place.gateway.mac };
        for load in LOADS {
            let [from, to] = flow.quoted(load);
            // The kernel looks for the socket by what is quoted, whichever of its addresses the error is for.
            let gate =
                if own.is_ipv4() { place.gateway.v4.into() } else { place.gateway.v6.into() };
            let to_host = flow.route.victim == "host" && gate != from.0;
            let local = (direct && own.is_ipv6()).then(|| link_local(whom).into());
            let receivers = [Some(from.0), to_host.then_some(gate), local].into_iter().flatten();
            for (receiver, which) in
                receivers.flat_map(|it| errors(own.is_ipv4()).into_iter().map(move |e| (it, e)))
            {
                let about = packet(load, from, to, volley.next());
                let packet = error(own, receiver, which, &about);
                let what = format!(
                    "{load:?}, type {}, code {}, from {own} to {receiver}",
                    which.0, which.1
                );
                let expected = match expect(flow, load, sender, which) {
                    Expect::Must if receiver != from.0 => Expect::May,
                    expected => expected,
                };
                let at = |it: &str| if it == flow.route.victim { expected } else { Expect::Never };
                let at = VICTIMS.iter().chain([&"host"]).map(|it| at(it)).collect();
                let kind_of = format!("{family} about {}", flow.route.name);
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
    for flow in flows.iter().filter(|flow| flow.route.name == "a to b") {
        for other in &others {
            let (own, there, kind) = match flow.ends[0] {
                IpAddr::V4(_) => (IpAddr::V4(b.me.v4), IpAddr::V4(other.me.v4), IP4),
                IpAddr::V6(_) => (IpAddr::V6(b.me.v6), IpAddr::V6(other.me.v6), IP6),
            };
            let direct = town.way == Way::Bridged && other.name == "deaf";
            let whom = if direct { other.me.mac } else { b.gateway.mac };
            for load in LOADS {
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
    let host = &town.world.host;
    for route in routes(town) {
        let from = if route.who == "host" { host } else { town.place(route.who).netns };
        let [_, to] = route.ends;
        for address in [to.v4.into(), IpAddr::from(to.v6)] {
            let end = if route.victim == "b" { "b" } else { route.end };
            let at = if end == "host" { host } else { town.place(end).netns };
            if !served.iter().any(|(_, served)| *served == address) {
                served.push((Echo::serve(at, &address.to_string()), address));
            }
            let live = Live::begin(from, address);
            if route.who != "host" {
                let me = town.place(route.who);
                let direct = town.way == Way::Bridged && ["b", "other"].contains(&end);
                live.ping(&me, address, if direct { to.mac } else { me.gateway.mac });
            }
            lives.push(live);
        }
    }
    let each = routes(town).into_iter().zip(lives.chunks(2)).flat_map(|(route, lives)| {
        let [from, to] = route.ends;
        let both = [[from.v4.into(), to.v4.into()], [from.v6.into(), IpAddr::from(to.v6)]];
        both.into_iter().zip(lives).map(move |(ends, live)| Flow { route, ends, live })
    });
    let flows: Vec<Flow<'_>> = each.collect();
    let places = SENDERS.map(|name| town.place(name));
    let outside = &places[0];
    let beside = Side { v4: v4(BESIDE[0]), v6: v6(BESIDE[1]), ..outside.me };
    let mut senders: Vec<_> = places.iter().map(|place| (place.name, place, place.me)).collect();
    senders.push(("beside", outside, beside));
    let mut report = Report::default();
    for sender in senders {
        let mut watches: Vec<Watch> =
            VICTIMS.iter().map(|name| Watch::link(&town.place(name))).collect();
        watches.push(Watch::sockets(host, "the host's sockets", &[1, 58]));
        let wall = format!("{} in {:?}", sender.0, town.way);
        let ends: Vec<&Flow<'_>> = flows.iter().filter(|flow| flow.route.who == "host").collect();
        // What the true ends have said is taken off.
        ends.iter().for_each(|flow| drop(flow.live.udp.take_error()));
        volley(town, &flows, sender).fire(&wall, sender.1, &mut watches, &mut report);
        for flow in ends {
            let broken = flow.live.udp.take_error().expect("its state");
            let may = flow.route.end == sender.0 || ["outside", "beside"].contains(&sender.0);
            if let (Some(e), false) = (broken, may) {
                report.note(format!("{wall}: a socket of {}", flow.route.name), e.to_string());
            }
        }
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
    errors_come_from_an_end(&town(world!(), Way::Routed, 170));
}
