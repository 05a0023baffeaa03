//! The Policy actor's mailbox.

use std::sync::Arc;

use actix::Message;
use quantum_cni::attach::{Element, Record};
use quantum_cni::kernel::nflog::Heard;
use quantum_cni::policy::Rules;
use quantum_config::ask::Ask;
use quantum_config::cni::CniError;
use quantum_config::ids::AttachmentKey;

/// Begins with the endpoints that there are. Asked once, before anything else.
#[derive(Debug, Message)]
#[rtype(result = "Begun")]
pub(crate) struct Begin(pub(crate) Vec<Record>);

/// What our tables are to hold for them.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    pub(crate) elements: Vec<Element>,
    pub(crate) rules: Arc<Rules>,
}

/// Has the rules know an endpoint before it can send. Answered when they do.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), CniError>")]
pub(crate) struct Judge(pub(crate) Box<Record>);

/// An endpoint that cannot send any more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Dismiss(pub(crate) AttachmentKey);

/// What our tables are to hold for an endpoint. Answered when what had changed before is written.
#[derive(Debug, Message)]
#[rtype(result = "Expectation")]
pub(crate) struct Expected(pub(crate) AttachmentKey);

/// What our tables are to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expectation {
    pub(crate) elements: Vec<Element>,
    /// How many changes were begun to be written. While it stays the same, so do the tables.
    pub(crate) changes: u64,
}

/// An operator's question. The answer is a document of JSON.
#[derive(Debug, Message)]
#[rtype(result = "Result<String, CniError>")]
pub(crate) struct Answer(pub(crate) Ask);

/// Reads the folder of documents again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Reread;

/// Event: what the rules denied of late.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Refused(pub(crate) Heard);
