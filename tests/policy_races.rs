//! Changes of policy, and something else in the same moment.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::network_isolation::dual;
use crate::policy_live::{network_policy, pod, reach, serve};
use crate::support::conf::with;
use crate::support::ctl::{apply, told};
use crate::support::plugin::Call;

fn isolating(name: &str) -> Value {
    network_policy(name, json!({ "podSelector": {}, "ingress": [] }))
}

#[test]
fn what_was_applied_while_a_labelled_container_went_survives_the_daemon() {
    let world = world!();
    let mut daemon = world.daemon();
    let conf = dual("shop", 206, json!({}));
    for round in 0..8 {
        let name = format!("p{round}");
        let container = pod(&world, &name, &conf);
        told(&world, &format!("policy label shop/{name} friend=yes"), "");
        let documents: Vec<String> = (0..12).map(|n| format!("d{round}-{n}")).collect();
        let (first, last) = documents.split_at(10);
        std::thread::scope(|scope| {
            let apply_each = |documents: &[String]| {
                for document in documents {
                    let (world, document) = (&world, isolating(document));
                    scope.spawn(move || apply(world, &document));
                }
            };
            apply_each(first);
            world.call(Call::del(&name, &container.netns).conf(&conf)).succeeded();
            // That it is gone may be known by now or not before some of the first are written.
            apply_each(last);
        });
        assert!(daemon.terminate().success());
        let saved = world.paths().state_dir.join("policy.json");
        let saved = std::fs::read_to_string(saved).expect("what was saved");
        daemon = world.daemon();
        for document in &documents {
            assert!(saved.contains(&format!("\"{document}\"")), "{document} in {saved}");
            told(&world, &format!("policy delete NetworkPolicy shop/{document}"), "");
        }
    }
}

#[test]
fn a_policy_is_taken_just_after_all_rules_were_flushed() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("shop", 207, json!({}));
    let (web, db) = (pod(&world, "web", &conf), pod(&world, "db", &conf));
    let _db = serve(&db);
    for n in 1..20 {
        let spec = json!({ "podSelector": { "matchLabels": { "app": "db" } },
            "ingress": [{ "from": [{ "podSelector": {} }], "ports": [{ "port": n }] }] });
        world.host.output("nft", "flush ruleset");
        apply(&world, &network_policy("db", spec));
    }
    reach(&web.netns, &db.addresses, false, "it holds");
    told(&world, "policy delete NetworkPolicy shop/db", "");
    reach(&web.netns, &db.addresses, true, "and is gone");
}

#[test]
fn a_check_is_not_mistaken_about_a_policy_that_changes_meanwhile() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("shop", 208, json!({}));
    let names = ["web", "db"];
    let pods = names.map(|name| pod(&world, name, &conf));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // What holds for both of them changes with each document, and with each container that comes and goes.
        scope.spawn(|| {
            for n in (1..).take_while(|_| !done.load(Ordering::Relaxed)) {
                let from = json!([{ "podSelector": { "matchLabels": { "app": "coming" } } }]);
                let rule = json!([{ "from": from, "ports": [{ "port": 1000 + n % 7 }] }]);
                apply(
                    &world,
                    &network_policy("all", json!({ "podSelector": {}, "ingress": rule })),
                );
                if n % 3 == 0 {
                    told(&world, "policy delete NetworkPolicy shop/all", "");
                }
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let coming = pod(&world, "coming", &conf);
                world.call(Call::del("coming", &coming.netns).conf(&conf)).succeeded();
            }
        });
        let mut wrong = Vec::new();
        for _ in 0..150 {
            for (name, pod) in names.iter().zip(&pods) {
                let conf = with(&conf, json!({ "prevResult": pod.result }));
                let check = world.call(Call::check(name, &pod.netns).conf(&conf));
                if check.code != Some(0) {
                    wrong.push(check.stdout);
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(wrong, [""; 0], "{} CHECKs of 300", wrong.len());
    });
}
