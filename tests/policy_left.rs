//! What policy has of an endpoint that has left, or never came: it goes, though it could not at once.

use std::time::Duration;

use serde_json::json;

use crate::network_isolation::dual;
use crate::policy_live::{network_policy, pod};
use crate::support::ctl::{apply, told};
use crate::support::daemon::Options;
use crate::support::eventually::{eventually, eventually_within};
use crate::support::inventory::nft_elements;
use crate::support::plugin::Call;
use crate::support::world::World;

/// Chains are looked for that nobody needs every ten seconds.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// A NetworkPolicy for one kind of container.
fn denied(app: &str) -> serde_json::Value {
    network_policy(app, json!({ "podSelector": { "matchLabels": { "app": app } }, "ingress": [] }))
}

#[test]
fn elements_that_could_not_be_removed_are_by_the_same_daemon() {
    let world = world!();
    let first = world.daemon();
    let conf = dual("stuck", 211, json!({}));
    let (web, db) = (pod(&world, "web", &conf), pod(&world, "db", &conf));
    apply(&world, &denied("db"));
    first.kill();
    // What is there is found to be right, so that the first change is that of the DEL.
    let daemon = world.daemon_with(Options::default().var("QUANTUM_FAIL_AT", "governing"));
    let judged = nft_elements(&world.host);
    assert!(judged.iter().any(|e| e.contains(&db.addresses[0])), "{judged:#?}");
    world.call(Call::del("db", &db.netns).conf(&conf)).succeeded();
    eventually("the elements of who left to be gone", || {
        let now = nft_elements(&world.host);
        (!now.iter().any(|e| db.addresses.iter().any(|a| e.contains(a.as_str())))).then_some(())
    });
    let said = "what policy has in the rules could not be written, and is tried again";
    let times = daemon.log().iter().filter(|record| record["msg"] == said).count();
    assert_eq!(times, 1, "it failed, once");
    world.call(Call::del("web", &web.netns).conf(&conf)).succeeded();
}

#[test]
fn of_an_add_that_fails_in_the_middle_nothing_is_left() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("gone", 214, json!({}));
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    // The bridge is missing when the link is made, and cannot be made again.
    world.host.ip("link delete gone0");
    world.host.ip("link add gone0 type veth peer name gone1");
    let said = world.call(Call::add("c1", &container).conf(&conf)).failed();
    let shown = told(&world, "policy show --json", "");
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["endpoints"], json!([]), "{said:?}");
}

#[test]
fn labels_that_could_not_be_forgotten_are_by_the_same_daemon() {
    let world = world!();
    let daemon = world.daemon();
    let conf = dual("kept", 212, json!({}));
    let db = pod(&world, "db", &conf);
    told(&world, "policy label shop/db tier=inner", "");
    let saved = world.paths().state_dir.join("policy.json");
    let text = || std::fs::read_to_string(&saved).unwrap_or_default();
    assert!(text().contains("inner"), "{}", text());
    // No file can be put in the place of a directory.
    std::fs::remove_file(&saved).expect("removed");
    std::fs::create_dir(&saved).expect("made");
    world.call(Call::del("db", &db.netns).conf(&conf)).succeeded();
    eventually("it to fail", || {
        let failed = |record: &serde_json::Value| {
            record["msg"].as_str().is_some_and(|m| m.starts_with("labels of an endpoint that is"))
        };
        daemon.log().iter().any(failed).then_some(())
    });
    std::fs::remove_dir(&saved).expect("removed");
    eventually("it to be saved", || (!text().is_empty()).then_some(()));
    assert!(!text().contains("inner"), "{}", text());
}

#[test]
fn chains_of_a_kind_that_has_left_go_after_a_while() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("kinds", 213, json!({}));
    let _stays = pod(&world, "web", &conf);
    apply(&world, &denied("db"));
    apply(&world, &denied("web"));
    let rules = |world: &World| world.host.output("nft", "list table inet quantum");
    let before = rules(&world);
    assert!(before.contains("shop/web") && !before.contains("shop/db"), "{before}");
    let db = pod(&world, "db", &conf);
    assert!(rules(&world).contains("shop/db"), "judged from the beginning");
    world.call(Call::del("db", &db.netns).conf(&conf)).succeeded();
    eventually_within(FORGOTTEN, "its chain to be gone", || {
        (!rules(&world).contains("shop/db")).then_some(())
    });
    assert!(rules(&world).contains("shop/web"), "who stays is judged");
}
