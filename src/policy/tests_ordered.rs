//! Tests of what a NodePolicy can say and a ClusterNetworkPolicy cannot, of staged policies, and of
//! endpoints of which nothing is known yet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use quantum_config::cni::Transport;
use quantum_config::ids::IfName;
use quantum_config::policy::{Kind, Labels, read};
use serde_json::{Value, json};

use super::{
    Because, Endpoint, Flow, Side, Standing, Tier, Traffic, Verdict, World, evaluate, staged,
};

/// Endpoints in the namespaces `x` and `y` of the networks 1 and 2.
const X1: &str = "10.0.1.1";
const Y1: &str = "10.0.1.2";
const X2: &str = "10.0.2.1";
const HOST: &str = "10.0.1.254";
const WORLD: &str = "192.0.2.1";

const TCP: Traffic = Traffic::Port(Transport::Tcp, 80);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn endpoint(address: &str, namespace: &str, network: &str) -> Endpoint {
    Endpoint {
        key: format!("{network}/{namespace}/eth0").parse().expect("a key"),
        bridge: IfName::new(network).expect("a name"),
        link_local: None,
        audit: false,
        unknown: false,
        namespace: namespace.to_owned(),
        name: "a".to_owned(),
        network: network.to_owned(),
        labels: Labels::new(),
        addresses: vec![ip(address)],
        ports: Vec::new(),
    }
}

fn world_with(unknown: bool, standing: Standing, policies: &[Value]) -> World {
    let mut endpoints =
        vec![endpoint(X1, "x", "n1"), endpoint(Y1, "y", "n1"), endpoint(X2, "x", "n2")];
    endpoints[0].unknown = unknown;
    let networks = BTreeMap::from(["n1", "n2"].map(|name| (name.to_owned(), standing)));
    World::new(endpoints, networks, policies.iter().map(|policy| read(policy).expect("valid")))
}

fn world(policies: &[Value]) -> World {
    world_with(false, Standing::Open, policies)
}

fn node(name: &str, tier: &str, priority: u16, rest: &Value) -> Value {
    let mut spec = json!({"tier": tier, "priority": priority, "subject": {}});
    for (key, value) in rest.as_object().expect("fields") {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
        "metadata": {"name": name}, "spec": spec})
}

fn rule(action: &str, peer: Value) -> Value {
    json!([{"action": action, "from": [peer]}])
}

fn network(name: &str, audit: bool, spec: &Value) -> Value {
    let mode = if audit { "audit" } else { "enforce" };
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": spec,
        "metadata": {"name": name, "namespace": "x", "annotations": {"policy.quantum/mode": mode}}})
}

fn flow<'w>(world: &'w World, from: &str, to: &str, traffic: Traffic) -> Flow<'w> {
    let from = if from == HOST { Side::Host(ip(HOST)) } else { world.side(ip(from)) };
    Flow { from, to: world.side(ip(to)), traffic, published: false }
}

fn verdict<'w>(world: &'w World, from: &str, to: &str) -> Verdict<'w> {
    evaluate(world, &flow(world, from, to, TCP))
}

#[test]
fn entities_are_what_the_other_side_is() {
    // From the host, the world, the same network, another network and the same namespace.
    for (entity, denied) in [
        ("host", [true, false, false, false]),
        ("world", [false, true, false, false]),
        ("same-network", [false, false, true, false]),
        ("same-namespace", [false, false, false, true]),
        ("self", [false, false, false, false]),
    ] {
        for tier in ["Admin", "Application", "Baseline"] {
            let rules = json!({"ingress": rule("Deny", json!({"entities": [entity]}))});
            let world = world(&[node("p", tier, 1, &rules)]);
            let found = [HOST, WORLD, Y1, X2].map(|from| !verdict(&world, from, X1).allowed);
            assert_eq!(found, denied, "{entity} {tier}");
            let own = world.side(ip(X1));
            let hairpin = Flow { from: own, to: own, traffic: TCP, published: true };
            let is_own = matches!(entity, "same-network" | "same-namespace" | "self");
            assert_eq!(!evaluate(&world, &hairpin).allowed, is_own, "{entity}");
        }
    }
}

