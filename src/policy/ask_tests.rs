//! Tests of what operators are told: that groups are decided as their members are, one by one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use quantum_config::ask::{self, Became, Cell};
use quantum_config::cni::Transport;
use quantum_config::ids::IfName;
use quantum_config::policy::{Document, Labels, read};
use serde_json::{Value, json};

use super::{
    Endpoint, Flow, LiveFlow, NamedPort, ResolveError, Side, Standing, Traffic, World, evaluate,
    explain, matrix, show, simulate,
};

const ISOLATED: Standing = Standing::Isolated { alone: false, direct: false };

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The endpoint of a number: of one of four namespaces, two networks, and some labels.
fn endpoint(number: u32, kinds: u32) -> Endpoint {
    let kind = number % kinds;
    let namespace = ["a", "b", "c", "d"][kind as usize % 4].to_owned();
    let network = ["one", "two"][kind as usize / 2 % 2].to_owned();
    let v4 = IpAddr::from([10, 0, (number / 200) as u8, (number % 200 + 1) as u8]);
    let mut addresses = vec![v4];
    if number.is_multiple_of(3) {
        addresses.push(ip(&format!("fd00::{:x}", number + 1)));
    }
    Endpoint {
        key: format!("{network}/c{number}/eth0").parse().expect("a key"),
        bridge: IfName::new("br0").expect("a name"),
        link_local: None,
        audit: false,
        unknown: false,
        name: format!("pod-{number}"),
        network,
        labels: Labels::from([
            ("app".to_owned(), ["web", "db", "log"][kind as usize % 3].to_owned()),
            ("kind".to_owned(), kind.to_string()),
            ("own".to_owned(), number.to_string()),
        ]),
        namespace,
        addresses,
        ports: vec![NamedPort {
            name: "web".to_owned(),
            transport: Transport::Tcp,
            number: if kind.is_multiple_of(2) { 80 } else { 8080 },
        }],
    }
}

fn world(count: u32, kinds: u32, documents: &[Value]) -> World {
    let endpoints = (0..count).map(|number| endpoint(number, kinds)).collect();
    let networks =
        BTreeMap::from([("one".to_owned(), ISOLATED), ("two".to_owned(), Standing::Open)]);
    let documents: Vec<Document> = documents.iter().map(|d| read(d).expect("valid")).collect();
    World::new(endpoints, networks, documents)
}

fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn asked(from: &str, to: &str, traffic: &str) -> ask::Explain {
    ask::Explain { from: from.into(), to: to.into(), traffic: traffic.into(), published: false }
}

#[test]
fn an_explanation_names_both_sides_and_every_family() {
    let own = policy("a", "db-only", &json!({"podSelector": {}, "ingress": []}));
    let world = world(8, 4, &[own]);
    let answer = explain(&world, &asked("d/pod-3", "a/pod-0", "icmp")).expect("an answer");
    assert!(!answer.allowed);
    let [v4, v6] = answer.cases.as_slice() else { panic!("{answer:?}") };
    assert_eq!((v4.from.address, v6.from.address), (Some(ip("10.0.0.4")), Some(ip("fd00::4"))));
    assert_eq!(v4.ingress.because, "isolated by NetworkPolicy a/db-only, and no rule matches");
    assert_eq!(v4.egress.because, "network two, posture open, rule open");
    assert_eq!(v4.from.key.as_deref(), Some("two/c3/eth0"));

    let allowed = |from: &str, to: &str| {
        explain(&world, &asked(from, to, "tcp/80"))
            .map(|answer| (answer.allowed, answer.cases.len()))
    };
    assert_eq!(allowed("host", "a/pod-0"), Ok((true, 2)), "no NetworkPolicy is for the host");
    assert_eq!(allowed("host@10.0.0.254", "a/pod-0"), Ok((true, 1)));
    assert_eq!(allowed("10.0.0.254", "one/c0/eth0"), Ok((false, 1)), "its address is not the host");
    assert_eq!(allowed("10.0.0.2", "192.0.2.1"), Ok((true, 1)));
}

