//! Session: one for each connection. It reads one request, finds out what is asked, has it done and
//! writes one answer; and while it is done it watches whether the caller is still there.
//!
//! ```text
//!   Reading ──► Working ──► Answering ──► gone
//!      │           └── the caller hangs up: the work is told, and undoes itself
//!      └── not a request of ours: an answer that says why
//! ```

mod call;
mod chain;
mod conf;
mod connection;
mod control;
mod lend;
mod listener;
mod memory;
mod read;
mod renamed;
mod shares;
mod verbs;

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Recipient, WrapFuture};
use quantum_cni::access::{self, Asked, Forbidden, Refusals};
use quantum_cni::attach::NetnsId;
use quantum_cni::kernel::clock::boottime_ms;
use quantum_config::cni::{self, Command};
use quantum_config::ids::NetworkName;
use quantum_config::sysctl::SysctlPatterns;
use quantum_config::wire::{Reply, Request};
use slog::{Logger, debug, warn};
use tokio::sync::{oneshot, watch};

use self::connection::Connection;
pub(crate) use self::listener::{Listener, places, readers};
pub(crate) use self::memory::Memory;
use self::read::{ReadError, Received};
use self::shares::Shares;
use crate::board::Board;
use crate::messages::cache::{Find, Held};
use crate::messages::driver::Loopback;
use crate::messages::manager::{Admit, Reclaim};
use crate::messages::policy::Answer;
use crate::meters::Meters;

/// How many long configurations are read at a time.
#[derive(Debug)]
pub(crate) struct Readers(Shares);

impl Readers {
    pub(crate) fn new() -> Self {
        Self(Shares::new(conf::READERS))
    }
}

/// What every Session needs.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) admit: Recipient<Admit>,
    pub(crate) reclaim: Recipient<Reclaim>,
    pub(crate) find: Recipient<Find>,
    pub(crate) held: Recipient<Held>,
    pub(crate) loopback: Recipient<Loopback>,
    /// Questions about policy.
    pub(crate) answer: Recipient<Answer>,
    pub(crate) board: watch::Receiver<Board>,
    pub(crate) meters: Meters,
    pub(crate) log: Logger,
    /// For requests that are being read.
    pub(crate) memory: Memory,
    /// For configurations that are long.
    pub(crate) readers: Readers,
    /// The network namespace the daemon works in.
    pub(crate) host: NetnsId,
    /// The number of `reader_group`, if one is set.
    pub(crate) reader_group: Option<u32>,
    /// Which refusals are logged.
    pub(crate) refusals: RefCell<Refusals>,
    /// The chains of administrators that were told of, and for which networks.
    pub(crate) admin_chains: RefCell<HashSet<(NetworkName, String)>>,
    /// The kernel's settings that networks may set in their containers.
    pub(crate) sysctls: SysctlPatterns,
    /// Dropped with the last Session, which is how the life cycle knows.
    #[expect(dead_code, reason = "dropping it is what it is for")]
    pub(crate) last: oneshot::Sender<()>,
}

/// The actor.
pub(crate) struct Session {
    house: Rc<House>,
    /// Taken by the one future that serves it.
    connection: Option<Connection>,
}

impl Session {
    /// A session for a connection that was accepted.
    fn new(house: Rc<House>, connection: Connection) -> Self {
        Self { house, connection: Some(connection) }
    }
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(connection) = self.connection.take() else { return ctx.stop() };
        let work = serve(self.house.clone(), connection);
        ctx.spawn(work.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

/// One request and its answer.
async fn serve(house: Rc<House>, mut connection: Connection) {
    let _presence = house.memory.enter();
    match read::request(&mut connection, house.reader_group, &house.memory).await {
        Ok(Received { request: Request::Call(mut call), since, room }) => {
            let asked = Asked::Call(Command::parse(&call.env.command).ok());
            match access::decide(connection.peer(), house.reader_group, asked) {
                // On its own: those that are still being read need not have room for it.
                Ok(()) => {
                    Box::pin(call::serve(&house, &mut connection, *call, since, room)).await;
                }
                Err(forbidden) => {
                    forbid(&house, &forbidden);
                    let read = Box::pin(conf::read(&house, forbidden.uid, &mut call, room));
                    let conf = read.await;
                    let answer = refuse(&forbidden.into(), Some(&conf.seen.version)).encode();
                    connection.deliver(&answer, &house.log).await;
                }
            }
        }
        Ok(Received { request: Request::Control(question), room: _room, .. }) => {
            let work = Box::pin(control::serve(&house, connection.peer(), &question));
            let answer = work.await.encode();
            connection.deliver(&answer, &house.log).await;
        }
        Err(error) => {
            match &error {
                ReadError::Forbidden(forbidden) => forbid(&house, forbidden),
                _ => debug!(house.log, "no request"; "error" => %error),
            }
            let Some(answer) = error.answer() else { return }; // the peer has hung up
            connection.deliver(&answer, &house.log).await;
        }
    }
}

/// Logs who was refused what.
fn forbid(house: &House, forbidden: &Forbidden) {
    if let Some(left_out) = house.refusals.borrow_mut().log(boottime_ms()) {
        warn!(house.log, "refused"; "uid" => forbidden.uid, "pid" => forbidden.pid,
            "request" => &forbidden.asked, "not_logged_before" => left_out);
    }
}

/// An error as an answer.
fn refuse(error: &cni::CniError, version: Option<&str>) -> Reply {
    Reply { exit: 1, stdout: error.to_json(version), ..Reply::default() }
}
