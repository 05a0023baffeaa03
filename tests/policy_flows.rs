//! What becomes of live connections when policy changes, by every way that they can take.
//!
//! ```text
//!   web ── shop0 ┐                       (by address, by a published port, masqueraded)
//!   db  ── shop0 ┴ host 192.0.2.1 ── 192.0.2.2 outside
//! ```

use std::net::UdpSocket;

use serde_json::{Value, json};

use crate::network_conntrack::connections;
use crate::network_isolation::{Attached, HOST6, OUTSIDE6, attach, connect, dual};
use crate::policy_live::{Pair, network_policy, pod, serve};
use crate::support::ctl::{apply, told};
use crate::support::lines::{Line, all_cross, all_resume, none_crosses};
use crate::support::ports::publishing;
use crate::support::traffic::{PATIENCE, SILENCE, Steady};
use crate::support::world::{HOST, OUTSIDE, World};

/// The ports of [`Line::four`] at each end of each way.
const DIRECT: u16 = 7200;
const PUBLISHED: u16 = 7210;
const OUTWARDS: u16 = 7220;

/// Everybody of `shop` may speak to each other, to the outside and with it, and some port is named that
/// makes each of these another policy.
fn allowing(n: u16) -> Value {
    let peers = json!([{ "podSelector": {} }, { "ipBlock": { "cidr": format!("{OUTSIDE}/32") } },
        { "ipBlock": { "cidr": format!("{OUTSIDE6}/128") } }]);
    let ports = json!([{ "port": 7007 }, { "port": 7200, "endPort": 7299 }, { "port": n },
        { "port": 7200, "endPort": 7299, "protocol": "UDP" }]);
    let spec = json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{ "from": &peers, "ports": &ports }],
        "egress": [{ "to": peers, "ports": ports }] });
    network_policy("allow", spec)
}

/// web, and db, two of whose ports are published.
fn scene(world: &World, name: &str, number: u8, keys: Value) -> (Attached, Attached) {
    let conf = dual(name, number, keys);
    let ports: Vec<_> = [PUBLISHED, PUBLISHED + 1]
        .into_iter()
        .flat_map(|port| ["tcp", "udp"].map(|protocol| (protocol, port + 1000, port, "")))
        .collect();
    (pod(world, "web", &conf), pod(world, "db", &publishing(&conf, &ports)))
}

/// Connections of one family by all ways.
fn lines(world: &World, web: &Attached, db: &Attached, family: usize) -> Vec<Line> {
    let to = db.addresses[family].as_str();
    let (host, outside) = [(HOST, OUTSIDE), (HOST6, OUTSIDE6)][family];
    let mut lines = Line::four(&web.netns, &db.netns, (to, to), (DIRECT, DIRECT));
    let published = (PUBLISHED, PUBLISHED + 1000);
    lines.extend(Line::four(&world.outside, &db.netns, (to, host), published));
    let out = (outside, outside);
    lines.extend(Line::four(&web.netns, &world.outside, out, (OUTWARDS, OUTWARDS)));
    lines
}

#[test]
fn connections_that_stay_allowed_lose_nothing_by_twenty_changes() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[]);
    for (name, number, posture) in [("calm", 151, "isolated"), ("strict", 152, "zero-trust")] {
        let (web, db) = scene(&world, name, number, json!({ "policy": { "posture": posture } }));
        apply(&world, &allowing(1));
        let lines: Vec<Line> =
            [0, 1].into_iter().flat_map(|family| lines(&world, &web, &db, family)).collect();
        for n in 2..22 {
            apply(&world, &allowing(n));
            all_cross(&lines, &format!("{posture}, after change {n}"));
        }
        leave(&world, [web, db], name, number);
    }
}

/// Makes room for others of the same names.
fn leave(world: &World, gone: [Attached; 2], name: &str, number: u8) {
    for (id, c) in ["web", "db"].into_iter().zip(gone) {
        let conf = dual(name, number, json!({}));
        let del = crate::support::plugin::Call::del(id, &c.netns).conf(&conf);
        world.call(del).succeeded();
    }
}

#[test]
fn connections_that_are_revoked_are_silent_by_every_way_and_resume() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[]);
    let (web, db) = scene(&world, "revoke", 153, json!({}));
    let deny =
        network_policy("deny", json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }));
    for family in [0, 1] {
        let lines = lines(&world, &web, &db, family);
        all_cross(&lines, "before");
        apply(&world, &deny);
        none_crosses(&lines, "denied");
        told(&world, "policy delete NetworkPolicy shop/deny", "");
        all_resume(&lines, "allowed again");
    }
}

#[test]
fn one_side_that_does_not_allow_is_enough() {
    let world = world!();
    let _daemon = world.daemon();
    let (web, db) = scene(&world, "sides", 154, json!({}));
    let of = |app: &str, direction: &str| {
        let subject = json!({ "matchLabels": { "app": app } });
        network_policy("deny", json!({ "podSelector": subject, "policyTypes": [direction] }))
    };
    let to = db.addresses[0].as_str();
    let direct = Line::four(&web.netns, &db.netns, (to, to), (DIRECT, DIRECT));
    for (denied, bystander) in
        [(of("web", "Egress"), of("web", "Ingress")), (of("db", "Ingress"), of("db", "Egress"))]
    {
        apply(&world, &denied);
        none_crosses(&direct, &denied.to_string());
        apply(&world, &bystander);
        all_resume(&direct, &bystander.to_string());
        told(&world, "policy delete NetworkPolicy shop/deny", "");
    }
}