#[test]
fn whom_nobody_knows_is_told_with_who_there_is() {
    let known = world(5, 4, &[]);
    let refused = |world: &World, from: &str, to: &str| {
        explain(world, &asked(from, to, "80")).expect_err("refused")
    };
    let error = refused(&known, "x/pod-1", "host");
    assert_eq!(error.to_string(), "no endpoint is \"x/pod-1\"; there is b/pod-1");
    let error = refused(&known, "pod-4", "host").to_string();
    assert_eq!(error, "no endpoint is \"pod-4\"; there is a/pod-4");
    assert!(matches!(refused(&known, "a/b/c/d/e", "host"), ResolveError::Form(_)));
    assert!(matches!(refused(&known, "b/pod-1", "fd00::99"), ResolveError::Apart { .. }));
    let mut twice = vec![endpoint(0, 4), endpoint(1, 4)];
    twice[1].namespace = twice[0].namespace.clone();
    twice[1].name = twice[0].name.clone();
    let twice = World::new(twice, BTreeMap::new(), Vec::new());
    let error = refused(&twice, "a/pod-0", "host");
    assert_eq!(
        error.to_string(),
        "\"a/pod-0\" are several endpoints: one/c0/eth0, one/c1/eth0; name one by \
         network/container/ifname or by its address"
    );
}

#[test]
fn what_is_audited_is_denied_and_comes_through() {
    let mut endpoints = vec![endpoint(0, 4), endpoint(4, 4)];
    endpoints[0].audit = true;
    let deny = read(&policy("a", "no", &json!({"podSelector": {}, "ingress": []}))).expect("valid");
    let world = World::new(endpoints, BTreeMap::from([("one".to_owned(), ISOLATED)]), vec![deny]);
    let answer = explain(&world, &asked("a/pod-4", "a/pod-0", "80")).expect("an answer");
    assert!(answer.allowed && answer.cases[0].audited && answer.cases[0].ingress.audited);
    let answer = explain(&world, &asked("a/pod-0", "a/pod-4", "80")).expect("an answer");
    assert!(!answer.allowed && !answer.cases[0].audited);
    let found = matrix(&world, Traffic::Port(Transport::Tcp, 80));
    assert_eq!(found.cells[0][..2], [Cell::Itself, Cell::Denied]);
    assert_eq!(found.cells[1][..2], [Cell::Audited, Cell::Itself]);
}

#[test]
fn what_is_in_force_is_shown() {
    let own = policy("a", "own", &json!({"podSelector": {"matchLabels": {"app": "db"}}}));
    let shown = show(&world(8, 8, &[own]), &BTreeMap::new());
    assert_eq!(shown.endpoints.len(), 8);
    assert_eq!((shown.policies.len(), shown.policies[0].selects), (1, 1));
    assert_eq!(shown.endpoints[4].policies, ["a/own"]);
    assert_eq!(shown.networks[1].posture, "open");
}

#[test]
fn what_is_in_force_is_shown_though_nobody_is_there() {
    let mut documents = vec![policy("a", "own", &json!({"podSelector": {}}))];
    let mut audited = policy("b", "own", &json!({"podSelector": {}}));
    audited["metadata"]["annotations"] = json!({"policy.quantum/mode": "audit"});
    documents.push(audited);
    documents.push(json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "c", "labels": {"team": "shop"}}}));
    let networks = BTreeMap::from([
        ("one".to_owned(), Standing::Open),
        ("three".to_owned(), Standing::ZeroTrust { probes: true }),
    ]);
    let shown = |count| {
        let shown = show(&world(count, 1, &documents), &networks);
        let networks = shown.networks.into_iter().map(|n| format!("{} {}", n.name, n.posture));
        let policies =
            shown.policies.into_iter().map(|p| format!("{} {} {}", p.name, p.mode, p.selects));
        let namespaces = shown.namespaces.into_iter().map(|n| n.name);
        [networks.collect::<Vec<_>>(), policies.collect(), namespaces.collect()]
            .map(|l| l.join(", "))
    };
    let nobody = ["one open, three zero-trust", "a/own enforce 0, b/own audit 0", "c"];
    assert_eq!(shown(0), nobody);
    let one = ["one isolated, three zero-trust", "a/own enforce 1, b/own audit 0", "a, c"];
    assert_eq!(shown(1), one, "as its endpoint is judged");
}

