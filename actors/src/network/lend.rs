//! Addresses for what another plugin attaches: leased as for ours, and held by its key without a record,
//! until its DEL or a GC.

use std::rc::Rc;
use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use quantum_cni::attach::{Assigned, Refusal};
use quantum_cni::errors;
use quantum_cni::kernel::clock::boottime_ms;
use quantum_config::cni::{CniError, CniResult, Code, Definition, IpConfig};
use tokio::sync::oneshot;

use super::gate::Opened;
use super::parked::Parked;
use super::ticket::{Answer, Attempt, Ticket};
use super::{Hands, Network};
use crate::messages::cache::{Hold, Lookup};
use crate::messages::network::Lend;
use crate::messages::pool::{Lease, Level, Release};
use crate::messages::{ask, dropped};

impl Handler<Lend> for Network {
    type Result = ResponseFuture<Result<CniResult, Refusal>>;

    fn handle(&mut self, request: Lend, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.hand_in(Ticket::Lend(Box::new(request), answer), ctx);
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(dropped().into())) })
    }
}

impl Network {
    /// Lends, as soon as the gate is open for it.
    pub(super) fn run_lend(
        &mut self,
        request: Box<Lend>,
        answer: Answer<CniResult, Refusal>,
        ctx: &mut Context<Self>,
    ) {
        let key = request.key.clone();
        let short = (key.container.clone(), key.ifname.clone());
        self.gate.attach_begins(short.clone(), Attempt::to_lend(&request));
        let Some(open) = self.gate.ready_for(&request.definition) else {
            self.park(Parked::Lend(request, answer), ctx);
            return;
        };
        let attempt = Attempt::to_lend(&request);
        let work = lend(self.hands.clone(), open, *request);
        ctx.spawn(work.into_actor(self).map(move |(outcome, level), network, ctx| {
            network.gate.attach_ends(&short);
            if outcome.is_err() {
                network.failed.put(short, attempt);
            }
            if let Some(level) = level {
                network.level_is(level);
            }
            let _ = answer.send(outcome);
            network.done(&key, ctx);
        }));
    }
}

type Outcome = (Result<CniResult, Refusal>, Option<Level>);

async fn lend(hands: Rc<Hands>, open: Rc<Opened>, request: Lend) -> Outcome {
    let Lend { key, definition, wanted, caller } = request;
    let begun = async {
        caller.still_waits()?;
        match ask(&hands.lookup, Lookup(key.clone())).await?.map_err(errors::store)? {
            None => Ok(()),
            Some(_) => Err(CniError::new(
                Code::Exists,
                format!("attachment {key} exists already, and quantum-cni made it"),
            )),
        }
    };
    if let Err(error) = begun.await {
        return (Err(error.into()), None);
    }
    let lease = Lease { owner: key.clone(), network: definition.clone(), wanted };
    let leased = match ask(&open.pool.lease, lease).await {
        Ok(Ok(leased)) => leased,
        Ok(Err(error)) => return (Err(Refusal::of_address(&key.network, &error)), None),
        Err(error) => return (Err(error.into()), None),
    };
    let hold = Hold { key: key.clone(), addresses: leased.addresses.clone() };
    let held = ask(&hands.hold, hold).await.and_then(|held| held.map_err(errors::store));
    match held {
        Ok(()) => (Ok(result(&definition, &leased.addresses)), Some(leased.level)),
        Err(error) => {
            let release = Release { owner: key, now: boottime_ms() };
            (Err(error.into()), ask(&open.pool.release, release).await.ok())
        }
    }
}

/// What an IPAM plugin answers: addresses without an interface.
fn result(network: &Arc<Definition>, addresses: &[Assigned]) -> CniResult {
    let each = addresses.iter().map(|assigned| IpConfig {
        interface: None,
        address: assigned.address,
        gateway: assigned.gateway,
    });
    CniResult {
        interfaces: Vec::new(),
        ips: each.collect(),
        routes: network.routes.clone(),
        dns: network.dns.clone(),
    }
}
