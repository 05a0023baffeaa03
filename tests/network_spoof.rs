//! Anti-spoofing: a container sends what it is, and nothing else. Forged frames are sent from inside by
//! a packet socket and looked for at the neighbour and at the host; where nothing is looked at, each of
//! the same frames arrives, so that none is dropped for another reason.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::network_keys::port;
use crate::network_routed::without_br_netfilter;
use crate::support::conf::{network, with};
use crate::support::daemon::Daemon;
use crate::support::forged::{ALL_NODES, ANSWERS, ASKS, Side, answer, forged};
use crate::support::frames::{
    ARP, EAPOL, EVERYBODY, IP6, Mac, Mark, NEXT_LINK, Wire, arp, frame, icmp6, ip6, ip6_fragments,
    link_local, mac, mark, option, protocol,
};
use crate::support::netns::Netns;
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, SILENCE, tcp_answers, udp_answers};
use crate::support::world::World;

/// The mark of a frame that arrives, after those that do not.
pub(crate) const LAST: u16 = 9999;

/// Two containers of one network, and the host.
pub(crate) struct Scene {
    pub(crate) world: World,
    _daemon: Daemon,
    pub(crate) containers: [Netns; 2],
    pub(crate) ports: [String; 2],
    pub(crate) bridge: String,
    pub(crate) me: Side,
    pub(crate) neighbour: Side,
    pub(crate) gateway: Side,
}

impl Scene {
    pub(crate) fn new(world: World, name: &str, number: u8, keys: Value) -> Self {
        let daemon = world.daemon();
        Self::with_daemon(world, daemon, name, number, keys)
    }

    fn with_daemon(world: World, daemon: Daemon, name: &str, number: u8, keys: Value) -> Self {
        let bridge = format!("{name}0");
        let ranges = json!([[{ "subnet": format!("10.{number}.0.0/24") }],
                            [{ "subnet": format!("fd00:{number}::/64") }]]);
        let routes = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
        let ipam = json!({ "subnet": null, "ranges": ranges, "routes": routes });
        let conf = with(&network(name, &bridge, ""), json!({ "ipam": ipam }));
        let conf = with(&conf, keys);
        let containers = [world.container(), world.container()];
        let added = ["c1", "c2"].map(|id| {
            let container = &containers[usize::from(id == "c2")];
            world.call(Call::add(id, container).conf(&conf)).succeeded()
        });
        let [me, neighbour] = [0, 1].map(|at| Side {
            mac: mac(added[at]["interfaces"][2]["mac"].as_str().expect("a MAC")),
            v4: ip(&added[at]["ips"][0]["address"]),
            v6: ip(&added[at]["ips"][1]["address"]),
        });
        let gateway = Side {
            mac: mac(added[0]["interfaces"][0]["mac"].as_str().expect("a MAC")),
            v4: ip(&added[0]["ips"][0]["gateway"]),
            v6: ip(&added[0]["ips"][1]["gateway"]),
        };
        let ports = [0, 1].map(|at| port(&added[at]).to_owned());
        Self { world, _daemon: daemon, containers, ports, bridge, me, neighbour, gateway }
    }

    pub(crate) fn whom(&self) -> [Mac; 3] {
        [EVERYBODY, self.neighbour.mac, self.gateway.mac]
    }

    /// Where frames are looked for: the neighbour's end, and the bridge.
    pub(crate) fn watches(&self) -> [Wire; 2] {
        [Wire::on(&self.containers[1], "eth0"), Wire::on(&self.world.host, &self.bridge)]
    }

    /// Something genuine that both see.
    pub(crate) fn last_word(&self) -> Vec<u8> {
        let me = (self.me.mac, self.me.v4);
        frame(EVERYBODY, self.me.mac, ARP, &arp(1, me, self.gateway.v4, mark(LAST)))
    }

