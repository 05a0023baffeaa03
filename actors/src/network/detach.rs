//! DEL: mark, take down, forget. It needs nothing but the key. Once the mark is durable the DEL has
//! succeeded whatever the kernel says: what it refuses is tried again until it does not, also by the
//! next daemon, and the addresses are held until then.

use std::rc::Rc;
use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use quantum_cni::attach::{Record, is_abandoned, is_waiting};
use quantum_cni::errors;
use quantum_cni::kernel::clock::boottime_ms;
use quantum_cni::kernel::fault;
use quantum_config::cni::CniError;
use quantum_config::ids::AttachmentKey;
use slog::warn;
use tokio::sync::oneshot;

use super::ticket::{Answer, Ticket};
use super::{Hands, Network};
use crate::messages::cache::{Forget, Held, Leave, List, Lookup};
use crate::messages::driver::{Destroyed, Inspect, Revert};
use crate::messages::network::{Detach, Detached, Only};
use crate::messages::policy::Dismiss;
use crate::messages::publisher::Withdraw;
use crate::messages::{ask, dropped};

impl Handler<Detach> for Network {
    type Result = ResponseFuture<Result<Detached, CniError>>;

    fn handle(&mut self, request: Detach, ctx: &mut Context<Self>) -> Self::Result {
        let busy = (request.key.container.clone(), request.key.ifname.clone());
        if request.only == Only::Orphaned && self.tickets.is_busy(&busy) {
            // Whoever has the key decides what becomes of it; an ADD is not overtaken.
            return Box::pin(async { Ok(Detached::default()) });
        }
        let (answer, answered) = oneshot::channel();
        self.hand_in(Ticket::Detach(Box::new(request), answer), ctx);
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(dropped())) })
    }
}

/// What a DEL came to.
struct Done {
    detached: Detached,
    /// Whose addresses were released, and when; none if there were none, or the kernel refused.
    released: Option<(AttachmentKey, u64)>,
    refused: Option<CniError>,
}

impl Network {
    pub(super) fn run_detach(
        &mut self,
        request: Detach,
        answer: Answer<Detached>,
        ctx: &mut Context<Self>,
    ) {
        let (key, only) = (request.key.clone(), request.only);
        let work = detach(self.hands.clone(), request);
        ctx.spawn(work.into_actor(self).map(move |outcome, network, ctx| {
            let outcome = outcome.map(|done| {
                if let Some(error) = done.refused {
                    warn!(network.log, "detaching goes on in the background";
                        "container_id" => key.container.as_str(),
                        "interface" => key.ifname.as_str(),
                        "error" => %error);
                }
                if let Some((owner, now)) = done.released {
                    network.give_back(owner, now, ctx);
                }
                let tried = network.failed.contains(&(key.container.clone(), key.ifname.clone()));
                let tried = tried && only != Only::Orphaned;
                Detached { found: done.detached.found || tried, ..done.detached }
            });
            let _ = answer.send(outcome);
            network.done(&key, ctx);
        }));
    }

    /// Takes up the DELs that were not finished: by a daemon that died, or because the kernel
    /// refused.
    pub(super) fn finish_leaving(&mut self, ctx: &mut Context<Self>) {
        let list = self.hands.list.send(List(self.name.clone()));
        ctx.spawn(list.into_actor(self).map(|listed, network, ctx| {
            for key in listed.map(|l| l.leaving).unwrap_or_default() {
                let busy = (key.container.clone(), key.ifname.clone());
                if !network.tickets.is_busy(&busy) {
                    let (answer, _) = oneshot::channel();
                    let only = Only::Leftover;
                    let request = Detach { key, made_before: None, netns: None, only };
                    network.hand_in(Ticket::Detach(Box::new(request), answer), ctx);
                }
            }
        }));
    }
}

