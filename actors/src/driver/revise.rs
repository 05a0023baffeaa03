//! Changing an attachment that is there, and a container's loopback, which is nobody's attachment.

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::attach::{Element, PortWanted, Record, Revision, publishes_at_loopback};
use quantum_cni::kernel::nft::Table;
use quantum_cni::kernel::route::loopback_up;
use quantum_cni::kernel::{KernelError, fault, loopback};

use super::apply::forget_flows;
use super::{Driver, Lanes};
use crate::messages::driver::{Loopback, Revise};

impl Handler<Revise> for Driver {
    type Result = ResponseFuture<Result<(), KernelError>>;

    fn handle(
        &mut self,
        Revise { revision, netns }: Revise,
        _: &mut Context<Self>,
    ) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move {
            let Revision { added, removed, after, .. } = &*revision;
            let done = exchange(&lanes, removed.clone(), added.clone(), after).await;
            let done = match done {
                Ok(()) if revision.changes_links() => {
                    let revision = revision.clone();
                    let job = move |host: &mut quantum_cni::kernel::route::Host| {
                        host.amend(&revision, &netns)
                    };
                    lanes.route(job).await.and_then(|amended| Ok(amended?))
                }
                other => other,
            };
            let done = match done {
                Ok(()) => forget_flows(&lanes, &after.ports).await,
                other => other,
            };
            if done.is_ok() {
                lanes.book.with(|links| links.attached(PortWanted::of(after)));
            } else {
                // Best effort: the DEL of a runtime whose ADD failed takes what is left.
                let _ = exchange(&lanes, added.clone(), removed.clone(), after).await;
            }
            done
        })
    }
}

/// Takes elements away and puts others in their place.
async fn exchange(
    lanes: &Lanes,
    going: Vec<Element>,
    coming: Vec<Element>,
    of: &Record,
) -> Result<(), KernelError> {
    if going.is_empty() && coming.is_empty() {
        return Ok(());
    }
    let home = of.home().clone();
    let job = move |table: &mut Table| {
        table.remove(&going)?;
        table.add(&coming)?;
        if publishes_at_loopback(&coming) {
            loopback::serve(&home)?;
        }
        fault::reach("amend-filtered")?;
        Ok(())
    };
    lanes.netfilter(job).await?
}

impl Handler<Loopback> for Driver {
    type Result = ResponseFuture<Result<(), KernelError>>;

    fn handle(&mut self, Loopback(netns): Loopback, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move { Ok(lanes.route(move |_| loopback_up(&netns)).await??) })
    }
}
