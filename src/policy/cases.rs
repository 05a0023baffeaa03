//! The table of cases, after those by which Kubernetes and its kinds of policy are tested: for each step
//! of each case, every connection of a grid of endpoints is asked about, and exactly those must be denied
//! that the table lists.

use std::collections::{BTreeMap, BTreeSet};

use quantum_config::cni::Transport;
use quantum_config::ids::IfName;
use quantum_config::policy::{Document, Labels, Namespace, read};
use serde_json::Value;

use super::{Endpoint, Flow, NamedPort, Side, Standing, Traffic, World, evaluate};

const CASES: &str = include_str!("../../tests/data/policy-cases.json");
const TRANSPORTS: [(&str, Transport); 3] =
    [("TCP", Transport::Tcp), ("UDP", Transport::Udp), ("SCTP", Transport::Sctp)];
const PORTS: [u16; 2] = [80, 81];

/// What is added to the grid by a step has no address there; any does that no policy names.
const ADDED: &str = "10.99.1.14";

fn endpoint(name: &str, labels: Labels, addresses: &Value) -> Endpoint {
    let (namespace, pod) = name.split_once('/').expect("namespace/pod");
    let address = addresses[name].as_str().unwrap_or(ADDED);
    let ports = TRANSPORTS.iter().flat_map(|(called, transport)| {
        PORTS.map(|number| NamedPort {
            name: format!("serve-{number}-{}", called.to_lowercase()),
            transport: *transport,
            number,
        })
    });
    Endpoint {
        key: format!("grid/{namespace}-{pod}/eth0").parse().expect("a key"),
        bridge: IfName::new("grid0").expect("a name"),
        link_local: None,
        audit: false,
        unknown: false,
        namespace: namespace.to_owned(),
        name: pod.to_owned(),
        network: "grid".to_owned(),
        labels,
        addresses: vec![address.parse().expect("an address")],
        ports: ports.collect(),
    }
}

fn world(grid: &Value, step: &Value) -> World {
    let names = |key: &str| {
        let list = grid[key].as_array().expect("a list").iter();
        list.map(|name| name.as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let label = |key: &str, value: &str| Labels::from([(key.to_owned(), value.to_owned())]);
    assert_eq!(step["namespaces"], "default", "the table has no other namespaces");
    let mut documents: Vec<Document> = Vec::new();
    for name in names("namespaces") {
        let mut namespace = Namespace::undeclared(&name);
        namespace.labels.append(&mut label("ns", &name));
        documents.push(Document::Namespace(namespace));
    }
    let mut endpoints = Vec::new();
    if step["pods"] == "default" {
        for namespace in names("namespaces") {
            for pod in names("pods") {
                let name = format!("{namespace}/{pod}");
                endpoints.push(endpoint(&name, label("pod", &pod), &grid["ip"]));
            }
        }
    } else {
        for (name, labels) in step["pods"].as_object().expect("pods") {
            let labels = serde_json::from_value(labels.clone()).expect("labels");
            endpoints.push(endpoint(name, labels, &grid["ip"]));
        }
    }
    for policy in step["policies"].as_array().expect("policies") {
        documents.push(read(policy).expect("a valid document"));
    }
    let networks = BTreeMap::from([("grid".to_owned(), Standing::Open)]);
    World::new(endpoints, networks, documents)
}

/// All connections of a world's endpoints among each other.
pub(super) fn flows(world: &World) -> impl Iterator<Item = Flow<'_>> {
    let sides = || world.endpoints().iter().map(|endpoint| world.side(endpoint.addresses[0]));
    let traffic = || {
        let each = |(_, transport)| PORTS.map(|port| Traffic::Port(transport, port));
        TRANSPORTS.into_iter().flat_map(each)
    };
    sides().flat_map(move |from| {
        sides().flat_map(move |to| {
            traffic().map(move |traffic| Flow { from, to, traffic, published: false })
        })
    })
}

/// Shows every world of the table.
pub(super) fn each(mut look: impl FnMut(&World)) {
    let table: Value = serde_json::from_str(CASES).expect("JSON");
    for case in table["cases"].as_array().expect("cases") {
        for step in case["steps"].as_array().expect("steps") {
            look(&world(&table["grid"], step));
        }
    }
}

/// What is denied among all connections, and how many those are.
fn denied(world: &World) -> (BTreeSet<String>, usize) {
    let called = |side: &Side<'_>| {
        side.endpoint().map(|e| format!("{}/{}", e.namespace, e.name)).expect("an endpoint")
    };
    let (mut denied, mut asked) = (BTreeSet::new(), 0);
    for flow in flows(world) {
        let verdict = evaluate(world, &flow);
        let both = verdict.egress.allowed && verdict.ingress.allowed;
        assert_eq!(verdict.allowed, both, "{verdict}");
        if flow.is_to_itself() {
            assert!(verdict.allowed, "{verdict}");
            continue;
        }
        asked += 1;
        let Traffic::Port(transport, port) = flow.traffic else { continue };
        if !verdict.allowed {
            let protocol = TRANSPORTS.iter().find(|(_, of)| *of == transport).expect("known").0;
            let (from, to) = (called(&flow.from), called(&flow.to));
            denied.insert(format!("{from}>{to}:{protocol}/{port}"));
        }
    }
    (denied, asked)
}

#[test]
fn every_case_of_the_table_is_decided_as_it_says() {
    let table: Value = serde_json::from_str(CASES).expect("JSON");
    let cases = table["cases"].as_array().expect("cases");
    let mut wrong = Vec::new();
    for case in cases {
        for step in case["steps"].as_array().expect("steps") {
            let world = world(&table["grid"], step);
            let (found, asked) = denied(&world);
            let listed = step["denied"].as_array().expect("a list").iter();
            let expected: BTreeSet<String> =
                listed.map(|probe| probe.as_str().expect("a probe").to_owned()).collect();
            if found != expected || step["probes"] != asked {
                let more: Vec<_> = found.difference(&expected).take(5).collect();
                let less: Vec<_> = expected.difference(&found).take(5).collect();
                wrong.push(format!(
                    "{} ({}), step {}: {asked} asked; wrongly denied {more:?}, wrongly allowed {less:?}",
                    case["id"], case["title"], step["step"],
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(cases.len(), 53, "the table has lost or gained cases");
}
