//! The grid of the table of cases: namespaces x, y and z, in each of them the containers a, b and c, and the
//! documents of a step in force among them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::conf::{network, with};
use super::ctl::{apply, told};
use super::node::{Node, PORTS, Protocol};
use super::plugin::Call;
use super::probe::{self, Way};
use super::world::World;

/// What is added to the grid by a step has no address in the table; any does that no policy names.
const ADDED: &str = "10.99.1.14";

/// The table.
pub(crate) fn table() -> Value {
    serde_json::from_str(include_str!("../data/policy-cases.json")).expect("JSON")
}

/// How the containers are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One network, whose addresses of IPv4 are those of the table.
    One,
    /// A network, with a bridge of its own, for each namespace: 10.99.1.0/24, .2 and .3.
    ForEachNamespace,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Grid<'w> {
    world: &'w World,
    shape: Shape,
    keys: Value,
    table: Value,
    nodes: Vec<Node>,
    labels: BTreeMap<String, BTreeMap<String, String>>,
    /// By what `policy delete` calls them.
    given: BTreeMap<String, Value>,
    rounds: u16,
}

impl<'w> Grid<'w> {
    /// Namespaces without containers; networks have these keys as well.
    pub(crate) fn new(world: &'w World, shape: Shape, keys: Value) -> Self {
        let table = table();
        let names = table["grid"]["namespaces"].as_array().expect("namespaces").iter();
        let each = names.map(|name| {
            json!({ "apiVersion": "v1", "kind": "Namespace",
                "metadata": { "name": name, "labels": { "ns": name } } })
        });
        let items: Vec<Value> = each.collect();
        apply(world, &json!({ "apiVersion": "v1", "kind": "List", "items": items }));
        let (nodes, labels, given) = (vec![], BTreeMap::new(), BTreeMap::new());
        Self { world, shape, keys, table, nodes, labels, given, rounds: 0 }
    }

    /// The network of a namespace, and where its containers are.
    fn network(&self, namespace: &str) -> (String, u8) {
        match self.shape {
            Shape::One => ("grid".to_owned(), 1),
            Shape::ForEachNamespace => {
                let number = namespace.bytes().next().expect("a name") - b'x' + 1;
                (format!("grid{namespace}"), number)
            }
        }
    }

    fn conf(&self, name: &str, labels: &BTreeMap<String, String>) -> Value {
        let (namespace, _) = name.split_once('/').expect("namespace/name");
        let (called, number) = self.network(namespace);
        let ports = Protocol::ALL.iter().flat_map(|protocol| {
            let protocol = protocol.name().to_lowercase();
            PORTS.map(|port| format!("serve-{port}-{protocol}={port}/{protocol}"))
        });
        let ports: Vec<String> = ports.collect();
        let labels: Vec<Value> =
            labels.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let annotations = json!({ "policy.quantum/named-ports": ports.join(",") });
        let ranges = json!([[{ "subnet": format!("10.99.{number}.0/24") }],
                            [{ "subnet": format!("fd00:99:{number}::/64") }]]);
        let own = json!({
            "ipam": { "subnet": null, "ranges": ranges,
                      "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] },
            // Who asks is seen as who it is, also by another network.
            "ipMasq": false,
            "policy": { "posture": "open" },
            "args": { "cni": { "labels": labels } },
            "runtimeConfig": { "io.kubernetes.cri.pod-annotations": annotations },
        });
        let conf = network(&called, &format!("{called}0"), "");
        with(&with(&conf, own), self.keys.clone())
    }

    fn add(&mut self, name: &str, labels: &BTreeMap<String, String>) {
        let (namespace, pod) = name.split_once('/').expect("namespace/name");
        let address = self.table["grid"]["ip"][name].as_str().unwrap_or(ADDED);
        let host = address.rsplit('.').next().expect("its end");
        let address = format!("10.99.{}.{host}", self.network(namespace).1);
        let args = format!(
            "IgnoreUnknown=1;IP={address};K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={pod}"
        );
        let conf = self.conf(name, labels);
        self.nodes.push(Node::attach(self.world, name, |netns| {
            Call::add(&format!("{namespace}-{pod}"), netns).conf(&conf).var("CNI_ARGS", &args)
        }));
        self.labels.insert(name.to_owned(), labels.clone());
    }

    fn remove(&mut self, name: &str) {
        let at = self.nodes.iter().position(|node| node.name == name).expect("a container");
        let node = self.nodes.remove(at);
        let labels = self.labels.remove(name).expect("its labels");
        let call = Call::del(&name.replace('/', "-"), &node.netns);
        self.world.call(call.conf(&self.conf(name, &labels))).succeeded();
    }

    /// Has the containers of a step there, with their labels.
    pub(crate) fn populate(&mut self, step: &Value) {
        let wanted = self.pods(step);
        let gone: Vec<String> =
            self.labels.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            self.remove(&name);
        }
        for (name, labels) in wanted {
            let Some(before) = self.labels.get(&name) else {
                self.add(&name, &labels);
                continue;
            };
            let set = labels.iter().filter(|(key, value)| before.get(*key) != Some(value));
            let taken = before.keys().filter(|key| !labels.contains_key(*key));
            let set = set.map(|(key, value)| format!("{key}={value}"));
            let changes: Vec<String> = set.chain(taken.map(|key| format!("{key}-"))).collect();
            if !changes.is_empty() {
                told(self.world, &format!("policy label {name} {}", changes.join(" ")), "");
                self.labels.insert(name, labels);
            }
        }
    }

