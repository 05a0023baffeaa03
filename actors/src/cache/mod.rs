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
use slog::{Logger, error, info, warn};
use tokio::sync::watch;

use crate::board::Board;
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
    /// Why the files beside the store are not as it is, as the board says it.
    trouble: Vec<String>,
    /// The store could not be written, and it is not known that it can be now.
    fails: bool,
    /// A checkpoint is under way.
    settles: bool,
    board: watch::Sender<Board>,
    meters: Meters,
    log: Logger,
}

/// What a job on the store came to, and what became of the files.
type Outcome<T> = Result<(Result<T, StoreError>, Files), StoreError>;

/// What became of the store's files.
struct Files {
    /// Why those beside the store are not as it is, if they are not.
    trouble: Option<String>,
    /// What has happened to the store.
    mishap: Option<String>,
}

impl Cache {
    /// A cache of `size` records in front of a store that holds `known`.
    pub(crate) fn new(
        lane: StoreLane,
        known: HashMap<AttachmentKey, StoredState>,
        size: NonZeroUsize,
        board: watch::Sender<Board>,
        meters: Meters,
        log: Logger,
    ) -> Self {
        Self {
            lane: Rc::new(lane),
            known,
            held: HashMap::new(),
            recent: LruCache::new(size),
            unwritten: HashMap::new(),
            // The first look tells what the start could not write.
            dirty: true,
            trouble: Vec::new(),
            fails: false,
            settles: false,
            board,
            meters,
            log,
        }
    }

    /// Does something with the store, which is made anew if it turns out to be damaged.
    fn on_store<T, J>(&self, job: J) -> impl Future<Output = Outcome<T>> + use<T, J>
    where
        T: Send + 'static,
        J: Fn(&mut Store) -> Result<T, StoreError> + Send + 'static,
    {
        on_lane(self.lane.clone(), move |store: &mut Store| {
            let outcome = store.mended(job);
            let trouble = store.trouble().map(str::to_owned);
            (outcome, Files { trouble, mishap: store.take_mishap() })
        })
    }

    /// What it came to. That the files beside the store could not be written fails nothing: they are tried again
    /// until they can.
    fn heard<T>(&mut self, outcome: Outcome<T>) -> Result<T, StoreError> {
        let (outcome, Files { trouble, mishap }) = outcome?;
        if let Some(mishap) = mishap {
            error!(self.log, "the store was damaged and was made anew from runtime_dir"; "error" => mishap);
        }
        if let Err(why) = &outcome
            && why.lasts()
            && !self.fails
        {
            self.fails = true;
            error!(self.log, "the store cannot be written, which is tried again"; "error" => %why);
            self.board.send_modify(|board| board.failing = vec![why.to_string()]);
        }
        let trouble: Vec<String> = trouble.into_iter().collect();
        self.dirty |= !trouble.is_empty();
        if trouble != self.trouble {
            for why in &trouble {
                error!(self.log, "the second copy of what is attached is not complete, which is tried again";
                    "error" => why);
            }
            let before = std::mem::replace(&mut self.trouble, trouble);
            let now = self.trouble.clone();
            self.board.send_modify(|board| board.retell(&before, now));
        }
        outcome
    }

    /// Notes addresses that are held without a record.
    pub(crate) fn hold(&mut self, leases: Vec<(AttachmentKey, IpAddr)>) {
        for (key, address) in leases {
            self.held.entry(key).or_default().push(address);
        }
    }

    /// Also sees whether the store can be written again.
    fn checkpoint(&mut self, ctx: &mut Context<Self>) {
        if self.settles || !(self.dirty || self.fails) {
            return;
        }
        let failed = self.fails;
        (self.dirty, self.settles) = (false, true);
        let work = self.on_store(match failed {
            true => Store::probe,
            false => Store::checkpoint,
        });
        ctx.spawn(work.into_actor(self).map(move |outcome, cache, _| {
            let done = cache.heard(outcome);
            cache.settles = false;
            cache.dirty |= done.is_err(); // the next try
            match done {
                Ok(()) if failed => {
                    cache.fails = false;
                    info!(cache.log, "the store can be written again");
                    cache.board.send_modify(|board| board.failing.clear());
                }
                Ok(()) => {}
                Err(_) if failed => {} // said when it began
                Err(error) => warn!(cache.log, "checkpoint"; "error" => %error),
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

    /// Now and then the files are looked after, though nothing was written.
    fn handle(&mut self, _: Observe, _: &mut Self::Context) {
        self.dirty = true;
    }
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
