//! Stopping: the door closes, who waits at it is sent to the next daemon, who is inside finishes. Networks
//! and their containers are left as they are.

use actix::{Context, Handler, ResponseFuture};
use futures_util::future::join_all;
use slog::info;
use tokio::sync::oneshot;

use super::Manager;
use crate::board::Phase;
use crate::messages::Drain;

impl Handler<Drain> for Manager {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Context<Self>) -> Self::Result {
        self.board.send_modify(|board| board.phase = Phase::Draining);
        info!(self.log, "stopping"; "requests" => self.door.inside());
        for waiter in self.door.close() {
            waiter.turn_away();
        }
        let (tell, told) = oneshot::channel();
        if self.door.inside() > 0 {
            self.empty.push(tell);
        }
        let networks: Vec<_> = self.networks.values().map(|n| n.drain.clone()).collect();
        Box::pin(async move {
            let _ = told.await; // at once if nobody is inside
            join_all(networks.iter().map(|network| network.send(Drain))).await;
        })
    }
}
