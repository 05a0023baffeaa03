//! Policy and ICMP: echo is a protocol like others, and errors follow what they are about.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use serde_json::{Value, json};

use crate::network_fragments::{hears_of_it, narrow};
use crate::network_isolation::{Attached, connect, dual, v4, v6};
use crate::policy_live::{network_policy, pod, reach, serve};
use crate::support::ctl::{apply, told};
use crate::support::eventually::eventually;
use crate::support::frames::{IP4, IP6, Wire, frame, icmp4, icmp6, ip4, ip6, mark, protocol};
use crate::support::ping::ping;
use crate::support::traffic::{Echo, PATIENCE, SILENCE, udp_answers};

const ECHO4: u8 = 8;
const TIMESTAMP4: u8 = 13;
const ECHO6: u8 = 128;
/// "Node information", which nobody answers.
const QUERY6: u8 = 139;

/// What the mark of IPv6 is beyond that of IPv4.
const V6: u16 = 100;

/// Sends an ICMP message of each family, with a mark, as the container itself would.
fn send(from: &Attached, to: &Attached, kinds: [u8; 2], number: u16) {
    let wire = Wire::on(&from.netns, "eth0");
    let (own4, to4) = (v4(&from.addresses[0]), v4(&to.addresses[0]));
    let (own6, to6) = (v6(&from.addresses[1]), v6(&to.addresses[1]));
    // Who asks is told apart by the number, so that each is a connection of its own.
    let [high, low] = number.to_be_bytes();
    let rest = [high, low, 0, 1];
    let body = |number| [&mark(number)[..], &[0; 6]].concat();
    let of4 = icmp4(kinds[0], 0, rest, &body(number));
    wire.send(&frame(to.mac, from.mac, IP4, &ip4(own4, to4, protocol::ICMP4, &of4)));
    let of6 = icmp6((own6, to6), kinds[1], rest, &body(number + V6));
    wire.send(&frame(to.mac, from.mac, IP6, &ip6(own6, to6, protocol::ICMP6, &of6)));
}

/// Waits until both came.
#[track_caller]
fn both_come(there: &mut Wire, number: u16) {
    there.wait_for(number, "the message of IPv4");
    there.wait_for(number + V6, "the message of IPv6");
}

#[test]
fn an_echo_needs_a_rule_without_ports() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("echo", 195, json!({}));
    let (web, db) = (pod(&world, "web", &conf), pod(&world, "db", &conf));
    let mut there = Wire::on(&db.netns, "eth0");
    let from = json!([{ "podSelector": {} }]);
    let policy =
        |rule: Value| network_policy("db", json!({ "podSelector": {}, "ingress": [rule] }));
    apply(&world, &policy(json!({ "from": from })));
    assert!(ping(&web.netns, &db.addresses[0], PATIENCE), "a rule without ports");
    send(&web, &db, [ECHO4, ECHO6], 1);
    both_come(&mut there, 1);
    apply(&world, &policy(json!({ "from": from, "ports": [{ "port": 80 }] })));
    assert!(!ping(&web.netns, &db.addresses[0], SILENCE), "a rule for 80/tcp");
    send(&web, &db, [ECHO4, ECHO6], 2);
    apply(&world, &policy(json!({ "from": from })));
    send(&web, &db, [ECHO4, ECHO6], 3);
    both_come(&mut there, 3);
    assert_eq!((there.seen(2), there.seen(2 + V6)), (0, 0), "a rule for 80/tcp");
}

