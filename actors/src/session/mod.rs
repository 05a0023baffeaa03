//! Session: one for each connection. It reads one request, finds out what is asked, has it done and
//! writes one answer; and while it is done it watches whether the caller is still there.
//!
//! ```text
//!   Reading ──► Working ──► Answering ──► gone
//!      │           └── the caller hangs up: the work is told, and undoes itself
//!      └── not a request of ours: an answer that says why
//! ```

mod call;
mod control;
mod listener;
mod read;
mod renamed;
mod verbs;

use std::rc::Rc;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Recipient, WrapFuture};
use quantum_cni::attach::NetnsId;
use quantum_config::wire::{Reply, Request};
use slog::{Logger, debug};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, watch};

pub(crate) use self::listener::Listener;
use crate::board::Board;
use crate::messages::cache::Find;
use crate::messages::manager::{Admit, Died};
use crate::meters::Meters;

/// What every Session needs.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) admit: Recipient<Admit>,
    pub(crate) died: Recipient<Died>,
    pub(crate) find: Recipient<Find>,
    pub(crate) board: watch::Receiver<Board>,
    pub(crate) meters: Meters,
    pub(crate) log: Logger,
    /// The network namespace the daemon works in.
    pub(crate) host: NetnsId,
    /// Members of this group may use the socket, besides root.
    pub(crate) group: Option<u32>,
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
    match read::request(&connection, house.group).await {
        Ok((Request::Call(call), descriptors)) => {
            call::serve(&house, &mut connection, *call, descriptors).await;
        }
        Ok((Request::Control(question), _)) => {
            let answer = control::serve(&house, &question).encode();
            deliver(&mut connection, &answer, &house.log).await;
        }
        Err(error) => {
            debug!(house.log, "no request"; "error" => %error);
            let Some(answer) = error.answer() else { return }; // nobody is there to hear it
            deliver(&mut connection, &answer, &house.log).await;
        }
    }
    linger(&mut connection).await;
}

/// Sends an answer; false if there is nobody to take it.
async fn deliver(connection: &mut UnixStream, answer: &[u8], log: &Logger) -> bool {
    let sent = connection.write_all(answer).await;
    if let Err(error) = &sent {
        debug!(log, "answer not delivered"; "error" => %error);
    }
    sent.is_ok()
}

/// Reads what the peer still sends until it hangs up, for a moment. Closing a socket with unread
/// bytes would reset the connection, and the peer would never see why it was refused.
async fn linger(connection: &mut UnixStream) {
    let _ = connection.shutdown().await;
    let mut scrap = [0; 4096];
    let drain = async { while connection.read(&mut scrap).await.is_ok_and(|n| n > 0) {} };
    let _ = tokio::time::timeout(std::time::Duration::from_millis(200), drain).await;
}

/// An error as an answer.
fn refuse(error: &quantum_config::cni::CniError, version: Option<&str>) -> Reply {
    Reply { exit: 1, stdout: error.to_json(version) }
}