#[test]
fn a_subject_is_whom_all_its_fields_name() {
    let deny = rule("Deny", json!({"entities": ["world"]}));
    let name = json!({"matchLabels": {"kubernetes.io/metadata.name": "x"}});
    for (subject, denied) in [
        (json!({}), [true, true, true]),
        (json!({"networks": ["n1", "n3"]}), [true, true, false]),
        (json!({"namespaces": name}), [true, false, true]),
        (json!({"networks": ["n1"], "namespaces": name}), [true, false, false]),
        (json!({"endpoints": {"matchLabels": {"a": "b"}}}), [false, false, false]),
    ] {
        let world = world(&[node("p", "Admin", 1, &json!({"subject": subject, "ingress": deny}))]);
        let found = [X1, Y1, X2].map(|to| !verdict(&world, WORLD, to).allowed);
        assert_eq!(found, denied, "{subject}");
    }
}

#[test]
fn the_tier_application_comes_just_before_the_network_policies() {
    let from = |action: &str| json!({"ingress": rule(action, json!({"entities": ["world"]}))});
    let own = network("own", false, &json!({"ingress": []}));
    let app = |action: &str| node("app", "Application", 1, &from(action));
    assert!(verdict(&world(&[app("Accept"), own.clone()]), WORLD, X1).allowed);
    let world = world(&[app("Pass"), own, node("admin", "Admin", 900, &from("Pass"))]);
    let verdict = verdict(&world, WORLD, X1);
    assert!(matches!(verdict.ingress.because, Because::Isolated { .. }), "{verdict}");
    let passed: Vec<_> =
        verdict.ingress.passed.iter().map(|rule| (rule.tier, rule.policy)).collect();
    assert_eq!(passed, [(Tier::Admin, "admin"), (Tier::Application, "app")]);
    let told = verdict.ingress.to_string();
    assert!(told.ends_with("passed by NodePolicy app of tier Application, ingress[0]"), "{told}");
}

#[test]
fn both_kinds_of_a_tier_are_asked_in_one_order() {
    let deny = |name: &str, priority| {
        node(name, "Admin", priority, &json!({"ingress": rule("Reject", json!({"endpoints": {}}))}))
    };
    let accept = |name: &str, priority: u16| {
        json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": {"name": name}, "spec": {"tier": "Admin", "priority": priority,
            "subject": {"namespaces": {}}, "ingress": rule("Accept", json!({"namespaces": {}}))}})
    };
    for (policies, expected) in [
        ([deny("a", 5), accept("b", 6)], Kind::Node),
        ([deny("b", 6), accept("a", 5)], Kind::Cluster),
        ([deny("a", 5), accept("b", 5)], Kind::Cluster),
    ] {
        for policies in [policies.clone(), [policies[1].clone(), policies[0].clone()]] {
            let world = world(&policies);
            let verdict = verdict(&world, Y1, X1);
            let Because::Rule(rule) = &verdict.ingress.because else { panic!("{verdict}") };
            assert_eq!((rule.kind, verdict.allowed), (expected, expected == Kind::Cluster));
            let told = verdict.ingress.to_string();
            assert_eq!(told.contains("tells the sender"), expected == Kind::Node, "{told}");
        }
    }
}

