//! Who may depend on whom: `config ← src ← actors`; plugin and load test stand alone.

use std::process::Command;

use serde_json::Value;

use crate::sources::root;

/// Each crate of the workspace and those it may use of the others.
const ALLOWED: &[(&str, &[&str])] = &[
    ("quantum-config", &[]),
    ("quantum-cni", &["quantum-config"]),
    ("quantum-cnid", &["quantum-config", "quantum-cni"]),
    ("quantum-cni-plugin", &["quantum-config"]),
    ("quantum-loadtest", &["quantum-config"]),
];

/// What runtimes exec for every call has none of these, nor anything that brings them.
const NOT_IN_THE_PLUGIN: &[&str] =
    &["actix", "hyper", "ipnetwork", "rusqlite", "slog", "structopt", "tokio", "toml", "yaml"];

fn cargo(args: &str) -> String {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(cargo)
        .args(args.split_whitespace())
        .current_dir(root())
        .output()
        .expect("cargo");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {args}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn packages() -> Vec<Value> {
    let text = cargo("metadata --format-version 1 --no-deps --offline");
    let metadata: Value = serde_json::from_str(&text).expect("JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

/// The packages that `package` brings into its binary, itself among them.
fn tree(package: &str) -> Vec<String> {
    let text = cargo(&format!("tree --offline --package {package} --edges normal --prefix none"));
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn crates_use_only_those_below_them() {
    let packages = packages();
    let mut seen = 0;
    for package in &packages {
        let name = package["name"].as_str().expect("a name");
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(n, _)| *n == name)
            .unwrap_or_else(|| panic!("{name} is new here: say what it may use"));
        for dependency in package["dependencies"].as_array().expect("a list") {
            let used = dependency["name"].as_str().expect("a name");
            let ours = ALLOWED.iter().any(|(n, _)| *n == used);
            assert!(!ours || allowed.contains(&used), "{name} must not use {used}");
            seen += usize::from(ours);
        }
    }
    assert_eq!(packages.len(), ALLOWED.len(), "every crate of the table is there");
    assert!(seen >= 4, "the crates do use each other: {seen}");
}

#[test]
fn the_plugin_is_small() {
    let tree = tree("quantum-cni-plugin");
    assert!(tree.iter().any(|n| n == "quantum-config"), "{tree:?}");
    for name in &tree {
        let bad = NOT_IN_THE_PLUGIN.iter().find(|bad| name.contains(*bad));
        assert!(bad.is_none(), "the plugin must not bring {name}");
    }
}

#[test]
fn the_library_knows_no_actor() {
    let tree = tree("quantum-cni");
    assert!(tree.iter().any(|n| n == "rusqlite"), "{tree:?}");
    assert!(!tree.iter().any(|n| n.starts_with("actix")), "{tree:?}");
}

#[test]
fn the_shapes_do_no_input_and_output() {
    let tree = tree("quantum-config");
    for name in ["tokio", "nix", "rusqlite", "netlink-sys", "slog"] {
        assert!(!tree.iter().any(|n| n == name), "config must not bring {name}");
    }
}