#[test]
fn a_label_of_the_peer_alone_revokes_and_permits() {
    let world = world!();
    let _daemon = world.daemon();
    let (web, db) = scene(&world, "label", 155, json!({}));
    let friend = json!([{ "podSelector": { "matchLabels": { "friend": "yes" } } }]);
    let subject = |app: &str| json!({ "matchLabels": { "app": app } });
    for family in [0, 1] {
        let to = db.addresses[family].as_str();
        for (policy, peer) in [
            (json!({ "podSelector": subject("db"), "ingress": [{ "from": friend }] }), "web"),
            (
                json!({ "podSelector": subject("web"), "policyTypes": ["Egress"],
                    "egress": [{ "to": friend }] }),
                "db",
            ),
        ] {
            apply(&world, &network_policy("friends", policy.clone()));
            told(&world, &format!("policy label shop/{peer} friend=yes"), "");
            let lines = Line::four(&web.netns, &db.netns, (to, to), (DIRECT, DIRECT));
            told(&world, &format!("policy label shop/{peer} friend=no"), "");
            none_crosses(&lines, &format!("{peer} is no friend: {policy}"));
            told(&world, &format!("policy label shop/{peer} friend=yes"), "");
            all_resume(&lines, &format!("{peer} is a friend: {policy}"));
            told(&world, &format!("policy label shop/{peer} friend-"), "");
            told(&world, "policy delete NetworkPolicy shop/friends", "");
        }
    }
}

#[test]
fn a_connection_without_its_beginning_goes_on_only_in_an_open_network() {
    let world = world!();
    if connections(&world.host).is_none() || world.host.command("conntrack").output().is_err() {
        return crate::support::skip("needs conntrack");
    }
    let _daemon = world.daemon();
    for (number, (posture, goes_on)) in
        (156..).zip([("isolated", false), ("zero-trust", false), ("open", true)])
    {
        let conf = dual(posture, number, json!({ "policy": { "posture": posture } }));
        let (web, db) = (pod(&world, "web", &conf), pod(&world, "db", &conf));
        apply(&world, &allowing(1));
        for to in &db.addresses {
            let pair = Pair::connect(&web.netns, &db.netns, to, DIRECT);
            assert!(Pair::crosses(&pair.client, &pair.server, PATIENCE), "{posture}");
            // As if it had begun where somebody else kept the connections.
            world.host.output("conntrack", "-F");
            let within = if goes_on { PATIENCE } else { SILENCE };
            let crosses = Pair::crosses(&pair.client, &pair.server, within);
            assert_eq!(crosses, goes_on, "{to}, {posture}");
            let fresh = Pair::connect(&web.netns, &db.netns, to, DIRECT + 1);
            assert!(Pair::crosses(&fresh.client, &fresh.server, PATIENCE), "{to}, {posture}");
        }
        leave(&world, [web, db], posture, number);
    }
}

/// The most connections that a test is ready to fill the table with.
const MANY: u32 = 300_000;

#[test]
fn a_table_full_of_connections_is_no_matter_to_those_that_stand() {
    let world = world!();
    let _daemon = world.daemon();
    let file = "/proc/sys/net/netfilter/nf_conntrack_max";
    let most = world.host.run(|| {
        let _ = std::fs::write(file, "2000");
        std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u32>().ok())
    });
    let Some(most) = most.filter(|most| *most <= MANY) else {
        return crate::support::skip(&format!("{file} is the machine's, and it is {most:?}"));
    };
    let (web, db) = scene(&world, "full", 159, json!({}));
    apply(&world, &allowing(1));
    let _echo = serve(&db);
    let to = db.addresses[0].as_str();
    // Of TCP: the kernel may forget a short exchange by UDP to make room.
    let asks = Pair::connect(&web.netns, &db.netns, to, DIRECT);
    let pushes = Pair::connect(&web.netns, &db.netns, to, DIRECT + 1);
    let all_cross = |when: &str| {
        assert!(Pair::crosses(&asks.client, &asks.server, PATIENCE), "{when}");
        assert!(Pair::crosses(&pushes.server, &pushes.client, PATIENCE), "a push, {when}");
    };
    let other = Steady::start(&world.host, to);
    // Of another namespace, so that it may.
    let flood = attach(&world, "flood", &dual("full", 159, json!({})));
    let sockets: Vec<UdpSocket> = (0..64)
        .map(|_| flood.netns.run(|| UdpSocket::bind("0.0.0.0:0").expect("a socket")))
        .collect();
    let sent = (1024..=u16::MAX).flat_map(|port| sockets.iter().map(move |from| (from, port)));
    for (from, port) in sent.take(most as usize * 2) {
        let _ = from.send_to(b"x", (OUTSIDE, port));
    }
    let file = "/proc/sys/net/netfilter/nf_conntrack_count";
    let count = world.host.run(|| std::fs::read_to_string(file).expect("a count"));
    let count: u32 = count.trim().parse().expect("a number");
    assert!(count >= most / 10 * 9, "{count} of {most}");
    all_cross("with a full table");
    apply(&world, &allowing(2));
    all_cross("with a full table, after a change");
    other.was_undisturbed();
}
