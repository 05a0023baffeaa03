//! Policy by the real daemon: documents and labels of an operator, and what becomes of connections.
//!
//! ```text
//!   web, other ── shop0 ┐
//!   db         ── shop0 ┴ host 192.0.2.1 ── 192.0.2.2 outside
//! ```

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::network_isolation::{Attached, dual};
use crate::support::conf::with;
use crate::support::ctl::{apply, quantumctl_with, told};
use crate::support::netns::Netns;
use crate::support::traffic::{Echo, PATIENCE, PORT, SILENCE, tcp_answers, udp_answers};
use crate::support::world::World;

/// A NetworkPolicy of the namespace `shop`.
pub(crate) fn network_policy(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

/// A container of the namespace `shop` with a label `app`, which is its name.
pub(crate) fn pod(world: &World, name: &str, conf: &Value) -> Attached {
    let args = json!({ "args": { "cni": { "labels": [{ "key": "app", "value": name }] } } });
    crate::network_isolation::attach_as(
        world,
        name,
        &with(conf, args),
        &format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name}"),
    )
}

/// Both families, UDP and TCP: all of them reach, or none does.
#[track_caller]
pub(crate) fn reach(from: &Netns, to: &[String; 2], expected: bool, what: &str) {
    let within = if expected { PATIENCE } else { SILENCE };
    for address in to {
        assert_eq!(udp_answers(from, address, within), expected, "UDP to {address}: {what}");
        assert_eq!(tcp_answers(from, address, within), expected, "TCP to {address}: {what}");
    }
}

pub(crate) fn serve(at: &Attached) -> [Echo; 2] {
    [0, 1].map(|n| Echo::serve(&at.netns, &at.addresses[n]))
}

#[test]
fn a_policy_holds_when_apply_returns_and_is_gone_with_it() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("shop", 131, json!({}));
    let (web, other, db) =
        (pod(&world, "web", &conf), pod(&world, "other", &conf), pod(&world, "db", &conf));
    let _db = serve(&db);
    reach(&web.netns, &db.addresses, true, "an isolated network's containers reach each other");
    reach(&other.netns, &db.addresses, true, "an isolated network's containers reach each other");
    let from_web = json!({ "podSelector": { "matchLabels": { "app": "db" } },
        "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "web" } } }] }] });
    apply(&world, &network_policy("db", from_web));
    reach(&web.netns, &db.addresses, true, "web may");
    reach(&other.netns, &db.addresses, false, "nobody else may");
    reach(&world.host, &db.addresses, true, "the host may probe");

    let explained = quantumctl_with(&world, "policy explain shop/other shop/db 7007/tcp", "");
    assert_eq!(explained.status.code(), Some(1), "denied");
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(text.contains("NetworkPolicy shop/db"), "{text}");
    let explained = quantumctl_with(&world, "policy explain shop/web shop/db 7007/tcp", "");
    assert_eq!(explained.status.code(), Some(0), "{explained:?}");

    // A container that comes later is judged as those that are there.
    let late = pod(&world, "late", &conf);
    reach(&late.netns, &db.addresses, false, "a later one may not");
    told(&world, "policy label shop/late app=web", "");
    reach(&late.netns, &db.addresses, true, "labelled as web it may");
    told(&world, "policy label shop/late app-", "");
    reach(&late.netns, &db.addresses, false, "without that label it may not");

    told(&world, "policy delete NetworkPolicy shop/db", "");
    reach(&other.netns, &db.addresses, true, "without the policy everybody may");
}

/// A TCP connection on which both ends speak and hear.
pub(crate) struct Pair {
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
}

impl Pair {
    pub(crate) fn connect(from: &Netns, at: &Netns, address: &str, port: u16) -> Self {
        let address = address.parse().expect("an address");
        let at_port = std::net::SocketAddr::new(address, port);
        let listener = at.run(|| TcpListener::bind(at_port).expect("a listener"));
        let client =
            from.run(|| TcpStream::connect_timeout(&at_port, PATIENCE).expect("a connection"));
        let (server, _) = listener.accept().expect("a connection");
        Self { client, server }
    }

    pub(crate) fn crosses(mut from: &TcpStream, mut to: &TcpStream, within: Duration) -> bool {
        to.set_read_timeout(Some(within)).expect("a bound");
        from.write_all(b"x").is_ok() && to.read_exact(&mut [0]).is_ok()
    }
}

#[test]
fn a_live_connection_that_is_revoked_carries_not_one_more_byte_either_way() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("shop", 132, json!({}));
    let (web, db) = (pod(&world, "web", &conf), pod(&world, "db", &conf));
    let deny = network_policy("deny", json!({ "podSelector": {}, "ingress": [] }));
    for family in [0, 1] {
        let to = &db.addresses[family];
        let asks = Pair::connect(&web.netns, &db.netns, to, 7101);
        let pushes = Pair::connect(&web.netns, &db.netns, to, 7102);
        assert!(Pair::crosses(&asks.client, &asks.server, PATIENCE));
        assert!(Pair::crosses(&pushes.server, &pushes.client, PATIENCE));
        apply(&world, &deny);
        assert!(!Pair::crosses(&asks.client, &asks.server, SILENCE), "from the client");
        assert!(!Pair::crosses(&pushes.server, &pushes.client, SILENCE), "from the server");
        told(&world, "policy delete NetworkPolicy shop/deny", "");
        // What was sent meanwhile comes by TCP's own repetition.
        assert!(Pair::crosses(&asks.client, &asks.server, PATIENCE), "it goes on");
        assert!(Pair::crosses(&pushes.server, &pushes.client, PATIENCE), "it goes on");
    }
}

