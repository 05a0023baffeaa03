//! Memory for requests. It is counted for all connections together, from when a request begins to be read
//! until its configuration was; and what a burst took goes back to the system when it is over.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use quantum_cni::kernel::memory;
use quantum_config::wire::MAX_BODY;

use super::shares::{Limits, Share, Shares};

/// In bytes.
const LIMITS: Limits = Limits { root: 12 << 20, each: 2 * MAX_BODY, others: 4 << 20 };
/// All that is taken at a time, in bytes.
pub(super) const TOGETHER: u32 = LIMITS.root + LIMITS.others;
/// With no more connections than this a burst is over.
const FEW: usize = 4;
/// A moment of them is no lull: what comes next needs what would be given back.
const LULL: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Memory(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    shares: Shares,
    /// How many connections are served.
    present: Cell<usize>,
    /// Somebody waits for a lull.
    watched: Cell<bool>,
}

/// Room for one request, until this is dropped; the request is freed before.
#[derive(Debug)]
pub(super) struct Room {
    _share: Share,
}

/// A connection that is served, until this is dropped.
#[derive(Debug)]
pub(super) struct Presence(Memory);

impl Memory {
    pub(crate) fn new() -> Self {
        let (present, watched) = (Cell::new(0), Cell::new(false));
        Self(Rc::new(Inner { shares: Shares::new(LIMITS), present, watched }))
    }

    /// Room for this many bytes, at most [`MAX_BODY`], as soon as there is as much.
    pub(super) async fn take(&self, uid: u32, bytes: u32) -> Option<Room> {
        self.0.shares.take(uid, bytes).await.map(|share| Room { _share: share })
    }

    /// A connection is served from now on.
    pub(super) fn enter(&self) -> Presence {
        self.0.present.set(self.0.present.get() + 1);
        Presence(self.clone())
    }

    /// Waits for a lull, and gives back what is free then, if it is much.
    async fn watch(self) {
        loop {
            tokio::time::sleep(LULL).await;
            if self.0.present.get() <= FEW {
                break;
            }
        }
        self.0.watched.set(false);
        // It walks all that is free, which takes a while.
        let _ = tokio::task::spawn_blocking(memory::give_back_much).await;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let memory = &self.0;
        let Inner { present, watched, .. } = &*memory.0;
        present.set(present.get().saturating_sub(1));
        if present.get() <= FEW && !watched.replace(true) {
            actix_rt::spawn(memory.clone().watch());
        }
    }
}
