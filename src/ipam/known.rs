//! What is known of an address that somebody has or had: the form in which it is kept outside.

use std::net::IpAddr;

use quantum_config::ids::AttachmentKey;

/// An address that is not fresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The address.
    pub address: IpAddr,
    /// Who has it, or since when nobody has.
    pub state: KnownState,
}

impl Known {
    /// Who has it, if anybody.
    pub fn holder(&self) -> Option<&AttachmentKey> {
        match &self.state {
            KnownState::Held(owner) => Some(owner),
            KnownState::Released(_) => None,
        }
    }
}

/// Who has an address, or since when nobody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownState {
    /// This attachment has it.
    Held(AttachmentKey),
    /// It was given back, at this time in milliseconds on the caller's clock. Times are only compared
    /// with each other; of equal ones, the one told earlier was released earlier.
    Released(u64),
}
