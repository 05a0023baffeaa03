//! Policy: who may speak to whom, of all networks. It knows the documents and the endpoints, has the
//! Driver write what they come to, and answers what operators ask about it.
//!
//! An ADD waits until the rules know its container, and so do all that come meanwhile: what they need is
//! written together. A change of the documents is written at once, and nothing else happens here until it
//! holds.

mod answer;
mod change;
mod hear;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::LocalBoxActorFuture;
use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, Recipient,
    ResponseActFuture, ResponseFuture, WrapFuture,
};
use quantum_cni::attach::{Record, endpoint};
use quantum_cni::errors;
use quantum_cni::kernel::lane::{Lane, LaneError};
use quantum_cni::policy::{Catalog, DeniedFlows, Documents, Problem, Registry, Standing, World};
use quantum_cni::store::Shelf;
use quantum_config::cni::CniError;
use quantum_config::ids::AttachmentKey;
use quantum_config::policy::OperatorLabels;
use slog::{Logger, error, warn};
use tokio::sync::{oneshot, watch};

use crate::board::{Board, FileProblem};
use crate::lanes::on_lane;
use crate::messages::driver::{Flows, Govern};
use crate::messages::policy::{Begin, Begun, Dismiss, Expectation, Expected, Judge};
use crate::messages::{Drain, Observe, dropped};
use crate::meters::Meters;

/// How often is tried again what could not be written or saved when an endpoint had left: nobody asks for
/// that a second time.
const RETRY: Duration = Duration::from_secs(2);

/// How often chains are looked for by which nobody is judged any more.
const FORGET: Duration = Duration::from_secs(10);

/// How many endpoints are named where there may be many.
const NAMED: usize = 5;

/// Where the documents are.
pub(crate) type ShelfLane = Lane<Shelf>;

/// Whom Policy asks.
#[derive(Debug, Clone)]
pub(crate) struct Hands {
    pub(crate) govern: Recipient<Govern>,
    pub(crate) flows: Recipient<Flows>,
}

/// The actor.
pub(crate) struct Policy {
    hands: Hands,
    shelf: Rc<ShelfLane>,
    board: watch::Sender<Board>,
    meters: Meters,
    log: Logger,
    catalog: Catalog,
    registry: Registry,
    /// Who the endpoints are.
    records: BTreeMap<AttachmentKey, Record>,
    /// Those of which that is not known any more, and what the board says of it.
    unidentified: BTreeSet<AttachmentKey>,
    told_unidentified: Vec<String>,
    /// What the board says of what operators have said.
    told_doubt: Vec<String>,
    denied: DeniedFlows,
    /// What is decided upon, made when it is asked for.
    world: Option<Arc<World>>,
    /// The Driver is writing.
    is_writing: bool,
    /// Labels of endpoints that are gone are still on disk.
    is_unsaved: bool,
    /// How many changes were begun to be written.
    changes: u64,
    /// Who waits until what they need is written.
    waiting: Vec<oneshot::Sender<Result<(), CniError>>>,
}

impl Policy {
    /// One that knows nobody.
    pub(crate) fn new(
        hands: Hands,
        shelf: ShelfLane,
        board: watch::Sender<Board>,
        meters: Meters,
        log: Logger,
    ) -> Self {
        Self {
            hands,
            shelf: Rc::new(shelf),
            board,
            meters,
            log,
            catalog: Catalog::default(),
            registry: Registry::new(Arc::default()),
            records: BTreeMap::new(),
            unidentified: BTreeSet::new(),
            told_unidentified: Vec::new(),
            told_doubt: Vec::new(),
            denied: DeniedFlows::default(),
            world: None,
            is_writing: false,
            is_unsaved: false,
            changes: 0,
            waiting: Vec::new(),
        }
    }

    /// What is decided upon now.
    fn world(&mut self) -> Arc<World> {
        self.world.get_or_insert_with(|| Arc::new(self.registry.world())).clone()
    }