    /// Everything that works between containers and the host, with nothing known from before.
    #[track_caller]
    pub(crate) fn is_undisturbed(&self) {
        let [one, two] = &self.containers;
        for netns in [one, two, &self.world.host] {
            netns.ip("neigh flush all");
        }
        for to in [self.neighbour.v4.to_string(), self.neighbour.v6.to_string()] {
            let _echo = Echo::serve(two, &to);
            assert!(udp_answers(one, &to, PATIENCE) && tcp_answers(one, &to, PATIENCE), "{to}");
            assert!(udp_answers(&self.world.host, &to, PATIENCE), "{to} from the host");
        }
        for to in [self.gateway.v4.to_string(), self.gateway.v6.to_string()] {
            let _echo = Echo::serve(&self.world.host, &to);
            assert!(udp_answers(one, &to, PATIENCE) && tcp_answers(one, &to, PATIENCE), "{to}");
        }
        assert!(ping(one, &self.neighbour.v4.to_string(), PATIENCE), "ping");
        assert!(ping(one, &self.gateway.v4.to_string(), PATIENCE), "ping of the gateway");
    }
}

pub(crate) fn ip<T: std::str::FromStr>(value: &Value) -> T {
    let text = value.as_str().and_then(|a| a.split('/').next()).expect("an address");
    text.parse().unwrap_or_else(|_| panic!("an address: {text}"))
}

/// Each forgery to each of those it could be meant for.
fn all_forged(scene: &Scene) -> Vec<(u16, String, Vec<Vec<u8>>)> {
    let sides = [scene.me, scene.neighbour, scene.gateway];
    let mut all = Vec::new();
    for (round, to) in (0..).zip(scene.whom()) {
        for number in (100 * round..).map_while(|number| {
            let (name, frames) = forged(sides, to, number);
            (!frames.is_empty()).then(|| (number, format!("{name}, to {to:02x?}"), frames))
        }) {
            all.push(number);
        }
    }
    all
}

#[test]
fn forged_frames_are_delivered_to_nobody() {
    let scene = Scene::new(world!(), "forge", 90, json!({}));
    let [mut neighbour, mut host] = scene.watches();
    let wire = Wire::on(&scene.containers[0], "eth0");
    let all = all_forged(&scene);
    assert_eq!(all.len(), 3 * 33, "every forgery");
    for frame in all.iter().flat_map(|(_, _, frames)| frames) {
        wire.send(frame);
    }
    wire.send(&scene.last_word());
    neighbour.wait_for(LAST, "something genuine at the neighbour");
    host.wait_for(LAST, "something genuine at the host");
    let seen_by = |wire: &mut Wire| -> Vec<&str> {
        let seen = all.iter().filter(|(number, _, _)| wire.seen(*number) > 0);
        seen.map(|(_, name, _)| name.as_str()).collect()
    };
    assert_eq!(seen_by(&mut neighbour), [""; 0], "at the neighbour");
    assert_eq!(seen_by(&mut host), [""; 0], "at the host");
    scene.is_undisturbed();
}

#[test]
fn the_same_frames_arrive_where_nothing_is_looked_at() {
    let keys = json!({ "policy": { "posture": "open", "antiSpoof": false } });
    let scene = Scene::new(world!(), "naive", 91, keys);
    let [mut neighbour, mut host] = scene.watches();
    let wire = Wire::on(&scene.containers[0], "eth0");
    let all = all_forged(&scene);
    for (number, name, frames) in &all {
        frames.iter().for_each(|frame| wire.send(frame));
        let to: Mac = frames[0][..6].try_into().expect("six bytes");
        if to != scene.gateway.mac {
            neighbour.wait_for(*number, &format!("{name}, at the neighbour"));
        }
        if to != scene.neighbour.mac {
            host.wait_for(*number, &format!("{name}, at the host"));
        }
    }
}

