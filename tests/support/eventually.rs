//! Waiting for what has no event to wait on: asked again, with growing pauses, until it holds.

use std::time::{Duration, Instant};

/// How long anything in a test may take to come about, unless it says otherwise.
pub(crate) const BOUND: Duration = Duration::from_secs(10);

/// Asks until there is an answer; fails, saying what was awaited, after [`BOUND`].
#[track_caller]
pub(crate) fn eventually<T>(awaited: &str, ask: impl FnMut() -> Option<T>) -> T {
    eventually_within(BOUND, awaited, ask)
}

/// The same for what takes longer.
#[track_caller]
pub(crate) fn eventually_within<T>(
    bound: Duration,
    awaited: &str,
    mut ask: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + bound;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {bound:?} in vain for: {awaited}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
