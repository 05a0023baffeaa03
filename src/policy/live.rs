//! A connection that is under way, as the kernel's table of connections has it.

use std::net::IpAddr;

use super::Traffic;

/// A connection that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveFlow {
    /// Who began it, by its own address, whatever that was translated to.
    pub from: IpAddr,
    /// The address is the host's, so a process of the host began it.
    pub from_host: bool,
    /// Whom it was sent to.
    pub sent_to: IpAddr,
    /// Who answers: whom it was sent to, or whom translation put in its place.
    pub to: IpAddr,
    /// The address is the host's.
    pub to_host: bool,
    /// What is spoken, with the port behind the translation.
    pub traffic: Traffic,
    /// Type and code of the message that it began with, if that is ICMP's.
    pub icmp: Option<(u8, u8)>,
    /// What rules have written on it.
    pub mark: u32,
    /// Its destination, address or port, was translated.
    pub translated: bool,
}
