//! The Publisher's mailbox.

use actix::Message;
use quantum_cni::publish::PortError;
use quantum_config::cni::PortMapping;
use quantum_config::ids::AttachmentKey;

/// Keeps ports of the host for an attachment, all or none; but what another of the same container has is
/// left to that one. The answer is what is kept.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<PortMapping>, PortError>")]
pub(crate) struct Publish {
    pub(crate) owner: AttachmentKey,
    pub(crate) ports: Vec<PortMapping>,
}

/// Gives back all that is kept for it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Withdraw(pub(crate) AttachmentKey);
