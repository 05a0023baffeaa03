//! What may stand where.

use crate::sources::{Source, below, everywhere, has_word};

/// The modules of the library that decide and touch nothing.
const PURE: &[&str] = &[
    "src/access.rs",
    "src/attach",
    "src/docker",
    "src/ipam",
    "src/policy",
    "src/printable.rs",
    "src/publish",
    "src/errors.rs",
];

/// What touches files, sockets, clocks, threads, processes or the environment.
const TOUCHES: &[&str] = &[
    "std::fs",
    "std::io",
    "std::os",
    "std::process",
    "std::env",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "Instant",
    "SystemTime",
    "Mutex",
    "nix",
    "rusqlite",
    "rtnetlink",
    "netlink_sys",
    "tokio",
];

/// Where an actor stops on purpose: Policy, at its start and while an operator's change is made, for until
/// that holds nobody can be judged (docs/actors.md).
const WAITS: &[(&str, &str)] = &[
    ("actors/src/policy/change.rs", "changing.wait(ctx);"),
    ("actors/src/policy/change.rs", "reread.wait(ctx);"),
    ("actors/src/policy/mod.rs", "begin.wait(ctx);"),
];

/// The longest a source file may be, in lines.
const LONGEST: usize = 400;

/// Every line of the files' code, tests left out, that holds one of `words`.
fn offences(files: &[Source], words: &[&str]) -> Vec<String> {
    let of = |file: &Source| {
        let code = file.code();
        let found = words.iter().flat_map(|word| file.lines_with(&code, word));
        found.collect::<Vec<_>>()
    };
    files.iter().flat_map(of).collect()
}

#[track_caller]
fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn pure_modules_touch_nothing() {
    let is_pure = |file: &Source| PURE.iter().any(|pure| file.path.starts_with(pure));
    let mut pure = below(&["src"]);
    pure.retain(is_pure);
    for place in PURE {
        assert!(pure.iter().any(|f| f.path.starts_with(place)), "there is nothing at {place}");
    }
    assert_none(&offences(&pure, TOUCHES), "a pure module touches the world");
}

#[test]
fn only_the_kernels_hands_are_unsafe() {
    let mut files = everywhere();
    // Tests enter namespaces between fork and exec, and before main.
    files.retain(|f| !f.path.starts_with("src/kernel/") && !f.path.starts_with("tests/"));
    let of = |file: &Source| file.lines_with(&file.all_code(), "unsafe");
    let found: Vec<String> = files.iter().flat_map(of).collect();
    assert_none(&found, "`unsafe` outside src/kernel");
}

#[test]
fn every_unsafe_block_has_its_reason() {
    let mut found = Vec::new();
    for file in everywhere() {
        let lines: Vec<&str> = file.text.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let opens = has_word(code, "unsafe") && code.contains('{') && !code.contains('"');
            if opens && !lines[n.saturating_sub(6)..n].iter().any(|l| l.contains("SAFETY:")) {
                found.push(format!("{}:{}: {}", file.path, n + 1, line.trim()));
            }
        }
    }
    assert_none(&found, "`unsafe` without a SAFETY comment before it");
}

#[test]
fn the_library_has_no_actors() {
    let words = ["actix", "actix_rt", "Recipient", "Handler"];
    assert_none(&offences(&below(&["src"]), &words), "actors in the library");
}

#[test]
fn the_daemon_leaves_kernel_and_store_to_the_library() {
    let words = [
        "rusqlite",
        "rtnetlink",
        "netlink_sys",
        "netlink_packet_route",
        "netlink_packet_core",
        "netlink_packet_netfilter",
        "nix",
        "setns",
        "SELECT",
        "INSERT",
    ];
    assert_none(&offences(&below(&["actors"]), &words), "netlink, nft or SQL in the daemon");
    let nft = below(&["actors"]).into_iter().flat_map(|file| {
        let code = file.code();
        let lines = code.lines().map(str::to_owned).collect::<Vec<_>>();
        let calls =
            lines.into_iter().filter(|l| l.contains("\"nft\"") || l.contains("add element"));
        calls.map(move |l| format!("{}: {}", file.path, l.trim())).collect::<Vec<_>>()
    });
    assert_none(&nft.collect::<Vec<_>>(), "nft in the daemon");
}

#[test]
fn no_handler_blocks_the_request_path() {
    let words = ["AtomicResponse", "SyncArbiter", "block_on"];
    let mut files = below(&["actors"]);
    files.retain(|f| f.path != "actors/src/main.rs");
    assert_none(&offences(&files, &words), "something that holds up an actor's mailbox");
    let waits: Vec<(String, String)> = files.iter().flat_map(waits).collect();
    let waits: Vec<(&str, &str)> = waits.iter().map(|(p, l)| (p.as_str(), l.as_str())).collect();
    assert_eq!(waits, WAITS, "who stops listening while it works, and who may");
}

/// Where an actor stops until something is done, with the path of the file: `ctx.wait(work)`, or
/// `work.wait(ctx)`, but not the `wait()` of a child or a thread.
fn waits(file: &Source) -> Vec<(String, String)> {
    let code = file.code();
    let stops = |line: &&str| {
        line.match_indices(".wait(").any(|(at, call)| !line[at + call.len()..].starts_with(')'))
    };
    let found = code.lines().filter(stops);
    found.map(|line| (file.path.clone(), line.trim().to_owned())).collect()
}

#[test]
fn no_file_is_too_long() {
    let long = everywhere().into_iter().filter_map(|file| {
        let lines = file.text.lines().count();
        (lines > LONGEST).then(|| format!("{}: {lines} lines", file.path))
    });
    assert_none(&long.collect::<Vec<_>>(), "a file is longer than 400 lines");
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let mut without = everywhere();
    without.retain(|file| !file.text.starts_with("//!"));
    let without: Vec<String> = without.into_iter().map(|f| f.path).collect();
    assert_none(&without, "a file does not begin with `//!`");
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["TODO", "FIXME", "XXX"];
    let of = |file: &Source| {
        // This file names them.
        let skip = file.path == "tests/tidy/places.rs";
        let lines =
            file.text.lines().enumerate().filter(|(_, l)| marks.iter().any(|m| has_word(l, m)));
        let found = lines.map(|(n, l)| format!("{}:{}: {}", file.path, n + 1, l.trim()));
        if skip { Vec::new() } else { found.collect::<Vec<_>>() }
    };
    let found: Vec<String> = everywhere().iter().flat_map(of).collect();
    assert_none(&found, "something was left for later");
}