/// Pieces of policies, in which endpoints of some worlds differ.
fn documents() -> impl Strategy<Value = Vec<Value>> {
    let peer = prop_oneof![
        Just(json!({"podSelector": {"matchLabels": {"app": "web"}}})),
        Just(json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "b"}}})),
        Just(json!({"podSelector": {"matchLabels": {"own": "3"}}, "namespaceSelector": {}})),
        Just(json!({"ipBlock": {"cidr": "10.0.0.0/29", "except": ["10.0.0.4/31"]}})),
        Just(json!({"ipBlock": {"cidr": "198.51.100.0/24"}})),
        Just(json!({"ipBlock": {"cidr": "fd00::/124"}})),
    ];
    let port = prop_oneof![
        Just(json!({"port": 80})),
        Just(json!({"port": 80, "endPort": 90})),
        Just(json!({"port": "web"})),
        Just(json!({"port": 53, "protocol": "UDP"})),
        Just(json!({"protocol": "TCP"})),
    ];
    let lists = (
        proptest::collection::vec(peer, 0..3),
        proptest::collection::vec(port, 0..3),
        proptest::sample::select(vec!["a", "b", "c"]),
        proptest::sample::select(vec![json!({}), json!({"matchLabels": {"app": "db"}})]),
        any::<bool>(),
    );
    let one = lists.prop_map(|(peers, ports, namespace, subject, ingress)| {
        let (direction, list) = if ingress { ("ingress", "from") } else { ("egress", "to") };
        let kind = if ingress { "Ingress" } else { "Egress" };
        let spec = json!({"podSelector": subject, "policyTypes": [kind],
            direction: [{list: peers, "ports": ports}]});
        policy(namespace, "p", &spec)
    });
    proptest::collection::vec(one, 0..4).prop_map(|mut all| {
        for (number, document) in all.iter_mut().enumerate() {
            document["metadata"]["name"] = json!(format!("p{number}"));
        }
        all
    })
}

/// Of how many connections between endpoints, not grouped, the decision changes, each way.
fn one_by_one(now: &World, then: &World, probes: &[Traffic]) -> (u64, u64) {
    let (mut denied, mut allowed) = (0, 0);
    let sides = |world, from: &Endpoint, to: &Endpoint, family: usize| {
        let address = |e: &Endpoint| e.addresses.get(family).copied();
        let side = |address| World::side(world, address);
        Some((side(address(from)?), side(address(to)?)))
    };
    for from in now.endpoints() {
        for to in now.endpoints().iter().filter(|to| to.key != from.key) {
            for traffic in probes {
                let change = (0..2).find_map(|family| {
                    let decide = |world| {
                        let (from, to): (Side<'_>, Side<'_>) = sides(world, from, to, family)?;
                        let is_v6 = to.address().is_ipv6();
                        let traffic = match traffic {
                            Traffic::Other(1) if is_v6 => Traffic::Other(58),
                            other => *other,
                        };
                        let flow = Flow { from, to, traffic, published: false };
                        Some(evaluate(world, &flow).allowed)
                    };
                    match (decide(now)?, decide(then)?) {
                        (true, false) => Some(Became::Denied),
                        (false, true) => Some(Became::Allowed),
                        _ => None,
                    }
                });
                match change {
                    Some(Became::Denied) => denied += 1,
                    Some(Became::Allowed) => allowed += 1,
                    None => {}
                }
            }
        }
    }
    (denied, allowed)
}