#[test]
fn a_rule_for_a_type_of_icmp_lets_only_that_through() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("types", 196, json!({ "policy": { "posture": "zero-trust" } }));
    let (web, db) = (pod(&world, "web", &conf), pod(&world, "db", &conf));
    let _db = serve(&db);
    let mut there = Wire::on(&db.netns, "eth0");
    let node = |protocols: Value| {
        json!({ "apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
        "metadata": { "name": "ping" }, "spec": { "tier": "Admin", "priority": 1, "subject": {},
            "ingress": [{ "action": "Accept", "from": [{ "endpoints": {} }],
                "protocols": &protocols }],
            "egress": [{ "action": "Accept", "to": [{ "endpoints": {} }],
                "protocols": protocols }] } })
    };
    // Both know where the other is.
    assert!(!ping(&web.netns, &db.addresses[0], SILENCE), "without policy");
    apply(&world, &node(json!([{ "icmp": { "type": 8 } }, { "icmpv6": { "type": 128 } }])));
    assert!(ping(&web.netns, &db.addresses[0], PATIENCE), "ping");
    reach(&web.netns, &db.addresses, false, "nothing but ping");
    send(&web, &db, [TIMESTAMP4, QUERY6], 11);
    send(&web, &db, [ECHO4, ECHO6], 12);
    both_come(&mut there, 12);
    assert_eq!((there.seen(11), there.seen(11 + V6)), (0, 0), "other types");
    apply(&world, &node(json!([{ "icmp": {} }, { "icmpv6": {} }])));
    send(&web, &db, [TIMESTAMP4, QUERY6], 13);
    both_come(&mut there, 13);
    apply(&world, &node(json!([{ "icmp": {} }])));
    send(&web, &db, [ECHO4, ECHO6], 14);
    there.wait_for(14, "the message of IPv4");
    apply(&world, &node(json!([{ "icmpv6": {} }])));
    send(&web, &db, [ECHO4, ECHO6], 15);
    there.wait_for(15 + V6, "the message of IPv6");
    assert_eq!((there.seen(14 + V6), there.seen(15)), (0, 0), "of the other family");
}

#[test]
fn a_container_that_may_send_little_hears_of_a_narrow_path() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[198]);
    let far = narrow(&world);
    let egress: Vec<Value> = far
        .iter()
        .map(|to| json!({ "ipBlock": { "cidr": format!("{to}/{}", if to.contains(':') { 128 } else { 32 }) } }))
        .collect();
    let spec = json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "egress": [{ "to": egress, "ports": [{ "port": 9, "protocol": "UDP" }] }] });
    apply(&world, &network_policy("little", spec));
    for (name, number, keys) in [
        ("masq", 197, json!({})),
        ("bare", 198, json!({ "ipMasq": false, "policy": { "posture": "zero-trust" } })),
    ] {
        let c = pod(&world, name, &dual(name, number, keys));
        assert!(!ping(&c.netns, far[0], SILENCE), "anything else is denied");
        hears_of_it(&c.netns, name, far);
    }
}

#[test]
fn an_error_about_what_was_allowed_reaches_who_sent_it() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("error", 199, json!({ "policy": { "posture": "zero-trust" } }));
    let (web, db) = (pod(&world, "web", &conf), pod(&world, "db", &conf));
    let subject = |app: &str| json!({ "matchLabels": { "app": app } });
    let ports = json!([{ "port": 7007, "protocol": "UDP" }]);
    let egress = json!({ "podSelector": subject("web"), "policyTypes": ["Ingress", "Egress"],
        "egress": [{ "ports": ports }] });
    let ingress = json!({ "podSelector": subject("db"), "policyTypes": ["Ingress", "Egress"],
        "ingress": [{ "ports": ports }] });
    apply(&world, &network_policy("web", egress));
    apply(&world, &network_policy("db", ingress));
    for to in &db.addresses {
        let at = SocketAddr::new(to.parse::<IpAddr>().expect("an address"), 7007);
        let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = web.netns.run(|| UdpSocket::bind(any).expect("a socket"));
        socket.connect(at).expect("a route");
        socket.set_read_timeout(Some(SILENCE)).expect("a bound");
        // Nobody serves there, and db says so.
        eventually(&format!("{to} to refuse"), || {
            let _ = socket.send(b"hello");
            let refused = socket
                .recv(&mut [0; 8])
                .is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused);
            refused.then_some(())
        });
    }
    told(&world, "policy delete NetworkPolicy shop/db", "");
    let _echo = Echo::serve(&db.netns, &db.addresses[0]);
    assert!(!udp_answers(&web.netns, &db.addresses[0], SILENCE), "denied without it");
}
