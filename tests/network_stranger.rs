//! A port that somebody else has put on the bridge of a network, a veth enslaved by hand: where every
//! container's address is known, neither containers nor host are there for it.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::json;

use crate::network_spoof::{LAST, Scene, ip};
use crate::support::forged::{ALL_NODES, ASKS, Side};
use crate::support::frames::{
    ARP, EVERYBODY, IP4, IP6, Wire, arp, frame, icmp6, ip4, ip6, link_local, mac, mark, option,
    protocol, udp,
};
use crate::support::netns::Netns;
use crate::support::traffic::{Echo, PATIENCE, SILENCE, udp_answers};

/// A veth that somebody has put on the bridge.
fn stray(scene: &Scene) -> Netns {
    let netns = scene.world.container();
    scene.world.host.ip_batch(&format!(
        "link add stray type veth peer name eth0 netns {}\n\
         link set stray master {} up\n",
        netns.text(),
        scene.bridge
    ));
    let Side { v4, v6, .. } = scene.neighbour;
    let last = v4.octets()[3] + 100;
    let v4 = Ipv4Addr::from([v4.octets()[0], v4.octets()[1], 0, last]);
    let net = v6.segments()[1];
    netns.ip_batch(&format!(
        "address add {v4}/24 dev eth0\n\
         address add fd00:{net:x}::{last:x}/64 dev eth0 nodad\n\
         link set eth0 up\n"
    ));
    netns
}

#[test]
fn a_port_that_somebody_has_put_on_the_bridge_is_mute_both_ways() {
    let scene = Scene::new(world!(), "stray", 95, json!({}));
    let stray = stray(&scene);
    let [one, two] = &scene.containers;
    let host = &scene.world.host;
    let mut wire = Wire::on(&stray, "eth0");
    let [mut neighbour, mut bridge] = scene.watches();
    let own = mac(stray.link("eth0").expect("eth0")["address"].as_str().expect("a MAC"));
    let v4: Ipv4Addr = ip(&json!(stray.addresses("eth0", 4)[0]));
    let v6: Ipv6Addr = ip(&json!(stray.addresses("eth0", 6)[0]));

    // As anybody would.
    for side in [scene.neighbour, scene.gateway] {
        let netns = if side.mac == scene.neighbour.mac { two } else { host };
        for to in [side.v4.to_string(), side.v6.to_string()] {
            let echo = Echo::serve(netns, &to);
            assert!(!udp_answers(&stray, &to, SILENCE), "to {to}");
            assert!(echo.seen().is_empty(), "{to} was asked");
        }
    }
    for to in [v4.to_string(), v6.to_string()] {
        let echo = Echo::serve(&stray, &to);
        assert!(!udp_answers(one, &to, SILENCE) && !udp_answers(host, &to, SILENCE), "{to}");
        assert!(echo.seen().is_empty(), "{to} was asked");
    }

    // By hand, also as if it were a container, and to those whom it cannot ask for.
    let me = scene.me;
    let mut sent = 0;
    for (from_mac, from4, from6) in [(own, v4, v6), (own, me.v4, me.v6), (own, v4, link_local(own))]
    {
        for to in [scene.neighbour, scene.gateway] {
            let data4 = udp((from4.into(), 5), (to.v4.into(), 6), &mark(sent));
            let data6 = udp((from6.into(), 5), (to.v6.into(), 6), &mark(sent));
            let echo = icmp6((from6, link_local(to.mac)), 128, [0; 4], &mark(sent));
            let asks = [&to.v6.octets()[..], &option(mark(sent))].concat();
            let asks_local = [&link_local(to.mac).octets()[..], &option(mark(sent))].concat();
            let ask = |body| {
                let message = icmp6((from6, ALL_NODES), ASKS, [0; 4], body);
                (EVERYBODY, IP6, ip6(from6, ALL_NODES, protocol::ICMP6, &message))
            };
            for (whom, kind, payload) in [
                (to.mac, IP4, ip4(from4, to.v4, protocol::UDP, &data4)),
                (to.mac, IP6, ip6(from6, to.v6, protocol::UDP, &data6)),
                (to.mac, IP6, ip6(from6, link_local(to.mac), protocol::ICMP6, &echo)),
                (to.mac, ARP, arp(2, (from_mac, from4), to.v4, mark(sent))),
            ] {
                wire.send(&frame(whom, from_mac, kind, &payload));
            }
            if to.mac == scene.gateway.mac {
                let question = arp(1, (from_mac, from4), to.v4, mark(sent));
                wire.send(&frame(EVERYBODY, from_mac, ARP, &question));
                for (whom, kind, packet) in [ask(&asks), ask(&asks_local)] {
                    wire.send(&frame(whom, from_mac, kind, &packet));
                }
            }
            sent += 1;
        }
    }
    // Nobody is asked by this, so the bridge may hear it; it is the last.
    wire.send(&frame(
        EVERYBODY,
        own,
        ARP,
        &arp(1, (own, v4), Ipv4Addr::new(192, 0, 2, 9), mark(LAST)),
    ));
    bridge.wait_for(LAST, "the last frame");
    for number in 0..sent {
        assert_eq!(neighbour.seen(number), 0, "{number}, at the neighbour");
        assert_eq!(bridge.seen(number), 0, "{number}, at the host");
    }
    assert!(!neighbour.has_heard(own), "the neighbour has heard of it");

    // And it hears nothing, though they ask for each other aloud.
    scene.is_undisturbed();
    for side in [scene.me, scene.neighbour, scene.gateway] {
        assert!(!wire.has_heard(side.mac), "heard {:02x?}", side.mac);
    }
}

#[test]
fn on_a_bridge_where_nothing_is_looked_at_others_take_part() {
    let keys = json!({ "policy": { "posture": "open", "antiSpoof": false } });
    let scene = Scene::new(world!(), "guest", 96, keys);
    let stray = stray(&scene);
    for (side, netns) in
        [(scene.neighbour, &scene.containers[1]), (scene.gateway, &scene.world.host)]
    {
        for to in [side.v4.to_string(), side.v6.to_string()] {
            let _echo = Echo::serve(netns, &to);
            assert!(udp_answers(&stray, &to, PATIENCE), "{to}");
        }
    }
}
