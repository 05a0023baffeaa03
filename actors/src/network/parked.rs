//! What waits for the network to be ready: ADDs, addresses for what another plugin attaches, and who only
//! asks for it to be ready. Each is tried again when the gate has opened, or has failed to, for another
//! definition than its own; and none is kept when its caller waits no longer.

use std::sync::Arc;

use actix::Context;
use quantum_cni::attach::Refusal;
use quantum_config::cni::{CniError, CniResult, Definition};
use quantum_config::ids::AttachmentKey;

use super::Network;
use super::ticket::Answer;
use crate::messages::network::{Attach, Lend};

/// A request that needs the network as it says it is.
pub(super) enum Parked {
    Attach(Box<Attach>, Answer<CniResult, Refusal>),
    Lend(Box<Lend>, Answer<CniResult, Refusal>),
    Open(Arc<Definition>, Answer<()>),
}

impl Parked {
    pub(super) fn definition(&self) -> &Arc<Definition> {
        match self {
            Self::Attach(request, _) => &request.definition,
            Self::Lend(request, _) => &request.definition,
            Self::Open(definition, _) => definition,
        }
    }

    /// An error if nobody waits for it any more.
    fn still_waits(&self) -> Result<(), CniError> {
        match self {
            Self::Attach(request, _) => request.caller.still_waits(),
            Self::Lend(request, _) => request.caller.still_waits(),
            Self::Open(..) => Ok(()),
        }
    }
}

impl Network {
    /// Runs it if the network is ready for it, or parks it.
    pub(super) fn run_parked(&mut self, request: Parked, ctx: &mut Context<Self>) {
        match request {
            Parked::Attach(request, answer) => self.run_attach(request, answer, ctx),
            Parked::Lend(request, answer) => self.run_lend(request, answer, ctx),
            Parked::Open(definition, answer) => match self.gate.ready_for(&definition) {
                Some(_) => _ = answer.send(Ok(())),
                None => self.park(Parked::Open(definition, answer), ctx),
            },
        }
    }

    /// Answers it with an error: the network cannot be made ready, or it comes too late.
    pub(super) fn refuse(&mut self, request: Parked, error: &Refusal, ctx: &mut Context<Self>) {
        let error = error.clone();
        match request {
            Parked::Attach(request, answer) => {
                self.end_parked(&request.target.key, error, answer, ctx);
            }
            Parked::Lend(request, answer) => self.end_parked(&request.key, error, answer, ctx),
            Parked::Open(_, answer) => _ = answer.send(Err(error.error)),
        }
    }

    fn end_parked(
        &mut self,
        key: &AttachmentKey,
        error: Refusal,
        answer: Answer<CniResult, Refusal>,
        ctx: &mut Context<Self>,
    ) {
        self.gate.attach_ends(&(key.container.clone(), key.ifname.clone()));
        let _ = answer.send(Err(error));
        self.done(key, ctx);
    }

    /// Gives up what is parked and nobody waits for any more.
    pub(super) fn give_up(&mut self, ctx: &mut Context<Self>) {
        for request in std::mem::take(&mut self.gate.parked) {
            match request.still_waits() {
                Ok(()) => self.gate.parked.push(request),
                Err(error) => self.refuse(request, &error.into(), ctx),
            }
        }
    }
}
