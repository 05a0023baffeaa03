//! What policy has in our sets for a container: CHECK looks for it, DEL takes it away, and the oldest nft
//! can print it.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::network_isolation::{attach_as, dual};
use crate::policy_live::{network_policy, pod};
use crate::support::conf::with;
use crate::support::ctl::{apply, told};
use crate::support::eventually::eventually;
use crate::support::inventory::nft_elements;
use crate::support::netns::Netns;
use crate::support::plugin::{Call, feed};

const CHECK_FAILED: u64 = 105;

/// Policies that need every kind of element: chains for each way, sets of selectors and of names.
fn everything() -> Value {
    let web = json!({ "podSelector": { "matchLabels": { "app": "web" } } });
    let rule = json!([{ "from": [web], "ports": [{ "port": "door" }] }]);
    let np = network_policy(
        "db",
        json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": rule,
            "egress": [{ "to": [web] }] }),
    );
    let node = json!({ "apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
        "metadata": { "name": "probes" },
        "spec": { "tier": "Admin", "priority": 9, "subject": {},
            "ingress": [{ "action": "Deny", "from": [{ "entities": ["host"] }],
                "protocols": [{ "tcp": { "destinationPort": { "number": 99 } } }] }] } });
    json!({ "apiVersion": "v1", "kind": "List", "items": [np, node] })
}

/// Every set of our table and those of its elements that name one of these, as nft takes them.
fn elements_with(host: &Netns, named: &[String; 2]) -> Vec<(String, Value)> {
    let listed: Value =
        serde_json::from_str(&host.output("nft", "-j list table inet quantum")).expect("JSON");
    let mut found = Vec::new();
    for object in listed["nftables"].as_array().expect("a list") {
        let Some(set) = object.get("set").or_else(|| object.get("map")) else { continue };
        let name = set["name"].as_str().expect("a name").to_owned();
        for element in set["elem"].as_array().into_iter().flatten() {
            let text = element.to_string();
            if named.iter().any(|word| text.contains(&format!("\"{word}\""))) {
                found.push((name.clone(), element.clone()));
            }
        }
    }
    found
}

/// `nft VERB element`, of one element as it was listed.
#[track_caller]
fn nft(host: &Netns, verb: &str, (set, element): &(String, Value)) {
    let of = json!({ "family": "inet", "table": "quantum", "name": set, "elem": [element] });
    let text = json!({ "nftables": [{ verb: { "element": of } }] }).to_string();
    let mut command = host.command("nft");
    command.args(["-j", "-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    command.stdout(Stdio::null());
    let mut child = command.spawn().expect("nft");
    feed(child.stdin.take(), text.as_bytes());
    let output = child.wait_with_output().expect("nft");
    assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn check_notices_each_element_of_policy_that_is_gone() {
    let world = world!();
    let _daemon = world.daemon_that_mends_nothing();
    let audited = json!({ "policy": { "labels": { "policy.quantum/mode": "audit" } } });
    let conf = dual("kept", 141, audited);
    apply(&world, &everything());
    let labels = json!([{ "key": "app", "value": "web" }]);
    let conf = with(&conf, json!({ "args": { "cni": { "labels": labels } } }));
    let named = json!({ "io.kubernetes.cri.pod-annotations":
        { "policy.quantum/named-ports": "door=7007/tcp" } });
    let conf = with(&conf, json!({ "runtimeConfig": named }));
    let c = attach_as(&world, "c1", &conf, "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop");
    let check = Call::check("c1", &c.netns).conf(&with(&conf, json!({ "prevResult": c.result })));
    world.call(check.clone()).succeeded();
    let elements = elements_with(&world.host, &c.addresses);
    let sets: BTreeSet<&str> = elements.iter().map(|(set, _)| set.as_str()).collect();
    for set in ["egress4", "egress6", "ingress4", "ingress6", "host4", "host6", "audit4", "audit6"]
    {
        assert!(sets.contains(set), "{set} in {sets:?}");
    }
    let known = ["home4", "home6", "self4", "self6", "masq4", "masq6"];
    let of_selectors = sets.iter().filter(|set| !known.contains(set)).count() - 8;
    assert!(of_selectors >= 4, "a selector and a name, of both families: {sets:?}");
    for element in &elements {
        nft(&world.host, "delete", element);
        let said = world.call(check.clone()).failed_with(CHECK_FAILED);
        let address = c.addresses.iter().find(|a| element.1.to_string().contains(a.as_str()));
        assert!(said.contains(address.expect("one of them")), "{element:?}: {said}");
        if !known.contains(&element.0.as_str()) {
            assert!(said.contains("policy"), "{element:?}: {said}");
        }
        nft(&world.host, "add", element);
        world.call(check.clone()).succeeded();
    }
}

#[test]
fn a_check_while_policy_changes_finds_nothing_amiss() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("busy", 142, json!({}));
    let c = pod(&world, "web", &conf);
    let check = Call::check("web", &c.netns).conf(&with(&conf, json!({ "prevResult": c.result })));
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            for n in 1..30 {
                let ports = json!([{ "ports": [{ "port": n }] }]);
                let spec = json!({ "podSelector": {}, "ingress": ports });
                apply(&world, &network_policy("each", spec));
            }
        });
        let mut checks = 0;
        while !changing.is_finished() || checks == 0 {
            world.call(check.clone()).succeeded();
            checks += 1;
        }
    });
}

