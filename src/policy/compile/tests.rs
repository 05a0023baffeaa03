//! Tests of the compiled form: what it is for some worlds, and that `nft` takes it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::*;
use crate::kernel::testing::{in_namespace, run};
use crate::policy::tests::{XA, cluster, endpoint, network, open};
use crate::policy::{Endpoint, Way};

fn chains_of(compiled: &Compiled, key: &str) -> Vec<(Way, String)> {
    let elements = &compiled.elements[&key.parse().expect("a key")];
    let judged = elements.iter().filter_map(|element| match element {
        Element::Judged { way, chain, .. } => {
            let chain = compiled.rules.doors.get(chain).unwrap_or(chain);
            Some((*way, chain.as_str().to_owned()))
        }
        _ => None,
    });
    judged.collect()
}

/// The rules of a chain, as text.
fn rules(compiled: &Compiled, chain: &str) -> Vec<String> {
    let chain = &compiled.rules.chains[&crate::policy::ChainName::new(chain)];
    chain.iter().map(ToString::to_string).collect()
}

/// A world in which everything occurs that we write.
fn everything() -> World {
    let peers = json!([
        {"podSelector": {}},
        {"namespaceSelector": {"matchLabels": {"a": "b"}}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.9.0.0/16", "10.1.2.3/32"]}},
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}},
        {"ipBlock": {"cidr": "192.0.2.0/24"}},
        {"ipBlock": {"cidr": "192.0.2.128/25"}},
        {"ipBlock": {"cidr": "192.0.3.0/24"}},
        {"ipBlock": {"cidr": "fd00::/8"}},
        {"ipBlock": {"cidr": "::ffff:10.0.0.0/104"}},
        {"ipBlock": {"cidr": "::1/128"}},
    ]);
    let ports = json!([
        {"port": 80}, {"port": 443}, {"port": 8000, "endPort": 8010},
        {"protocol": "UDP", "port": 53}, {"protocol": "SCTP"}, {"port": "web"},
        {"protocol": "UDP", "port": 5, "endPort": 54},
    ]);
    let all = json!([{"action": "Pass", "to": [{"networks": ["0.0.0.0/0", "::/0"]}]},
        {"action": "Deny", "to": [{"namespaces": {}}]}]);
    let named = json!([{"action": "Accept", "from": [{"namespaces": {}}],
        "protocols": [{"destinationNamedPort": "web"}]}, {"action": "Deny", "from": [{"new": 1}]}]);
    let entities = ["host", "world", "same-network", "same-namespace", "self"];
    let odd = json!([{"icmp": {"type": 8}}, {"icmpv6": {"type": 1, "code": 4}}, {"number": 47}]);
    let entities = json!([{"action": "Reject", "to": [{"entities": entities}], "protocols": odd}]);
    let node = json!({"apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
        "metadata": {"name": "node"}, "spec": {"tier": "Application", "priority": 1,
            "subject": {}, "egress": entities}});
    let mut staged = node.clone();
    (staged["metadata"]["name"], staged["spec"]["mode"]) = (json!("staged"), json!("audit"));
    open(&[
        node,
        staged,
        network("x", "in", &json!({"ingress": [{"from": peers, "ports": ports}, {"ports": [{}]}]})),
        network("x", "out", &json!({"egress": [{"to": peers}], "policyTypes": ["Egress"]})),
        cluster("first", "Admin", 1, &json!({"egress": all})),
        cluster("last", "Baseline", 1, &json!({"egress": all, "ingress": named})),
    ])
}

/// What ours lead to is there.
const SKELETON: &str = include_str!("../../../config/nft/skeleton.nft");

fn nft(text: &str) {
    let nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn();
    let mut nft = nft.expect("nft");
    nft.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    assert!(nft.wait().expect("ended").success(), "{text}");
}

#[test]
fn what_nobody_decides_has_no_chain() {
    let compiled = compile(&open(&[]));
    assert!(compiled.rules.is_empty());
    assert!(compiled.elements.values().all(Vec::is_empty));
    let policies = [
        network("x", "in", &json!({"podSelector": {"matchLabels": {"pod": "a"}}})),
        // It speaks of nobody.
        cluster("new", "Admin", 1, &json!({"egress": [{"action": "Accept", "to": [{"new": 1}]}]})),
    ];
    let compiled = compile(&open(&policies));
    let [(Way::Ingress, chain)] = &chains_of(&compiled, "net-x/x-a/eth0")[..] else {
        panic!("{compiled:?}")
    };
    let expected = [
        "ct original ip saddr . ct reply ip saddr @hair4 counter return",
        "ct original ip6 saddr . ct reply ip6 saddr @hair6 counter return",
        "counter goto denied_in comment \"isolated by NetworkPolicy x/in\"",
    ];
    assert_eq!(rules(&compiled, chain), expected);
    assert_eq!(chains_of(&compiled, "net-x/x-b/eth0"), []);
}

