//! Carrying a plan out: the pair and the elements side by side, all of it or nothing.

use std::sync::Arc;

use actix::{Context, Handler, ResponseFuture};
use futures_util::future::join;
use quantum_cni::attach::{Element, Plan, PortWanted, publishes_at_loopback};
use quantum_cni::kernel::conntrack::HostPort;
use quantum_cni::kernel::forwarding::Forwarding;
use quantum_cni::kernel::lane::LaneError;
use quantum_cni::kernel::netns::Netns;
use quantum_cni::kernel::route::detect;
use quantum_cni::kernel::{KernelError, fault, loopback};
use quantum_config::cni::PortMapping;

use super::revert::revert;
use super::{Driver, Lanes};
use crate::messages::driver::{Apply, NotApplied};

impl Handler<Apply> for Driver {
    type Result = ResponseFuture<Result<(), NotApplied>>;

    fn handle(&mut self, Apply { plan, netns }: Apply, _: &mut Context<Self>) -> Self::Result {
        let (lanes, awaited) = (self.lanes.clone(), self.awaited.clone());
        let care = self.care.clone();
        Box::pin(async move {
            let linking = {
                let (plan, netns) = (plan.clone(), netns.clone());
                lanes.route(move |host| {
                    if plan.record.posture.awaits() {
                        // What the host let through before anybody had the address, and holds until
                        // somebody has it, was not judged as what is for this container.
                        host.forget_neighbours(&plan.record.reached());
                    }
                    host.attach(&plan.link, &plan.inside, &netns)?;
                    fault::reach("add-linked")?;
                    let record = &plan.record;
                    Ok::<_, KernelError>(Forwarding::off(&[(
                        record.home().clone(),
                        record.forwards(),
                    )]))
                })
            };
            let (linked, filtered) = join(linking, filter(&lanes, &plan)).await;
            let linked = linked.flatten();
            if let Ok(off) = &linked
                && !off.is_empty()
            {
                // It was turned on when the network was prepared.
                care.forward_for(&lanes, &plan.record).await;
            }
            let mut done = linked.map(drop).and(filtered);
            if done.is_ok() {
                done = forget_flows(&lanes, &plan.record.ports).await;
            }
            if done.is_ok() && plan.detects_duplicates() {
                done = detected(plan.clone(), netns).await;
            }
            let Err(why) = done else {
                awaited.attached(&plan.record.bridge);
                lanes.book.with(|links| links.attached(PortWanted::of(&plan.record)));
                return Ok(());
            };
            // Whichever of the two went well; undoing what is not there is fine.
            let left = revert(&lanes, &plan.record).await.err();
            Err(NotApplied { why, left })
        })
    }
}

/// Waits until the container's IPv6 addresses are known to be nobody else's: a second or two, on a
/// thread of its own, so that no lane has to wait for it.
async fn detected(plan: Arc<Plan>, netns: Arc<Netns>) -> Result<(), KernelError> {
    let wait = move || detect(&netns, &plan.inside.ifname, plan.inside.index);
    let waited = tokio::task::spawn_blocking(wait).await;
    Ok(waited.map_err(|_| LaneError::panicked())??)
}

/// A flow that began before its port was published goes to nobody for as long as it lasts. Not before
/// the elements are there: it would come back.
pub(super) async fn forget_flows(
    lanes: &Lanes,
    published: &[PortMapping],
) -> Result<(), KernelError> {
    let ports = HostPort::of(published);
    if ports.is_empty() {
        return Ok(());
    }
    let forgotten = lanes.flows(move |conntrack| conntrack.flush_udp_ports(&ports)).await?;
    Ok(forgotten.map(drop)?)
}

async fn filter(lanes: &Lanes, plan: &Arc<Plan>) -> Result<(), KernelError> {
    let plan = plan.clone();
    let job = move |table: &mut quantum_cni::kernel::nft::Table| {
        table.add(&plan.netfilter)?;
        if publishes_at_loopback(&plan.netfilter) {
            loopback::serve(plan.record.home())?;
        }
        fault::reach("add-filtered")?;
        Ok(())
    };
    lanes.netfilter(job).await?
}

pub(super) async fn unfilter(lanes: &Lanes, elements: Vec<Element>) -> Result<(), KernelError> {
    if elements.is_empty() {
        return Ok(());
    }
    lanes.netfilter(move |table| table.remove(&elements)).await?.map_err(Into::into)
}
