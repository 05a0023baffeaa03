//! A connection that somebody asks about: as its first packet is seen where it is forwarded, behind the
//! translation of its destination and before that of its source.

use std::net::IpAddr;

use quantum_config::cni::Transport;

use super::Endpoint;

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
pub enum Side<'w> {
    /// One of our endpoints.
    Endpoint {
        /// Which.
        endpoint: &'w Endpoint,
        /// Which of its addresses.
        address: IpAddr,
    },
    /// A process of the host. Whoever asks knows it by the hook, never by the address.
    Host(IpAddr),
    /// Anybody else.
    World(IpAddr),
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Something with ports, to this one.
    Port(Transport, u16),
    /// A message of ICMP that begins something, as an echo request does.
    Icmp {
        /// Of ICMPv6.
        v6: bool,
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
    },
    /// Another protocol of IP, by its number; also one of the above of which no more is known.
    Other(u8),
}

impl Traffic {
    /// The protocol's number in an IP header (IANA).
    pub fn protocol(self) -> u8 {
        match self {
            Self::Port(transport, _) => transport.number(),
            Self::Icmp { v6: false, .. } => 1,
            Self::Icmp { v6: true, .. } => 58,
            Self::Other(number) => number,
        }
    }
}

/// A connection.
#[derive(Debug, Clone, Copy)]
pub struct Flow<'w> {
    /// Who begins it.
    pub from: Side<'w>,
    /// Whom it is for.
    pub to: Side<'w>,
    /// What is spoken.
    pub traffic: Traffic,
    /// It was sent to a published port, and has been translated to its destination.
    pub published: bool,
}

impl<'w> Side<'w> {
    /// Its address.
    pub fn address(&self) -> IpAddr {
        match *self {
            Self::Endpoint { address, .. } | Self::Host(address) | Self::World(address) => address,
        }
    }

    /// The endpoint, if it is one.
    pub fn endpoint(&self) -> Option<&'w Endpoint> {
        match *self {
            Self::Endpoint { endpoint, .. } => Some(endpoint),
            Self::Host(_) | Self::World(_) => None,
        }
    }
}

impl Flow<'_> {
    /// Both ends are the same endpoint.
    pub(super) fn is_to_itself(&self) -> bool {
        match (self.from.endpoint(), self.to.endpoint()) {
            (Some(from), Some(to)) => std::ptr::eq(from, to),
            _ => false,
        }
    }
}