#[test]
fn a_del_takes_every_element_of_policy_with_it() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("brief", 143, json!({}));
    apply(&world, &everything());
    let _stays = pod(&world, "db", &conf);
    let before = nft_elements(&world.host);
    for keys in [json!({}), json!({ "policy": { "mode": "audit" } })] {
        let c = pod(&world, "web", &with(&conf, keys));
        told(&world, "policy label shop/web tier=front", "");
        let added = nft_elements(&world.host);
        assert!(added.iter().filter(|e| e.contains(&c.addresses[0])).count() > 4, "{added:#?}");
        world.call(Call::del("web", &c.netns).conf(&conf)).succeeded();
        // What nobody can use any more goes by itself.
        eventually("its elements to be gone", || {
            let now = nft_elements(&world.host);
            let is_of = |e: &String| c.addresses.iter().any(|a| e.contains(a.as_str()));
            (!now.iter().any(is_of)).then_some(())
        });
        assert_eq!(nft_elements(&world.host), before);
    }
}

#[test]
fn nft_prints_the_rules_whatever_policy_there_is() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("plain", 144, json!({ "policy": { "mode": "audit" } }));
    let mut documents = everything();
    let items = documents["items"].as_array_mut().expect("a list");
    let rich = json!([
        { "action": "Reject", "from": [{ "entities": ["world"] }], "protocols": [
            { "icmp": { "type": 8 } }, { "icmpv6": { "type": 128 } }, { "number": 47 },
            { "sctp": { "destinationPort": { "range": { "start": 5, "end": 9 } } } }] },
        { "action": "Pass", "from": [{ "cidr": "10.0.0.0/8", "except": ["10.9.0.0/16"] },
            { "cidr": "fd00::/8" }, { "entities": ["same-network", "self"] }],
          "protocols": [{ "destinationNamedPort": "door" }] }]);
    for (name, mode) in [("rich", "enforce"), ("staged", "audit")] {
        items.push(json!({ "apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
            "metadata": { "name": name }, "spec": { "tier": "Baseline", "priority": 1,
                "mode": mode, "subject": {}, "ingress": rich } }));
    }
    let _before = pod(&world, "web", &conf);
    apply(&world, &documents);
    let _after = pod(&world, "db", &conf);
    let text = world.host.output("nft", "list ruleset");
    for word in ["shop/db", "NodePolicy rich", "NodePolicy staged"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let json: Value =
        serde_json::from_str(&world.host.output("nft", "-j list ruleset")).expect("JSON");
    assert!(json["nftables"].is_array());
}