    /// An endpoint comes, or is another than it was.
    fn place(&mut self, record: Record) {
        let none = OperatorLabels::new();
        let labels = self.catalog.labels(&record.key).unwrap_or(&none);
        self.registry.judge(endpoint(&record, labels), Standing::from(&record.posture));
        let is_new = match record.identity.is_known() {
            true => self.unidentified.remove(&record.key),
            false => self.unidentified.insert(record.key.clone()),
        };
        if is_new {
            self.tell_unidentified();
        }
        self.records.insert(record.key.clone(), record);
        self.world = None;
    }

    /// Another catalog holds from now on, as far as the registry is concerned.
    fn adopt(&mut self, catalog: Catalog) {
        let before = std::mem::replace(&mut self.catalog, catalog);
        self.registry.rewrite(Arc::new(Documents::new(self.catalog.documents())));
        // All have been placed again. Who they are is another question only where labels changed.
        let is_other = |key: &&AttachmentKey| before.labels(key) != self.catalog.labels(key);
        let records = self.records.iter().filter(|(key, _)| is_other(key));
        let others: Vec<Record> = records.map(|(_, record)| record.clone()).collect();
        for record in others {
            self.place(record);
        }
        self.world = None;
        self.denied.policy_changed();
        self.tell_problems();
    }

    /// Says on the board of which endpoints it is not known who they are.
    fn tell_unidentified(&mut self) {
        let named: Vec<String> =
            self.unidentified.iter().take(NAMED).map(ToString::to_string).collect();
        let more = match self.unidentified.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let reason = (!named.is_empty()).then(|| {
            format!(
                "the records of these attachments were lost, so that policy knows nothing but their \
                 addresses and shuts them off where it is in force; delete and attach them again: {}{more}",
                named.join(", ")
            )
        });
        let before = std::mem::replace(&mut self.told_unidentified, reason.into_iter().collect());
        let now = self.told_unidentified.clone();
        self.board.send_modify(|board| board.retell(&before, now));
    }

    /// Says on the board and in the log which files will not do.
    fn tell_problems(&mut self) {
        let problems = self.catalog.problems().into_iter();
        let problems: Vec<FileProblem> = problems
            .map(|problem| FileProblem { file: problem.file, reason: problem.reason })
            .collect();
        if self.board.borrow().policy_problems == problems {
            return;
        }
        for problem in &problems {
            warn!(self.log, "a file of policy will not do: what it said last holds, and if it never \
                said anything, what it could be about is denied";
                "file" => &problem.file, "reason" => &problem.reason);
        }
        let doubt = self.catalog.doubt().map(|Problem { file, reason }| {
            format!("what operators have said of policy is not known for sure: {file} {reason}")
        });
        let before = std::mem::replace(&mut self.told_doubt, doubt.into_iter().collect());
        let now = self.told_doubt.clone();
        self.board.send_modify(|board| {
            board.policy_problems = problems;
            board.retell(&before, now);
        });
    }

    /// Writes what has changed, if anything has. What could not be written is part of the next change.
    fn govern(&mut self) -> Option<LocalBoxActorFuture<Self, Result<(), CniError>>> {
        let changes = self.registry.take_changes()?;
        self.changes += 1;
        let governed = self.hands.govern.send(Govern(changes.clone())).into_actor(self);
        Some(Box::pin(governed.map(move |governed, policy, _| {
            let governed = governed.unwrap_or_else(|_| Err(LaneError::panicked().into()));
            if governed.is_err() {
                policy.registry.put_back(changes);
            }
            governed.map_err(errors::kernel)
        })))
    }

    /// Has what has changed written, unless that is being done; then it is done after.
    fn write(&mut self, ctx: &mut Context<Self>) {
        if self.is_writing {
            return;
        }
        let Some(governed) = self.govern() else {
            for waiting in self.waiting.drain(..) {
                let _ = waiting.send(Ok(()));
            }
            return;
        };
        self.is_writing = true;
        let waiting = std::mem::take(&mut self.waiting);
        ctx.spawn(governed.map(move |governed, policy, ctx| {
            if let (Err(error), true) = (&governed, waiting.is_empty()) {
                warn!(policy.log, "what policy has in the rules could not be written, and is tried \
                    again"; "error" => %error);
            }
            for waiting in waiting {
                let _ = waiting.send(governed.clone());
            }
            policy.is_writing = false;
            if governed.is_ok() || !policy.waiting.is_empty() {
                policy.write(ctx);
            }
        }));
    }
}

