//! Network: one for each network. It orders the work for each attachment, and decides when the
//! network itself is made or changed; the work is done by Pool, Cache and Driver.
//!
//! ```text
//!              first ADD                 prepared
//!   Closed ───────────────► Opening ───────────────► Open
//!      ▲                       │  ▲                    │
//!      └───────────────────────┘  └────────────────────┘
//!              failed                another definition
//! ```
//!
//! While it is Opening, what needs it is parked; DEL, CHECK and GC need no gate, because they work from
//! records. Requests for one attachment run one after the other (see
//! [`Tickets`]); different ones run side by side. A handler decides at
//! once, spawns the work, and touches the state again only when the work is done.

mod again;
mod amend;
mod attach;
mod check;
mod close;
mod collect;
mod detach;
mod expose;
mod gate;
mod lend;
mod mend;
mod parked;
mod publish;
mod ticket;

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Recipient, ResponseFuture};
use lru::LruCache;
use quantum_cni::attach::Tickets;
use quantum_cni::ipam::Register;
use quantum_config::ids::{ContainerId, IfName, NetworkName};
use slog::{Logger, debug};
use tokio::sync::oneshot;

use self::gate::Gate;
use self::ticket::{Attempt, Ticket};
use crate::messages::Drain;
use crate::messages::cache::{
    Abandon, Addresses, All, Attached, Define, Find, Forget, Held, Hold, Leave, List, Lookup,
    Remember, TakeOver,
};
use crate::messages::driver::{
    Apply, Destroyed, Dismantle, Inspect, Links, Ports, Prepare, Republish, Restore, Revert,
    Revise, Sweep, Vacant,
};
use crate::messages::manager::Changed;
use crate::messages::network::NetworkMailbox;
use crate::messages::policy::{Dismiss, Expected, Judge};
use crate::messages::publisher::{Publish, Withdraw};

/// How often is tried again what the kernel refused: DELs, and making the network ready.
const RETRY: Duration = Duration::from_secs(2);

/// Whom a Network asks.
#[derive(Debug, Clone)]
pub(crate) struct Hands {
    pub(crate) lookup: Recipient<Lookup>,
    pub(crate) remember: Recipient<Remember>,
    pub(crate) leave: Recipient<Leave>,
    pub(crate) abandon: Recipient<Abandon>,
    pub(crate) forget: Recipient<Forget>,
    pub(crate) find: Recipient<Find>,
    pub(crate) list: Recipient<List>,
    pub(crate) held: Recipient<Held>,
    pub(crate) hold: Recipient<Hold>,
    pub(crate) take_over: Recipient<TakeOver>,
    pub(crate) all: Recipient<All>,
    pub(crate) addresses: Recipient<Addresses>,
    pub(crate) define: Recipient<Define>,
    pub(crate) publish: Recipient<Publish>,
    pub(crate) withdraw: Recipient<Withdraw>,
    pub(crate) judge: Recipient<Judge>,
    pub(crate) dismiss: Recipient<Dismiss>,
    pub(crate) expected: Recipient<Expected>,
    pub(crate) vacant: Recipient<Vacant>,
    pub(crate) prepare: Recipient<Prepare>,
    pub(crate) restore: Recipient<Restore>,
    pub(crate) apply: Recipient<Apply>,
    pub(crate) revise: Recipient<Revise>,
    pub(crate) revert: Recipient<Revert>,
    pub(crate) republish: Recipient<Republish>,
    pub(crate) dismantle: Recipient<Dismantle>,
    pub(crate) inspect: Recipient<Inspect>,
    pub(crate) destroyed: Recipient<Destroyed>,
    pub(crate) links: Recipient<Links>,
    pub(crate) attached: Recipient<Attached>,
    pub(crate) ports: Recipient<Ports>,
    pub(crate) sweep: Recipient<Sweep>,
    /// Who has which address, in all networks.
    pub(crate) register: Rc<RefCell<Register>>,
}

/// How many ADDs that failed are remembered.
const FAILED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

/// Within one network an attachment is known by these two.
pub(crate) type Key = (ContainerId, IfName);

/// The actor.
pub(crate) struct Network {
    name: NetworkName,
    hands: Rc<Hands>,
    changed: Recipient<Changed>,
    log: Logger,
    gate: Gate,
    tickets: Tickets<Key, Ticket>,
    /// ADDs that failed of late. The DEL that runtimes send after one means that attempt, and must not
    /// be taken for a DEL of an attachment in a network that was renamed.
    failed: LruCache<Key, Attempt>,
    /// Told when the last ticket is done.
    idle: Vec<oneshot::Sender<()>>,
}

impl Network {
    /// A network of which only the name is known yet. If an earlier actor of this name died, what it
    /// left half done is swept before the first ADD.
    pub(crate) fn new(
        name: NetworkName,
        after_death: bool,
        hands: Hands,
        changed: Recipient<Changed>,
        log: Logger,
    ) -> Self {
        Self {
            name,
            hands: Rc::new(hands),
            changed,
            log,
            gate: Gate::new(after_death),
            tickets: Tickets::default(),
            failed: LruCache::new(FAILED),
            idle: Vec::new(),
        }
    }

    /// Starts the actor and gives its mailbox.
    pub(crate) fn open(self) -> NetworkMailbox {
        let address = self.start();
        NetworkMailbox {
            may_attach: address.clone().recipient(),
            attach: address.clone().recipient(),
            lend: address.clone().recipient(),
            amend: address.clone().recipient(),
            detach: address.clone().recipient(),
            check: address.clone().recipient(),
            collect: address.clone().recipient(),
            open: address.clone().recipient(),
            mend: address.clone().recipient(),
            expose: address.clone().recipient(),
            reserve: address.clone().recipient(),
            unreserve: address.clone().recipient(),
            close: address.clone().recipient(),
            drain: address.recipient(),
        }
    }
}

impl Actor for Network {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        debug!(self.log, "network started");
        self.sweep(ctx);
        self.finish_leaving(ctx);
        ctx.run_interval(RETRY, |network, ctx| {
            network.finish_leaving(ctx);
            network.give_up(ctx);
            network.try_again(ctx);
        });
    }
}

impl Handler<Drain> for Network {
    type Result = ResponseFuture<()>;

    /// Answers when the last ticket is done. Nothing new comes: the door is closed by then.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let (tell, told) = oneshot::channel();
        if self.tickets.running() > 0 {
            self.idle.push(tell);
        }
        Box::pin(async move {
            let _ = told.await; // at once if nobody keeps the other end
        })
    }
}