#[test]
fn live_connections_that_are_allowed_notice_no_change() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("shop", 133, json!({}));
    let (web, db) = (pod(&world, "web", &conf), pod(&world, "db", &conf));
    let allow = |port: u16| {
        let ports = json!([{ "port": 7103 }, { "port": 7104 }, { "port": port }]);
        network_policy(
            "allow",
            json!({ "podSelector": { "matchLabels": { "app": "db" } },
            "ingress": [{ "from": [{ "podSelector": {} }], "ports": ports }] }),
        )
    };
    apply(&world, &allow(1));
    let to = &db.addresses[0];
    let asks = Pair::connect(&web.netns, &db.netns, to, 7103);
    let pushes = Pair::connect(&web.netns, &db.netns, to, 7104);
    for n in 2..22 {
        apply(&world, &allow(n));
        assert!(Pair::crosses(&asks.client, &asks.server, PATIENCE), "change {n}");
        assert!(Pair::crosses(&pushes.server, &pushes.client, PATIENCE), "a push after change {n}");
    }
    assert!(!tcp_answers(&web.netns, to, SILENCE), "port {PORT} is still denied");
}

#[test]
fn in_zero_trust_nothing_is_allowed_that_no_policy_allows() {
    let world = world!();
    let _daemon = world.daemon();
    crate::network_isolation::connect(&world, &[134]);
    let conf = dual("shop", 134, json!({ "policy": { "posture": "zero-trust" } }));
    let (web, db) = (pod(&world, "web", &conf), pod(&world, "db", &conf));
    let _db = serve(&db);
    let _host = [0, 1].map(|n| Echo::serve(&world.host, &web.gateways[n]));
    reach(&web.netns, &db.addresses, false, "a neighbour");
    reach(&web.netns, &web.gateways, false, "the host");
    reach(&world.outside, &db.addresses, false, "from the world");
    reach(&world.host, &db.addresses, true, "a probe of the host");
    let both = json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{ "from": [{ "podSelector": {} }] }],
        "egress": [{ "to": [{ "podSelector": {} }] }] });
    apply(&world, &network_policy("friends", both));
    reach(&web.netns, &db.addresses, true, "a neighbour, by policy");
    reach(&web.netns, &web.gateways, false, "the host, still");
}

