//! Tests of the decision beyond the table of cases.

use std::collections::BTreeMap;
use std::net::IpAddr;

use quantum_config::cni::Transport;
use quantum_config::ids::IfName;
use quantum_config::policy::{Document, Labels, read};
use serde_json::{Value, json};

use super::{Because, Endpoint, Flow, NamedPort, Side, Standing, Tier, Traffic, World, evaluate};

const ISOLATED: Standing = Standing::Isolated { alone: false, direct: false };
/// Endpoints in the namespaces `x` and `y`, with one network each.
pub(super) const XA: &str = "10.0.1.1";
const XB: &str = "10.0.1.2";
const YA: &str = "10.0.2.1";
const GATEWAY: &str = "10.0.1.254";
const WORLD: &str = "192.0.2.1";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(super) fn endpoint(namespace: &str, name: &str, address: &str, web: u16) -> Endpoint {
    Endpoint {
        key: format!("net-{namespace}/{namespace}-{name}/eth0").parse().expect("a key"),
        bridge: IfName::new(format!("{namespace}0")).expect("a name"),
        link_local: None,
        audit: false,
        unknown: false,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        network: format!("net-{namespace}"),
        labels: Labels::from([("pod".to_owned(), name.to_owned())]),
        addresses: vec![ip(address)],
        ports: vec![NamedPort { name: "web".to_owned(), transport: Transport::Tcp, number: web }],
    }
}

fn documents(values: &[Value]) -> Vec<Document> {
    values.iter().map(|value| read(value).expect("valid")).collect()
}

fn world_of(x: Standing, y: Standing, policies: &[Value]) -> World {
    let endpoints =
        vec![endpoint("x", "a", XA, 80), endpoint("x", "b", XB, 8080), endpoint("y", "a", YA, 80)];
    let networks = BTreeMap::from([("net-x".to_owned(), x), ("net-y".to_owned(), y)]);
    World::new(endpoints, networks, documents(policies))
}

pub(super) fn open(policies: &[Value]) -> World {
    world_of(Standing::Open, Standing::Open, policies)
}

pub(super) fn network(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

pub(super) fn cluster(name: &str, tier: &str, priority: u16, rules: &Value) -> Value {
    let mut spec = json!({"tier": tier, "priority": priority, "subject": {"namespaces": {}}});
    for (direction, listed) in rules.as_object().expect("rules") {
        spec[direction] = listed.clone();
    }
    json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name}, "spec": spec})
}

/// A rule of a ClusterNetworkPolicy for all endpoints.
fn all(action: &str, list: &str) -> Value {
    json!({"action": action, list: [{"namespaces": {}}]})
}

fn tcp<'w>(from: Side<'w>, to: Side<'w>, port: u16) -> Flow<'w> {
    Flow { from, to, traffic: Traffic::Port(Transport::Tcp, port), published: false }
}

fn is_allowed(world: &World, from: &str, to: &str, port: u16) -> bool {
    evaluate(world, &tcp(world.side(ip(from)), world.side(ip(to)), port)).allowed
}

#[test]
fn a_policy_for_one_direction_leaves_the_other_to_the_baseline() {
    let policies = [
        network("x", "in", &json!({"podSelector": {}, "ingress": [{}]})),
        cluster("b", "Baseline", 1, &json!({"egress": [all("Deny", "to")]})),
    ];
    let world = open(&policies);
    let verdict = evaluate(&world, &tcp(world.side(ip(XA)), world.side(ip(XB)), 80));
    assert!(!verdict.allowed && verdict.ingress.allowed);
    assert_eq!(
        verdict.egress.to_string(),
        "egress denied: ClusterNetworkPolicy b of tier Baseline, egress[0]"
    );
    assert_eq!(verdict.ingress.to_string(), "ingress allowed: NetworkPolicy x/in, ingress[0]");
}

#[test]
fn a_pass_skips_the_rest_of_its_tier_only() {
    let pass = cluster("first", "Admin", 1, &json!({"ingress": [all("Pass", "from")]}));
    let deny = cluster("second", "Admin", 2, &json!({"ingress": [all("Deny", "from")]}));
    let base = cluster("base", "Baseline", 0, &json!({"ingress": [all("Deny", "from")]}));
    let own = network("x", "own", &json!({"podSelector": {}, "ingress": [{}]}));
    assert!(is_allowed(&open(&[pass.clone(), deny.clone()]), XA, XB, 80));
    assert!(!is_allowed(&open(&[pass.clone(), deny.clone(), base.clone()]), XA, XB, 80));
    let world = open(&[pass, deny, base, own]);
    assert!(is_allowed(&world, XA, XB, 80), "a NetworkPolicy comes before the baseline");
    let verdict = evaluate(&world, &tcp(world.side(ip(XA)), world.side(ip(XB)), 80));
    let passed: Vec<_> = verdict.ingress.passed.iter().map(|rule| rule.policy).collect();
    assert_eq!(passed, ["first"]);
}

