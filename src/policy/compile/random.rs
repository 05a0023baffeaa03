//! The compiled form decides as the evaluator does: for the cases of the table, and for worlds and
//! connections drawn at random.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use quantum_config::cni::Transport;
use quantum_config::policy::{Labels, read};
use serde_json::{Map, Value, json};

use super::compile;
use super::interpret::{Machine, Ruling};
use crate::policy::{Because, Decision, Endpoint, Flow, NamedPort, Side, Standing, Traffic, World};
use crate::policy::{cases, evaluate, tests};

/// What the compiled form has to say where the evaluator says this.
fn expected(decision: &Decision<'_>) -> Ruling {
    match (&decision.because, decision.allowed) {
        (Because::NotOurs | Because::Standing { .. }, _) => Ruling::Undecided,
        (_, true) => Ruling::Allowed,
        (_, false) => Ruling::Denied,
    }
}

fn agree(machine: &Machine, world: &World, flow: &Flow<'_>) -> Result<[Ruling; 2], String> {
    let verdict = evaluate(world, flow);
    let found = machine.rulings(flow);
    let expected = [expected(&verdict.egress), expected(&verdict.ingress)];
    if found == expected {
        Ok(found)
    } else {
        Err(format!("{flow:?}: {verdict}, and compiled {found:?}"))
    }
}

#[test]
fn the_cases_of_the_table_are_decided_alike() {
    let mut asked = 0;
    cases::each(|world| {
        let machine = Machine::new(&compile(world));
        for flow in cases::flows(world) {
            if flow.is_to_itself() {
                continue;
            }
            asked += 1;
            agree(&machine, world, &flow).expect("alike");
        }
    });
    assert!(asked > 53 * 432, "{asked}");
}

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const NAMES: [&str; 2] = ["web", "dns"];
const PORTS: [u16; 7] = [1, 53, 79, 80, 81, 443, 65535];
const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::Sctp];
/// Whoever is not an endpoint.
const OTHERS: [&str; 6] =
    ["10.0.0.200", "10.9.0.1", "192.0.2.1", "fd00::200", "fd00:9::1", "2001:db8::1"];
const BLOCKS: [(&str, &[&str]); 8] = [
    ("10.0.0.0/8", &["10.9.0.0/16", "10.0.0.2/32", "10.0.0.0/30", "10.0.0.4/30"]),
    ("10.0.0.0/30", &["10.0.0.2/32"]),
    ("10.0.0.3/32", &[]),
    ("0.0.0.0/0", &["10.0.0.0/8", "10.9.0.0/16", "192.0.2.0/24", "0.0.0.0/1", "128.0.0.0/1"]),
    ("192.0.2.0/24", &["192.0.2.0/31"]),
    ("fd00::/8", &["fd00::/126", "fd00:9::/32"]),
    ("::/0", &["fd00::/8", "::/1"]),
    ("fd00::2/128", &[]),
];

fn labels() -> impl Strategy<Value = Labels> {
    let value = || proptest::option::of(select(vec!["1", "2"]));
    (value(), value()).prop_map(|(a, b)| {
        let pairs = [("a", a), ("b", b)].into_iter();
        pairs.filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect()
    })
}

fn selector() -> impl Strategy<Value = Value> {
    let key = || select(vec!["a", "b"]);
    let expression = |operator: &'static str, values: Vec<&'static str>| {
        key().prop_map(move |key| {
            json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
        })
    };
    prop_oneof![
        3 => Just(json!({})),
        2 => (key(), select(vec!["1", "2"])).prop_map(|(k, v)| json!({"matchLabels": {k: v}})),
        1 => expression("In", vec!["1", "2"]),
        1 => expression("NotIn", vec!["1"]),
        1 => expression("Exists", vec![]),
        1 => expression("DoesNotExist", vec![]),
    ]
}

fn block() -> impl Strategy<Value = Value> {
    select(BLOCKS.to_vec()).prop_flat_map(|(cidr, parts)| {
        subsequence(parts.to_vec(), 0..=parts.len())
            .prop_map(move |except| json!({"cidr": cidr, "except": except}))
    })
}

