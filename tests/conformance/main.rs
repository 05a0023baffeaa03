//! The conformance suite: the cases of `cases/*.json`, which know no language and no implementation,
//! against the plugin of this build; and, where `QUANTUM_CONFORMANCE_PEERS` names the folder of the
//! reference plugins, against those as well. `docs/conformance.md` has the form of a case, and every
//! case that the reference plugins are known to see otherwise.
//!
//! Arguments are parts of names: only cases that have one of them are run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panic")]
#![allow(unsafe_code, reason = "entering namespaces between fork and exec, and before main")]

mod cases;
mod differences;
mod pattern;
mod report;
mod site;
mod steps;
#[allow(dead_code, unused_macros, reason = "the harness serves the black-box tests, too")]
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cases::Run;
use steps::Stop;
use support::world::World;

/// Names the folder of the reference plugins, where they are to be run, too.
const PEERS: &str = "QUANTUM_CONFORMANCE_PEERS";
/// Names the folder in the process that runs them; the harness goes by it.
const REFERENCE: &str = "QUANTUM_TEST_REFERENCE";
/// How many cases run side by side.
const WORKERS: usize = 3;

/// What came of each run, and why it failed; a run that could not be made is not there.
type Outcomes = BTreeMap<String, Result<(), String>>;

fn main() -> ExitCode {
    pattern::is_sound();
    let mut runs = cases::load();
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    runs.retain(|run| words.is_empty() || words.iter().any(|word| run.title().contains(word)));
    let as_peers = std::env::var_os(REFERENCE).is_some();
    let peers = std::env::var_os(PEERS).filter(|_| !as_peers);
    if let Err(reason) = World::new() {
        support::skip(&reason);
        return ExitCode::SUCCESS;
    }
    // Of a failed case its reason is shown, in the table.
    std::panic::set_hook(Box::new(|_| ()));
    // What waits for a feature is run where there is something to compare with.
    let everything = as_peers || peers.is_some();
    let outcomes = run_all(&runs, everything);
    if as_peers {
        println!("{}", report::to_json(&outcomes));
        return ExitCode::SUCCESS;
    }
    let theirs = peers.and_then(|folder| ask_peers(Path::new(&folder), &words));
    let known = differences::load(&runs, words.is_empty());
    report::print(&runs, &outcomes, theirs.as_ref(), &known)
}

/// The same program once more, with the reference plugins under test.
fn ask_peers(folder: &Path, words: &[String]) -> Option<Outcomes> {
    for plugin in ["bridge", "host-local", "static"] {
        if !folder.join(plugin).is_file() {
            support::skip(&format!(
                "there is no reference plugin {plugin} in {}",
                folder.display()
            ));
            return None;
        }
    }
    let mut again = Command::new(std::env::current_exe().expect("this program"));
    let output = again.args(words).env(REFERENCE, folder).output().expect("this program, again");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "with the reference plugins: {errors}");
    Some(report::from_json(&text))
}

fn run_all(runs: &[Run], everything: bool) -> Outcomes {
    let wanted: Vec<&Run> = runs.iter().filter(|r| everything || r.awaits.is_none()).collect();
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Outcomes::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(run) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(outcome) = run_one(run) {
                        outcomes.lock().expect("unpoisoned").insert(run.id.clone(), outcome);
                    }
                }
            });
        }
    });
    outcomes.into_inner().expect("unpoisoned")
}

/// What came of a run; nothing if this machine lacks what it needs.
fn run_one(run: &Run) -> Option<Result<(), String>> {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let mut site = site::Site::new(run)?;
        for (number, step) in run.steps.iter().enumerate() {
            steps::take(&mut site, step).map_err(|stop| match stop {
                Stop::Differs(reason) => Stop::Differs(format!("step {}: {reason}", number + 1)),
                Stop::Lacks => stop,
            })?;
        }
        Ok(())
    }));
    match ended {
        Ok(Ok(())) => Some(Ok(())),
        Ok(Err(Stop::Lacks)) => None,
        Ok(Err(Stop::Differs(reason))) => Some(Err(reason)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Some(Err(text.unwrap_or_else(|| "a panic without words".to_owned())))
        }
    }
}
