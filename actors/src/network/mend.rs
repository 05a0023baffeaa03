//! Mending: a network that is open gets back what somebody took from its bridge. One that is being
//! prepared gets it anyway.

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use quantum_cni::errors;
use slog::warn;

use super::Network;
use crate::messages::ask;
use crate::messages::driver::Restore;
use crate::messages::network::Mend;

impl Handler<Mend> for Network {
    type Result = ();

    fn handle(&mut self, _: Mend, ctx: &mut Context<Self>) {
        let Some(open) = self.gate.open().filter(|open| !open.definition.lends) else { return };
        let hands = self.hands.clone();
        let work = async move {
            let restore = Restore(open.definition.clone());
            let end = ask(&hands.restore, restore).await?.map_err(errors::kernel)?;
            if end.index != open.bridge.replace(end).index {
                open.ports.borrow_mut().forget();
            }
            Ok(())
        };
        let work = work.into_actor(self);
        ctx.spawn(work.map(|done: Result<(), quantum_config::cni::CniError>, network, _| {
            match done {
                Ok(()) => {}
                Err(error) => {
                    warn!(network.log, "the bridge was changed and cannot be put right"; "error" => %error);
                }
            }
        }));
    }
}
