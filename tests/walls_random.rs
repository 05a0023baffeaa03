//! Frames by chance. A function that reads the frame as it is says whether it may arrive: its sender must be
//! genuine, and the wall must allow it. `QUANTUM_FRAMES_SEED` and `QUANTUM_FRAMES_SECONDS` repeat a run, and make
//! it longer.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::network_isolation::{HOST6, v4, v6};
use crate::policy_live::network_policy;
use crate::support::ctl::apply;
use crate::support::forged::Side;
use crate::support::frames::{IP4, frame, ip4, link_local, mark, protocol, udp};
use crate::support::random::{self, Cast, Chance};
use crate::support::world::{HOST, World};
use crate::walls_probes::{Expect, Report, Volley, Watch, hex};
use crate::walls_town::{Place, Town, Way};

const SEED: u64 = 20_261_201;
/// How many frames are sent between two looks, and how often, where no time is given.
const FRAMES: usize = 4000;
const ROUNDS: u64 = 3;
/// After so many frames one that has to arrive.
const CONTROL: usize = 100;

/// Isolated: `x`, `db` who is sent to by nobody, and `other`; another network; and two of zero-trust.
/// Where these are limited, their frames take other ways.
fn town(world: World, way: Way, number: u8, limited: bool) -> Town {
    let rate = 1_000_000_000_u64;
    let keys = match limited {
        true => json!({ "ipMasq": false, "ingressRate": rate, "ingressBurst": rate,
            "egressRate": rate, "egressBurst": rate }),
        false => json!({ "ipMasq": false }),
    };
    let mut town = Town::new(world, way, &[number, number + 1, number + 2]);
    for name in ["x", "db", "other"] {
        town.add(name, ("shop", number), keys.clone());
    }
    town.add("far", ("far", number + 1), json!({ "ipMasq": false }));
    let zero = json!({ "ipMasq": false, "policy": { "posture": "zero-trust" } });
    for name in ["zero", "zest"] {
        town.add(name, ("zero", number + 2), zero.clone());
    }
    let closed = json!({ "podSelector": { "matchLabels": { "app": "db" } },
        "policyTypes": ["Ingress"], "ingress": [] });
    apply(&town.world, &network_policy("closed", closed));
    town
}

/// What a frame is, as far as that says where it may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// Not of who it says, or nothing that a container may send.
    Forged,
    Arp,
    /// Neighbour discovery and listeners' reports, which no policy is asked about.
    Link,
    Packet4(Ipv4Addr),
    Packet6(Ipv6Addr),
}

fn read(frame: &[u8], me: Side) -> Word {
    let at = |from: usize, to: usize| frame.get(from..to).unwrap_or_default();
    if at(6, 12) != me.mac {
        return Word::Forged;
    }
    match at(12, 14) {
        [8, 6] => {
            let form = at(14, 20) == [0, 1, 8, 0, 6, 4] && frame.len() >= 42;
            let operation = at(20, 22);
            let sender = at(28, 32);
            let probe = operation == [0, 1] && sender == [0; 4];
            let own = at(22, 28) == me.mac && (sender == me.v4.octets() || probe);
            let known = [[0, 1], [0, 2]].iter().any(|known| known == operation);
            if form && own && known { Word::Arp } else { Word::Forged }
        }
        [8, 0] => {
            if at(26, 30) != me.v4.octets() {
                return Word::Forged;
            }
            let first = at(20, 22).iter().zip([0x1f, 0xff]).all(|(byte, mask)| byte & mask == 0);
            let head = 14 + usize::from(frame.get(14).unwrap_or(&0) & 15) * 4;
            let server = first && at(23, 24) == [17] && at(head, head + 2) == 67_u16.to_be_bytes();
            let redirect = first && at(23, 24) == [1] && at(head, head + 1) == [5];
            let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            match <[u8; 4]>::try_from(at(30, 34)) {
                _ if length + 14 > frame.len() => Word::Packet4(Ipv4Addr::UNSPECIFIED),
                _ if server || redirect => Word::Forged,
                Ok(to) if frame[14] >> 4 == 4 => Word::Packet4(to.into()),
                // Of its sender, and for nobody.
                _ => Word::Packet4(Ipv4Addr::UNSPECIFIED),
            }
        }
        [0x86, 0xdd] => read6(frame, me),
        _ => Word::Forged,
    }
}

