//! Points at which a debug build can be made to die or to fail, so that tests can see what is left
//! then. `QUANTUM_CRASH_AT=point` kills the process as `kill -9` would when it gets there;
//! `QUANTUM_FAIL_AT=point` makes that step fail. In a release build the points are not there.

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
pub fn reach(point: &'static str) -> Result<(), Fault> {
    use std::sync::LazyLock;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    static CRASH: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("QUANTUM_CRASH_AT").ok());
    static FAIL: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("QUANTUM_FAIL_AT").ok());
    debug_assert!(POINTS.contains(&point), "{point} is not listed");
    if CRASH.as_deref() == Some(point) {
        let _ = kill(Pid::this(), Signal::SIGKILL);
    }
    if FAIL.as_deref() == Some(point) { Err(Fault(point)) } else { Ok(()) }
}

/// The process has come to `point`.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_: &'static str) -> Result<(), Fault> {
    Ok(())
}