    fn pods(&self, step: &Value) -> BTreeMap<String, BTreeMap<String, String>> {
        if step["pods"] != "default" {
            return serde_json::from_value(step["pods"].clone()).expect("pods and their labels");
        }
        let list = |key: &str| -> Vec<String> {
            serde_json::from_value(self.table["grid"][key].clone()).expect("names")
        };
        let pods = list("pods");
        let each = list("namespaces").into_iter().flat_map(|namespace| {
            pods.clone().into_iter().map(move |pod| {
                (format!("{namespace}/{pod}"), BTreeMap::from([("pod".to_owned(), pod)]))
            })
        });
        each.collect()
    }

    /// Has the policies of a step in force, and no others: what is there and the same is let be.
    pub(crate) fn govern(&mut self, step: &Value) {
        let policies = step["policies"].as_array().expect("policies").iter();
        let wanted: BTreeMap<String, Value> =
            policies.map(|policy| (called(policy), policy.clone())).collect();
        for name in self.given.keys().filter(|name| !wanted.contains_key(*name)) {
            told(self.world, &format!("policy delete {name}"), "");
        }
        let changed = wanted.iter().filter(|(name, policy)| self.given.get(*name) != Some(policy));
        let changed: Vec<&Value> = changed.map(|(_, policy)| policy).collect();
        if !changed.is_empty() {
            apply(self.world, &json!({ "apiVersion": "v1", "kind": "List", "items": changed }));
        }
        self.given = wanted;
    }

    /// Takes all policies away.
    pub(crate) fn free(&mut self) {
        self.govern(&json!({ "policies": [] }));
    }

    /// Everybody asks everybody, at their address of IPv4 (0) or IPv6 (1). How many questions those were, and what
    /// was wrong.
    pub(crate) fn ask(
        &mut self,
        protocols: &[Protocol],
        address: usize,
        denied: &BTreeSet<String>,
    ) -> (usize, Vec<String>) {
        self.rounds += 1;
        self.ask_from(20_000 + self.rounds, protocols, address, denied)
    }

    /// The same, where UDP and SCTP speak from this port.
    pub(crate) fn ask_from(
        &self,
        own_port: u16,
        protocols: &[Protocol],
        address: usize,
        denied: &BTreeSet<String>,
    ) -> (usize, Vec<String>) {
        probe::ask(&self.nodes, Way { protocols, address, own_port }, denied)
    }
}

/// The kind, and the name with its namespace where it has one.
fn called(document: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let name = text(&document["metadata"]["name"]).expect("a name");
    let full = match text(&document["metadata"]["namespace"]) {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    };
    format!("{} {full}", text(&document["kind"]).expect("a kind"))
}