fn read6(frame: &[u8], me: Side) -> Word {
    let at = |from: usize, to: usize| frame.get(from..to).unwrap_or_default();
    let address = |from: usize| <[u8; 16]>::try_from(at(from, from + 16)).map(Ipv6Addr::from);
    let Ok(from) = address(22) else { return Word::Forged };
    let to = address(38).unwrap_or(Ipv6Addr::UNSPECIFIED);
    let genuine = [me.v6, link_local(me.mac)].contains(&from);
    let (left, mut next, mut place) = (frame[21], frame[20], 54);
    // What is cut off is read by nobody, and is for nobody.
    let cut = usize::from(u16::from_be_bytes([frame[18], frame[19]])) + 54 > frame.len();
    if (cut || frame[14] >> 4 != 6) && genuine {
        return Word::Packet6(Ipv6Addr::UNSPECIFIED);
    }
    // Behind which headers the message is, and whether it is in a later fragment.
    let mut later = false;
    let mut fragment = false;
    for _ in 0..16 {
        let length = usize::from(*frame.get(place + 1).unwrap_or(&0));
        let size = match next {
            0 | 43 | 60 => 8 + length * 8,
            44 => {
                fragment = true;
                later |= at(place + 2, place + 4).iter().zip([0xff, 0xf8]).any(|(b, m)| b & m != 0);
                8
            }
            _ => break,
        };
        next = *frame.get(place).unwrap_or(&59);
        place += size;
    }
    let kind = *frame.get(place).unwrap_or(&0);
    let message = next == 58 && !later;
    let listens = message && [130, 131, 132, 143].contains(&kind);
    let listener = listens && left == 1 && to.is_multicast() && from != me.v6;
    let discovery = message && [133, 135, 136].contains(&kind) && left == 255 && !fragment;
    if message && [134, 137].contains(&kind) || !genuine && !from.is_unspecified() {
        return Word::Forged;
    }
    // Who asks whether its address is free has none yet, and listens to groups.
    if from.is_unspecified() && !(discovery && kind == 135 || listens) {
        return Word::Forged;
    }
    if message && kind == 136 && at(place + 8, place + 24) != from.octets() {
        return Word::Forged;
    }
    let server = next == 17 && !fragment && at(place, place + 2) == 547_u16.to_be_bytes();
    if server {
        return Word::Forged;
    }
    if discovery || listener { Word::Link } else { Word::Packet6(to) }
}

/// Whether a frame may come to a watch: a container, the host's end of the bridge, or the world.
fn may(word: Word, way: Way, zero: bool, watch: &Place<'_>) -> bool {
    let on_link = way == Way::Bridged && watch.netns_shares(zero);
    match (word, watch.name) {
        (Word::Forged, _) => false,
        (Word::Arp | Word::Link, _) => on_link,
        (_, "db" | "far" | "zest") => false,
        (Word::Packet4(to), "other") => !zero && to == watch.me.v4,
        (Word::Packet6(to), "other") => {
            !zero && [watch.me.v6, link_local(watch.me.mac)].contains(&to)
        }
        // Nobody else in the world has a way there, but the host may send there what is for anybody.
        (Word::Packet4(to), "outside") => !zero && !to.is_private() && !to.is_multicast(),
        (Word::Packet6(to), "outside") => {
            !zero && !to.is_multicast() && !to.is_unicast_link_local()
        }
        _ => false,
    }
}

impl Place<'_> {
    /// Whether it is on the link of the sender of zero-trust, or of the other one.
    fn netns_shares(&self, zero: bool) -> bool {
        if zero { self.name == "zest" } else { ["db", "other"].contains(&self.name) }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: {text} is no number")))
}