#[test]
fn a_pass_of_the_baseline_leaves_it_to_the_standing() {
    let policies = [
        cluster("a", "Baseline", 1, &json!({"ingress": [all("Pass", "from")]})),
        cluster("b", "Baseline", 2, &json!({"ingress": [all("Accept", "from")]})),
    ];
    let world = world_of(ISOLATED, Standing::Open, &policies);
    assert!(is_allowed(&world, XA, XB, 80));
    assert!(!is_allowed(&world, YA, XB, 80));
}

#[test]
fn an_accept_of_the_admin_overrides_isolation() {
    let own = network("x", "own", &json!({"podSelector": {}, "ingress": []}));
    let accept = cluster("a", "Admin", 1, &json!({"ingress": [all("Accept", "from")]}));
    let alone = open(std::slice::from_ref(&own));
    let verdict = evaluate(&alone, &tcp(alone.side(ip(YA)), alone.side(ip(XA)), 80));
    let isolated = Because::Isolated { namespace: "x", policies: vec!["own"] };
    assert_eq!(verdict.ingress.because, isolated);
    assert!(is_allowed(&open(&[own, accept]), YA, XA, 80));
}

#[test]
fn equal_priorities_are_ordered_by_name() {
    let deny = cluster("a", "Admin", 5, &json!({"ingress": [all("Deny", "from")]}));
    let accept = cluster("b", "Admin", 5, &json!({"ingress": [all("Accept", "from")]}));
    for policies in [[deny.clone(), accept.clone()], [accept, deny]] {
        assert!(!is_allowed(&open(&policies), XA, XB, 80));
    }
}

#[test]
fn a_port_means_what_the_receiver_calls_so() {
    let egress = json!([{"ports": [{"port": "web"}]}]);
    let by_sender = network("y", "out", &json!({"policyTypes": ["Egress"], "egress": egress}));
    let ingress = json!([{"ports": [{"port": "web"}]}]);
    let by_receiver = network("x", "in", &json!({"ingress": ingress}));
    for world in [open(std::slice::from_ref(&by_sender)), open(&[by_receiver])] {
        assert!(is_allowed(&world, YA, XA, 80) && !is_allowed(&world, YA, XA, 8080));
        assert!(is_allowed(&world, YA, XB, 8080) && !is_allowed(&world, YA, XB, 80));
        let udp = Flow {
            traffic: Traffic::Port(Transport::Udp, 80),
            ..tcp(world.side(ip(YA)), world.side(ip(XA)), 80)
        };
        assert!(!evaluate(&world, &udp).allowed, "the name is of another transport");
    }
    assert!(!is_allowed(&open(&[by_sender]), YA, WORLD, 80), "nobody there calls anything so");
}

#[test]
fn rules_without_ports_are_for_every_protocol() {
    let any = network("x", "in", &json!({"ingress": [{"from": [{"namespaceSelector": {}}]}]}));
    let some = network("x", "in", &json!({"ingress": [{"ports": [{}]}]}));
    for (policy, expected) in [(any, true), (some, false)] {
        let world = open(&[policy]);
        let ping =
            Flow { traffic: Traffic::Other(1), ..tcp(world.side(ip(YA)), world.side(ip(XA)), 0) };
        assert_eq!(evaluate(&world, &ping).allowed, expected);
    }
}

