//! What is sent to everybody on a bridge, by broadcast or multicast, where policy says who may be sent to.

use std::net::{SocketAddr, SocketAddrV6, UdpSocket};

use serde_json::json;

use crate::network_isolation::{Attached, dual, v4};
use crate::policy_live::{network_policy, pod};
use crate::support::ctl::{apply, told};
use crate::support::frames::{IP4, Wire, frame, ip4, mark, protocol, udp};
use crate::support::traffic::{PATIENCE, SILENCE};

const AT: u16 = 7300;

/// A socket that takes what is sent to groups of IPv4, and one for IPv6.
fn listeners(at: &Attached) -> [UdpSocket; 2] {
    at.netns.run(|| {
        let index = nix::net::if_::if_nametoindex("eth0").expect("eth0");
        let v4 = UdpSocket::bind(("0.0.0.0", AT)).expect("a socket");
        let own = at.addresses[0].parse().expect("an address");
        for group in ["224.0.0.251", "239.1.2.3"] {
            v4.join_multicast_v4(&group.parse().expect("a group"), &own).expect("joined");
        }
        let v6 = UdpSocket::bind(("::", AT + 1)).expect("a socket");
        v6.join_multicast_v6(&"ff02::fb".parse().expect("a group"), index).expect("joined");
        [v4, v6]
    })
}

/// Everybody whom `from` can send to at once, with the family.
fn everybody(from: &Attached, number: u8) -> Vec<(usize, SocketAddr)> {
    let v4 = ["224.0.0.251", "239.1.2.3", "255.255.255.255", &format!("10.{number}.0.255")]
        .map(|to| (0, SocketAddr::new(to.parse().expect("an address"), AT)));
    let index = from.netns.run(|| nix::net::if_::if_nametoindex("eth0").expect("eth0"));
    let v6 = ["ff02::fb", "ff02::1"].map(|to| {
        let to = to.parse().expect("an address");
        (1, SocketAddr::V6(SocketAddrV6::new(to, AT + 1, 0, index)))
    });
    v4.into_iter().chain(v6).collect()
}

/// Which of these the listeners hear when `from` sends to them.
fn heard(from: &Attached, at: &[UdpSocket; 2], number: u8, expected: bool) -> Vec<SocketAddr> {
    let is_heard = |(family, to): &(usize, SocketAddr)| {
        let any = ["0.0.0.0:0", "[::]:0"][*family];
        let socket = from.netns.run(|| UdpSocket::bind(any).expect("a socket"));
        socket.set_broadcast(true).expect("allowed");
        let listener = &at[*family];
        let within = if expected { PATIENCE } else { SILENCE };
        listener.set_read_timeout(Some(within)).expect("a bound");
        let text = to.to_string();
        let mut buffer = [0; 64];
        // Without an answer the only way to know is that it came.
        socket.send_to(text.as_bytes(), to).is_ok()
            && listener.recv(&mut buffer).is_ok_and(|n| &buffer[..n] == text.as_bytes())
    };
    everybody(from, number).into_iter().filter(is_heard).map(|(_, to)| to).collect()
}

/// Whether `at` hears what is for a group, in a frame that is for it alone.
fn hears_alone(from: &Attached, to: &Attached, at: &UdpSocket, own: &str) -> bool {
    let (own, group) = (v4(own), v4("239.1.2.3"));
    let datagram = udp((own.into(), 5), (group.into(), AT), &mark(1));
    let packet = ip4(own, group, protocol::UDP, &datagram);
    Wire::for_kind(&from.netns, "eth0", IP4).send(&frame(to.mac, from.mac, IP4, &packet));
    at.set_read_timeout(Some(SILENCE)).expect("a bound");
    at.recv(&mut [0; 64]).is_ok()
}

fn nobody_is_reached_by_sending_to_everybody(number: u8, posture: &str) {
    let world = world!();
    if !std::path::Path::new("/proc/sys/net/bridge").exists() {
        return crate::support::skip("no br_netfilter: containers do not hear each other's groups");
    }
    let _daemon = world.daemon();
    let conf = dual("shop", number, json!({ "policy": { "posture": posture } }));
    let (web, db) = (pod(&world, "web", &conf), pod(&world, "db", &conf));
    let at = listeners(&db);
    let all: Vec<SocketAddr> = everybody(&web, number).into_iter().map(|(_, to)| to).collect();
    let deny = json!({ "podSelector": { "matchLabels": { "app": "db" } }, "ingress": [] });
    let mut deny = network_policy("deny", deny);
    assert_eq!(heard(&web, &at, number, true), all, "nothing forbids it");
    // Whatever policy says: the frame is for db, and the packet in it is not.
    assert!(!hears_alone(&web, &db, &at[0], &web.addresses[0]));

    deny["metadata"]["annotations"] = json!({ "policy.quantum/mode": "audit" });
    apply(&world, &deny);
    assert_eq!(heard(&web, &at, number, true), all, "what is staged forbids nothing");

    deny["metadata"]["annotations"] = json!({});
    apply(&world, &deny);
    assert_eq!(heard(&web, &at, number, false), [], "db receives from nobody");

    told(&world, "policy delete NetworkPolicy shop/deny", "");
    assert_eq!(heard(&web, &at, number, true), all, "nothing forbids it any more");
}

#[test]
fn in_an_isolated_network_who_may_not_be_sent_to_hears_no_groups() {
    nobody_is_reached_by_sending_to_everybody(208, "isolated");
}

#[test]
fn in_an_open_network_who_may_not_be_sent_to_hears_no_groups() {
    nobody_is_reached_by_sending_to_everybody(209, "open");
}
