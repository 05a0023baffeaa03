//! Labels that operators take away: the label is away whoever gave it, also for a daemon that is started later,
//! until it is given again or the container goes.

use serde_json::{Value, json};

use crate::network_isolation::{attach_as, dual};
use crate::policy_live::{network_policy, pod, reach, serve};
use crate::support::conf::with;
use crate::support::ctl::{apply, quantumctl_with, told};
use crate::support::plugin::Call;
use crate::support::world::World;

/// The endpoint as `show` has it.
fn shown(world: &World, name: &str) -> Value {
    let shown: Value = serde_json::from_str(&told(world, "policy show --json", "")).expect("JSON");
    let endpoints = shown["endpoints"].as_array().expect("endpoints");
    endpoints.iter().find(|endpoint| endpoint["name"] == name).expect(name).clone()
}

#[test]
fn a_label_that_the_pod_came_with_is_taken_away() {
    let world = world!();
    let daemon = world.daemon();
    // One by each way in which a label can come.
    let conf = dual("roles", 171, json!({ "policy": { "labels": { "zone": "inner" } } }));
    let pods =
        json!({ "io.kubernetes.cri.pod-annotations": { "policy.quantum/labels": "role=web" } });
    let args = json!({ "cni": { "labels": [{ "key": "tier", "value": "front" }] } });
    let annotated = with(&conf, json!({ "runtimeConfig": pods, "args": args }));
    let who = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web";
    let (web, db) = (attach_as(&world, "web", &annotated, who), pod(&world, "db", &conf));
    let _db = serve(&db);
    let from = |labels: Value| {
        let from = json!([{ "podSelector": { "matchLabels": labels } }]);
        network_policy(
            "db",
            json!({ "podSelector": { "matchLabels": { "app": "db" } }, "ingress": [{ "from": from }] }),
        )
    };
    for (key, value, source) in [
        ("role", "web", "policy.quantum/labels"),
        ("tier", "front", "args.cni.labels"),
        ("zone", "inner", "policy.labels"),
    ] {
        apply(&world, &from(json!({ key: value })));
        reach(&web.netns, &db.addresses, true, "it came with the label");
        let said = told(&world, &format!("policy label shop/web {key}-"), "");
        assert!(said.contains(&format!("{key}-")) && said.contains(source), "{said}");
        assert!(!said.contains(&format!("{key}={value}")), "{said}");
        reach(&web.netns, &db.addresses, false, "the label was taken away");
        let endpoint = shown(&world, "shop/web");
        assert!(endpoint["labels"].get(key).is_none(), "{endpoint}");
        assert_eq!(endpoint["removed"][key], json!({ "value": value, "source": source }));
        let table = told(&world, "policy show", "");
        assert!(table.contains(&format!("{key}-")), "{table}");
    }

    // Whoever starts later knows it, and an operator may give it again.
    apply(&world, &from(json!({ "role": "web" })));
    assert!(daemon.terminate().success());
    let _daemon = world.daemon();
    reach(&web.netns, &db.addresses, false, "after a restart");
    told(&world, "policy label shop/web role=web", "");
    reach(&web.netns, &db.addresses, true, "given again");

    // It was said of that container, and not of its name.
    told(&world, "policy label shop/web role-", "");
    world.call(Call::del("web", &web.netns).conf(&annotated)).succeeded();
    let web = attach_as(&world, "web", &annotated, who);
    reach(&web.netns, &db.addresses, true, "another container");

    for (bad, word) in [("cni.quantum/network-", "daemon's"), ("a/b/c-", "not the key")] {
        let output = quantumctl_with(&world, &format!("policy label shop/web {bad}"), "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(word), "{bad}: {said}");
    }
}
