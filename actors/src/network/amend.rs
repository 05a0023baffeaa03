//! The plugins that are chained after ours, where they are ours, too: the record says what the
//! attachment is to be, then the kernel is told. A DEL therefore takes away all that any of them asked
//! for, and a daemon that starts puts back what is missing.

use std::rc::Rc;
use std::sync::Arc;

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::attach::{Refusal, Revision};
use quantum_cni::errors;
use quantum_cni::kernel::fault;
use quantum_cni::kernel::netns::Netns;
use quantum_config::cni::{Amendment, CniError, Code, PortMapping};
use slog::Logger;
use tokio::sync::oneshot;

use super::expose::settle;
use super::publish::{Host, obtain};
use super::ticket::Ticket;
use super::{Hands, Network};
use crate::messages::cache::{Lookup, Remember};
use crate::messages::driver::Revise;
use crate::messages::network::Amend;
use crate::messages::{ask, dropped};

impl Handler<Amend> for Network {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, request: Amend, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.hand_in(Ticket::Amend(Box::new(request), answer), ctx);
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(dropped().into())) })
    }
}

pub(super) async fn amend(hands: Rc<Hands>, request: Amend, log: Logger) -> Result<(), Refusal> {
    let Amend { key, netns, amendment, caller } = request;
    let stored = ask(&hands.lookup, Lookup(key.clone())).await?.map_err(errors::store)?;
    let Some(stored) = stored.filter(|s| !s.is_leaving()) else {
        return Err(errors::not_ours(&key).into());
    };
    let record = &stored.record;
    if record.created != 0 && record.netns != netns.id() {
        return Err(CniError::new(
            Code::InvalidNetworkConfig,
            format!("attachment {key} is in another namespace than CNI_NETNS"),
        )
        .into());
    }
    let revision = Revision::new(record, &amendment).map_err(|e| errors::amend(&e))?;
    if revision.is_nothing() {
        return Ok(());
    }
    caller.still_waits()?;
    let publishes = revision.after.ports != record.ports;
    let changed = change(&hands, revision, amendment, netns, &log).await;
    if publishes {
        let holds = changed.as_ref().map_or_else(|_| record.ports.clone(), Clone::clone);
        // They have been its own already, or were taken for it just now.
        let _ = settle(&hands, record.key.clone(), holds).await;
    }
    changed.map(drop)
}

/// Takes the ports that are asked for, keeps what the attachment is to be and has the kernel make it so.
/// Gives the ports that lead to it then.
async fn change(
    hands: &Hands,
    mut revision: Revision,
    mut amendment: Amendment,
    netns: Arc<Netns>,
    log: &Logger,
) -> Result<Vec<PortMapping>, Refusal> {
    let record = revision.before.clone();
    if revision.after.ports != record.ports {
        let asked = std::mem::take(&mut amendment.ports);
        let loopback = revision.after.posture.loopback;
        let host = Host { is_gateway: record.gateway, loopback };
        amendment.ports = obtain(hands, &record.key, host, asked, log).await?;
        revision = Revision::new(&record, &amendment).map_err(|e| errors::amend(&e))?;
        if revision.is_nothing() {
            return Ok(record.ports);
        }
    }
    let revision = Arc::new(revision);
    let remember = Remember(Box::new(revision.after.clone()));
    let mut outcome = ask(&hands.remember, remember).await?.map_err(errors::store);
    if outcome.is_ok() {
        outcome = match fault::reach("amend-remembered").map_err(errors::fault) {
            Ok(()) => {
                let revise = Revise { revision: revision.clone(), netns };
                ask(&hands.revise, revise).await.and_then(|done| done.map_err(errors::kernel))
            }
            fault => fault,
        };
    }
    if outcome.is_err() {
        // What is not said here is said by the error, and CHECK would find it.
        let _ = ask(&hands.remember, Remember(Box::new(record))).await;
    }
    outcome.map(|()| revision.after.ports.clone()).map_err(Refusal::from)
}
