//! Which ports of the host lead to an attachment that is there: Docker publishes them when a container is
//! running, and may do it by another network of the same container later.

use std::rc::Rc;
use std::sync::Arc;

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::attach::{Record, Refusal};
use quantum_cni::errors;
use quantum_config::cni::{CniError, Code, PortMapping};
use quantum_config::ids::AttachmentKey;
use tokio::sync::oneshot;

use super::publish::{Asked, publish};
use super::ticket::Ticket;
use super::{Hands, Network};
use crate::messages::cache::{Lookup, Remember};
use crate::messages::driver::Republish;
use crate::messages::network::Expose;
use crate::messages::publisher::{Publish, Withdraw};
use crate::messages::{ask, dropped};

impl Handler<Expose> for Network {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, request: Expose, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.hand_in(Ticket::Expose(Box::new(request), answer), ctx);
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(dropped().into())) })
    }
}

pub(super) async fn expose(hands: Rc<Hands>, request: Expose) -> Result<(), Refusal> {
    let Expose { key, ports } = request;
    let stored = ask(&hands.lookup, Lookup(key.clone())).await?.map_err(errors::store)?;
    let Some(stored) = stored.filter(|stored| !stored.is_leaving()) else {
        return match ports.is_empty() {
            true => Ok(()),
            false => Err(CniError::new(
                Code::UnknownContainer,
                format!("attachment {key} is not known; no port can lead to it"),
            )
            .into()),
        };
    };
    let before = Arc::new(stored.record.clone());
    if before.ports == ports {
        return Ok(());
    }
    let after = Record { ports, ..stored.record.clone() };
    let changed = change(&hands, &before, after).await;
    // What the book is to say: what holds now.
    let holds = if let Ok(after) = &changed { after.ports.clone() } else { before.ports.clone() };
    // Not the request's key: one whose record was lost is known by what stands for it.
    settle(&hands, before.key.clone(), holds).await?;
    changed.map(drop)
}

/// Takes the new ports, has the kernel change what leads there, and keeps it.
async fn change(
    hands: &Hands,
    before: &Arc<Record>,
    mut after: Record,
) -> Result<Arc<Record>, Refusal> {
    let new: Vec<PortMapping> =
        after.ports.iter().filter(|port| !before.ports.contains(port)).copied().collect();
    // dockerd holds no port of a network that is not its own, and says that one is in use, as of its own.
    let wanted = Asked { ports: &new, loopback: after.posture.loopback, strict: true };
    let given = publish(hands, &after.key, wanted).await?;
    after.ports.retain(|port| before.ports.contains(port) || given.contains(port));
    let after = Arc::new(after);
    let amend = Republish { before: before.clone(), after: after.clone() };
    ask(&hands.republish, amend).await?.map_err(errors::kernel)?;
    let remember = Remember(Box::new((*after).clone()));
    if let Err(error) = ask(&hands.remember, remember).await?.map_err(errors::store) {
        // Who asks again finds it as it was.
        let back = Republish { before: after, after: before.clone() };
        ask(&hands.republish, back).await?.map_err(errors::kernel)?;
        return Err(error.into());
    }
    Ok(after)
}

/// The ports of the owner are these and no others. Both messages are sent before anybody else's can be.
pub(super) async fn settle(
    hands: &Hands,
    owner: AttachmentKey,
    ports: Vec<PortMapping>,
) -> Result<(), CniError> {
    hands.withdraw.do_send(Withdraw(owner.clone()));
    if ports.is_empty() {
        return Ok(());
    }
    let publish = Publish { owner, ports };
    ask(&hands.publish, publish).await?.map(drop).map_err(|e| errors::port(&e))
}
