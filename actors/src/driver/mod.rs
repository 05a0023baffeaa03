//! Driver: the one door to the kernel. It holds the lanes, splits a request among them, and sees that
//! what one of them did is undone when another fails.
//!
//! | lane           | does                                                              |
//! |----------------|-------------------------------------------------------------------|
//! | `route`        | makes and configures the pairs                                    |
//! | `route-delete` | removes pairs, all that have arrived while it was busy at a time, |
//! |                | and what the kernel remembers of their connections                |
//! | `netfilter`    | elements of our nftables sets                                     |
//! | `flows`        | has the kernel forget UDP flows to ports that were just published |
//! | `inspect`      | looks, for CHECK, at start and for ports that are to be published |
//! | `forwarding`   | has the host forward while there is a gateway of ours             |
//! | `slow`         | an arbiter of its own, for what is rare: bridges                  |
//!
//! Besides, the thread `watch` hears what others change in the kernel ([`watch`]).

mod apply;
mod crowd;
mod forwarding;
mod govern;
mod inspect;
mod lanes;
mod links;
mod prepare;
mod republish;
mod revert;
mod revise;
mod sweep;
mod vacant;
mod vacate;
mod watch;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use actix::{Actor, Context, Handler, ResponseFuture};
use quantum_cni::attach::{Bound, Stances};
use quantum_cni::kernel::KernelError;
use quantum_cni::kernel::nflog::Hearing;
use slog::{Logger, warn};
use tokio::sync::Mutex;

pub(crate) use self::lanes::Lanes;
use self::links::Care;
use self::vacate::Awaited;
use crate::messages::driver::Inform;
use crate::messages::manager::Looked;
use crate::messages::{Drain, Observe};
use crate::meters::Meters;

/// The actor.
pub(crate) struct Driver {
    lanes: Rc<Lanes>,
    meters: Meters,
    log: Logger,
    /// Whom it tells what it learns of by itself.
    inform: Option<Inform>,
    /// What is remembered of the links of ours from look to look.
    care: Rc<Care>,
    /// The watch was started.
    watches: bool,
    /// What was told last.
    told: Option<Looked>,
    /// One network with gateways is prepared at a time: the next one sees the addresses of the one before.
    one_by_one: Rc<Mutex<()>>,
    /// Those that have no port yet.
    awaited: Awaited,
    /// How the networks that were prepared stand.
    stances: Stances,
    /// Hears what the rules deny.
    hearing: Option<Hearing>,
    /// How many connections an address may hold, and those that hold too many.
    bound: Bound,
    crowded: BTreeMap<IpAddr, u64>,
    /// Somebody is counting them.
    counts: bool,
}

impl Driver {
    /// A driver in front of the lanes.
    pub(crate) fn new(lanes: Lanes, bound: Bound, meters: Meters, log: Logger) -> Self {
        let (inform, watches, told, hearing) = (None, false, None, None);
        let (stances, one_by_one) = (Stances::default(), Rc::default());
        let (lanes, crowded, counts) = (Rc::new(lanes), BTreeMap::new(), false);
        let care = Rc::new(Care::new(meters.clone(), log.clone()));
        Self {
            lanes,
            meters,
            log,
            inform,
            care,
            watches,
            told,
            one_by_one,
            awaited: Awaited::default(),
            stances,
            hearing,
            bound,
            crowded,
            counts,
        }
    }
}

impl Actor for Driver {
    type Context = Context<Self>;
}

impl Handler<Inform> for Driver {
    type Result = ();

    fn handle(&mut self, inform: Inform, _: &mut Self::Context) {
        self.inform = Some(inform);
    }
}

impl Handler<Observe> for Driver {
    type Result = ();

    fn handle(&mut self, _: Observe, _: &mut Self::Context) {}
}

impl Handler<Drain> for Driver {
    type Result = ResponseFuture<()>;

    /// Everybody who asks has been drained before; the threads of the lanes end with the process.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let (lanes, log) = (self.lanes.clone(), self.log.clone());
        Box::pin(async move {
            let left = lanes.netfilter(|table| table.leave().map_err(KernelError::from)).await;
            if let Err(error) = left.flatten() {
                warn!(log, "our nftables tables are left as they are"; "error" => %error);
            }
        })
    }
}
