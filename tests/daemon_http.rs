//! Metrics and health over HTTP.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::support::conf::{example, with};
use crate::support::daemon::{Daemon, HTTP, Options};
use crate::support::eventually::{BOUND, eventually};
use crate::support::plugin::Call;
use crate::support::skip;

/// The sum of a metric's samples that have all of `labels` (as `="ADD"`) in them.
pub(crate) fn sample(text: &str, name: &str, labels: &[&str]) -> f64 {
    let lines = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    lines.map(|line| line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).expect(line)).sum()
}

#[test]
fn the_module_documents_five_metrics_count() {
    let world = world!();
    let daemon = world.daemon();
    let (first, second) = (world.container(), world.container());
    let result = world.call(Call::add("c1", &first).conf(&example())).succeeded();
    world.call(Call::add("c2", &second).conf(&example())).succeeded();
    world.call(Call::add("c1", &first).conf(&example())).failed_with(101);
    let check = with(&example(), json!({ "prevResult": result }));
    for _ in 0..3 {
        world.call(Call::check("c1", &first).conf(&check)).succeeded();
    }
    world.call(Call::del("c1", &first).conf(&example())).succeeded();

    let (status, text) = daemon.get("/metrics");
    assert_eq!(status, 200);
    for (verb, operations, errors) in [("ADD", 3.0, 1.0), ("CHECK", 3.0, 0.0), ("DEL", 1.0, 0.0)] {
        let label = format!("=\"{verb}\"");
        let of = |name| sample(&text, name, &[&label]);
        assert_eq!(of("cni_operations_total"), operations, "{verb}\n{text}");
        assert_eq!(of("cni_operation_errors_total"), errors, "{verb}\n{text}");
        assert_eq!(of("cni_operation_duration_seconds_count"), operations, "{verb}\n{text}");
        let seconds = of("cni_operation_duration_seconds_sum");
        assert!(seconds > 0.0 && seconds < 60.0, "{verb}: {seconds}");
        let all = sample(&text, "cni_operation_duration_seconds_bucket", &[&label, "le=\"+Inf\""]);
        assert_eq!(all, operations, "{verb}\n{text}");
    }
    assert!(sample(&text, "cni_cache_hits_total", &[]) >= 3.0, "every CHECK is a hit\n{text}");
    for (name, kind) in [
        ("cni_operations_total", "counter"),
        ("cni_operation_errors_total", "counter"),
        ("cni_operation_duration_seconds", "histogram"),
        ("cni_cache_hits_total", "counter"),
        ("cni_cache_misses_total", "counter"),
    ] {
        assert!(text.contains(&format!("# TYPE {name} {kind}")), "{name}\n{text}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}\n{text}");
    }
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        assert!(line.starts_with("cni_"), "{line}");
    }
}

#[test]
fn the_five_names_are_there_from_the_start() {
    let world = world!();
    let daemon = Daemon::start(&world.host, world.paths(), Options::default());
    // Not by asking for the STATUS, which would be counted.
    eventually("the daemon to be ready", || {
        daemon.try_get("/readyz").filter(|(status, _)| *status == 200)
    });
    let (_, text) = daemon.get("/metrics");
    for name in [
        "cni_operations_total",
        "cni_operation_errors_total",
        "cni_operation_duration_seconds",
        "cni_cache_hits_total",
        "cni_cache_misses_total",
    ] {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}\n{text}");
    }
    assert!(text.contains("cni_operations_total{command=\"ADD\"} 0"), "{text}");
}

#[test]
fn a_small_cache_misses_and_still_answers() {
    let world = world!();
    let daemon = world.daemon_with(Options::default().args("--cache-size 1"));
    let containers: Vec<_> = (0..3).map(|_| world.container()).collect();
    let results: Vec<Value> = (0..3)
        .map(|n| {
            let add = Call::add(&format!("c{n}"), &containers[n]);
            world.call(add.conf(&example())).succeeded()
        })
        .collect();
    for n in 0..3 {
        let conf = with(&example(), json!({ "prevResult": results[n] }));
        world.call(Call::check(&format!("c{n}"), &containers[n]).conf(&conf)).succeeded();
    }
    let (_, text) = daemon.get("/metrics");
    assert!(sample(&text, "cni_cache_misses_total", &[]) >= 2.0, "{text}");
}

#[test]
fn health_and_readiness() {
    let world = world!();
    let daemon = world.daemon();
    assert_eq!(daemon.get("/healthz").0, 200);
    let (status, body) = daemon.get("/readyz");
    assert_eq!(status, 200, "{body}");
    let ready: Value = serde_json::from_str(&body).expect("JSON");
    assert!(ready.is_object(), "{ready}");
    assert_eq!(daemon.get("/nothing-here").0, 404);
}

#[test]
fn connections_that_say_nothing_keep_nobody_from_looking() {
    // Two seconds for each 512 of them would be more than any test waits.
    const COUNT: u64 = 4000;
    let world = world!();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit");
    if hard < COUNT + 1000 {
        return skip("needs more descriptors than this process may have");
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(COUNT + 1000), hard).expect("set");
    let daemon = world.daemon();
    let silent: Vec<TcpStream> = world.host.run(|| {
        let (address, until) = (HTTP.parse().expect("an address"), Instant::now() + BOUND);
        let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let connect = |_| TcpStream::connect_timeout(&address, left()).expect("connected");
        (0..COUNT).map(connect).collect()
    });
    assert_eq!(daemon.get("/healthz").0, 200);
    let closed = |stream: &TcpStream| {
        stream.set_nonblocking(true).expect("set");
        let read = (&mut &*stream).read(&mut [0]);
        !matches!(read, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
    };
    assert!(closed(&silent[0]), "the oldest gave way");
    // In the end, all are hung up on.
    eventually("all to be closed", || silent.iter().all(closed).then_some(()));
}
