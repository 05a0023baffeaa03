//! Tickets: requests that wait for their turn, and what happens when it comes.

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use quantum_cni::attach::{Adding, Claim, Refusal};
use quantum_config::cni::{CniError, CniResult};
use quantum_config::ids::AttachmentKey;
use tokio::sync::oneshot;

use super::{Key, Network};
use crate::caller::Caller;
use crate::messages::network::{Amend, Attach, Check, Detach, Detached, Expose, Lend, MayAttach};

/// Where an answer goes.
pub(super) type Answer<T, E = CniError> = oneshot::Sender<Result<T, E>>;

/// A request for one attachment.
pub(super) enum Ticket {
    MayAttach(Box<MayAttach>, Answer<()>),
    Attach(Box<Attach>, Answer<CniResult, Refusal>),
    Amend(Box<Amend>, Answer<(), Refusal>),
    Lend(Box<Lend>, Answer<CniResult, Refusal>),
    Detach(Box<Detach>, Answer<Detached>),
    Check(Box<Check>, Answer<()>),
    Expose(Box<Expose>, Answer<(), Refusal>),
}

impl Ticket {
    fn attachment(&self) -> &AttachmentKey {
        match self {
            Self::MayAttach(request, _) => &request.0.key,
            Self::Attach(request, _) => &request.target.key,
            Self::Amend(request, _) => &request.key,
            Self::Lend(request, _) => &request.key,
            Self::Detach(request, _) => &request.key,
            Self::Check(request, _) => &request.key,
            Self::Expose(request, _) => &request.key,
        }
    }

    fn key(&self) -> Key {
        let key = self.attachment();
        (key.container.clone(), key.ifname.clone())
    }
}

/// An ADD, for whoever may come to make it void.
pub(super) struct Attempt {
    pub(super) caller: Caller,
    pub(super) adding: Adding,
}

impl Attempt {
    pub(super) fn to_attach(request: &Attach) -> Self {
        let (caller, target) = (request.caller.clone(), &request.target);
        let (since, netns) = (caller.since(), Some(target.netns));
        Self { caller, adding: Adding { since, netns, handed: target.handed } }
    }

    pub(super) fn to_lend(request: &Lend) -> Self {
        let caller = request.caller.clone();
        let since = caller.since();
        Self { caller, adding: Adding { since, netns: None, handed: false } }
    }
}

impl Network {
    /// Runs the ticket, or has it wait for its turn. A DEL overtakes the ADDs that wait, and has the
    /// one that runs give up, if it means them.
    pub(super) fn hand_in(&mut self, ticket: Ticket, ctx: &mut Context<Self>) {
        let key = ticket.key();
        let meant = match &ticket {
            Ticket::Detach(request, _) => Some(request.meant()),
            _ => None,
        };
        let stops = |attempt: &Attempt| meant.is_some_and(|meant| meant.stops(&attempt.adding));
        // Who was refused just now may be about to ask again.
        let attempts = [self.gate.attaching(&key), self.failed.peek(&key)].into_iter().flatten();
        attempts.filter(|attempt| stops(attempt)).for_each(|attempt| attempt.caller.overtake());
        let voids = |waiting: &Ticket| match waiting {
            Ticket::Attach(request, _) => stops(&Attempt::to_attach(request)),
            _ => false,
        };
        match self.tickets.claim(&key, ticket, voids) {
            Claim::Run(ticket) => self.run(ticket, ctx),
            Claim::Wait { overtaken } => {
                for ticket in overtaken {
                    if let Ticket::Attach(request, answer) = ticket {
                        request.caller.overtake();
                        let _ = answer.send(
                            request
                                .caller
                                .still_waits()
                                .map(|()| CniResult::default())
                                .map_err(Refusal::from),
                        );
                    }
                }
            }
        }
    }

    /// The turn of a ticket has come.
    pub(super) fn run(&mut self, ticket: Ticket, ctx: &mut Context<Self>) {
        let key = ticket.attachment().clone();
        match ticket {
            Ticket::Attach(request, answer) => self.run_attach(request, answer, ctx),
            Ticket::Detach(request, answer) => self.run_detach(*request, answer, ctx),
            Ticket::Lend(request, answer) => self.run_lend(request, answer, ctx),
            Ticket::Amend(request, answer) => {
                let work = super::amend::amend(self.hands.clone(), *request, self.log.clone());
                self.look(key, work, answer, ctx);
            }
            Ticket::MayAttach(request, answer) => {
                let work = super::attach::may_attach(self.hands.clone(), request.0);
                self.look(key, work, answer, ctx);
            }
            Ticket::Check(request, answer) => {
                let work = super::check::check(self.hands.clone(), *request);
                self.look(key, work, answer, ctx);
            }
            Ticket::Expose(request, answer) => {
                let work = super::expose::expose(self.hands.clone(), *request);
                self.look(key, work, answer, ctx);
            }
        }
    }

    /// Runs what changes nothing about the network.
    fn look<E: 'static>(
        &mut self,
        key: AttachmentKey,
        work: impl Future<Output = Result<(), E>> + 'static,
        answer: Answer<(), E>,
        ctx: &mut Context<Self>,
    ) {
        ctx.spawn(work.into_actor(self).map(move |outcome, network, ctx| {
            let _ = answer.send(outcome);
            network.done(&key, ctx);
        }));
    }

    /// The ticket that ran for this attachment is done: the next one's turn.
    pub(super) fn done(&mut self, key: &AttachmentKey, ctx: &mut Context<Self>) {
        let key = (key.container.clone(), key.ifname.clone());
        if let Some(next) = self.tickets.done(&key) {
            self.run(next, ctx);
        } else if self.tickets.running() == 0 {
            for tell in self.idle.drain(..) {
                let _ = tell.send(());
            }
        }
    }
}
