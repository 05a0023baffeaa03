//! Memory for requests that are being read. It is counted for all connections together, and what they took
//! goes back to the system after them.

use std::cell::Cell;
use std::rc::Rc;

use quantum_cni::kernel::memory;
use quantum_config::wire::MAX_BODY;

use super::shares::{Limits, Share, Shares};

/// In bytes.
const LIMITS: Limits = Limits { root: 12 << 20, each: 2 * MAX_BODY, others: 4 << 20 };
/// All that is taken at a time, in bytes.
pub(super) const TOGETHER: u32 = LIMITS.root + LIMITS.others;
/// As much is worth being given back.
const MUCH: usize = 4 << 20;
/// With no more than this in use it is.
const LITTLE: usize = 1 << 20;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Memory(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    shares: Shares,
    /// Much was taken since memory was given back last.
    was_much: Cell<bool>,
}

/// Room for one request, until this is dropped; the request is freed before.
#[derive(Debug)]
pub(super) struct Room {
    share: Option<Share>,
    memory: Memory,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Inner { shares: Shares::new(LIMITS), was_much: Cell::new(false) }))
    }

    /// Room for this many bytes, at most [`MAX_BODY`], as soon as there is as much.
    pub(super) async fn take(&self, uid: u32, bytes: u32) -> Option<Room> {
        let share = self.0.shares.take(uid, bytes).await?;
        if self.0.shares.taken() >= MUCH {
            self.0.was_much.set(true);
        }
        Some(Room { share: Some(share), memory: self.clone() })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.share = None;
        let Inner { shares, was_much } = &*self.memory.0;
        if shares.taken() <= LITTLE && was_much.replace(false) {
            // It walks all that is free, which takes a while.
            tokio::task::spawn_blocking(memory::give_back);
        }
    }
}
