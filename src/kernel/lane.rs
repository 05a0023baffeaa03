//! Lanes: named threads on which blocking work is done, one job after the other. Actors must never
//! block; the kernel and the disk do.
//!
//! ```text
//!   run(job) ──► queue ──► thread: job(&mut state) ──► the job tells whoever waits
//!                             └── it panicked: the state is made anew, and the lane goes on
//! ```
//!
//! Each lane publishes since when its job runs ([`Gauge`]), so that one that hangs is seen.
//!
//! A lane's state (a socket, as a rule) is made on its own thread, when the first job needs it. If it cannot be made, each job hears why, and the next one tries again.

mod gauge;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::{fmt, io};

pub use self::gauge::{Gauge, Running};

/// Why a job was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// The lane's state could not be made.
    #[error("the lane {lane:?} could not be set up: {why}")]
    NotReady {
        /// The lane.
        lane: &'static str,
        /// Why.
        why: String,
    },
    /// The job panicked; the log of the daemon's standard error has more.
    #[error("a job panicked on its lane")]
    Panicked,
}

impl LaneError {
    /// What is told where a job took its answer with it.
    pub fn panicked() -> Self {
        Self::Panicked
    }
}

/// A job: it gets the state, or why there is none.
pub type Job<S> = Box<dyn FnOnce(Result<&mut S, &LaneError>) + Send>;
/// Work that several items are done in at a time.
type Together<S, T> = Box<dyn FnMut(Result<&mut S, &LaneError>, Vec<T>) + Send>;

/// A lane that does one job after the other.
pub struct Lane<S>(Line<Job<S>>);

/// A lane that takes all that has arrived while it was busy, and does it together.
pub struct CollectLane<T>(Line<T>);

impl<S: Send + 'static> Lane<S> {
    /// Starts the thread. `make` makes the state on it, and makes it anew after a panic.
    pub fn start<E: fmt::Display>(
        name: &'static str,
        make: impl FnMut() -> Result<S, E> + Send + 'static,
    ) -> io::Result<Self> {
        let mut state = State::new(name, make);
        Line::start(name, move |job: Job<S>, _| state.with(job)).map(Self)
    }

    /// Starts the thread around a state that cannot be made again: after a panic every job fails.
    pub fn own(name: &'static str, state: S) -> io::Result<Self> {
        let mut state = Some(state);
        Self::start(name, move || state.take().ok_or("an earlier job panicked; restart the daemon"))
    }

    /// Puts a job into the queue.
    pub fn run(&self, job: Job<S>) {
        self.0.put(job);
    }

    /// What it publishes.
    pub fn gauge(&self) -> Gauge {
        self.0.gauge.clone()
    }
}

impl<T: Send + 'static> CollectLane<T> {
    /// Starts the thread. `work` gets at most `most` items at a time.
    pub fn start<S: Send + 'static, E: fmt::Display>(
        name: &'static str,
        most: usize,
        make: impl FnMut() -> Result<S, E> + Send + 'static,
        work: impl FnMut(Result<&mut S, &LaneError>, Vec<T>) + Send + 'static,
    ) -> io::Result<Self> {
        let mut state = State::new(name, make);
        let mut work: Together<S, T> = Box::new(work);
        Line::start(name, move |first: T, more: &mut More<'_, T>| {
            let mut items = vec![first];
            while items.len() < most
                && let Some(item) = more.next()
            {
                items.push(item);
            }
            state.with(|state: Result<&mut S, &LaneError>| work(state, items));
        })
        .map(Self)
    }

    /// Puts an item into the queue.
    pub fn put(&self, item: T) {
        self.0.put(item);
    }

    /// What it publishes.
    pub fn gauge(&self) -> Gauge {
        self.0.gauge.clone()
    }
}

/// The state of a lane, made when it is needed.
struct State<S> {
    lane: &'static str,
    made: Option<S>,
    make: Box<dyn FnMut() -> Result<S, String> + Send>,
}

impl<S> State<S> {
    fn new<E: fmt::Display>(
        lane: &'static str,
        mut make: impl FnMut() -> Result<S, E> + Send + 'static,
    ) -> Self {
        Self { lane, made: None, make: Box::new(move || make().map_err(|e| e.to_string())) }
    }

