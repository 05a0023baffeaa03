//! Somebody who waits for an answer, seen from inside: until when, and whether he still does. It
//! travels with a request, so that work for nobody is given up at the next step instead of being
//! finished and leaked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quantum_cni::kernel::clock::boottime_ms;
use quantum_config::cni::{CniError, Code};

/// A deadline in a request is believed up to this: longer than any runtime waits.
const LONGEST: Duration = Duration::from_secs(300);

/// The caller of one request. Clones are the same caller.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Arc<State>);

#[derive(Debug)]
struct State {
    deadline: Instant,
    since: u64,
    gone: AtomicBool,
    overtaken: AtomicBool,
    turned_away: AtomicBool,
}

impl Caller {
    /// Somebody who waits for `patience` from now.
    pub(crate) fn new(patience: Duration) -> Self {
        let deadline = Instant::now() + patience.min(LONGEST);
        Self(Arc::new(State {
            deadline,
            since: boottime_ms(),
            gone: AtomicBool::new(false),
            overtaken: AtomicBool::new(false),
            turned_away: AtomicBool::new(false),
        }))
    }

    /// When he came, in milliseconds since boot.
    pub(crate) fn since(&self) -> u64 {
        self.0.since
    }

    /// When he stops waiting.
    pub(crate) fn deadline(&self) -> Instant {
        self.0.deadline
    }

    /// He has hung up.
    pub(crate) fn leave(&self) {
        self.0.gone.store(true, Ordering::Relaxed);
    }

    /// Whether he has hung up.
    pub(crate) fn has_left(&self) -> bool {
        self.0.gone.load(Ordering::Relaxed)
    }

    /// A DEL for what he wants made has come.
    pub(crate) fn overtake(&self) {
        self.0.overtaken.store(true, Ordering::Relaxed);
    }

    /// The daemon stops and has not begun with his request.
    pub(crate) fn turn_away(&self) {
        self.0.turned_away.store(true, Ordering::Relaxed);
    }

    /// Whether the daemon stops and has not begun with his request.
    pub(crate) fn is_turned_away(&self) -> bool {
        self.0.turned_away.load(Ordering::Relaxed)
    }

    /// Whether it is still worth going on; if not, the error to end with.
    pub(crate) fn still_waits(&self) -> Result<(), CniError> {
        let why = if self.0.overtaken.load(Ordering::Relaxed) {
            "a DEL for the same container and interface arrived meanwhile"
        } else if self.has_left() {
            "the plugin went away before the work was done"
        } else if Instant::now() >= self.0.deadline {
            "the time for this request was over before the work was done"
        } else {
            return Ok(());
        };
        Err(CniError::new(Code::TryAgainLater, "the request was given up and undone")
            .with_details(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_stops_waiting_for_three_reasons() {
        let caller = Caller::new(Duration::from_secs(60));
        assert!(caller.still_waits().is_ok());
        caller.clone().leave();
        assert!(caller.still_waits().expect_err("gone").details.contains("went away"));
        caller.overtake();
        assert!(caller.still_waits().expect_err("overtaken").details.contains("DEL"));
        let late = Caller::new(Duration::ZERO);
        assert_eq!(late.still_waits().expect_err("late").code, Code::TryAgainLater);
    }
}
