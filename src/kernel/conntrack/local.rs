//! Which addresses are the host's own. Only what is sent to those is published, so only those flows may be
//! removed for a published port: a resolver's port is everybody's.

use std::collections::HashMap;
use std::net::{IpAddr, UdpSocket};

/// The answers so far: flows of one port have few destinations, or were sent elsewhere.
#[derive(Debug, Default)]
pub(super) struct Local(HashMap<IpAddr, bool>);

impl Local {
    /// Is it an address of the network namespace of this thread? Only there can a socket have it.
    pub(super) fn has(&mut self, address: IpAddr) -> bool {
        *self.0.entry(address).or_insert_with(|| UdpSocket::bind((address, 0)).is_ok())
    }
}
