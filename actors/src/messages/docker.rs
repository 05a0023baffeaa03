//! The mailbox of Docker's door.

use actix::Message;

/// A call of dockerd's: the method, as in `NetworkDriver.Join`, and its body.
#[derive(Debug, Message)]
#[rtype(result = "Answer")]
pub(crate) struct Serve {
    pub(crate) method: String,
    pub(crate) body: Vec<u8>,
    /// Who sent it.
    pub(crate) uid: u32,
    pub(crate) pid: i32,
}

/// What dockerd hears.
#[derive(Debug)]
pub(crate) enum Answer {
    /// JSON: what was asked for, or why not.
    Said(String),
    /// There is no such method, which dockerd forgives where it may.
    NoSuchMethod,
}