/// The traffic that a simulation named; of ports that nobody names one that is in no policy of these tests.
fn traffic(name: &str) -> Traffic {
    match name.strip_prefix("other ") {
        Some("tcp") => Traffic::Port(Transport::Tcp, 40_000),
        Some("udp") => Traffic::Port(Transport::Udp, 40_000),
        _ => super::read_traffic(name).expect("traffic"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn groups_are_decided_as_their_members(one in documents(), other in documents()) {
        let (now, then) = (world(16, 6, &one), world(16, 6, &other));
        let found = simulate(&now, &then, &[]);
        prop_assert_eq!((found.shifts_left_out, found.groups_left_out), (0, 0));
        let probes: Vec<Traffic> = found.traffic.iter().map(|name| traffic(name)).collect();
        // Those with the host and the world have no group there, and are not counted one by one.
        let known = |name: &String| !name.starts_with("world") && name != "host";
        let only = |became| {
            let shifts = found.shifts.iter().filter(move |shift| shift.became == became);
            shifts.filter(|s| s.group.endpoints > 0 && s.others.iter().any(known)).count()
        };
        let (denied, allowed) = one_by_one(&now, &then, &probes);
        prop_assert!(found.denied >= denied && found.allowed >= allowed, "{:?}", found);
        prop_assert_eq!(only(Became::Denied) > 0, denied > 0, "{:?}", found);
        prop_assert_eq!(only(Became::Allowed) > 0, allowed > 0, "{:?}", found);
        let between = super::simulate::between_endpoints(&now, &then);
        prop_assert_eq!(between, (denied, allowed), "{:?}", found);
    }
}

#[test]
fn a_change_is_told_with_who_what_and_why() {
    let only_web = json!({"podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]}]});
    let (now, then) = (world(100, 12, &[]), world(100, 12, &[policy("b", "db", &only_web)]));
    let found = simulate(&now, &then, &[]);
    assert_eq!((found.endpoints, found.allowed, found.shifts_left_out), (100, 0, 0));
    assert!(found.groups < 40, "{found:?}");
    assert_eq!(found.traffic, ["icmp", "tcp/5432", "other tcp"]);
    let shift = &found.shifts[0];
    assert_eq!((shift.became, shift.direction.as_str()), (Became::Denied, "ingress"));
    assert_eq!(shift.then, "isolated by NetworkPolicy b/db, and no rule matches");
    assert!(shift.now.starts_with("network "), "{shift:?}");
    assert!(found.shifts.iter().all(|shift| !shift.others.contains(&"host".to_owned())), "exempt");
    let none = simulate(&then, &then, &[]);
    assert_eq!((none.denied, none.allowed, none.shifts.len()), (0, 0, 0));
    let back = simulate(&then, &now, &[]);
    assert_eq!((back.denied, back.allowed), (0, found.denied));
}

#[test]
fn live_connections_that_would_be_dropped_are_named() {
    let deny = policy("b", "db", &json!({"podSelector": {}, "ingress": []}));
    let (now, then) = (world(8, 4, &[]), world(8, 4, &[deny]));
    let live = |from: &str, to: &str| LiveFlow {
        from: ip(from),
        from_host: false,
        sent_to: ip(to),
        to: ip(to),
        to_host: false,
        traffic: Traffic::Port(Transport::Tcp, 80),
        icmp: None,
        mark: 0,
        translated: false,
    };
    let b = "10.0.0.2";
    let published =
        LiveFlow { sent_to: ip("192.0.2.1"), translated: true, ..live("203.0.113.1", b) };
    let probe = LiveFlow { from_host: true, ..live("10.0.0.254", b) };
    let flows = [
        live("10.0.0.1", b),
        published,
        probe,
        live(b, "10.0.0.1"),
        live("198.51.100.1", "198.51.100.2"),
        live("198.51.100.1", b), // denied as it is
    ];
    let found = simulate(&now, &then, &flows);
    assert_eq!((found.flows, found.flows_dropped), (6, 2), "{:?}", found.dropped);
    assert_eq!(found.dropped[0].from.name, "a/pod-0");
    assert_eq!(found.dropped[1].sent_to, Some(ip("192.0.2.1")));
    assert_eq!(
        found.dropped[1].because,
        "ingress denied: isolated by NetworkPolicy b/db, and no rule matches"
    );
}

#[test]
fn of_many_endpoints_the_matrix_has_groups() {
    let own = policy("a", "own", &json!({"podSelector": {}, "ingress": []}));
    let found = matrix(&world(400, 8, &[own]), Traffic::Port(Transport::Tcp, 80));
    assert_eq!((found.endpoints, found.left_out), (400, 0));
    assert!(found.groups.len() < 20, "{:?}", found.groups);
    assert_eq!(found.groups.iter().map(|group| group.endpoints).sum::<usize>(), 400);
    assert_eq!(found.cells[0].len(), found.groups.len());
    assert!(found.groups[0].name.ends_with("others"), "{:?}", found.groups[0]);
}

/// A thousand endpoints of fifty kinds, two hundred policies: what an operator waits for.
#[test]
fn a_thousand_endpoints_take_a_moment() {
    let spec = |n: u32| {
        json!({"podSelector": {"matchLabels": {"kind": n.to_string()}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
                "ports": [{"port": 1000 + n % 16}]}]})
    };
    let all: Vec<Value> = (0..200)
        .map(|n| policy(["a", "b", "c", "d"][n as usize % 4], &format!("p{n}"), &spec(n % 50)))
        .collect();
    let (now, then) = (world(1000, 50, &all[..199]), world(1000, 50, &all));
    let start = Instant::now();
    let found = simulate(&now, &then, &[]);
    let took = start.elapsed();
    println!("{} groups, {} kinds of traffic: {took:?}", found.groups, found.traffic.len());
    assert_eq!(found.endpoints, 1000);
    assert!(took < Duration::from_secs(20), "{took:?}");
}
