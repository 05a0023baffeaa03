//! Trying policy out: what would be denied comes through and is told, for a network, for one container, and
//! for one policy.

use serde_json::{Value, json};

use crate::network_isolation::{Attached, dual};
use crate::policy_live::{network_policy, pod, reach, serve};
use crate::support::conf::with;
use crate::support::ctl::{apply, quantumctl_with, told};
use crate::support::eventually::eventually;
use crate::support::world::World;

/// What was told of connections to this address.
fn told_of(world: &World, to: &str) -> Vec<Value> {
    let denied: Value =
        serde_json::from_str(&told(world, "policy denied --json", "")).expect("JSON");
    let flows = denied["flows"].as_array().expect("flows").iter();
    flows.filter(|flow| flow["to"]["address"] == *to).cloned().collect()
}

/// Every connection to these was told of, as audited or not, for this reason.
#[track_caller]
fn each_is_told(world: &World, to: &Attached, audit: bool, why: &str) {
    for address in &to.addresses {
        eventually(&format!("a record of {address}, audited: {audit}"), || {
            let flows = told_of(world, address);
            let found = |transport: &str| {
                flows.iter().any(|flow| {
                    let text = flow.to_string().to_lowercase();
                    flow["audited"] == json!(audit)
                        && flow["because"].to_string().contains(why)
                        && text.contains(transport)
                })
            };
            (found("udp") && found("tcp")).then_some(())
        });
    }
}

fn deny(subject: Value) -> Value {
    network_policy("deny", json!({ "podSelector": subject, "ingress": [] }))
}

#[test]
fn in_a_network_that_is_audited_everything_passes_and_is_told() {
    let world = world!();
    let daemon = world.daemon();
    for (number, posture) in [(191, "isolated"), (192, "zero-trust")] {
        let conf =
            dual(posture, number, json!({ "policy": { "posture": posture, "mode": "audit" } }));
        let [web, db] = ["web", "db"].map(|name| pod(&world, &format!("{name}{number}"), &conf));
        let _db = serve(&db);
        apply(&world, &deny(json!({})));
        reach(&web.netns, &db.addresses, true, posture);
        each_is_told(&world, &db, true, "shop/deny");
        told(&world, "policy delete NetworkPolicy shop/deny", "");
    }
    let metrics = daemon.get("/metrics").1;
    let counted = |mode: &str| {
        let labels = ["direction=\"ingress\"".to_owned(), format!("mode=\"{mode}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        crate::daemon_http::sample(&metrics, "cni_denied_flows_total", &labels)
    };
    assert!(counted("audit") > 0.0, "{metrics}");
}

#[test]
fn one_container_is_audited_and_its_neighbour_is_not() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("some", 193, json!({}));
    let [web, db, other] = ["web", "db", "other"].map(|name| pod(&world, name, &conf));
    let (_db, _other) = (serve(&db), serve(&other));
    apply(&world, &deny(json!({})));
    told(&world, "policy label shop/db policy.quantum/mode=audit", "");
    reach(&web.netns, &db.addresses, true, "audited");
    reach(&web.netns, &other.addresses, false, "not audited");
    each_is_told(&world, &db, true, "shop/deny");
    each_is_told(&world, &other, false, "shop/deny");
    let explained = quantumctl_with(&world, "policy explain shop/web shop/db 7007/tcp", "");
    assert_eq!(explained.status.code(), Some(0), "{explained:?}");
    assert!(String::from_utf8_lossy(&explained.stdout).contains("audited"), "{explained:?}");
    told(&world, "policy label shop/db policy.quantum/mode-", "");
    reach(&web.netns, &db.addresses, false, "not audited any more");
}

#[test]
fn a_policy_that_is_staged_decides_nothing_and_tells() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("staged", 194, json!({}));
    let [web, db, other] = ["web", "db", "other"].map(|name| pod(&world, name, &conf));
    let (_db, _other) = (serve(&db), serve(&other));
    let selecting = |name: &str| json!({ "matchLabels": { "app": name } });
    let staged = json!({ "metadata": { "annotations": { "policy.quantum/mode": "audit" } } });
    apply(&world, &with(&deny(selecting("db")), staged));
    let in_force =
        network_policy("other", json!({ "podSelector": selecting("other"), "ingress": [] }));
    apply(&world, &in_force);
    reach(&web.netns, &db.addresses, true, "staged");
    reach(&web.netns, &other.addresses, false, "in force");
    each_is_told(&world, &db, true, "shop/deny");
    each_is_told(&world, &other, false, "shop/other");
    // The same policy without the annotation.
    apply(&world, &deny(selecting("db")));
    reach(&web.netns, &db.addresses, false, "in force");
    told(&world, "policy delete NetworkPolicy shop/deny", "");
    let node = |mode: &str| {
        json!({ "apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
            "metadata": { "name": "quiet" }, "spec": { "tier": "Admin", "priority": 1,
                "mode": mode, "subject": { "endpoints": selecting("db") },
                "ingress": [{ "action": "Deny", "from": [{ "endpoints": {} }] }] } })
    };
    apply(&world, &node("audit"));
    reach(&web.netns, &db.addresses, true, "a staged NodePolicy");
    each_is_told(&world, &db, true, "quiet");
    apply(&world, &node("enforce"));
    reach(&web.netns, &db.addresses, false, "in force");
}
