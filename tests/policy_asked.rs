//! What an operator is told who gives much, or asks what is in force while nobody is there yet.

use quantum_config::wire::Control;
use serde_json::json;

use crate::policy_live::network_policy;
use crate::support::conf::{network, with};
use crate::support::ctl::{apply, quantumctl_with, told};
use crate::support::plugin::Call;
use crate::support::world::World;

/// A document, and so many bytes with it that the text is of this length.
fn of_length(length: usize) -> String {
    let mut text = network_policy("db", json!({ "podSelector": {}, "ingress": [] })).to_string();
    text.push_str(&"\n".repeat(length - text.len()));
    text
}

#[track_caller]
fn refused(world: &World, args: &str, stdin: &str, words: &[&str]) {
    let output = quantumctl_with(world, args, stdin);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args}: {said}");
    for word in words {
        assert!(said.contains(word), "{args}: {word}: {said}");
    }
}

#[test]
fn who_gives_more_than_goes_into_one_apply_is_told_how_much_does() {
    let world = world!();
    let _daemon = world.daemon();
    let room = Control::room("policy.apply");
    let (length, limit) = ((room + 1).to_string(), room.to_string());
    let text = of_length(room + 1);
    let words = ["standard input", length.as_str(), limit.as_str(), "policy_dir"];
    refused(&world, "policy apply -", &text, &words);
    let file = world.paths().root.join("much.yaml");
    std::fs::write(&file, &text).expect("written");
    let words = ["much.yaml", length.as_str(), limit.as_str(), "several"];
    refused(&world, &format!("policy apply {}", file.display()), "", &words);
    let length = Control::room("policy.simulate") + 9;
    let told_of = [length.to_string(), "fewer documents".to_owned()];
    let words = [told_of[0].as_str(), told_of[1].as_str()];
    refused(&world, "policy simulate -", &of_length(length), &words);
    told(&world, "policy apply -", &of_length(room));
}

/// The line of a table whose words these are.
#[track_caller]
fn has_line(text: &str, words: &str) {
    let same = |line: &str| line.split_whitespace().eq(words.split_whitespace());
    assert!(text.lines().any(same), "{words}:\n{text}");
}

#[test]
fn what_is_in_force_is_shown_before_anybody_comes_and_after_he_went() {
    let world = world!();
    let zero = json!({ "policy": { "posture": "zero-trust" } });
    let conf = with(&network("vault", "vault0", "10.231.0.0/24"), zero);
    std::fs::write(world.paths().config_dir.join("10-vault.conf"), conf.to_string())
        .expect("a file");
    let folder = world.paths().root.join("policy.d");
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = with(
        &network_policy("db", json!({ "podSelector": {}, "ingress": [] })),
        json!({ "metadata": { "annotations": { "policy.quantum/mode": "audit" } } }),
    );
    std::fs::write(folder.join("db.yaml"), file.to_string()).expect("a file");
    std::fs::write(folder.join("slip.yaml"), "kind: Namespac\n").expect("a file");
    let _daemon = world.daemon();
    apply(
        &world,
        &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } }),
    );
    apply(&world, &network_policy("web", json!({ "podSelector": {}, "ingress": [{}] })));
    let shows = || {
        let text = told(&world, "policy show", "");
        has_line(&text, "vault zero-trust");
        has_line(&text, "shop kubernetes.io/metadata.name=shop quantumctl");
        has_line(&text, "Network NetworkPolicy shop/db audit 0 policy.d/db.yaml");
        has_line(&text, "Network NetworkPolicy shop/web enforce 0 quantumctl");
        assert!(text.contains("problem: policy.d/slip.yaml: "), "{text}");
        text
    };
    shows();
    // A network that no file defines is known as soon as somebody was there, and when he has gone.
    let container = world.container();
    let passing = network("passing", "passing0", "10.232.0.0/24");
    world.call(Call::add("c1", &container).conf(&passing)).succeeded();
    has_line(&shows(), "passing isolated");
    world.call(Call::del("c1", &container).conf(&passing)).succeeded();
    has_line(&shows(), "passing isolated");
}
