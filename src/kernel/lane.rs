//! Lanes: named threads on which blocking work is done, one item after the other.
//!
//! ```text
//!            queue                    thread "route"
//!  run(job) ───────▶ job job job ───▶ state ─▶ job(Ok(&mut state))
//!                                       │ panic: the state is dropped,
//!                                       ▼        and made again for the next job
//!                                     no state ─▶ job(Err(&reason))
//! ```
//!
//! The state (a socket, as a rule) is made on the thread and never leaves it. A job that panics
//! costs the state and itself, not the lane: whoever waits for its answer sees the channel close.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

/// Why a lane cannot do a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// The state could not be made. It is tried again for the next job.
    #[error("the lane {lane} has nothing to work with: {reason}")]
    NoState {
        /// The lane.
        lane: String,
        /// Why.
        reason: String,
    },
    /// The lane's thread has ended.
    #[error("the lane {lane} has ended")]
    Ended {
        /// The lane.
        lane: String,
    },
}

/// A piece of work. It is called exactly once, with the lane's state or the reason why there is
/// none, and answers its requester by itself.
pub type Job<S> = Box<dyn FnOnce(Result<&mut S, &LaneError>) + Send>;

/// A lane that does one job at a time.
#[derive(Debug)]
pub struct Lane<S: 'static>(CollectLane<Job<S>>);

impl<S> Lane<S> {
    /// Starts the thread. Fails only if the system has no thread to give.
    pub fn start<E: fmt::Display>(
        name: &str,
        make_state: impl FnMut() -> Result<S, E> + Send + 'static,
    ) -> io::Result<Self> {
        let work = |mut state: Result<&mut S, &LaneError>, jobs: Vec<Job<S>>| {
            for job in jobs {
                job(state.as_mut().map(|state| &mut **state).map_err(|error| *error));
            }
        };
        CollectLane::start(name, 1, make_state, work).map(Self)
    }

    /// Queues a job.
    pub fn run(&self, job: Job<S>) {
        if let Err((job, error)) = self.0.push(job) {
            job(Err(&error));
        }
    }

    /// How many jobs wait.
    pub fn queued(&self) -> usize {
        self.0.queued()
    }

    /// How many jobs have panicked.
    pub fn panics(&self) -> u64 {
        self.0.panics()
    }

    /// Ends the lane when its queue is empty, and waits for that.
    pub fn close(self) {
        self.0.close();
    }
}

/// A lane that collects: while it is at work items gather, and the next round takes them all. It
/// is for work that costs the same for one as for many.
///
/// When it is dropped the thread ends by itself, after its queue.
pub struct CollectLane<T> {
    name: String,
    sender: Sender<T>,
    thread: JoinHandle<()>,
    waiting: Arc<AtomicUsize>,
    panics: Arc<AtomicU64>,
}

impl<T: Send + 'static> CollectLane<T> {
    /// Starts the thread. `work` gets at most `limit` items at a time (1 or more), in the order in
    /// which they were queued.
    pub fn start<S: 'static, E: fmt::Display>(
        name: &str,
        limit: usize,
        make_state: impl FnMut() -> Result<S, E> + Send + 'static,
        work: impl FnMut(Result<&mut S, &LaneError>, Vec<T>) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = channel();
        let (waiting, panics) = (Arc::<AtomicUsize>::default(), Arc::<AtomicU64>::default());
        let inbox = Inbox { receiver, waiting: waiting.clone(), limit: limit.max(1) };
        let count = panics.clone();
        let lane = name.to_owned();
        let serve = move || serve(&lane, &inbox, &count, make_state, work);
        let thread = Builder::new().name(name.to_owned()).spawn(serve)?;
        Ok(Self { name: name.to_owned(), sender, thread, waiting, panics })
    }

    /// Queues an item; gives it back if the lane has ended.
    pub fn push(&self, item: T) -> Result<(), (T, LaneError)> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.sender.send(item).map_err(|unsent| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            (unsent.0, LaneError::Ended { lane: self.name.clone() })
        })
    }

    /// How many items wait.
    pub fn queued(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many rounds have panicked.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Ends the lane when its queue is empty, and waits for that.
    pub fn close(self) {
        drop(self.sender);
        // Its panics are caught inside, so there is nothing to learn from the result.
        let _ = self.thread.join();
    }
}

impl<T> fmt::Debug for CollectLane<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectLane")
            .field("name", &self.name)
            .field("waiting", &self.waiting)
            .field("panics", &self.panics)
            .finish_non_exhaustive()
    }
}

/// The lane's end of the queue.
struct Inbox<T> {
    receiver: Receiver<T>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

impl<T> Inbox<T> {
    /// Waits for an item and takes what else is there; nothing when the lane is closed and empty.
    fn take(&self) -> Option<Vec<T>> {
        let first = self.receiver.recv().ok()?;
        let mut items = vec![first];
        items.extend(self.receiver.try_iter().take(self.limit - 1));
        self.waiting.fetch_sub(items.len(), Ordering::Relaxed);
        Some(items)
    }
}

fn serve<S, T, E: fmt::Display>(
    lane: &str,
    inbox: &Inbox<T>,
    panics: &AtomicU64,
    mut make_state: impl FnMut() -> Result<S, E>,
    mut work: impl FnMut(Result<&mut S, &LaneError>, Vec<T>),
) {
    let mut make = || match guarded(&mut make_state) {
        Ok(Ok(state)) => Ok(state),
        Ok(Err(error)) => Err(no_state(lane, error.to_string())),
        Err(panic) => Err(no_state(lane, panic)),
    };
    let mut state = make();
    while let Some(items) = inbox.take() {
        if state.is_err() {
            state = make();
        }
        if let Err(panic) = guarded(|| work(state.as_mut().map_err(|error| &*error), items)) {
            panics.fetch_add(1, Ordering::Relaxed);
            // Half-changed: no job must see it again. Its own drop may panic as well.
            let half_changed = std::mem::replace(&mut state, Err(no_state(lane, panic)));
            let _ = guarded(|| drop(half_changed));
        }
    }
}

fn no_state(lane: &str, reason: String) -> LaneError {
    LaneError::NoState { lane: lane.to_owned(), reason }
}

/// Runs `f`; a panic becomes its message. The state that `f` may have left half-changed is thrown
/// away then, which is what makes the assertion of unwind safety true.
fn guarded<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| message_of(&*panic))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests;