#[test]
fn what_is_for_the_next_link_only_does_not_reach_the_host() {
    let hello = |s: &Scene| {
        let payload = [&[1, 1, 0, 0][..], &mark(1), &[0; 40]].concat();
        frame(NEXT_LINK, s.me.mac, EAPOL, &payload)
    };
    let scene = Scene::new(world!(), "hello", 92, json!({}));
    let mut host = Wire::for_kind(&scene.world.host, &scene.ports[0], EAPOL);
    let [_, mut bridge] = scene.watches();
    let wire = Wire::on(&scene.containers[0], "eth0");
    wire.send(&hello(&scene));
    wire.send(&scene.last_word());
    bridge.wait_for(LAST, "something genuine");
    assert_eq!(host.seen(1), 0, "where it is looked at");
    drop(scene);

    let keys = json!({ "policy": { "posture": "open", "antiSpoof": false } });
    let scene = Scene::new(world!(), "hello", 92, keys);
    let mut host = Wire::for_kind(&scene.world.host, &scene.ports[0], EAPOL);
    Wire::on(&scene.containers[0], "eth0").send(&hello(&scene));
    host.wait_for(1, "802.1X at the port, where nothing is looked at");
}

/// An advertisement of a router behind options that fill the first fragment.
fn hidden(scene: &Scene, number: u16) -> Vec<Vec<u8>> {
    let local = link_local(scene.me.mac);
    let message = icmp6((local, ALL_NODES), 134, [64, 0, 7, 8], &[0; 8]);
    let packet = [&[protocol::ICMP6, 1, 1, 12][..], &mark(number), &[0; 6], &message].concat();
    let parts = ip6_fragments((local, ALL_NODES), protocol::OPTIONS, &packet, &[16], 1);
    parts.iter().map(|part| frame(EVERYBODY, scene.me.mac, IP6, part)).collect()
}

#[test]
fn what_hides_in_a_later_fragment_is_not_passed_on() {
    // Where bridges hand packets over they are put together first; here they do not.
    let among = json!({ "policy": { "enforcement": "none" } });
    let naive = json!({ "posture": "open", "antiSpoof": false });
    for (keys, arrives) in [(among.clone(), 0), (with(&among, json!({ "policy": naive })), 1)] {
        let scene = Scene::new(world!(), "hide", 97, keys);
        without_br_netfilter(&scene.world);
        let [mut neighbour, _] = scene.watches();
        let wire = Wire::on(&scene.containers[0], "eth0");
        hidden(&scene, 1).iter().for_each(|frame| wire.send(frame));
        wire.send(&scene.last_word());
        neighbour.wait_for(LAST, "something genuine");
        assert_eq!(neighbour.seen(1), arrives, "{arrives} expected");
    }
}