#[test]
fn what_is_denied_is_told_with_the_rule_that_denies_it() {
    let world = world!();
    let daemon = world.daemon();
    let conf = dual("shop", 135, json!({}));
    let (web, db) = (pod(&world, "web", &conf), pod(&world, "db", &conf));
    let _db = serve(&db);
    apply(&world, &network_policy("deny", json!({ "podSelector": {}, "ingress": [] })));
    reach(&web.netns, &db.addresses, false, "denied");
    let denied: Value =
        serde_json::from_str(&told(&world, "policy denied --json", "")).expect("JSON");
    let flows = denied["flows"].as_array().expect("flows");
    let to = |address: &str| flows.iter().find(|flow| flow["to"]["address"] == *address);
    for address in &db.addresses {
        let flow = to(address).unwrap_or_else(|| panic!("{address} in {denied}"));
        assert_eq!(flow["from"]["name"], "shop/web", "{flow}");
        assert!(flow["because"].to_string().contains("shop/deny"), "{flow}");
    }
    let metrics = daemon.get("/metrics").1;
    let count = crate::daemon_http::sample(
        &metrics,
        "cni_denied_flows_total",
        &["direction=\"ingress\"", "mode=\"enforce\""],
    );
    assert!(count > 0.0, "{metrics}");
    let logged = daemon
        .log()
        .into_iter()
        .any(|record| record["msg"] == "denied" && record["why"].to_string().contains("shop/deny"));
    assert!(logged, "a record of it");
}

#[test]
fn documents_and_labels_survive_the_daemon_and_so_do_connections() {
    let world = world!();
    let daemon = world.daemon();
    let conf = dual("shop", 136, json!({}));
    let (web, other, db) =
        (pod(&world, "web", &conf), pod(&world, "other", &conf), pod(&world, "db", &conf));
    let _db = serve(&db);
    let from_friend = json!({ "podSelector": { "matchLabels": { "app": "db" } },
        "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "friend": "yes" } } }] }] });
    apply(&world, &network_policy("db", from_friend));
    told(&world, "policy label shop/web friend=yes", "");
    let pair = Pair::connect(&web.netns, &db.netns, &db.addresses[0], 7105);
    let rules = world.host.output("nft", "-s list ruleset");
    daemon.kill();
    reach(&other.netns, &db.addresses, false, "without a daemon");
    assert!(Pair::crosses(&pair.client, &pair.server, PATIENCE), "without a daemon");
    let _daemon = world.daemon();
    assert_eq!(world.host.output("nft", "-s list ruleset"), rules, "nothing differs");
    assert!(Pair::crosses(&pair.client, &pair.server, PATIENCE), "with the next daemon");
    reach(&web.netns, &db.addresses, true, "the label is there");
    reach(&other.netns, &db.addresses, false, "the policy is there");
    told(&world, "policy delete NetworkPolicy shop/db", "");
    reach(&other.netns, &db.addresses, true, "and can be taken away");
}

#[test]
fn of_two_networks_on_one_bridge_the_stricter_one_decides_whoever_comes_last() {
    let world = world!();
    let daemon = world.daemon();
    let strict =
        dual("strict", 137, json!({ "bridge": "both0", "policy": { "posture": "zero-trust" } }));
    // Two gateways cannot be on one bridge.
    let open = json!({ "bridge": "both0", "isGateway": false, "ipMasq": false,
        "policy": { "posture": "open" }, "ipam": { "routes": [] } });
    let open = dual("open", 138, open);
    let (db, another) = (pod(&world, "db", &strict), pod(&world, "another", &strict));
    let _db = serve(&db);
    let guest = world.container();
    world.call(crate::support::plugin::Call::add("guest", &guest).conf(&open)).succeeded();
    reach(&another.netns, &db.addresses, false, "in its own network");
    assert!(daemon.terminate().success());
    let _daemon = world.daemon();
    reach(&another.netns, &db.addresses, false, "with the next daemon");
}
