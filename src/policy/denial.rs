//! What the kernel tells of a packet that policy denied, or would have denied, turned so that it says who
//! began it.

use std::fmt;
use std::net::IpAddr;

use quantum_config::cni::Transport;
use quantum_config::policy::Direction;

use super::Traffic;

/// A packet that was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// Whose side denied it: the sender's (egress) or the receiver's.
    pub direction: Direction,
    /// It was only noted, and let through.
    pub audit: bool,
    /// Who began the connection, as far as it is known.
    pub from: IpAddr,
    /// Whom it is for, behind the translation of its destination.
    pub to: IpAddr,
    /// What was spoken.
    pub spoken: Spoken,
    /// The link by which the packet came; none if the host itself sent it.
    pub in_index: Option<u32>,
    /// The link by which it would have left; none if it was for the host itself.
    pub out_index: Option<u32>,
}

/// What was spoken, as far as the packet tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Spoken {
    /// Something with ports, to this one.
    Port(Transport, u16),
    /// ICMP of the addresses' family.
    Icmp {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
    },
    /// Another protocol of IP, by its number; or one of the above whose ports or type were not to be seen,
    /// as in a later fragment.
    Protocol(u8),
}

impl Denial {
    /// What the evaluator is asked about it.
    pub fn traffic(&self) -> Traffic {
        match self.spoken {
            Spoken::Port(transport, port) => Traffic::Port(transport, port),
            Spoken::Icmp { kind, code } => Traffic::Icmp { v6: self.to.is_ipv6(), kind, code },
            Spoken::Protocol(number) => Traffic::Other(number),
        }
    }
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(transport, port) => write!(f, "{transport} {port}"),
            Self::Icmp { kind, code } => write!(f, "icmp type {kind} code {code}"),
            Self::Protocol(number) => write!(f, "protocol {number}"),
        }
    }
}
