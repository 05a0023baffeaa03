//! The end of a network: Docker removes its own. Those of `config_dir` are never removed.

use actix::{ActorFutureExt, Context, Handler, ResponseActFuture, WrapFuture};
use quantum_config::cni::CniError;

use super::Manager;
use crate::messages::lost;
use crate::messages::manager::Retire;
use crate::messages::network::Close;

impl Handler<Retire> for Manager {
    type Result = ResponseActFuture<Self, Result<(), CniError>>;

    fn handle(&mut self, Retire(network): Retire, ctx: &mut Context<Self>) -> Self::Result {
        let name = network.name.clone();
        let closing = self.network(&name, ctx).close.send(Close(network));
        Box::pin(closing.into_actor(self).map(move |outcome, manager, _| {
            outcome.map_err(|e| lost(&e)).and_then(|closed| closed)?;
            // Somebody may have asked for it meanwhile, and got a new one.
            if manager.networks.get(&name).is_some_and(|mailbox| mailbox.is_alive()) {
                return Ok(());
            }
            manager.networks.remove(&name);
            manager.board.send_modify(|board| {
                board.networks.remove(&name);
                board.judge();
            });
            Ok(())
        }))
    }
}
