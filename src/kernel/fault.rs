//! Points at which a debug build can be made to die or to fail, so that tests can see what is left
//! then. `QUANTUM_CRASH_AT=point` kills the process as `kill -9` would when it gets there;
//! `QUANTUM_FAIL_AT=point` makes that step fail and `QUANTUM_PANIC_AT=point` makes it panic. Each may
//! name several points, separated by commas: a point that is named twice fails twice, and is passed
//! from then on. `QUANTUM_HANG_AT=folder` makes a step hang for as long as the folder has a file of its name.
//! In a release build the points are not there.

/// The points, in the order in which an ADD and a DEL reach them.
pub const POINTS: &[&str] = &[
    "add-leased",
    "add-link-made",
    "add-shaper-made",
    "add-linked",
    "add-filtered",
    "add-applied",
    "add-remembered",
    "del-marked",
    "del-unfiltered",
    "del-purging",
    "del-unlinked",
    "del-reverted",
    "del-forgotten",
];

/// Points that do not belong to one moment of an ADD or a DEL: what others broke is about to be repaired, what
/// policy comes to is about to change, an attachment is being changed by a later plugin, the store is being
/// opened, is about to write, and to have the disk keep it, and Docker has not heard of an address or a network
/// that is there.
pub const ASIDE: &[&str] = &[
    "mending",
    "governing",
    "amend-remembered",
    "amend-filtered",
    "store-opened",
    "store-commit",
    "store-checkpoint",
    "docker-address-kept",
    "docker-network-made",
];

/// A step that was made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the step {0:?} was made to fail")]
pub struct Fault(pub &'static str);

/// The process has come to `point`.
#[cfg(debug_assertions)]
#[allow(clippy::panic, reason = "it is made to")]
pub fn reach(point: &'static str) -> Result<(), Fault> {
    use std::sync::Mutex;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    static DONE: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    debug_assert!(POINTS.iter().chain(ASIDE).any(|known| *known == point), "{point} is not listed");
    // How often the variable names this point.
    let asked = |variable| {
        let wanted = std::env::var(variable).unwrap_or_default();
        wanted.split(',').filter(|name| *name == point).count()
    };
    if asked("QUANTUM_CRASH_AT") > 0 {
        let _ = kill(Pid::this(), Signal::SIGKILL);
    }
    if let Some(folder) = std::env::var_os("QUANTUM_HANG_AT") {
        let file = std::path::Path::new(&folder).join(point);
        while file.exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    let (panics, fails) = (asked("QUANTUM_PANIC_AT"), asked("QUANTUM_FAIL_AT"));
    if panics + fails == 0 {
        return Ok(());
    }
    let mut done = DONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let times = done.iter().filter(|name| **name == point).count();
    done.push(point);
    drop(done);
    if times < panics {
        std::panic::panic_any(Fault(point));
    }
    if times < fails { Err(Fault(point)) } else { Ok(()) }
}

/// The process has come to `point`.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_: &'static str) -> Result<(), Fault> {
    Ok(())
}
