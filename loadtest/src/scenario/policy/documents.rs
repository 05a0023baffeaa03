//! The policies that are measured: such as a cluster has, a few in each namespace, most of which select
//! somebody.

use serde_json::{Value, json};

use crate::driver::APPS;

/// How many containers are in a namespace.
pub(super) const IN_A_NAMESPACE: u16 = 10;
/// How many kinds of policies there are, one after the other.
const KINDS: usize = 5;
const TEAMS: usize = 7;

/// So many NetworkPolicies for so many namespaces, and what is to be known of these. The first namespace
/// has some always.
pub(super) fn list(policies: usize, namespaces: usize) -> String {
    let each = KINDS.max(policies.div_ceil(namespaces.max(1)));
    let labels = (0..namespaces).map(|n| {
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": format!("tenant-{n}"), "labels": { "team": team(n) } },
        })
    });
    let items: Vec<Value> =
        labels.chain((0..policies).map(|n| network_policy(n / each, n % each))).collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

/// A policy about all containers, of which every revision is another.
pub(super) fn about_everybody(revision: u16) -> String {
    let document = json!({
        "apiVersion": "policy.quantum/v1alpha1",
        "kind": "NodePolicy",
        "metadata": { "name": "about-everybody" },
        "spec": {
            "tier": "Admin",
            "priority": 10,
            "subject": {},
            "ingress": [{
                "action": "Deny",
                "from": [{ "cidr": "192.0.2.0/24" }],
                "protocols": [{ "tcp": { "destinationPort": { "number": 1000 + revision } } }],
            }],
        },
    });
    document.to_string()
}

fn team(namespace: usize) -> String {
    format!("team-{}", namespace % TEAMS)
}

fn network_policy(namespace: usize, number: usize) -> Value {
    // Of the same kind, but not the same.
    let turn = number / KINDS;
    let app = |n: u16| json!({ "matchLabels": { "app": format!("app-{}", n % APPS) } });
    let tcp = |port: usize| json!({ "protocol": "TCP", "port": port + turn });
    let spec = match number % KINDS {
        0 => json!({
            "podSelector": app(0),
            "ingress": [{ "from": [{ "podSelector": {} }] }],
        }),
        1 => json!({
            "podSelector": app(1),
            "ingress": [{ "from": [{ "podSelector": app(0) }], "ports": [tcp(8080), tcp(9090)] }],
        }),
        2 => json!({
            "podSelector": app(2),
            "ingress": [{
                "from": [{ "namespaceSelector": { "matchLabels": { "team": team(namespace) } } }],
                "ports": [{ "protocol": "TCP", "port": 9000 + turn, "endPort": 9100 + turn }],
            }],
        }),
        3 => json!({
            "podSelector": {
                "matchExpressions": [
                    { "key": "app", "operator": "In", "values": ["app-3", "app-4"] },
                ],
            },
            "ingress": [
                { "from": [{ "podSelector": app(2) }], "ports": [tcp(5432)] },
                {
                    "from": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.9.0.0/16"] } }],
                    "ports": [tcp(6379)],
                },
            ],
        }),
        _ => json!({
            "podSelector": {},
            "policyTypes": ["Egress"],
            "egress": [
                { "to": [{ "podSelector": {} }] },
                { "ports": [{ "protocol": "UDP", "port": 53 }, tcp(53)] },
                {
                    "to": [{
                        "ipBlock": {
                            "cidr": "0.0.0.0/0",
                            "except": ["10.0.0.0/8", "169.254.0.0/16"],
                        },
                    }],
                    "ports": [tcp(443)],
                },
            ],
        }),
    };
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": format!("policy-{number}"),
            "namespace": format!("tenant-{namespace}"),
        },
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(list: &str) -> Vec<String> {
        let list: Value = serde_json::from_str(list).expect("JSON");
        let items = list["items"].as_array().expect("items");
        let policies = items.iter().filter(|item| item["kind"] == "NetworkPolicy");
        policies
            .map(|p| format!("{}/{}", p["metadata"]["namespace"], p["metadata"]["name"]))
            .collect()
    }

    #[test]
    fn there_are_as_many_as_asked_and_the_first_namespace_has_one_of_each_kind() {
        for count in [0, 5, 10, 500, 1000] {
            let mut all = policies(&list(count, 100));
            let first = all.iter().filter(|name| name.starts_with("\"tenant-0\"")).count();
            assert!(count == 0 || first >= KINDS, "{count}: {first}");
            all.sort();
            all.dedup();
            assert_eq!(all.len(), count);
        }
    }
}
