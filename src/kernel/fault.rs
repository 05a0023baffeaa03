//! Points at which a debug build can be made to die or to fail, so that tests can see what is left
//! then. `QUANTUM_CRASH_AT=point` kills the process as `kill -9` would when it gets there;
//! `QUANTUM_FAIL_AT=point` makes that step fail and `QUANTUM_PANIC_AT=point` makes it panic, each the
//! first time only. In a release build the points are not there.

/// The points, in the order in which an ADD and a DEL reach them.
pub const POINTS: &[&str] = &[
    "add-leased",
    "add-link-made",
    "add-linked",
    "add-filtered",
    "add-applied",
    "add-remembered",
    "del-marked",
    "del-unfiltered",
    "del-unlinked",
    "del-reverted",
    "del-forgotten",
];

/// A step that was made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the step {0:?} was made to fail")]
pub struct Fault(pub &'static str);

/// The process has come to `point`.
#[cfg(debug_assertions)]
#[allow(clippy::panic, reason = "it is made to")]
pub fn reach(point: &'static str) -> Result<(), Fault> {
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    static DONE: AtomicBool = AtomicBool::new(false);
    debug_assert!(POINTS.contains(&point), "{point} is not listed");
    let asked = |variable| std::env::var(variable).is_ok_and(|wanted| wanted == point);
    let first_time = || !DONE.swap(true, Ordering::Relaxed);
    if asked("QUANTUM_CRASH_AT") {
        let _ = kill(Pid::this(), Signal::SIGKILL);
    }
    if asked("QUANTUM_PANIC_AT") && first_time() {
        std::panic::panic_any(Fault(point));
    }
    if asked("QUANTUM_FAIL_AT") && first_time() { Err(Fault(point)) } else { Ok(()) }
}

/// The process has come to `point`.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_: &'static str) -> Result<(), Fault> {
    Ok(())
}
