//! `quantumctl` as an operator calls it.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::binaries;
use super::plugin::feed;
use super::world::World;

/// `quantumctl` with something on its standard input.
pub(crate) fn quantumctl_with(world: &World, args: &str, stdin: &str) -> Output {
    let mut command = Command::new(binaries::quantumctl());
    command.args(args.split_whitespace());
    command.env(quantum_config::wire::SOCKET_VARIABLE, &world.paths().socket);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("quantumctl");
    feed(child.stdin.take(), stdin.as_bytes());
    child.wait_with_output().expect("quantumctl")
}

/// The same, which must succeed; what it printed.
#[track_caller]
pub(crate) fn told(world: &World, args: &str, stdin: &str) -> String {
    let output = quantumctl_with(world, args, stdin);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}

/// Has documents hold; they do when this returns.
#[track_caller]
pub(crate) fn apply(world: &World, documents: &Value) {
    told(world, "policy apply -", &documents.to_string());
}