#[test]
fn protocols_without_ports_are_told_apart() {
    let icmp = |v6, kind, code| Traffic::Icmp { v6, kind, code };
    for (protocol, traffic, expected) in [
        (json!({"icmp": {"type": 8}}), icmp(false, 8, 0), true),
        (json!({"icmp": {"type": 8}}), icmp(false, 13, 0), false),
        (json!({"icmp": {"type": 8}}), icmp(true, 8, 0), false),
        (json!({"icmp": {"type": 8}}), Traffic::Other(1), false),
        (json!({"icmp": {"type": 8, "code": 1}}), icmp(false, 8, 0), false),
        (json!({"icmp": {}}), icmp(false, 13, 3), true),
        (json!({"icmpv6": {"type": 128}}), icmp(true, 128, 0), true),
        (json!({"icmpv6": {}}), Traffic::Other(58), true),
        (json!({"number": 47}), Traffic::Other(47), true),
        (json!({"number": 6}), TCP, true),
        (json!({"number": 17}), TCP, false),
        (json!({"tcp": {"destinationPort": {"number": 80}}}), icmp(false, 8, 0), false),
    ] {
        let rules = json!({"ingress": [
            {"action": "Accept", "from": [{"entities": ["world"]}], "protocols": [&protocol]},
            {"action": "Deny", "from": [{"entities": ["world"]}]}]});
        let world = world(&[node("p", "Admin", 1, &rules)]);
        let found = evaluate(&world, &flow(&world, WORLD, X1, traffic)).allowed;
        assert_eq!(found, expected, "{protocol} {traffic:?}");
    }
}

#[test]
fn staged_policies_decide_nothing_and_what_they_would_deny_is_told() {
    let isolating = |audit| network("own", audit, &json!({"ingress": []}));
    let denying = |mode: &str| {
        let rules = rule("Deny", json!({"entities": ["world"]}));
        node("p", "Admin", 1, &json!({"mode": mode, "ingress": rules}))
    };
    for policy in [isolating(true), denying("audit")] {
        let world = world(&[policy]);
        assert!(verdict(&world, WORLD, X1).allowed);
        let noted = staged(&world, &flow(&world, WORLD, X1, TCP)).expect("it would be denied");
        assert!(!noted.ingress.allowed, "{noted}");
        assert_eq!(staged(&world, &flow(&world, HOST, Y1, TCP)), None);
    }
    for policy in [isolating(false), denying("enforce")] {
        let world = world(&[policy]);
        assert!(!verdict(&world, WORLD, X1).allowed);
        assert_eq!(staged(&world, &flow(&world, WORLD, X1, TCP)), None, "it is denied already");
    }
    // A staged rule would let through what is denied: nothing to note, and nothing let through.
    let accept = rule("Accept", json!({"entities": ["world"]}));
    let accept = node("p", "Admin", 1, &json!({"mode": "audit", "ingress": accept}));
    let world = world(&[accept, isolating(false)]);
    assert!(!verdict(&world, WORLD, X1).allowed);
    assert_eq!(staged(&world, &flow(&world, WORLD, X1, TCP)), None);
}

#[test]
fn an_endpoint_of_which_nothing_is_known_is_shut_off() {
    let trust = Standing::ZeroTrust { probes: true };
    let elsewhere = network("own", false, &json!({"podSelector": {"matchLabels": {"a": "b"}}}));
    let mut only_staged = elsewhere.clone();
    only_staged["metadata"]["annotations"]["policy.quantum/mode"] = json!("audit");
    let accept = json!({"ingress": rule("Accept", json!({"entities": ["world", "host"]}))});
    for (standing, policies, is_shut) in [
        (Standing::Open, vec![], false),
        (Standing::Open, vec![only_staged], false),
        (Standing::Open, vec![elsewhere], true),
        (Standing::Open, vec![node("p", "Admin", 0, &accept)], true),
        (trust, vec![], true),
    ] {
        let world = world_with(true, standing, &policies);
        for (from, to) in [(WORLD, X1), (X1, WORLD), (HOST, X1)] {
            let verdict = verdict(&world, from, to);
            assert_eq!(!verdict.allowed, is_shut, "{from} {to}: {verdict}");
            let unknown =
                [&verdict.ingress, &verdict.egress].map(|d| d.because == Because::Unknown);
            assert_eq!(unknown.contains(&true), is_shut, "{verdict}");
        }
        let own = world.side(ip(X1));
        let itself = Flow { from: own, to: own, traffic: TCP, published: false };
        assert!(evaluate(&world, &itself).allowed, "this never leaves it");
    }
}