#[test]
fn a_pass_leads_to_the_next_tier() {
    let to = |action: &str| json!({"action": action, "to": [{"networks": ["192.0.2.0/24"]}]});
    let admin = cluster("a", "Admin", 1, &json!({"egress": [to("Pass"), to("Deny")]}));
    let last = cluster("b", "Baseline", 1, &json!({"egress": [to("Pass"), to("Accept")]}));
    let own = network("x", "own", &json!({"policyTypes": ["Egress"], "egress": [{}]}));
    let compiled = compile(&open(&[admin, last, own]));
    let chain = |key: &str| {
        let chains = chains_of(&compiled, key);
        assert_eq!(chains.len(), 1, "{chains:?}");
        chains[0].1.clone()
    };
    let admin = "ClusterNetworkPolicy a egress";
    let (x, y) = (chain("net-x/x-a/eth0"), chain("net-y/y-a/eth0"));
    let to = "ct reply ip saddr 192.0.2.0/24 counter";
    let first = |next: &str| {
        [
            format!("{to} goto {next} comment \"{admin}[0]\""),
            format!("{to} goto denied_out comment \"{admin}[1]\""),
            format!("counter goto {next}"),
        ]
    };
    assert_eq!(rules(&compiled, &x), first(&format!("{x}_n")));
    assert_eq!(
        rules(&compiled, &format!("{x}_n"))[0],
        "counter return comment \"NetworkPolicy x/own egress[0]\""
    );
    assert_eq!(rules(&compiled, &y), first(&format!("{y}_b")));
    let last = "ClusterNetworkPolicy b of tier Baseline egress";
    let expected = [
        format!("{to} goto sender_default comment \"{last}[0]\""),
        format!("{to} return comment \"{last}[1]\""),
        "counter goto sender_default".to_owned(),
    ];
    assert_eq!(rules(&compiled, &format!("{y}_b")), expected);
    assert_eq!(compiled.rules.chains.len(), 4);
}

#[test]
fn what_is_staged_is_asked_about_what_comes_through() {
    let node = |name: &str, mode: &str, rule: Value| {
        json!({"apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
            "metadata": {"name": name}, "spec": {"tier": "Admin", "priority": 1, "mode": mode,
                "subject": {}, "egress": [rule]}})
    };
    let host = json!({"action": "Accept", "to": [{"entities": ["host"]}]});
    let ping = json!([{"icmp": {"type": 8}}]);
    let ping = json!({"action": "Reject", "to": [{"entities": ["self"]}], "protocols": ping});
    let compiled = compile(&open(&[node("a", "enforce", host), node("b", "audit", ping)]));
    let [(Way::Egress, chain)] = &chains_of(&compiled, "net-x/x-a/eth0")[..] else {
        panic!("{compiled:?}")
    };
    let found = rules(&compiled, chain);
    let shown = found[2].strip_prefix("counter jump ").expect("a jump");
    let a = "comment \"NodePolicy a egress[0]\"";
    let expected = [
        format!("ct direction original fib daddr type local counter goto {shown} {a}"),
        format!("ct direction reply fib saddr type local counter goto {shown} {a}"),
        format!("counter jump {shown}"),
        "counter goto sender_default".to_owned(),
    ];
    assert_eq!(found, expected);
    let itself = "ct original ip saddr . ct reply ip saddr @hair4 meta l4proto 1 \
                  ct original proto-dst 2048-2303 counter goto noted_out";
    let found = rules(&compiled, shown);
    assert!(found[0].ends_with(&format!("local counter return {a}")), "{found:?}");
    assert_eq!(found[2], format!("{itself} comment \"NodePolicy b egress[0]\""));
    assert_eq!(found.last().map(String::as_str), Some("counter return"));
}

#[test]
fn an_endpoint_is_judged_by_each_of_its_addresses_and_named_by_its_own() {
    let mut one = endpoint("x", "a", XA, 80);
    one.addresses.push("fd00::1".parse().expect("an address"));
    one.link_local = Some("fe80::1".parse().expect("an address"));
    let from = json!([{"from": [{"podSelector": {}}], "ports": [{"port": "web"}]}]);
    let policy = network("x", "in", &json!({"ingress": from}));
    let mut compiler = Compiler::new(open(&[policy]).documents().clone());
    let placed = compiler.endpoint(&one, false);
    let mut found = BTreeMap::<&str, Vec<String>>::new();
    for element in &placed.elements {
        match element {
            Element::Judged { address, bridge, chain, .. } => {
                let chain = &placed.added.doors[chain];
                assert!(placed.added.chains.contains_key(chain) && *bridge == one.bridge);
                found.entry("judged").or_default().push(address.to_string());
            }
            Element::Member { set, address } => {
                found.entry(&set.as_str()[..4]).or_default().push(address.to_string());
            }
            Element::Named { set, address, port } => {
                let text = format!("{address} {port}");
                found.entry(&set.as_str()[..6]).or_default().push(text);
            }
            other => panic!("{other:?}"),
        }
    }
    let expected = [
        ("judged", vec!["10.0.1.1", "fd00::1", "fe80::1"]),
        ("named4", vec!["10.0.1.1 80"]),
        ("named6", vec!["fd00::1 80"]),
        ("sel4", vec!["10.0.1.1"]),
        ("sel6", vec!["fd00::1"]),
    ];
    let found: Vec<_> = found.into_iter().collect();
    let found: Vec<_> =
        found.iter().map(|(k, v)| (*k, v.iter().map(String::as_str).collect())).collect();
    assert_eq!(found, expected);
    let again = compiler.endpoint(&Endpoint { link_local: None, ..one }, false);
    assert!(again.added.is_empty());
}

