//! Policy and translation: who a packet is from and for is told by its ends and not by what an address has
//! become on its way.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::network_isolation::{Attached, HOST6, OUTSIDE6, connect, dual};
use crate::policy_live::{network_policy, pod, reach, serve};
use crate::support::ctl::{apply, told};
use crate::support::netns::Netns;
use crate::support::ports::{publishing, tcp, udp};
use crate::support::traffic::{Echo, PATIENCE, PORT, SILENCE};
use crate::support::world::{HOST, OUTSIDE, World};

const PUBLISHED: u16 = 8007;

/// A container whose echo server is published.
fn published(world: &World, name: &str, number: u8, keys: Value) -> Attached {
    let mappings = ["tcp", "udp"].map(|protocol| (protocol, PUBLISHED, PORT, ""));
    pod(world, "db", &publishing(&dual(name, number, keys), &mappings))
}

/// Both families, UDP and TCP, by the published port: all of them reach, or none does.
#[track_caller]
fn reach_published(from: &Netns, expected: bool, what: &str) {
    let within = if expected { PATIENCE } else { SILENCE };
    for host in [HOST, HOST6] {
        assert_eq!(tcp(from, host, PUBLISHED, within), expected, "TCP to {host}: {what}");
        assert_eq!(udp(from, host, PUBLISHED, within), expected, "UDP to {host}: {what}");
    }
}

/// The policy that lets these blocks in.
fn from_blocks(blocks: &[Value]) -> Value {
    let from: Vec<Value> = blocks.iter().map(|block| json!({ "ipBlock": block })).collect();
    network_policy("db", json!({ "podSelector": {}, "ingress": [{ "from": from }] }))
}

#[test]
fn a_published_port_is_open_to_the_world_until_a_policy_isolates_the_container() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[]);
    let db = published(&world, "shown", 171, json!({}));
    let echoes = serve(&db);
    reach_published(&world.outside, true, "no policy");
    for (echo, own) in echoes.iter().zip([OUTSIDE, OUTSIDE6]) {
        let own: IpAddr = own.parse().expect("an address");
        let seen = echo.seen();
        assert!(!seen.is_empty() && seen.iter().all(|peer| *peer == own), "{seen:?}");
    }
    apply(&world, &network_policy("db", json!({ "podSelector": {}, "ingress": [] })));
    reach_published(&world.outside, false, "isolated");
    // The address of who answers to the world is not that of who asks.
    let of_host = ["192.0.2.1/32", "2001:db8:ffff::1/128"].map(|cidr| json!({ "cidr": cidr }));
    apply(&world, &from_blocks(&of_host));
    reach_published(&world.outside, false, "a block of somebody else");
    let of_outside = ["192.0.2.2/32", "2001:db8:ffff::2/128"].map(|cidr| json!({ "cidr": cidr }));
    apply(&world, &from_blocks(&of_outside));
    reach_published(&world.outside, true, "a block of the client");
    let but_it = [
        json!({ "cidr": "0.0.0.0/0", "except": ["192.0.2.2/32"] }),
        json!({ "cidr": "::/0", "except": ["2001:db8:ffff::2/128"] }),
    ];
    apply(&world, &from_blocks(&but_it));
    reach_published(&world.outside, false, "everybody but the client");
    told(&world, "policy delete NetworkPolicy shop/db", "");
    reach_published(&world.outside, true, "without the policy");
}

#[test]
fn a_rule_for_a_published_port_names_the_containers_own() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[]);
    let db = published(&world, "own", 172, json!({}));
    let _echoes = serve(&db);
    let on = |port: u16| {
        let ports = json!([{ "port": port }, { "port": port, "protocol": "UDP" }]);
        network_policy("db", json!({ "podSelector": {}, "ingress": [{ "ports": ports }] }))
    };
    apply(&world, &on(PUBLISHED));
    reach_published(&world.outside, false, "the host's port");
    apply(&world, &on(PORT));
    reach_published(&world.outside, true, "the container's port");
}