#[test]
fn selectors_never_match_the_world_and_empty_peers_do() {
    let from = |from: Value| network("x", "in", &json!({"ingress": [{"from": from}]}));
    for (peers, expected) in [
        (json!([{"namespaceSelector": {}}]), false),
        (
            json!([{"podSelector": {"matchExpressions": [{"key": "z", "operator": "DoesNotExist"}]}}]),
            false,
        ),
        (json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}]), true),
        (json!([{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/30"]}}]), false),
        (json!([]), true),
    ] {
        assert_eq!(is_allowed(&open(&[from(peers.clone())]), WORLD, XA, 80), expected, "{peers}");
    }
    let world = open(&[]);
    let verdict = evaluate(&world, &tcp(world.side(ip(WORLD)), world.side(ip(XA)), 80));
    assert_eq!(verdict.egress.because, Because::NotOurs);
}

#[test]
fn the_host_is_exempt_from_network_policies_and_its_address_is_not() {
    let own = network("x", "own", &json!({"podSelector": {}, "ingress": []}));
    let world = open(std::slice::from_ref(&own));
    let to = world.side(ip(XA));
    assert!(evaluate(&world, &tcp(Side::Host(ip(GATEWAY)), to, 80)).allowed);
    assert!(!evaluate(&world, &tcp(world.side(ip(GATEWAY)), to, 80)).allowed);

    // No peer that we know names the host, so only a rule we cannot read can deny it.
    let odd = json!({"ingress": [{"action": "Deny", "from": [{"nodes": {}}]}]});
    let world = open(&[own, cluster("odd", "Admin", 1, &odd)]);
    let verdict = evaluate(&world, &tcp(Side::Host(ip(GATEWAY)), world.side(ip(XA)), 80));
    assert_eq!(
        verdict.ingress.to_string(),
        "ingress denied: ClusterNetworkPolicy odd of tier Admin, ingress[0], \
         which holds spec.ingress[0].from[0] that is not known here"
    );
}

#[test]
fn the_way_to_the_host_is_asked_as_any_other() {
    let to = json!([{"to": [{"podSelector": {}}]}]);
    let own = network("x", "own", &json!({"policyTypes": ["Egress"], "egress": to}));
    let world = open(&[own]);
    assert!(!evaluate(&world, &tcp(world.side(ip(XA)), Side::Host(ip(GATEWAY)), 80)).allowed);
    let world = world_of(ISOLATED, ISOLATED, &[]);
    assert!(evaluate(&world, &tcp(world.side(ip(XA)), Side::Host(ip(GATEWAY)), 80)).allowed);
}

#[test]
fn an_endpoint_reaches_itself_also_through_a_published_port() {
    let own = network("x", "own", &json!({"ingress": [], "policyTypes": ["Ingress", "Egress"]}));
    let deny = cluster("a", "Admin", 1, &json!({"ingress": [all("Deny", "from")]}));
    for (policies, expected) in [(vec![own.clone()], true), (vec![own, deny], false)] {
        let world = open(&policies);
        let own = world.side(ip(XA));
        assert!(evaluate(&world, &tcp(own, own, 80)).allowed);
        let hairpin = Flow { published: true, ..tcp(own, own, 80) };
        assert_eq!(evaluate(&world, &hairpin).allowed, expected, "{policies:?}");
    }
}

#[test]
fn standings_hold_where_no_document_decides() {
    let direct = Standing::Isolated { alone: false, direct: true };
    let alone = Standing::Isolated { alone: true, direct: false };
    let trust = |probes| Standing::ZeroTrust { probes };
    // From the same network, another network, the world, a published port, the host; to the world.
    for (standing, expected) in [
        (Standing::Open, [true, true, true, true, true, true]),
        (ISOLATED, [true, false, false, true, true, true]),
        (direct, [true, false, true, true, true, true]),
        (alone, [false, false, false, true, true, true]),
        (trust(true), [false, false, false, false, true, false]),
        (trust(false), [false, false, false, false, false, false]),
    ] {
        let world = world_of(standing, Standing::Open, &[]);
        let side = |address| world.side(ip(address));
        let flows = [
            tcp(side(XB), side(XA), 80),
            tcp(side(YA), side(XA), 80),
            tcp(side(WORLD), side(XA), 80),
            Flow { published: true, ..tcp(side(WORLD), side(XA), 80) },
            tcp(Side::Host(ip(GATEWAY)), side(XA), 80),
            tcp(side(XA), side(WORLD), 80),
        ];
        let found = flows.map(|flow| evaluate(&world, &flow).allowed);
        assert_eq!(found, expected, "{standing:?}");
    }
}

#[test]
fn networks_apart_meet_where_both_sides_accept() {
    let ingress = network("x", "in", &json!({"ingress": [{"from": [{"namespaceSelector": {}}]}]}));
    let egress = network("y", "out", &json!({"policyTypes": ["Egress"], "egress": [{}]}));
    let both = [ingress, egress];
    assert!(is_allowed(&world_of(ISOLATED, ISOLATED, &both), YA, XA, 80));
    for one in &both {
        let world = world_of(ISOLATED, ISOLATED, std::slice::from_ref(one));
        let verdict = evaluate(&world, &tcp(world.side(ip(YA)), world.side(ip(XA)), 80));
        assert!(!verdict.allowed && verdict.egress.allowed != verdict.ingress.allowed, "{verdict}");
    }
}

#[test]
fn of_a_network_that_nobody_knows_nothing_is_allowed() {
    let world = World::new(vec![endpoint("x", "a", XA, 80)], BTreeMap::new(), Vec::new());
    let verdict = evaluate(&world, &tcp(world.side(ip(WORLD)), world.side(ip(XA)), 80));
    assert_eq!(
        verdict.to_string(),
        "denied; egress allowed: not an endpoint of ours; \
         ingress denied: network net-x, posture zero-trust, rule default-deny"
    );
}

#[test]
fn the_later_of_two_documents_of_one_name_holds() {
    let deny = cluster("a", "Admin", 1, &json!({"ingress": [all("Deny", "from")]}));
    let accept = cluster("a", "Admin", 9, &json!({"ingress": [all("Accept", "from")]}));
    let world = open(&[deny, accept]);
    let verdict = evaluate(&world, &tcp(world.side(ip(XA)), world.side(ip(XB)), 80));
    let Because::Rule(rule) = verdict.ingress.because else { panic!("{verdict:?}") };
    assert_eq!((rule.tier, rule.policy, rule.index), (Tier::Admin, "a", 0));
    assert!(verdict.allowed);
}