async fn detach(hands: Rc<Hands>, request: Detach) -> Result<Done, CniError> {
    let nothing = || Done { detached: Detached::default(), released: None, refused: None };
    let (meant, key) = (request.meant(), request.key);
    let stored = ask(&hands.lookup, Lookup(key.clone())).await?.map_err(errors::store)?;
    let Some(stored) = stored else {
        return match request.only {
            Only::Orphaned => Ok(nothing()),
            _ => release_held(&hands, key).await,
        };
    };
    if !meant.is_recorded(&stored.record) {
        return Ok(nothing());
    }
    let record = Arc::new(stored.record.clone());
    let mut has_link = false;
    if matches!(request.only, Only::Abandoned | Only::Waiting) {
        let inspect = Inspect { record: record.clone(), netns: None, besides: Vec::new() };
        let seen = ask(&hands.inspect, inspect).await?.map_err(errors::kernel)?;
        let is_free = match request.only {
            Only::Waiting => is_waiting(&record, &seen.links),
            _ => is_abandoned(&record, &seen.links, boottime_ms()),
        };
        if !is_free {
            return Ok(nothing());
        }
        has_link = seen.links.host.is_some_and(|link| link.index == record.index);
    }
    if request.only == Only::Orphaned || request.only == Only::Abandoned && !has_link {
        let destroyed = ask(&hands.destroyed, Destroyed(record.clone())).await?;
        if !destroyed.map_err(errors::kernel)? {
            return Ok(nothing());
        }
    }
    let addresses = record.addresses.iter().map(|a| a.address.ip()).collect();
    // Not the request's: one whose record was lost is known by what stands for its key.
    let owner = record.key.clone();
    // A full disk must not block a drain: what cannot be marked is taken down all the same, and
    // finished by this daemon when the store can be written again. But the next one would not know of it.
    let marked = ask(&hands.leave, Leave(owner.clone())).await?.map_err(errors::store);
    fault::reach("del-marked").map_err(errors::fault)?;
    let (released, refused) = match take_down(&hands, record).await {
        Ok(now) => (Some((owner, now)), marked.err()),
        Err(stuck) => match marked {
            Ok(()) => (None, Some(stuck.into())),
            Err(error) => return Err(errors::not_kept(&error)),
        },
    };
    Ok(Done { detached: Detached { found: true, addresses }, released, refused })
}

/// Without a record there is nothing of ours to undo; but addresses may be held for what another
/// plugin attached, and this is its DEL; and ports, for an ADD that did not come to its end.
async fn release_held(hands: &Hands, key: AttachmentKey) -> Result<Done, CniError> {
    hands.withdraw.do_send(Withdraw(key.clone()));
    let addresses = ask(&hands.held, Held(key.clone())).await?;
    let mut released = None;
    if !addresses.is_empty() {
        let now = boottime_ms();
        ask(&hands.forget, Forget { key: key.clone(), now }).await?.map_err(errors::store)?;
        released = Some((key, now));
    }
    let found = released.is_some();
    Ok(Done { detached: Detached { found, addresses }, released, refused: None })
}

/// An attachment that could not be taken down.
pub(super) enum Stuck {
    /// Something of it is left in the kernel.
    Kernel(CniError),
    /// Nothing is; but its record could not be removed, if there was one.
    Store(CniError),
}

impl From<Stuck> for CniError {
    fn from((Stuck::Kernel(error) | Stuck::Store(error)): Stuck) -> Self {
        error
    }
}

/// Has the kernel undo what the record says, then forgets it. Gives the time of the release.
pub(super) async fn take_down(hands: &Hands, record: Arc<Record>) -> Result<u64, Stuck> {
    let key: AttachmentKey = record.key.clone();
    let reverted = ask(&hands.revert, Revert(record)).await;
    reverted.and_then(|r| r.map_err(errors::kernel)).map_err(Stuck::Kernel)?;
    // Not before its link is gone: it would be nobody's to judge. And before its address is anybody's.
    hands.dismiss.do_send(Dismiss(key.clone()));
    let forgotten = async {
        fault::reach("del-reverted").map_err(errors::fault)?;
        let now = boottime_ms();
        ask(&hands.forget, Forget { key: key.clone(), now }).await?.map_err(errors::store)?;
        // All that it holds: what the record says may be less.
        hands.withdraw.do_send(Withdraw(key));
        fault::reach("del-forgotten").map_err(errors::fault)?;
        Ok(now)
    };
    forgotten.await.map_err(Stuck::Store)
}
