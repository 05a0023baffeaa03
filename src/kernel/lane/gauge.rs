//! What a lane publishes of itself: how much it has to do, and since when its job runs. Two atomic stores a job.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::kernel::clock::boottime_ms;

/// What a lane publishes of itself. It can be read at any time, whatever the lane does.
#[derive(Debug, Clone)]
pub struct Gauge {
    lane: &'static str,
    numbers: Arc<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    /// Jobs, or items, that wait or run.
    waiting: AtomicUsize,
    /// When the job that runs began, on the clock of [`boottime_ms`]; 0 while none does.
    since: AtomicU64,
}

impl Gauge {
    /// The gauge of a thread that has its own way to do several jobs at a time.
    pub fn new(lane: &'static str) -> Self {
        Self { lane, numbers: Arc::default() }
    }

    /// A job, or an item, has come into the queue.
    pub(super) fn queued(&self) {
        self.numbers.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// The thread has taken up a job.
    pub(super) fn works(&self) {
        self.numbers.since.store(now(), Ordering::Relaxed);
    }

    /// It has done with it, and with so many of the queue.
    pub(super) fn rests(&self, done: usize) {
        self.numbers.since.store(0, Ordering::Relaxed);
        self.numbers.waiting.fetch_sub(done, Ordering::Relaxed);
    }

    /// A job begins; it ends when what this gives is dropped.
    #[must_use]
    pub fn begin(&self) -> Running {
        if self.numbers.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            self.numbers.since.store(now(), Ordering::Relaxed);
        }
        Running(self.clone())
    }

    /// The lane's name.
    pub fn lane(&self) -> &'static str {
        self.lane
    }

    /// How many jobs, or items, wait or are being worked on.
    pub fn waiting(&self) -> usize {
        self.numbers.waiting.load(Ordering::Relaxed)
    }

    /// For how long the job that runs has run; zero if none runs.
    pub fn busy(&self) -> Duration {
        match self.numbers.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(boottime_ms().saturating_sub(since)),
        }
    }
}

/// A job of a [`Gauge`], until this is dropped.
#[derive(Debug)]
pub struct Running(Gauge);

impl Drop for Running {
    /// That one has ended shows that the thread goes on, so the time of the others counts from here.
    fn drop(&mut self) {
        let numbers = &self.0.numbers;
        let is_last = numbers.waiting.fetch_sub(1, Ordering::Relaxed) == 1;
        numbers.since.store(if is_last { 0 } else { now() }, Ordering::Relaxed);
    }
}

/// Never 0.
fn now() -> u64 {
    boottime_ms().max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::Lane;
    use super::*;

    #[test]
    fn it_is_known_for_how_long_a_job_runs() {
        let lane = Lane::own("test", ()).expect("a lane");
        let gauge = lane.gauge();
        assert_eq!((gauge.lane(), gauge.waiting(), gauge.busy()), ("test", 0, Duration::ZERO));
        let (begun, begins) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        lane.run(Box::new(move |_| {
            begun.send(()).expect("heard");
            ends.recv().expect("told to end");
        }));
        begins.recv().expect("it has begun");
        while gauge.busy() < Duration::from_millis(3) {
            std::thread::yield_now();
        }
        assert_eq!(gauge.waiting(), 1);
        end.send(()).expect("heard");
        drop(lane); // waits for the queue
        assert_eq!((gauge.waiting(), gauge.busy()), (0, Duration::ZERO));
    }

    #[test]
    fn several_at_a_time_count_from_the_last_that_ended() {
        let gauge = Gauge::new("test");
        let since = || gauge.numbers.since.load(Ordering::Relaxed);
        let (first, began) = (gauge.begin(), since());
        while gauge.busy().is_zero() {
            std::thread::yield_now();
        }
        let second = gauge.begin();
        assert_eq!((gauge.waiting(), since()), (2, began));
        drop(second);
        assert!(gauge.waiting() == 1 && since() > began);
        drop(first);
        assert_eq!((gauge.waiting(), gauge.busy()), (0, Duration::ZERO));
    }
}