/// One round of frames from one sender, looked for everywhere.
fn round(town: &Town, sender: &'static str, seed: u64, report: &mut Report) {
    let me = town.place(sender);
    let zero = sender == "zero";
    let near = if zero { ["zest", "zero"] } else { ["db", "other"] };
    let places = ["db", "other", "far", "zest", "outside"].map(|name| town.place(name));
    let host = Side { v4: v4(HOST), v6: v6(HOST6), ..me.gateway };
    let mut others: Vec<Side> = places.iter().map(|place| place.me).collect();
    others.extend([me.gateway, me.gateway, host]);
    // Most of it is for the neighbours.
    let neighbours = places.iter().filter(|place| near.contains(&place.name));
    others.extend(neighbours.clone().map(|place| place.me).chain(neighbours.map(|place| place.me)));
    let cast = Cast { me: me.me, others, broadcast: town.broadcast(sender) };
    let mut chance = Chance(seed);
    let mut volley = Volley::default();
    for n in 0..FRAMES {
        if n % CONTROL == 0 && !zero {
            let other = &places[1];
            let data =
                udp((me.me.v4.into(), 30_000), (other.me.v4.into(), 9), &mark(volley.next()));
            let packet = ip4(me.me.v4, other.me.v4, protocol::UDP, &data);
            let whom = if town.way == Way::Bridged { other.me.mac } else { me.gateway.mac };
            let expect = [
                Expect::Never,
                Expect::Must,
                Expect::Never,
                Expect::Never,
                Expect::Never,
                Expect::May,
            ];
            volley.add(
                "the control",
                "",
                vec![frame(whom, me.me.mac, IP4, &packet)],
                expect.into(),
            );
        }
        let bytes = random::frame(&mut chance, &cast, mark(volley.next()));
        let word = read(&bytes, me.me);
        let allow = |allowed| if allowed { Expect::May } else { Expect::Never };
        let mut expect: Vec<Expect> =
            places.iter().map(|place| allow(may(word, town.way, zero, place))).collect();
        expect.push(allow(word != Word::Forged));
        let kind = match word {
            Word::Packet4(to) if to.is_multicast() || to.is_broadcast() || to == cast.broadcast => {
                "a packet to many".to_owned()
            }
            Word::Packet4(_) => "a packet of IPv4".to_owned(),
            Word::Packet6(to) if to.is_multicast() => "a packet of IPv6 to many".to_owned(),
            Word::Packet6(_) => "a packet of IPv6".to_owned(),
            word => format!("{word:?}"),
        };
        volley.add(kind, hex(&bytes), vec![bytes], expect);
    }
    let mut watches: Vec<Watch> = places.iter().map(Watch::link).collect();
    let bridge = if zero { "zero0" } else { "shop0" };
    watches.push(Watch::bridge(&town.world.host, bridge, &me));
    let wall = format!("{sender} in {:?}, seed {seed}", town.way);
    volley.fire(&wall, &me, &mut watches, report);
}

fn no_frame_crosses_a_wall(town: &Town) {
    let seed = number("QUANTUM_FRAMES_SEED").unwrap_or(SEED);
    let until = number("QUANTUM_FRAMES_SECONDS").map(|n| Instant::now() + Duration::from_secs(n));
    let mut report = Report::default();
    for n in 0.. {
        if until.map_or(n >= ROUNDS, |until| Instant::now() > until) {
            break;
        }
        for sender in ["x", "zero"] {
            round(town, sender, seed.wrapping_add(n), &mut report);
        }
    }
    report.is_clean();
}

#[test]
fn no_frame_by_chance_crosses_a_wall() {
    no_frame_crosses_a_wall(&town(world!(), Way::Bridged, 140, false));
}

#[test]
fn no_frame_by_chance_crosses_a_wall_where_the_host_routes() {
    no_frame_crosses_a_wall(&town(world!(), Way::Routed, 143, false));
}

#[test]
fn no_frame_by_chance_crosses_a_wall_where_containers_are_limited() {
    no_frame_crosses_a_wall(&town(world!(), Way::Bridged, 146, true));
}
