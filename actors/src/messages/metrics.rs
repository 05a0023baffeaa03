//! Metrics' mailbox.

use actix::Message;

/// The metrics in Prometheus' text format.
#[derive(Debug, Message)]
#[rtype(result = "String")]
pub(crate) struct Render;

/// Is every part of the daemon alive? Names of those that have not answered for too long.
#[derive(Debug, Message)]
#[rtype(result = "Vec<&'static str>")]
pub(crate) struct Health;
