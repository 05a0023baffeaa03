//! What an ADD wants and attachments hold whose link is destroyed: their networks release them at once,
//! instead of when the grace time is over. Whether a link is destroyed is asked of the kernel, in its network.

use std::collections::HashMap;
use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use futures_util::future::join_all;
use quantum_cni::attach::{Claimed, NetnsId, Record, reclaimable};
use quantum_config::cni::CniError;
use quantum_config::ids::AttachmentKey;
use slog::warn;
use tokio::sync::oneshot;

use super::Manager;
use super::orphans::without_link;
use crate::messages::manager::Reclaim;
use crate::messages::network::{Detach, Detached, Only};
use crate::messages::{ask, dropped};
use crate::network::Hands;

/// Who waits to hear how many were released.
type Answers = Vec<oneshot::Sender<Result<usize, CniError>>>;

/// What is being released, with those who want it: who asks meanwhile is answered with them.
pub(super) type Reclaims = HashMap<Claimed, Answers>;

impl Handler<Reclaim> for Manager {
    type Result = ResponseFuture<Result<usize, CniError>>;

    fn handle(&mut self, Reclaim(claimed): Reclaim, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        let answers = self.reclaims.entry(claimed.clone()).or_default();
        answers.push(answer);
        if answers.len() == 1 {
            self.reclaim(claimed, ctx);
        }
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(dropped())) })
    }
}

impl Manager {
    /// Looks who may be released, and has each released by its network.
    fn reclaim(&mut self, claimed: Claimed, ctx: &mut Context<Self>) {
        let looking = candidates(self.hands.clone(), claimed.clone(), self.watch.host());
        let work = looking.into_actor(self).then(|found, manager, ctx| {
            let releasing: Vec<_> = found
                .iter()
                .flatten()
                .map(|record| {
                    let mailbox = manager.network(&record.key.network, ctx);
                    let detach = Detach {
                        key: record.key.clone(),
                        made_before: Some(record.created),
                        netns: None,
                        only: if record.handed { Only::Abandoned } else { Only::Orphaned },
                    };
                    async move { ask(&mailbox.detach, detach).await? }
                })
                .collect();
            let outcomes = join_all(releasing).into_actor(manager);
            outcomes.map(move |outcomes, manager, _| {
                let each = found?.into_iter().zip(outcomes);
                Ok(each.filter(|(record, outcome)| manager.is_released(record, outcome)).count())
            })
        });
        ctx.spawn(work.map(move |released, manager, _| {
            for answer in manager.reclaims.remove(&claimed).into_iter().flatten() {
                let _ = answer.send(released.clone());
            }
        }));
    }

    fn is_released(&self, record: &Record, outcome: &Result<Detached, CniError>) -> bool {
        match outcome {
            Ok(detached) if detached.found => {
                self.released(record, "an ADD wants what it held");
                true
            }
            Ok(_) => false,
            Err(error) => {
                warn!(self.log, "releasing an attachment whose interface is gone";
                    "container_id" => record.key.container.as_str(), "error" => %error);
                false
            }
        }
    }
}

/// Those that may be released, by what the host shows.
async fn candidates(
    hands: Hands,
    claimed: Claimed,
    host: NetnsId,
) -> Result<Vec<Arc<Record>>, CniError> {
    let is_meant = |key: &AttachmentKey| match &claimed {
        Claimed::By(holder) => key == holder,
        Claimed::All(network) => key.network == *network,
    };
    let records = without_link(hands, is_meant).await?;
    Ok(reclaimable(&claimed, &records, host).into_iter().cloned().collect())
}
