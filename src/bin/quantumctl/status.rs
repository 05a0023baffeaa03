//! `quantumctl status`: the daemon's board, for people or as JSON. Exits with 1 if ADDs are not
//! served.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::Value;
use structopt::StructOpt;

use crate::ask::{AskError, ask, read};

#[derive(Debug, StructOpt)]
pub(crate) struct Options {
    /// text or json
    #[structopt(short, long, default_value = "text", possible_values = &["text", "json"])]
    output: String,
}

/// The text to print and how to end.
pub(crate) fn run(options: &Options) -> Result<(String, ExitCode), AskError> {
    let answer = ask("status")?;
    let board: Value = read(&answer)?;
    let is_well = |reasons: &Value| list(reasons).is_empty();
    let healthy = board["phase"] == "open"
        && ["stuck", "failing", "unmet", "degraded", "limited"]
            .iter()
            .all(|key| is_well(&board[*key]));
    let text = if options.output == "json" { answer } else { table(&board) };
    Ok((text, if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn table(board: &Value) -> String {
    let mut text = format!("quantum-cnid is {}\n", word(&board["phase"]));
    for (address, count) in board["crowded"].as_object().into_iter().flatten() {
        let _ = writeln!(
            text,
            "crowded: {address} holds {count} connections and begins no new ones (container_connections)"
        );
    }
    let kinds =
        ["stuck", "failing", "unmet", "degraded", "limited", "missing"].map(|key| (key, key));
    for (key, shown) in kinds.into_iter().chain([("warnings", "warning")]) {
        for reason in list(&board[key]) {
            let _ = writeln!(text, "{shown}: {}", word(reason));
        }
    }
    for problem in list(&board["problems"]).iter().chain(list(&board["policy_problems"])) {
        let _ =
            writeln!(text, "bad file: {}: {}", word(&problem["file"]), word(&problem["reason"]));
    }
    let Some(networks) = board["networks"].as_object().filter(|n| !n.is_empty()) else {
        text.push_str("no network is in use\n");
        return text;
    };
    let _ = writeln!(text, "\n{:<24} {:<16} {:>8} {:>12}", "NETWORK", "BRIDGE", "HELD", "FREE");
    for (name, network) in networks {
        let bridge = word(&network["bridge"]);
        let _ = writeln!(
            text,
            "{name:<24} {bridge:<16} {:>8} {:>12}",
            word(&network["held"]),
            word(&network["free"])
        );
        if let Some(why) = network["failed"]["why"].as_str() {
            let _ = writeln!(text, "  failed: {why}");
        }
        if let Some(subnets) = network["exhausted"].as_str() {
            let _ = writeln!(text, "  no address is left in {subnets}");
        }
    }
    text
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_board_reads_well() {
        let board = json!({
            "phase": "open",
            "stuck": ["store: one job for 12 s, and 3 wait"],
            "unmet": ["no CAP_SYS_ADMIN"],
            "degraded": [],
            "limited": ["a chain drops"],
            "crowded": {"10.1.0.2": 20000},
            "missing": ["br_netfilter"],
            "warnings": ["few files"],
            "problems": [{"file": "/etc/x.conf", "reason": "is not valid JSON"}],
            "policy_problems": [{"file": "policy.d/p.yaml", "reason": "is empty"}],
            "networks": {"n": {"bridge": "br0", "held": 2, "free": 3, "exhausted": null, "failed": null}},
        });
        let text = table(&board);
        assert!(
            text.starts_with("quantum-cnid is open\ncrowded: 10.1.0.2 holds 20000 connections and begins no new ones (container_connections)\nstuck: store: one job for 12 s, and 3 wait\nunmet: no CAP_SYS_ADMIN\nlimited: a chain drops\nmissing: br_netfilter\nwarning: few files\nbad file: /etc/x.conf: is not valid JSON\nbad file: policy.d/p.yaml: is empty\n")
        );
        let row = text.lines().last().expect("a row");
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["n", "br0", "2", "3"]);
    }
}
