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
mod control;
mod lend;
mod listener;
mod read;
mod renamed;
mod verbs;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Recipient, WrapFuture};
use quantum_cni::access::{self, Asked, Forbidden, Refusals};
use quantum_cni::attach::NetnsId;
use quantum_cni::kernel::clock::boottime_ms;
use quantum_config::cni::{self, Command};
use quantum_config::sysctl::SysctlPatterns;
use quantum_config::wire::{Reply, Request};
use slog::{Logger, debug, warn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, watch};

pub(crate) use self::listener::Listener;
use self::read::ReadError;
use crate::board::Board;
use crate::messages::cache::{Find, Held};
use crate::messages::driver::Loopback;
use crate::messages::manager::{Admit, Died};
use crate::messages::policy::Answer;
use crate::meters::Meters;

/// How long a peer has to take its answer and hang up.
const LINGER: Duration = Duration::from_millis(200);

/// What every Session needs.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) admit: Recipient<Admit>,
    pub(crate) died: Recipient<Died>,
    pub(crate) find: Recipient<Find>,
    pub(crate) held: Recipient<Held>,
    pub(crate) loopback: Recipient<Loopback>,
    /// Questions about policy.
    pub(crate) answer: Recipient<Answer>,
    pub(crate) board: watch::Receiver<Board>,
    pub(crate) meters: Meters,
    pub(crate) log: Logger,
    /// The network namespace the daemon works in.
    pub(crate) host: NetnsId,
    /// The number of `reader_group`, if one is set.
    pub(crate) readers: Option<u32>,
    /// Which refusals are logged.
    pub(crate) refusals: RefCell<Refusals>,
    /// The kernel's settings that networks may set in their containers.
    pub(crate) sysctls: SysctlPatterns,
}

/// The actor.
pub(crate) struct Session {
    house: Rc<House>,
    /// Taken by the one future that serves it.
    connection: Option<UnixStream>,
    /// Lets the listener accept another connection when this one is done.
    _place: OwnedSemaphorePermit,
}

impl Session {
    /// A session for a connection that was accepted.
    pub(crate) fn new(
        house: Rc<House>,
        connection: UnixStream,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { house, connection: Some(connection), _place: place }
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
async fn serve(house: Rc<House>, mut connection: UnixStream) {
    match read::request(&connection, house.readers).await {
        Ok((peer, Request::Call(call), descriptors)) => {
            let asked = Asked::Call(Command::parse(&call.env.command).ok());
            match access::decide(&peer, house.readers, asked) {
                Ok(()) => call::serve(&house, &mut connection, peer, *call, descriptors).await,
                Err(forbidden) => {
                    forbid(&house, &forbidden);
                    let version = cni::peek(&call.stdin).version;
                    let answer = refuse(&forbidden.into(), Some(&version)).encode();
                    deliver(&mut connection, &answer, &house.log).await;
                }
            }
        }
        Ok((peer, Request::Control(question), _)) => {
            let answer = control::serve(&house, &peer, &question).await.encode();
            deliver(&mut connection, &answer, &house.log).await;
        }
        Err(error) => {
            match &error {
                ReadError::Forbidden(forbidden) => forbid(&house, forbidden),
                _ => debug!(house.log, "no request"; "error" => %error),
            }
            let Some(answer) = error.answer() else { return }; // nobody is there to hear it
            deliver(&mut connection, &answer, &house.log).await;
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

/// Sends an answer and waits a moment for the peer to take it and hang up; false if it did not. A
/// peer that goes with the answer unread resets the connection; one that has read it only closes.
async fn deliver(connection: &mut UnixStream, answer: &[u8], log: &Logger) -> bool {
    let sent = connection.write_all(answer).await;
    let taken = linger(connection).await;
    if let Err(error) = sent.and(taken) {
        debug!(log, "answer not delivered"; "error" => %error);
        return false;
    }
    true
}

/// Reads what the peer still sends until it hangs up, for a moment. Closing a socket with unread
/// bytes would reset the connection, and the peer would never see why it was refused.
async fn linger(connection: &mut UnixStream) -> io::Result<()> {
    let _ = connection.shutdown().await;
    let mut scrap = [0; 4096];
    let drain = async {
        while connection.read(&mut scrap).await? > 0 {}
        Ok(())
    };
    // Who keeps his end open has not said that he did not hear it.
    tokio::time::timeout(LINGER, drain).await.unwrap_or(Ok(()))
}

/// An error as an answer.
fn refuse(error: &cni::CniError, version: Option<&str>) -> Reply {
    Reply { exit: 1, stdout: error.to_json(version), ..Reply::default() }
}
