//! The log: JSON records with exactly the field names of the module document.

use quantum_config::wire;
use serde_json::Value;

use crate::spec_add::address;
use crate::support::conf::example;
use crate::support::ctl::{quantumctl_with, told};
use crate::support::daemon::Options;
use crate::support::eventually::eventually;
use crate::support::plugin::Call;
use crate::support::wire::Client;

/// The record of a finished operation.
fn find(log: &[Value], command: &str, failed: bool) -> Option<Value> {
    let of = |record: &&Value| {
        record["container_id"] == "c1"
            && record["command"] == command
            && record.get("error").is_some_and(|e| e.as_str() != Some("")) == failed
    };
    log.iter().rev().find(of).cloned()
}

#[test]
fn each_operation_has_its_record() {
    let world = world!();
    let daemon = world.daemon_with(Options::default().args("--log-level info"));
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&example())).succeeded();
    world.call(Call::add("c1", &container).conf(&example())).failed_with(101);
    world.call(Call::del("c1", &container).conf(&example())).succeeded();
    for (command, failed) in [("ADD", false), ("ADD", true), ("DEL", false)] {
        // The log is written by a thread of its own, after the answer.
        let record = eventually("the operation's record", || find(&daemon.log(), command, failed));
        assert_eq!(record["network_name"], "quantum-bridge", "{record}");
        assert_eq!(record["interface"], "eth0", "{record}");
        if command == "ADD" && !failed {
            let logged = record["ip_address"].as_str().unwrap_or_default();
            assert!(logged.starts_with(&address(&result)), "{record}");
        }
        if failed {
            let error = record["error"].as_str().expect("a text");
            assert!(!error.is_empty(), "{record}");
        }
        for key in ["msg", "level", "ts"] {
            assert!(record.get(key).is_some(), "every record has {key}: {record}");
        }
    }
}

#[test]
fn every_line_is_one_record_whatever_comes() {
    let world = world!();
    let daemon = world.daemon();
    let container = world.container();
    let odd = r#"{"cniVersion":"1.0.0","name":"a\nb\u0000\"}","type":"quantum-cni"}"#;
    world.call(Call::add("c1", &container).stdin(odd)).failed_with(7);
    world.call(Call::add("c1", &container).stdin(b"\xff\x00\n".as_slice())).failed_with(6);
    let args =
        Call::add("c1", &container).conf(&example()).var("CNI_ARGS", "K=\n{\"level\":\"x\"}");
    world.call(args).succeeded();
    assert!(daemon.terminate().success());
    // `log` fails on a line that is no record.
    let log = crate::support::daemon::log(world.paths());
    assert!(log.len() > 3, "{log:?}");
}

#[test]
fn for_people_it_is_text() {
    let world = world!();
    let daemon = world.daemon_with(Options::default().args("--log-format terminal"));
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
    eventually("the operation's line", || {
        let text = std::fs::read_to_string(&world.paths().log).expect("the log");
        let line = text.lines().find(|l| l.contains("container_id") && l.contains("c1"))?;
        assert!(!line.starts_with('{'), "{line}");
        Some(())
    });
    drop(daemon);
}

/// What a terminal would do something with, and what ends a line, in the middle of a text.
const ODD: &str = "a\nFORGED\r\u{1b}[31m\0\u{7f}\u{9b}\u{85}\u{2028}\u{2029}\u{202e}\u{2066}b";

/// Asserts that a text has lines, and nothing but lines, and gives them.
#[track_caller]
fn only_lines(text: &str) -> Vec<&str> {
    let odd: Vec<char> = ODD.chars().filter(|c| !c.is_ascii_graphic() && *c != '\n').collect();
    assert!(!text.contains(&odd[..]), "{text:?}");
    text.lines().collect()
}

#[test]
fn what_others_chose_is_escaped_for_people() {
    let world = world!();
    let daemon =
        world.daemon_with(Options::default().args("--log-format terminal --log-level debug"));
    let odd = || ODD.to_owned();
    let conf = serde_json::json!({ "cniVersion": "1.0.0", "name": ODD, "type": "quantum-cni" });
    let call = |change: &dyn Fn(&mut wire::Call)| {
        let mut call = wire::Call { stdin: conf.to_string().into(), ..wire::Call::default() };
        call.env.command = "ADD".into();
        change(&mut call);
        let mut client = Client::connect(&world.paths().socket).expect("connected");
        client.send(&call.encode().expect("a frame")).expect("sent");
        assert_eq!(client.reply().exit, 1);
    };
    call(&|call| call.env.container = odd());
    call(&|call| call.env.ifname = odd());
    call(&|call| call.env.command = odd());
    call(&|call| call.request_id = odd());
    call(&|call| call.traceparent = odd());
    call(&|call| call.env.netns = odd());
    assert!(daemon.terminate().success());
    let text = std::fs::read(&world.paths().log).expect("the log");
    let text = String::from_utf8(text).expect("UTF-8");
    let lines = only_lines(&text);
    assert!(text.matches("FORGED").count() >= 12, "each is logged: {text}");
    for line in lines {
        assert!(!line.starts_with("FORGED"), "{line}");
    }
}

#[test]
fn names_that_others_chose_are_escaped_by_quantumctl() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    // The kernel takes it, and so do we.
    let add =
        Call::add("c1", &container).conf(&example()).var("CNI_IFNAME", "e\u{1b}\u{7f}\u{202e}");
    world.call(add).succeeded();
    let shown = told(&world, "policy show", "");
    only_lines(&shown);
    assert!(shown.contains(r"e\u{1b}\u{7f}\u{202e}"), "{shown}");
    let json = told(&world, "policy show --json", "");
    assert!(json.contains("\u{202e}"), "JSON is as it is: {json}");
    // In an error, too.
    let error = quantumctl_with(&world, "policy explain x\u{1b}y\u{202e} host 80", "");
    let error = String::from_utf8(error.stderr).expect("UTF-8");
    only_lines(&error);
    assert!(error.contains("quantumctl: "), "{error}");
}