#[test]
fn genuine_frames_of_every_kind_are_delivered() {
    let scene = Scene::new(world!(), "true", 93, json!({}));
    scene.is_undisturbed();
    let (me, them) = (scene.me, scene.neighbour);
    let local = link_local(me.mac);
    let none = Ipv6Addr::UNSPECIFIED;
    let [mut neighbour, mut host] = scene.watches();
    let mut wire = Wire::on(&scene.containers[0], "eth0");
    let resolve = |operation, sender, target, mark| {
        frame(EVERYBODY, me.mac, ARP, &arp(operation, sender, target, mark))
    };
    let discovery = |from: Ipv6Addr, kind, rest, body: &[u8]| {
        let message = icmp6((from, ALL_NODES), kind, rest, body);
        frame(EVERYBODY, me.mac, IP6, &ip6(from, ALL_NODES, protocol::ICMP6, &message))
    };
    let asks = |target: Ipv6Addr, mark| [&target.octets()[..], &option(mark)].concat();
    // One record of one group, and the mark where more of them would be.
    let report = |mark: Mark| {
        let group = "ff02::1:ff00:1".parse::<Ipv6Addr>().expect("a group").octets();
        [&[4, 0, 0, 0][..], &group, &mark].concat()
    };
    let frames = [
        ("ARP question", resolve(1, (me.mac, me.v4), them.v4, mark(0))),
        ("ARP answer", resolve(2, (me.mac, me.v4), them.v4, mark(1))),
        ("ARP probe", resolve(1, (me.mac, Ipv4Addr::UNSPECIFIED), me.v4, mark(2))),
        ("gratuitous ARP", resolve(1, (me.mac, me.v4), me.v4, mark(3))),
        ("NS", discovery(me.v6, ASKS, [0; 4], &asks(them.v6, mark(4)))),
        ("NS from its link-local address", discovery(local, ASKS, [0; 4], &asks(them.v6, mark(5)))),
        ("DAD", discovery(none, ASKS, [0; 4], &asks(me.v6, mark(6)))),
        ("DAD of its link-local address", discovery(none, ASKS, [0; 4], &asks(local, mark(7)))),
        ("NA", discovery(me.v6, ANSWERS, [0x20, 0, 0, 0], &answer(me.v6, me.mac, mark(8)))),
        (
            "NA of its link-local address",
            discovery(local, ANSWERS, [0x20, 0, 0, 0], &answer(local, me.mac, mark(9))),
        ),
        ("RS", discovery(local, 133, [0; 4], &option(mark(10)))),
        ("MLD before there is an address", discovery(none, 143, [0, 0, 0, 1], &report(mark(11)))),
        ("MLD", discovery(local, 143, [0, 0, 0, 1], &report(mark(12)))),
    ];
    for (number, (name, frame)) in (0..).zip(&frames) {
        wire.send(frame);
        neighbour.wait_for(number, &format!("{name}, at the neighbour"));
        host.wait_for(number, &format!("{name}, at the host"));
    }

    let echo = |number: u32, ends: &[usize]| -> Vec<Vec<u8>> {
        let payload = [&mark(number as u16)[..], &[0; 58]].concat();
        let request = icmp6((me.v6, them.v6), 128, [0, 1, 0, 1], &payload);
        let parts = ip6_fragments((me.v6, them.v6), protocol::ICMP6, &request, ends, number);
        parts.iter().map(|part| frame(them.mac, me.mac, IP6, part)).collect()
    };
    let request = icmp6((me.v6, them.v6), 128, [0, 1, 0, 1], &mark(20));
    let packet = ip6(me.v6, them.v6, protocol::ICMP6, &request);
    for (number, frames) in [
        (20, vec![frame(them.mac, me.mac, IP6, &packet)]),
        (21, echo(21, &[])),
        (22, echo(22, &[16, 32])),
    ] {
        frames.iter().for_each(|frame| wire.send(frame));
        wire.wait_for(number, "the answer to an echo of IPv6, whole or in fragments");
    }
}

#[test]
fn a_port_of_ours_without_its_elements_is_mute() {
    let world = world!();
    let daemon = world.daemon_that_mends_nothing();
    let scene = Scene::with_daemon(world, daemon, "mute", 94, json!({}));
    scene.is_undisturbed();
    let [one, _] = &scene.containers;
    let nft = |args: &str| scene.world.host.output("nft", args);
    let mac: Vec<String> = scene.me.mac.iter().map(|b| format!("{b:02x}")).collect();
    let of_port = format!("{} . {}", scene.ports[0], mac.join(":"));
    let to = scene.neighbour.v4.to_string();
    assert!(ping(one, &to, PATIENCE), "before");
    let is_mute = |lacking: &str| {
        one.ip("neigh flush all");
        for to in [&to, &scene.gateway.v4.to_string()] {
            assert!(!ping(one, to, SILENCE), "{to}, without {lacking}");
        }
    };
    nft(&format!("delete element bridge quantum bound4 {{ {of_port} . {} }}", scene.me.v4));
    is_mute("an address");
    nft(&format!("delete element bridge quantum genuine {{ {of_port} }}"));
    let watches = scene.watches();
    is_mute("a hardware address");
    let v6 = scene.neighbour.v6.to_string();
    let _echo = Echo::serve(&scene.containers[1], &v6);
    assert!(!udp_answers(one, &v6, SILENCE), "IPv6");
    let heard = watches.map(|mut wire| wire.has_heard(scene.me.mac));
    assert_eq!(heard, [false; 2], "nothing at all");
}
