//! Cache: endpoint records, an LRU in front of the store. It knows every key by heart, so a question
//! about an attachment that does not exist costs nothing, and asks its lane for the rest.
//!
//! What is written is answered when the store has it, never before.

mod read;
mod write;

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseActFuture, WrapFuture};
use lru::LruCache;
use quantum_cni::kernel::lane::Lane;
use quantum_cni::store::{Store, StoreError, Stored, StoredState};
use quantum_config::ids::AttachmentKey;
use slog::{Logger, warn};

use crate::lanes::on_lane;
use crate::messages::{Drain, Observe};
use crate::meters::Meters;

/// How soon released addresses are on the disk, where a power cut does not lose them.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// The lane that the store lives on.
pub(crate) type StoreLane = Lane<Store>;

/// The actor.
pub(crate) struct Cache {
    lane: Rc<StoreLane>,
    /// Every attachment there is.
    known: HashMap<AttachmentKey, StoredState>,
    /// What is held without a record.
    held: HashMap<AttachmentKey, Vec<IpAddr>>,
    recent: LruCache<AttachmentKey, Arc<Stored>>,
    /// Attachments that are leaving and are not in the store, which could not be written.
    unwritten: HashMap<AttachmentKey, Arc<Stored>>,
    /// Something was written since the last checkpoint.
    dirty: bool,
    meters: Meters,
    log: Logger,
}

impl Cache {
    /// A cache of `size` records in front of a store that holds `known`.
    pub(crate) fn new(
        lane: StoreLane,
        known: HashMap<AttachmentKey, StoredState>,
        size: NonZeroUsize,
        meters: Meters,
        log: Logger,
    ) -> Self {
        let recent = LruCache::new(size);
        let (held, unwritten) = (HashMap::new(), HashMap::new());
        Self { lane: Rc::new(lane), known, held, recent, unwritten, dirty: false, meters, log }
    }

    /// Notes addresses that are held without a record.
    pub(crate) fn hold(&mut self, leases: Vec<(AttachmentKey, IpAddr)>) {
        for (key, address) in leases {
            self.held.entry(key).or_default().push(address);
        }
    }

    fn checkpoint(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let work = on_lane(self.lane.clone(), Store::checkpoint);
        ctx.spawn(work.into_actor(self).map(|outcome, cache, _| {
            if let Err(error) = outcome.and_then(|o| o) {
                cache.dirty = true; // the next try
                warn!(cache.log, "checkpoint"; "error" => %error);
            }
        }));
    }
}

impl Actor for Cache {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(CHECKPOINT, Self::checkpoint);
    }
}

impl Handler<Observe> for Cache {
    type Result = ();

    fn handle(&mut self, _: Observe, _: &mut Self::Context) {}
}

impl Handler<Drain> for Cache {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let work = on_lane(self.lane.clone(), Store::checkpoint);
        Box::pin(work.into_actor(self).map(
            |outcome: Result<Result<(), StoreError>, StoreError>, cache, _| {
                if let Err(error) = outcome.and_then(|o| o) {
                    warn!(cache.log, "last checkpoint"; "error" => %error);
                }
            },
        ))
    }
}
