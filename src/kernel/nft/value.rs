//! What keys and values of sets are made of.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use quantum_config::cni::Transport;
use quantum_config::ids::{IFNAME_MAX, IfName, Mac};

/// A field of a key or a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Field {
    Ip4,
    Ip6,
    Name,
    Hardware,
    Transport,
    Port,
    Mark,
    /// A family of IP, as one byte.
    Family,
    /// To go on with a chain. It is no register but a thing of its own.
    Goto,
}

impl Field {
    pub(super) fn length(self) -> usize {
        match self {
            Self::Ip4 | Self::Transport | Self::Port | Self::Mark | Self::Family => 4,
            Self::Ip6 => 16,
            Self::Name => IFNAME_MAX + 1,
            Self::Hardware => 8,
            Self::Goto => 0,
        }
    }
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Ip(IpAddr),
    Name(IfName),
    Hardware(Mac),
    Transport(Transport),
    Port(u16),
    Mark(u32),
    Family(u8),
}

impl Value {
    pub(super) fn write(&self, field: Field, bytes: &mut Vec<u8>) {
        let end = bytes.len() + field.length();
        match self {
            Self::Ip(IpAddr::V4(ip)) => bytes.extend(ip.octets()),
            Self::Ip(IpAddr::V6(ip)) => bytes.extend(ip.octets()),
            Self::Name(name) => bytes.extend(name.as_str().as_bytes()),
            Self::Hardware(mac) => bytes.extend(mac.0),
            Self::Transport(transport) => bytes.push(transport.number()),
            Self::Port(port) => bytes.extend(port.to_be_bytes()),
            Self::Mark(mark) => bytes.extend(mark.to_ne_bytes()),
            Self::Family(family) => bytes.push(*family),
        }
        bytes.resize(end, 0);
    }

    /// None if we would not have written it.
    pub(super) fn read(field: Field, bytes: &[u8]) -> Option<Self> {
        Some(match field {
            Field::Ip4 => Self::Ip(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
            Field::Ip6 => Self::Ip(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
            Field::Name => {
                let end = bytes.iter().position(|b| *b == 0)?;
                Self::Name(IfName::new(std::str::from_utf8(&bytes[..end]).ok()?).ok()?)
            }
            Field::Hardware => Self::Hardware(Mac(*bytes.first_chunk::<6>()?)),
            Field::Transport => Self::Transport(Transport::from_number(*bytes.first()?)?),
            Field::Port => Self::Port(u16::from_be_bytes(*bytes.first_chunk::<2>()?)),
            Field::Mark => Self::Mark(u32::from_ne_bytes(*bytes.first_chunk::<4>()?)),
            Field::Family => Self::Family(*bytes.first()?),
            Field::Goto => return None,
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
            Self::Hardware(mac) => mac.fmt(f),
            Self::Transport(transport) => transport.fmt(f),
            Self::Port(port) => port.fmt(f),
            Self::Mark(mark) => write!(f, "{mark:#010x}"),
            Self::Family(family) => family.fmt(f),
        }
    }
}