#[test]
fn nothing_of_a_name_ever_changes() {
    let policies = |port: u16| {
        let ingress = json!([{"ports": [{"port": port}, {"port": 1}]}]);
        [
            network("x", "in", &json!({"ingress": ingress})),
            network("y", "in", &json!({"ingress": []})),
        ]
    };
    let [a, b] = [80, 81].map(|port| compile(&open(&policies(port))).rules);
    assert_eq!((a.chains.len(), a.sets.len()), (2, 1));
    let (added, gone) = (b.difference(&a), a.difference(&b));
    for part in [&added, &gone] {
        assert_eq!((part.chains.len(), part.sets.len()), (1, 1));
    }
    assert!(added.chains.keys().all(|name| !a.chains.contains_key(name)));
    let mut both = a.clone();
    both.extend(added);
    let both = both.difference(&gone);
    assert_eq!((both.chains, both.sets), (b.chains, b.sets));
}

#[test]
fn what_is_another_in_a_policy_is_another_for_no_endpoint() {
    let node = |name: &str, priority: u16, port: u16| {
        let tcp = json!({"tcp": {"destinationPort": {"number": port}}});
        json!({"apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
            "metadata": {"name": name}, "spec": {"tier": "Admin", "priority": priority,
                "subject": {}, "ingress": [{"action": "Deny", "from": [{"cidr": "0.0.0.0/0"}],
                    "protocols": [tcp]}]}})
    };
    let network = network("x", "in", &json!({"ingress": []}));
    let world = |priority, port| {
        compile(&open(&[node("a", 5, 80), node("b", priority, port), network.clone()]))
    };
    let first = world(1, 80);
    // Another port, and another place in the order.
    for (priority, port) in [(1, 81), (9, 80)] {
        let other = world(priority, port);
        assert_eq!(other.elements, first.elements);
        assert_eq!(other.rules.doors.len(), first.rules.doors.len());
        assert_eq!(
            other.rules.moved(&first.rules),
            other.rules.doors,
            "all of them lead elsewhere"
        );
        assert!(other.rules.difference(&first.rules).doors.is_empty());
    }
    // One more is a combination of its own.
    let more = compile(&open(&[node("a", 5, 80), node("b", 1, 80), network, node("c", 2, 80)]));
    assert!(more.rules.moved(&first.rules).is_empty());
    assert_eq!(more.rules.difference(&first.rules).doors, more.rules.doors);
}

#[test]
fn chains_that_nothing_leads_to_are_forgotten() {
    let world = everything();
    let mut compiler = Compiler::new(world.documents().clone());
    let placed: Vec<_> = world.endpoints().iter().map(|e| compiler.endpoint(e, false)).collect();
    let all = compiler.rules().chains.len();
    let kept = &placed[2].elements;
    let removed = compiler.forget_unused(kept);
    assert_eq!(removed.chains.len() + compiler.rules().chains.len(), all);
    assert!(!removed.is_empty() && removed.sets.is_empty());
    assert_eq!(compiler.endpoint(&world.endpoints()[2], false).added, Rules::default());
    let again = compiler.endpoint(&world.endpoints()[0], false);
    assert_eq!(again.elements, placed[0].elements);
    assert_eq!(again.added.chains, removed.chains);
    assert_eq!(compiler.rules().chains.len(), all);
}

#[test]
fn nft_takes_the_text_and_prints_it() {
    in_namespace(&["nft"], || {
        let rules = compile(&everything()).rules;
        nft(SKELETON);
        nft(&rules.text());
        run("nft list ruleset");
        for chain in rules.chains.keys() {
            let listed = run(&format!("nft list chain inet quantum {chain}"));
            let lines = listed
                .lines()
                .filter(|line| line.contains(" counter ") || line.contains("\tcounter "))
                .count();
            assert_eq!(lines, rules.chains[chain].len(), "{listed}");
        }
        let ports = rules.sets.iter().find(|(_, kind)| matches!(kind, SetKind::Ports(_)));
        let ports = run(&format!("nft list set inet quantum {}", ports.expect("a set").0));
        assert!(ports.contains("elements = { 80, 443, 8000-8010 }"), "{ports}");
        let json: Value = serde_json::from_str(&run("nft -j list ruleset")).expect("JSON");
        assert!(json["nftables"].is_array());
    });
}
