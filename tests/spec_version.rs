//! VERSION, and the plugin run by hand: neither needs the daemon, a configuration or a namespace.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use crate::support::plugin::{Call, Outcome, feed};

pub(crate) const VERSIONS: [&str; 7] =
    ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

#[test]
fn version_lists_seven_versions_without_a_daemon() {
    let world = world!();
    let call = Call::new("VERSION").stdin(r#"{"cniVersion":"0.4.0"}"#);
    // As libcni does it.
    let call = call.var("CNI_NETNS", "dummy").var("CNI_IFNAME", "dummy").var("CNI_PATH", "dummy");
    let document = world.call(call).succeeded();
    assert!(document["cniVersion"].is_string(), "{document}");
    let mut listed: Vec<&str> = document["supportedVersions"]
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(|v| v.as_str())
        .collect();
    listed.sort_unstable();
    assert_eq!(listed, VERSIONS);
}

#[test]
fn version_needs_no_variable_but_its_command() {
    let world = world!();
    let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"];
    let call = names.iter().fold(Call::new("VERSION"), |call, name| call.without(name));
    assert_eq!(world.call(call).succeeded()["supportedVersions"], json!(VERSIONS));
}

#[test]
fn version_does_not_read_standard_input() {
    let world = world!();
    let call = Call::new("VERSION");
    let mut command = world.plugin_command(&world.host);
    call.dress(&mut command);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the plugin");
    // Kept open and never written to: a plugin that waits for the end of its input hangs here.
    let stdin = child.stdin.take();
    let (done, waiting) = std::sync::mpsc::channel();
    let id = i32::try_from(child.id()).expect("a pid");
    std::thread::spawn(move || done.send(child.wait_with_output()));
    let output = waiting.recv_timeout(Duration::from_secs(5)).unwrap_or_else(|_| {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(id),
            nix::sys::signal::Signal::SIGKILL,
        );
        panic!("VERSION waits for its input")
    });
    Outcome::new("VERSION", &output.expect("its output"), Duration::ZERO).succeeded();
    feed(stdin, b"");
}

#[test]
fn without_a_command_it_says_what_it_is() {
    let world = world!();
    for call in [Call::new("").without("CNI_COMMAND"), Call::new("")] {
        let outcome = world.call(call);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""), "{outcome:?}");
        let lines: Vec<&str> = outcome.stderr.lines().collect();
        assert!(lines[0].starts_with("CNI ") && lines[0].contains(" plugin v"), "{outcome:?}");
        let listed = lines.get(1).and_then(|l| l.strip_prefix("CNI protocol versions supported: "));
        assert_eq!(listed, Some(VERSIONS.join(", ").as_str()), "{outcome:?}");
    }
}
