//! Many calls at the same time.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Runs `job` for every number below `jobs`, `at_once` of them at the same time, all starting
/// together, and returns what they returned, in order. With `at_once` 1 it is one after the other.
pub(crate) fn run<T: Send>(jobs: usize, at_once: usize, job: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let workers = at_once.clamp(1, jobs.max(1));
    let (start, next) = (Barrier::new(workers), AtomicUsize::new(0));
    let work = || {
        start.wait();
        let mine = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < jobs);
        std::iter::from_fn(mine).map(|number| (number, job(number))).collect::<Vec<_>>()
    };
    let mut done: Vec<(usize, T)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, returned)| returned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_runs_once_and_in_order() {
        for (jobs, at_once) in [(0, 4), (1, 4), (7, 1), (7, 3), (7, 7)] {
            assert_eq!(run(jobs, at_once, |n| n * 2), (0..jobs).map(|n| n * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn as_many_as_asked_run_together() {
        // Each job waits for two others, so this ends only if three run at the same time.
        let together = Barrier::new(3);
        run(3, 3, |_| {
            together.wait();
        });
    }
}