fn object(fields: Vec<(&str, Option<Value>)>) -> Value {
    let fields = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn maybe<S: Strategy>(strategy: S) -> impl Strategy<Value = Option<S::Value>> {
    proptest::option::of(strategy)
}

fn list<S: Strategy<Value = Value>>(item: S, least: usize) -> impl Strategy<Value = Value> {
    proptest::collection::vec(item, least..4).prop_map(Value::from)
}

fn network_peer() -> impl Strategy<Value = Value> {
    prop_oneof![
        selector().prop_map(|pods| json!({"podSelector": pods})),
        selector().prop_map(|spaces| json!({"namespaceSelector": spaces})),
        (selector(), selector())
            .prop_map(|(pods, spaces)| json!({"podSelector": pods, "namespaceSelector": spaces})),
        block().prop_map(|block| json!({"ipBlock": block})),
    ]
}

fn network_port() -> impl Strategy<Value = Value> {
    let protocol = || maybe(select(vec!["TCP", "UDP", "SCTP"]).prop_map(Value::from));
    prop_oneof![
        protocol().prop_map(|p| object(vec![("protocol", p)])),
        (protocol(), select(NAMES.to_vec()))
            .prop_map(|(p, name)| object(vec![("protocol", p), ("port", Some(json!(name)))])),
        (protocol(), select(PORTS.to_vec()), maybe(0..400u16)).prop_map(|(p, first, more)| {
            let last = more.map(|more| json!(first.saturating_add(more)));
            object(vec![("protocol", p), ("port", Some(json!(first))), ("endPort", last)])
        }),
    ]
}

fn network_policy() -> impl Strategy<Value = Value> {
    let rules = |peers: &'static str| {
        let rule = (maybe(list(network_peer(), 0)), maybe(list(network_port(), 0)));
        list(rule.prop_map(move |(p, ports)| object(vec![(peers, p), ("ports", ports)])), 0)
    };
    let types = maybe(subsequence(vec!["Ingress", "Egress"], 0..=2).prop_map(Value::from));
    let named = (select(NAMESPACES.to_vec()), 0..6u8);
    (named, selector(), maybe(rules("from")), maybe(rules("to")), types).prop_map(
        |((namespace, name), subject, ingress, egress, types)| {
            let spec = object(vec![
                ("podSelector", Some(subject)),
                ("ingress", ingress),
                ("egress", egress),
                ("policyTypes", types),
            ]);
            tests::network(namespace, &format!("p{name}"), &spec)
        },
    )
}

fn cluster_port() -> impl Strategy<Value = Value> {
    let transport = || select(vec!["tcp", "udp", "sctp"]);
    prop_oneof![
        3 => (transport(), select(PORTS.to_vec()))
            .prop_map(|(t, port)| json!({t: {"destinationPort": {"number": port}}})),
        2 => (transport(), 1..500u16, 1..500u16).prop_map(|(t, start, more)| {
            json!({t: {"destinationPort": {"range": {"start": start, "end": start + more}}}})
        }),
        2 => select(NAMES.to_vec()).prop_map(|name| json!({"destinationNamedPort": name})),
        1 => Just(json!({"icmp": {}})),
    ]
}

fn cluster_rule(peers: &'static str) -> impl Strategy<Value = Value> {
    let networks = subsequence(BLOCKS.to_vec(), 1..4);
    let networks = networks.prop_map(|blocks| blocks.into_iter().map(|(cidr, _)| cidr).collect());
    let networks = networks.prop_map(|cidrs: Vec<_>| json!({"networks": cidrs}));
    let pods = (selector(), maybe(selector())).prop_map(|(pods, spaces)| {
        json!({"pods": object(vec![("podSelector", Some(pods)), ("namespaceSelector", spaces)])})
    });
    // Of sources the kind knows no networks, and such a rule cannot be read in full.
    let peer = prop_oneof![
        4 => pods,
        4 => selector().prop_map(|spaces| json!({"namespaces": spaces})),
        if peers == "to" { 4 } else { 1 } => networks,
        1 => Just(json!({"new": {}})),
    ];
    let action = select(vec!["Accept", "Deny", "Pass", "Pass"]).prop_map(Value::from);
    (action, list(peer, 1), maybe(list(cluster_port(), 1))).prop_map(
        move |(action, peer, ports)| {
            object(vec![("action", Some(action)), (peers, Some(peer)), ("protocols", ports)])
        },
    )
}

fn cluster_policy() -> impl Strategy<Value = Value> {
    let subject = prop_oneof![
        selector().prop_map(|spaces| json!({"namespaces": spaces})),
        (selector(), selector())
            .prop_map(|(pods, s)| json!({"pods": {"podSelector": pods, "namespaceSelector": s}})),
    ];
    let tier = select(vec!["Admin", "Baseline"]);
    let rules = (list(cluster_rule("from"), 0), list(cluster_rule("to"), 0));
    (0..8u8, tier, 0..3u16, subject, rules).prop_map(
        |(name, tier, priority, subject, (ingress, egress))| {
            let rules = json!({"ingress": ingress, "egress": egress});
            let mut policy = tests::cluster(&format!("c{name}"), tier, priority, &rules);
            policy["spec"]["subject"] = subject;
            policy
        },
    )
}

/// An endpoint but for its addresses, of which it has one or both.
fn endpoint() -> impl Strategy<Value = (Endpoint, u8)> {
    let port = (select(NAMES.to_vec()), select(TRANSPORTS.to_vec()), select(PORTS.to_vec()));
    let port = port.prop_map(|(name, transport, number)| NamedPort {
        name: name.to_owned(),
        transport,
        number,
    });
    let ports = proptest::collection::vec(port, 0..4);
    (select(NAMESPACES.to_vec()), labels(), ports, 0..4u8).prop_map(
        |(space, labels, ports, has)| {
            let endpoint = tests::endpoint(space, "p", tests::XA, 80);
            (Endpoint { labels, ports, addresses: Vec::new(), ..endpoint }, has)
        },
    )
}

