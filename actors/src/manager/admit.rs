//! Letting requests in: the door decides who, this says where to.

use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use quantum_cni::attach::{Class, Entry};
use quantum_config::cni::{CniError, Code, Definition};
use quantum_config::ids::NetworkName;
use tokio::sync::oneshot;

use super::Manager;
use crate::board::Phase;
use crate::caller::Caller;
use crate::messages::cache::List;
use crate::messages::manager::{Admit, Admitted, Left, Permit};

/// Somebody at the door.
pub(super) struct Waiter {
    request: Admit,
    tell: oneshot::Sender<Result<Admitted, CniError>>,
}

impl Waiter {
    /// He waits no longer: his time is over, or his connection is gone.
    pub(super) fn has_left(&self) -> bool {
        self.tell.is_closed() || self.request.caller.still_waits().is_err()
    }

    /// The daemon stops: the next one can be asked, and is sooner there if nobody is let in here.
    pub(super) fn turn_away(self) {
        let _ = self.tell.send(Err(stopping(&self.request.caller)));
    }
}

impl Handler<Admit> for Manager {
    type Result = ResponseFuture<Result<Admitted, CniError>>;

    fn handle(&mut self, request: Admit, ctx: &mut Context<Self>) -> Self::Result {
        let phase = self.board.borrow().phase;
        if phase == Phase::Draining {
            let stopping = stopping(&request.caller);
            return Box::pin(async { Err(stopping) });
        }
        let (tell, told) = oneshot::channel();
        let (class, network) = (request.class, request.network.clone());
        let caller = request.caller.clone();
        if let Entry::Admitted(waiter) = self.door.enter(class, &network, Waiter { request, tell })
        {
            self.admit_all(vec![waiter], ctx);
        }
        Box::pin(async move {
            match tokio::time::timeout_at(caller.deadline().into(), told).await {
                Ok(Ok(outcome)) => outcome,
                // The door passes over who has left.
                Ok(Err(_)) => Err(caller.still_waits().err().unwrap_or_else(|| {
                    later("the part of the daemon that lets requests in was made anew")
                })),
                Err(_) if phase == Phase::Starting => Err(later("the daemon is still starting")),
                Err(_) => Err(later("other requests took all the time there was")),
            }
        })
    }
}

fn stopping(caller: &Caller) -> CniError {
    caller.turn_away();
    later("the daemon is stopping")
}

fn later(why: &str) -> CniError {
    CniError::new(Code::TryAgainLater, "the request was not let in").with_details(why)
}

impl Handler<Left> for Manager {
    type Result = ();

    fn handle(&mut self, event: Left, ctx: &mut Context<Self>) {
        let admitted = self.door.leave(&event.0, Waiter::has_left);
        self.admit_all(admitted, ctx);
        if self.door.inside() == 0 {
            for tell in self.empty.drain(..) {
                let _ = tell.send(());
            }
        }
    }
}

impl Manager {
    pub(super) fn admit_all(&mut self, waiters: Vec<Waiter>, ctx: &mut Context<Self>) {
        for waiter in waiters {
            // Made first: whatever becomes of the answer, dropping it gives the place back.
            let network = waiter.request.network.clone();
            let permit = Permit { network: network.clone(), door: ctx.address().recipient() };
            if waiter.request.class == Class::Setup || self.networks.contains_key(&network) {
                self.admit(waiter, permit, true, ctx);
                continue;
            }
            // Whoever only removes or looks gets an actor only if there is something: a runtime may
            // ask for networks that were never here.
            let list = self.hands.list.send(List(network));
            ctx.spawn(list.into_actor(self).map(move |listed, manager, ctx| {
                let is_used = listed.map_or(true, |listed| !listed.keys.is_empty());
                manager.admit(waiter, permit, is_used, ctx);
            }));
        }
    }

    fn admit(&mut self, waiter: Waiter, permit: Permit, is_used: bool, ctx: &mut Context<Self>) {
        let Waiter { request, tell } = waiter;
        let outcome = self.definition_for(&request).map(|definition| Admitted {
            network: is_used.then(|| self.network(&request.network, ctx)),
            definition,
            permit,
        });
        let _ = tell.send(outcome);
    }

    /// What the request brought along counts; one that only names its network means `config_dir`.
    fn definition_for(&self, request: &Admit) -> Result<Option<Arc<Definition>>, CniError> {
        if request.definition.is_some() || request.class != Class::Setup {
            return Ok(request.definition.clone());
        }
        match self.definitions.get(&request.network) {
            Some(definition) => Ok(Some(definition.clone())),
            None => Err(self.undefined(&request.network)),
        }
    }

    fn undefined(&self, network: &NetworkName) -> CniError {
        CniError::new(
            Code::InvalidNetworkConfig,
            format!("network {:?} is not defined", network.as_str()),
        )
        .with_details(format!(
            "the configuration has neither \"bridge\" nor \"ipam\", and no file in {} defines it",
            self.folders.config_dir.display()
        ))
    }
}
