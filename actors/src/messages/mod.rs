//! What the actors say to each other: one file for each mailbox. Requests are verbs, replies past
//! participles, events facts. These files import no actor, so nobody needs to know how another one
//! works to talk to it.

pub(crate) mod cache;
pub(crate) mod docker;
pub(crate) mod driver;
pub(crate) mod manager;
pub(crate) mod metrics;
pub(crate) mod network;
pub(crate) mod policy;
pub(crate) mod pool;
pub(crate) mod publisher;

use actix::{MailboxError, Message, Recipient};
use quantum_config::cni::{CniError, Code};

/// Are you there? Answered at once; the time it takes is the lag of that mailbox.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Observe;

/// Finish what you are doing, make it durable and take nothing new.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Drain;

/// Asks, and turns a mailbox that is closed (its actor panicked) into an error of ours.
pub(crate) async fn ask<M>(whom: &Recipient<M>, message: M) -> Result<M::Result, CniError>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    whom.send(message).await.map_err(|e| lost(&e))
}

/// The error for an actor that went away in the middle of a request.
pub(crate) fn lost(error: &MailboxError) -> CniError {
    dropped().with_details(error.to_string())
}

/// The same for one that took the answer with it.
pub(crate) fn dropped() -> CniError {
    CniError::new(Code::TryAgainLater, "a part of the daemon failed and is being rebuilt")
}