/// A document that cannot be read is an error of ours, except that a CIDR and a name do not go together.
fn is_valid(policy: &Value) -> bool {
    read(policy).map_err(|error| error.to_string()).map_or_else(
        |error| if error.contains("destinationNamedPort") { false } else { panic!("{error}") },
        |_| true,
    )
}

fn world() -> impl Strategy<Value = World> {
    let policies = proptest::collection::vec(
        prop_oneof![network_policy(), cluster_policy()].prop_filter("names", is_valid),
        0..14,
    );
    let spaces = subsequence(NAMESPACES.to_vec(), 0..=3);
    let spaces = spaces.prop_flat_map(|names| {
        let each: Vec<_> = names.into_iter().map(|name| (Just(name), labels())).collect();
        each.prop_map(|spaces| {
            let document = |(name, labels): (&str, Labels)| {
                json!({"apiVersion": "v1", "kind": "Namespace",
                    "metadata": {"name": name, "labels": labels}})
            };
            spaces.into_iter().map(document).collect::<Vec<_>>()
        })
    });
    let endpoints = proptest::collection::vec(endpoint(), 1..7);
    (policies, spaces, endpoints).prop_map(|(policies, spaces, endpoints)| {
        let place = |(n, (mut endpoint, has)): (usize, (Endpoint, u8))| {
            endpoint.key = format!("net/c{n}/eth0").parse().expect("a key");
            let addresses = [format!("10.0.0.{n}"), format!("fd00::{n}")];
            let kept = if has == 0 {
                0..1
            } else if has == 1 {
                1..2
            } else {
                0..2
            };
            let addresses = addresses[kept].iter();
            endpoint.addresses = addresses.map(|a| a.parse().expect("an address")).collect();
            endpoint
        };
        let endpoints = endpoints.into_iter().enumerate().map(place).collect();
        let documents = spaces.iter().chain(&policies);
        let documents: Vec<_> = documents.map(|document| read(document).expect("valid")).collect();
        let networks = BTreeMap::from([("net-x".to_owned(), Standing::Open)]);
        World::new(endpoints, networks, documents)
    })
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let port = prop_oneof![4 => select(PORTS.to_vec()), 1 => 0..500u16];
    prop_oneof![
        9 => (select(TRANSPORTS.to_vec()), port).prop_map(|(t, port)| Traffic::Port(t, port)),
        1 => select(vec![1, 58, 47]).prop_map(Traffic::Other),
    ]
}

/// A connection, of which the ends are chosen when the world is known.
type Drawn = (usize, usize, Traffic, bool);

/// Whoever there is of a family: endpoints, the world and, as the last, a process of the host.
fn sides(world: &World, v6: bool) -> Vec<Side<'_>> {
    let ours = world.endpoints().iter().flat_map(|endpoint| endpoint.addresses.iter().copied());
    let others = OTHERS.iter().map(|other| other.parse().expect("an address"));
    let all = ours.chain(others).filter(|address: &IpAddr| address.is_ipv6() == v6);
    let mut sides: Vec<_> = all.map(|address| world.side(address)).collect();
    let host = if v6 { "fd00::100" } else { "10.0.0.100" };
    sides.push(Side::Host(host.parse().expect("an address")));
    sides
}

fn check(world: &World, drawn: &[Drawn]) -> Result<[usize; 3], String> {
    let machine = Machine::new(&compile(world));
    let mut found = [0; 3];
    for (n, (from, to, traffic, published)) in drawn.iter().enumerate() {
        let sides = sides(world, n % 3 == 0);
        let flow = Flow {
            from: sides[from % sides.len()],
            to: sides[to % sides.len()],
            traffic: *traffic,
            published: *published,
        };
        if flow.is_to_itself() && !flow.published {
            continue;
        }
        for ruling in agree(&machine, world, &flow)? {
            found[ruling as usize] += 1;
        }
    }
    Ok(found)
}

/// What was drawn is drawn again with the seed that a failure names.
const SEED: &str = "QUANTUM_POLICY_SEED";

#[test]
fn random_worlds_are_decided_alike() {
    let drawn = (0..1000usize, 0..1000usize, traffic(), any::<bool>());
    let drawn = proptest::collection::vec(drawn, 60);
    let given = std::env::var(SEED).ok().map(|seed| seed.parse::<u64>().expect("a number"));
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
    let bytes = [seed; 4].map(u64::to_le_bytes).concat();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() };
    let total = Cell::new([0usize; 3]);
    let result = TestRunner::new_with_rng(config, rng).run(&(world(), drawn), |(world, drawn)| {
        let found = check(&world, &drawn).map_err(TestCaseError::fail)?;
        let before = total.get();
        total.set([0, 1, 2].map(|n| before[n] + found[n]));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{SEED}={seed}: {error}");
    }
    // Worlds in which nothing is ever decided would agree, too.
    let total = total.get();
    assert!(total.iter().all(|found| *found > 1000), "{SEED}={seed}: {total:?}");
}
