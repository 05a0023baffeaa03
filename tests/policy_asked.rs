//! What an operator is told who gives much, or asks what is in force while nobody is there yet.

use quantum_config::wire::Control;
use serde_json::json;

use crate::policy_live::network_policy;
use crate::support::ctl::{quantumctl_with, told};
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
