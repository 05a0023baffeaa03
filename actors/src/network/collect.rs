//! GC: every attachment of the network that is not valid gets an ordinary DEL. One that fails does
//! not stop the others.

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use futures_util::future::join_all;
use quantum_cni::attach::stale;
use quantum_cni::kernel::clock::boottime_ms;
use quantum_config::cni::{CniError, Code};
use slog::info;
use tokio::sync::oneshot;

use super::Network;
use super::ticket::Ticket;
use crate::messages::cache::List;
use crate::messages::dropped;
use crate::messages::lost;
use crate::messages::network::{Collect, Detach, Only};

impl Handler<Collect> for Network {
    type Result = ResponseFuture<Result<(), CniError>>;

    fn handle(&mut self, request: Collect, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        // Not what an ADD makes meanwhile: who listed what is valid did not know of it.
        let asked = boottime_ms();
        let list = self.hands.list.send(List(self.name.clone()));
        ctx.spawn(list.into_actor(self).map(move |listed, network, ctx| {
            let keys = match listed {
                Ok(listed) => listed.keys,
                Err(error) => {
                    let _ = answer.send(Err(lost(&error)));
                    return;
                }
            };
            let going = stale(&network.name, keys, &request.valid);
            if !going.is_empty() {
                info!(network.log, "collecting"; "command" => "GC", "attachments" => going.len());
            }
            let waits: Vec<_> = going
                .into_iter()
                .map(|key| {
                    let (tell, told) = oneshot::channel();
                    let detach = Detach {
                        key: key.clone(),
                        made_before: Some(asked),
                        netns: None,
                        only: Only::Cni,
                    };
                    network.hand_in(Ticket::Detach(Box::new(detach), tell), ctx);
                    async move { (key, told.await.unwrap_or_else(|_| Err(dropped()))) }
                })
                .collect();
            ctx.spawn(join_all(waits).into_actor(network).map(|outcomes, _, _| {
                let failed: Vec<String> = outcomes
                    .into_iter()
                    .filter_map(|(key, outcome)| outcome.err().map(|e| format!("{key}: {e}")))
                    .collect();
                let outcome = if failed.is_empty() { Ok(()) } else { Err(incomplete(&failed)) };
                let _ = answer.send(outcome);
            }));
        }));
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(dropped())) })
    }
}

fn incomplete(failed: &[String]) -> CniError {
    CniError::new(Code::TryAgainLater, format!("{} attachments could not be removed", failed.len()))
        .with_details(failed.join("; "))
}
