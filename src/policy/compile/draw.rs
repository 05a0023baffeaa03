//! Worlds and traffic, drawn at random.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use quantum_config::cni::Transport;
use quantum_config::policy::{Labels, read};
use serde_json::{Map, Value, json};

use crate::policy::{Endpoint, NamedPort, Standing, Traffic, World, tests};

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const NAMES: [&str; 2] = ["web", "dns"];
const PORTS: [u16; 7] = [1, 53, 79, 80, 81, 443, 65535];
const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::Sctp];
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
    let named = (named, 0..4u8);
    (named, selector(), maybe(rules("from")), maybe(rules("to")), types).prop_map(
        |(((namespace, name), staged), subject, ingress, egress, types)| {
            let spec = object(vec![
                ("podSelector", Some(subject)),
                ("ingress", ingress),
                ("egress", egress),
                ("policyTypes", types),
            ]);
            mode(staged, tests::network(namespace, &format!("p{name}"), &spec))
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
    (0..8u8, tier, 0..3u16, subject, rules, 0..4u8).prop_map(
        |(name, tier, priority, subject, (ingress, egress), staged)| {
            let rules = json!({"ingress": ingress, "egress": egress});
            let mut policy = tests::cluster(&format!("c{name}"), tier, priority, &rules);
            policy["spec"]["subject"] = subject;
            mode(staged, policy)
        },
    )
}

/// Makes some policies staged.
fn mode(staged: u8, mut policy: Value) -> Value {
    if staged == 0 {
        policy["metadata"]["annotations"] = json!({"policy.quantum/mode": "audit"});
    }
    policy
}

fn node_rule(peers: &'static str) -> impl Strategy<Value = Value> {
    let entities = vec!["host", "world", "same-network", "same-namespace", "self"];
    let entities = subsequence(entities, 1..3);
    let peer = prop_oneof![
        2 => entities.prop_map(|entities| json!({"entities": entities})),
        1 => (selector(), maybe(selector())).prop_map(|(endpoints, spaces)| {
            object(vec![("endpoints", Some(endpoints)), ("namespaces", spaces)])
        }),
        1 => block(),
    ];
    let byte = || select(vec![0u8, 8, 128, 255]);
    let icmp = (select(vec!["icmp", "icmpv6"]), maybe(byte()), maybe(0..3u8));
    let icmp = icmp.prop_map(|(icmp, kind, code)| {
        let code = kind.and(code).map(Value::from);
        json!({icmp: object(vec![("type", kind.map(Value::from)), ("code", code)])})
    });
    let known = |port: &Value| port.get("icmp").is_none();
    let port = prop_oneof![
        2 => cluster_port().prop_filter("known", known),
        1 => icmp,
        1 => select(vec![1, 6, 17, 47, 58]).prop_map(|number| json!({"number": number})),
    ];
    let action = select(vec!["Accept", "Deny", "Reject", "Pass", "Pass"]).prop_map(Value::from);
    (action, list(peer, 1), maybe(list(port, 1))).prop_map(move |(action, peer, ports)| {
        object(vec![("action", Some(action)), (peers, Some(peer)), ("protocols", ports)])
    })
}

fn node_policy() -> impl Strategy<Value = Value> {
    let networks = maybe(subsequence(vec!["net-x", "net-y", "net-z"], 1..3).prop_map(Value::from));
    let subject = (networks, maybe(selector()), maybe(selector()));
    let subject = subject.prop_map(|(networks, spaces, endpoints)| {
        object(vec![("networks", networks), ("namespaces", spaces), ("endpoints", endpoints)])
    });
    let tier = select(vec!["Admin", "Application", "Baseline"]);
    let rules = (list(node_rule("from"), 0), list(node_rule("to"), 0));
    (0..8u8, tier, 0..3u16, subject, rules, 0..4u8).prop_map(
        |(name, tier, priority, subject, (ingress, egress), staged)| {
            let mode = if staged == 0 { "audit" } else { "enforce" };
            json!({"apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
                "metadata": {"name": format!("n{name}")},
                "spec": {"tier": tier, "priority": priority, "mode": mode, "subject": subject,
                    "ingress": ingress, "egress": egress}})
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
    (select(NAMESPACES.to_vec()), labels(), ports, 0..40u8).prop_map(
        |(space, labels, ports, has)| {
            let mut endpoint = tests::endpoint(space, "p", tests::XA, 80);
            // Networks and namespaces are not the same.
            if has % 4 == 3 {
                endpoint.network = "net-z".to_owned();
            }
            let unknown = has >= 36;
            (Endpoint { labels, ports, unknown, addresses: Vec::new(), ..endpoint }, has % 4)
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

pub(super) fn world() -> impl Strategy<Value = World> {
    let policies = proptest::collection::vec(
        prop_oneof![network_policy(), cluster_policy(), node_policy()]
            .prop_filter("names", is_valid),
        2..14,
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

pub(super) fn traffic() -> impl Strategy<Value = Traffic> {
    let port = prop_oneof![4 => select(PORTS.to_vec()), 1 => 0..500u16];
    prop_oneof![
        9 => (select(TRANSPORTS.to_vec()), port).prop_map(|(t, port)| Traffic::Port(t, port)),
        1 => select(vec![1, 58, 47]).prop_map(Traffic::Other),
        2 => (any::<bool>(), select(vec![0, 8, 128, 255]), 0..3u8)
            .prop_map(|(v6, kind, code)| Traffic::Icmp { v6, kind, code }),
    ]
}