#[test]
fn in_zero_trust_that_a_port_is_published_allows_nothing() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[]);
    let keys = json!({ "policy": { "posture": "zero-trust" } });
    let db = published(&world, "proof", 173, keys);
    let echoes = serve(&db);
    reach_published(&world.outside, false, "no policy");
    assert!(echoes.iter().all(|echo| echo.seen().is_empty()), "nothing came");
    let node = json!({ "apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
        "metadata": { "name": "world" }, "spec": { "tier": "Application", "priority": 1,
            "subject": {},
            "ingress": [{ "action": "Accept", "from": [{ "entities": ["world"] }] }] } });
    apply(&world, &node);
    reach_published(&world.outside, true, "a policy for the world");
    told(&world, "policy delete NodePolicy world", "");
    reach_published(&world.outside, false, "without it");
}

/// Somebody else's rules give what comes from outside the address of the host, as those for node ports do.
fn translate_source(world: &World, link: &str, gateways: &[String; 2]) {
    let [v4, v6] = gateways;
    for command in [
        "add table inet others".to_owned(),
        "add chain inet others post { type nat hook postrouting priority 90 ; }".to_owned(),
        format!("add rule inet others post iifname uplink oifname {link} snat ip to {v4}"),
        format!("add rule inet others post iifname uplink oifname {link} snat ip6 to {v6}"),
    ] {
        world.host.output("nft", &command);
    }
}

#[test]
fn the_host_is_who_sends_from_it_and_not_who_has_its_address() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[174]);
    let conf = dual("probe", 174, json!({ "policy": { "posture": "open" } }));
    let db = pod(&world, "db", &conf);
    translate_source(&world, "probe0", &db.gateways);
    let echoes = serve(&db);
    reach(&world.outside, &db.addresses, true, "no policy");
    for (echo, gateway) in echoes.iter().zip(&db.gateways) {
        let gateway: IpAddr = gateway.parse().expect("an address");
        let seen = echo.seen();
        assert!(!seen.is_empty() && seen.iter().all(|peer| *peer == gateway), "{seen:?}");
    }
    apply(&world, &network_policy("deny", json!({ "podSelector": {}, "ingress": [] })));
    reach(&world.host, &db.addresses, true, "a probe of the host");
    reach(&world.outside, &db.addresses, false, "who looks like the host");
    // A block of the host's address is not the one behind it.
    let of_gateways = db
        .gateways
        .each_ref()
        .map(|g| json!({ "cidr": format!("{g}/{}", if g.contains(':') { 128 } else { 32 }) }));
    apply(&world, &from_blocks(&of_gateways));
    reach(&world.outside, &db.addresses, false, "a block of who it looks like");
    told(&world, "policy delete NetworkPolicy shop/db", "");
    told(&world, "policy delete NetworkPolicy shop/deny", "");
    let node = json!({ "apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
        "metadata": { "name": "host" }, "spec": { "tier": "Admin", "priority": 1, "subject": {},
            "ingress": [{ "action": "Deny", "from": [{ "entities": ["host"] }] }] } });
    apply(&world, &node);
    reach(&world.host, &db.addresses, false, "the host is denied");
    reach(&world.outside, &db.addresses, true, "and who looks like it is not");
}

#[test]
fn what_goes_out_masqueraded_is_judged_by_its_own_address() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[]);
    let conf = dual("out", 175, json!({}));
    let (web, other) = (pod(&world, "web", &conf), pod(&world, "other", &conf));
    let to = [OUTSIDE, OUTSIDE6].map(str::to_owned);
    let echoes = to.each_ref().map(|to| Echo::serve(&world.outside, to));
    let spec = json!({ "podSelector": { "matchLabels": { "app": "web" } },
        "policyTypes": ["Egress"] });
    apply(&world, &network_policy("web", spec));
    reach(&web.netns, &to, false, "denied");
    reach(&other.netns, &to, true, "not denied");
    for (echo, host) in echoes.iter().zip([HOST, HOST6]) {
        let host: IpAddr = host.parse().expect("an address");
        assert!(echo.seen().iter().all(|peer| *peer == host), "{:?}", echo.seen());
    }
}
