//! Upgrades: the daemon is stopped and another one started, again and again, while containers come and go. Nobody
//! is to fail by it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::driver::{Subject, Verb};
use crate::failure::{Failure, Result};
use crate::report::{Asked, Figure, Report, Unit};
use crate::world::{Container, WorkDir, as_handed_over, visiting};

/// So many calls may fail, of all in twenty restarts.
const FAILED: Asked = Asked::AtMost(2.0);
/// So many containers come and go at the same time.
const AT_ONCE: usize = 16;
/// So many calls are made between two restarts, at least.
const BETWEEN: usize = 150;
/// They take no longer than this.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(5);

/// What the workers share.
#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    calls: AtomicUsize,
}

/// Replaces the daemon so many times; gives the last one, and how many calls failed.
pub(super) fn measure(
    mut daemon: Daemon,
    times: usize,
    binary: &Path,
    work: &WorkDir,
    subject: &Subject,
    containers: &[Container],
    report: &mut Report,
) -> Result<(Daemon, Figure)> {
    eprintln!("{}: the daemon is replaced {times} times", subject.name);
    let containers = containers.get(..AT_ONCE.min(containers.len())).unwrap_or_default();
    let shared = &Shared::default();
    let (failed, replaced) = scope(|scope| {
        let worker = |container| scope.spawn(move || comes_and_goes(subject, container, shared));
        let workers: Vec<_> = containers.iter().map(worker).collect();
        let replaced = (0..times).try_fold(daemon, |daemon, _| {
            wait(shared)?;
            daemon.stop()?;
            Daemon::start(binary, work)
        });
        shared.is_over.store(true, Ordering::Relaxed);
        let failed = workers.into_iter().flat_map(|worker| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        (failed.collect::<Vec<String>>(), replaced)
    });
    daemon = replaced?;
    if let Some(first) = containers.first() {
        daemon.wait_until_ready(subject, first)?;
    }
    // Those that failed were given up by their runtime.
    for container in containers {
        if let Err(why) = subject.call(Verb::Del, container, None).outcome {
            report.wrong.push(format!("{}: the last DEL: {why}", subject.name));
        }
    }
    visiting(|visitor| as_handed_over(visitor, containers))?;
    report.notes.extend(failed.first().map(|why| format!("while the daemon was replaced: {why}")));
    let calls = shared.calls.load(Ordering::Relaxed);
    let name = format!("failed calls, of {calls}, while the daemon was replaced {times} times");
    Ok((daemon, Figure::new(name, Unit::Calls, FAILED, Ok(failed.len() as f64))))
}

/// Attaches and detaches a container until it is over; gives what failed.
fn comes_and_goes(subject: &Subject, container: &Container, shared: &Shared) -> Vec<String> {
    let mut failed = Vec::new();
    while !shared.is_over.load(Ordering::Relaxed) {
        let added = subject.call(Verb::Add, container, None).outcome;
        let deleted = subject.call(Verb::Del, container, added.as_ref().ok()).outcome;
        shared.calls.fetch_add(2, Ordering::Relaxed);
        failed.extend(added.err().into_iter().chain(deleted.err()));
    }
    failed
}

/// Until there were calls again.
fn wait(shared: &Shared) -> Result<()> {
    let enough = shared.calls.load(Ordering::Relaxed) + BETWEEN;
    let deadline = Instant::now() + PATIENCE;
    while shared.calls.load(Ordering::Relaxed) < enough {
        if Instant::now() > deadline {
            return Err(Failure::new(
                "replacing the daemon",
                format!("fewer than {BETWEEN} calls came to an end in {PATIENCE:?}"),
            ));
        }
        sleep(POLL);
    }
    Ok(())
}