    fn with(&mut self, job: impl FnOnce(Result<&mut S, &LaneError>)) {
        let mut error = LaneError::Panicked;
        if self.made.is_none() {
            match (self.make)() {
                Ok(state) => self.made = Some(state),
                Err(why) => error = LaneError::NotReady { lane: self.lane, why },
            }
        }
        let state = self.made.as_mut().ok_or(&error);
        // What the job leaves half done is not used again: the state goes with it.
        if catch_unwind(AssertUnwindSafe(|| job(state))).is_err() {
            self.made = None;
        }
    }
}

/// A queue and the thread that empties it. Dropping it lets the thread finish the queue, and waits.
struct Line<T> {
    queue: Option<Sender<T>>,
    gauge: Gauge,
    thread: Option<JoinHandle<()>>,
}

/// What else is in the queue, without waiting.
struct More<'a, T> {
    queue: &'a Receiver<T>,
    taken: usize,
}

impl<T> Iterator for More<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let item = self.queue.try_recv().ok()?;
        self.taken += 1;
        Some(item)
    }
}

impl<T: Send + 'static> Line<T> {
    fn start(
        name: &'static str,
        mut each: impl FnMut(T, &mut More<'_, T>) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, items) = channel::<T>();
        let gauge = Gauge::new(name);
        let published = gauge.clone();
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            while let Ok(item) = items.recv() {
                let mut more = More { queue: &items, taken: 1 };
                published.works();
                each(item, &mut more);
                published.rests(more.taken);
            }
        })?;
        Ok(Self { queue: Some(queue), gauge, thread: Some(thread) })
    }

    fn put(&self, item: T) {
        self.gauge.queued();
        // The thread ends only when the queue is dropped, so sending cannot fail.
        if let Some(queue) = &self.queue {
            let _ = queue.send(item);
        }
    }
}

impl<T> Drop for Line<T> {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<S> fmt::Debug for Lane<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("waiting", &self.0.gauge.waiting()).finish()
    }
}

impl<T> fmt::Debug for CollectLane<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectLane").field("waiting", &self.0.gauge.waiting()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_panic_costs_one_job_and_the_state() {
        let mut made = 0;
        let lane = Lane::start("test", move || {
            made += 1;
            Ok::<_, Infallible>(made)
        })
        .expect("a lane");
        let (tell, told) = mpsc::channel();
        let ask = |tell: mpsc::Sender<i32>| -> Job<i32> {
            Box::new(move |state| tell.send(*state.expect("made")).expect("heard"))
        };
        lane.run(ask(tell.clone()));
        lane.run(Box::new(|_| panic!("on purpose")));
        lane.run(ask(tell));
        assert_eq!(told.iter().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_state_that_cannot_be_made_is_told_to_each_job_and_tried_again() {
        let mut tries = 0;
        let lane = Lane::start("test", move || {
            tries += 1;
            if tries < 2 { Err("not yet") } else { Ok(tries) }
        })
        .expect("a lane");
        let (tell, told) = mpsc::channel();
        for _ in 0..2 {
            let tell = tell.clone();
            lane.run(Box::new(move |state| {
                tell.send(state.map(|s| *s).map_err(Clone::clone)).expect("heard");
            }));
        }
        let first = told.recv().expect("an answer").expect_err("not ready");
        assert!(first.to_string().contains("not yet"), "{first}");
        assert_eq!(told.recv().expect("an answer"), Ok(2));
    }

    #[test]
    fn what_cannot_be_made_again_fails_after_a_panic() {
        let lane = Lane::own("test", 7).expect("a lane");
        lane.run(Box::new(|_| panic!("on purpose")));
        let (tell, told) = mpsc::channel();
        lane.run(Box::new(move |state| tell.send(state.is_err()).expect("heard")));
        assert_eq!(told.recv(), Ok(true));
    }

    #[test]
    fn what_arrives_meanwhile_is_done_together() {
        let (begun, begins) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let lane = CollectLane::start(
            "test",
            3,
            || Ok::<_, Infallible>(()),
            move |_, items: Vec<u32>| {
                begun.send(()).expect("heard");
                goes.recv().expect("told to go");
                tell.send(items).expect("heard");
            },
        )
        .expect("a lane");
        lane.put(1);
        begins.recv().expect("the first batch has begun");
        for n in 2..=6 {
            lane.put(n);
        }
        assert_eq!(lane.gauge().waiting(), 6);
        for _ in 0..3 {
            go.send(()).expect("heard");
        }
        drop(lane); // waits for the queue
        assert_eq!(told.iter().collect::<Vec<_>>(), [vec![1], vec![2, 3, 4], vec![5, 6]]);
    }
}
