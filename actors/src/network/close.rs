//! What a network of Docker's needs besides: addresses kept for a container that is not attached yet, and
//! its own end.

use actix::{
    ActorContext, ActorFutureExt, Context, Handler, ResponseActFuture, ResponseFuture, WrapFuture,
};
use quantum_cni::attach::{Assigned, Refusal};
use quantum_cni::errors;
use quantum_cni::kernel::clock::boottime_ms;
use quantum_config::cni::{CniError, Code};

use super::Network;
use crate::messages::ask;
use crate::messages::driver::Dismantle;
use crate::messages::network::{Close, Reserve, Unreserve};
use crate::messages::pool::Lease;

impl Handler<Reserve> for Network {
    type Result = ResponseFuture<Result<Vec<Assigned>, Refusal>>;

    fn handle(&mut self, request: Reserve, _: &mut Context<Self>) -> Self::Result {
        let open = self.gate.open();
        let name = self.name.clone();
        Box::pin(async move {
            let Some(open) = open else {
                return Err(CniError::new(
                    Code::TryAgainLater,
                    format!("network {name} is not ready; quantumctl status says why"),
                )
                .into());
            };
            let Reserve { owner, definition, wanted } = request;
            let lease = Lease { owner, network: definition, wanted };
            let leased = ask(&open.pool.lease, lease).await?;
            let leased = leased.map_err(|error| Refusal::of_address(&name, &error))?;
            Ok(leased.addresses)
        })
    }
}

impl Handler<Unreserve> for Network {
    type Result = ();

    fn handle(&mut self, Unreserve(owner): Unreserve, ctx: &mut Context<Self>) {
        self.give_back(owner, boottime_ms(), ctx);
    }
}

impl Handler<Close> for Network {
    type Result = ResponseActFuture<Self, Result<(), CniError>>;

    fn handle(&mut self, Close(definition): Close, _: &mut Context<Self>) -> Self::Result {
        let is_busy = self.tickets.running() > 0;
        let (dismantle, name) = (self.hands.dismantle.clone(), self.name.clone());
        let work = async move {
            if is_busy {
                return Err(CniError::new(
                    Code::TryAgainLater,
                    format!("network {name} is in use; remove its containers first"),
                ));
            }
            ask(&dismantle, Dismantle(definition)).await?.map_err(errors::kernel)
        };
        Box::pin(work.into_actor(self).map(|outcome, _, ctx| {
            if outcome.is_ok() {
                ctx.stop();
            }
            outcome
        }))
    }
}