impl Actor for Policy {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(RETRY, |policy, ctx| {
            policy.write(ctx); // nothing, as a rule
            policy.save_again(ctx);
        });
        ctx.run_interval(FORGET, |policy, ctx| {
            policy.registry.forget_unused();
            policy.write(ctx);
        });
    }
}

impl Handler<Begin> for Policy {
    type Result = ResponseFuture<Begun>;

    fn handle(&mut self, Begin(records): Begin, ctx: &mut Context<Self>) -> Self::Result {
        let (tell, told) = oneshot::channel();
        let read = on_lane(self.shelf.clone(), |shelf: &mut Shelf| {
            let (restored, told) = shelf.restore();
            let catalog = shelf.reload(&restored);
            // What a file said last is to be known also if it will not do at the next start.
            let saved = shelf.save(&catalog);
            (catalog, saved, told)
        });
        let begin =
            read.into_actor(self).map(move |read: Result<_, LaneError>, policy: &mut Self, _| {
                let (catalog, saved, told) = read.unwrap_or_else(|e| {
                    let lost = Catalog::lost("the documents of policy".to_owned(), e.to_string());
                    (lost, Ok(()), None)
                });
                if let Some(told) = told {
                    error!(policy.log, "documents of policy had to be taken from another file"; "error" => told);
                }
                if let Err(error) = saved {
                    warn!(policy.log, "the documents of policy could not be saved";
                        "error" => %error);
                }
                policy.adopt(catalog);
                for record in records {
                    policy.place(record);
                }
                // The Driver writes all of it at once, with everything else there is to be.
                let _ = policy.registry.take_changes();
                let elements = policy.registry.elements().cloned().collect();
                let _ = tell.send(Begun { elements, rules: policy.registry.rules() });
            });
        begin.wait(ctx);
        Box::pin(async move { told.await.unwrap_or_default() })
    }
}

impl Handler<Judge> for Policy {
    type Result = ResponseFuture<Result<(), CniError>>;

    fn handle(&mut self, Judge(record): Judge, ctx: &mut Context<Self>) -> Self::Result {
        self.place(*record);
        let (tell, told) = oneshot::channel();
        self.waiting.push(tell);
        self.write(ctx);
        Box::pin(async move { told.await.unwrap_or_else(|_| Err(dropped())) })
    }
}

impl Handler<Dismiss> for Policy {
    type Result = ();

    fn handle(&mut self, Dismiss(key): Dismiss, ctx: &mut Context<Self>) {
        self.records.remove(&key);
        if self.unidentified.remove(&key) {
            self.tell_unidentified();
        }
        self.registry.dismiss(&key);
        self.world = None;
        self.write(ctx);
        if self.catalog.labels(&key).is_some() {
            // Its key may be another's one day.
            self.catalog = self.catalog.forget(&key);
            self.is_unsaved = true;
            self.save_again(ctx);
        }
    }
}

impl Handler<Expected> for Policy {
    type Result = ResponseActFuture<Self, Expectation>;

    fn handle(&mut self, Expected(key): Expected, ctx: &mut Context<Self>) -> Self::Result {
        let (tell, told) = oneshot::channel();
        self.waiting.push(tell);
        self.write(ctx);
        // What could not be written is missed by whoever looks for it.
        Box::pin(told.into_actor(self).map(move |_, policy, _| Expectation {
            elements: policy.registry.elements_of(&key).to_vec(),
            changes: policy.changes,
        }))
    }
}

impl Handler<Observe> for Policy {
    type Result = ();

    fn handle(&mut self, _: Observe, _: &mut Context<Self>) {}
}

impl Handler<Drain> for Policy {
    type Result = ();

    fn handle(&mut self, _: Drain, _: &mut Context<Self>) {}
}
