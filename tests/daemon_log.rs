//! The log: JSON records with exactly the field names of the module document.

use serde_json::Value;

use crate::spec_add::address;
use crate::support::conf::example;
use crate::support::daemon::Options;
use crate::support::eventually::eventually;
use crate::support::plugin::Call;

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
