//! What an operator writes for an end of a connection and for its traffic, and what that means.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use quantum_config::cni::{Family, Transport};
use quantum_config::ids::AttachmentKey;

use super::{Endpoint, Side, Traffic, World};

/// How many candidates an error names.
const CANDIDATES: usize = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Why a text names no end of a connection, or no traffic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No endpoint is called so.
    #[error("no endpoint is {text:?}; {candidates}")]
    Unknown {
        /// What was written.
        text: String,
        /// What there is.
        candidates: String,
    },
    /// Several are.
    #[error(
        "{text:?} are several endpoints: {candidates}; name one by network/container/ifname or by its address"
    )]
    Ambiguous {
        /// What was written.
        text: String,
        /// Those.
        candidates: String,
    },
    /// It has no form that is known.
    #[error(
        "{0:?} is neither namespace/name, network/container/ifname, an address, host nor host@ADDRESS"
    )]
    Form(String),
    /// It is no traffic.
    #[error(
        "{0:?} is no traffic: write 80, 80/tcp, 53/udp, sctp/7, icmp, icmp:8 or the number of a protocol, as proto:47"
    )]
    Traffic(String),
    /// They cannot have a connection.
    #[error("{from:?} and {to:?} have no family of addresses in common")]
    Apart {
        /// One end.
        from: String,
        /// The other.
        to: String,
    },
}

/// One end of a connection, of whichever family.
#[derive(Debug, Clone, Copy)]
pub enum Who<'w> {
    /// An endpoint, by its name.
    Endpoint(&'w Endpoint),
    /// Who has this address.
    At(Side<'w>),
    /// A process of the host.
    Host,
}

/// Finds who is meant: `namespace/name`, `network/container/ifname`, an address, which may be an
/// endpoint's or of anybody else, `host`, or `host@ADDRESS`.
pub fn resolve<'w>(world: &'w World, text: &str) -> Result<Who<'w>, ResolveError> {
    let form = || ResolveError::Form(text.to_owned());
    if text == "host" {
        return Ok(Who::Host);
    }
    if let Some(address) = text.strip_prefix("host@") {
        return address.parse().map(|address| Who::At(Side::Host(address))).map_err(|_| form());
    }
    if let Ok(address) = text.parse() {
        return Ok(Who::At(world.side(address)));
    }
    let endpoints = world.endpoints().iter();
    let found: Vec<&Endpoint> = match text.matches('/').count() {
        1 => endpoints.filter(|endpoint| called(endpoint) == text).collect(),
        2 => {
            let key: AttachmentKey = text.parse().map_err(|_| form())?;
            endpoints.filter(|endpoint| endpoint.key == key).collect()
        }
        0 if !text.is_empty() => Vec::new(),
        _ => return Err(form()),
    };
    match found.as_slice() {
        [one] => Ok(Who::Endpoint(one)),
        [] => Err(ResolveError::Unknown {
            text: text.to_owned(),
            candidates: candidates(world, text),
        }),
        several => {
            let keys = several.iter().map(|endpoint| endpoint.key.to_string()).collect();
            Err(ResolveError::Ambiguous { text: text.to_owned(), candidates: few(keys) })
        }
    }
}

/// What an endpoint is called: `namespace/name`.
pub(super) fn called(endpoint: &Endpoint) -> String {
    format!("{}/{}", endpoint.namespace, endpoint.name)
}

/// The endpoints of the same last name, or else whichever there are.
fn candidates(world: &World, text: &str) -> String {
    let last = text.rsplit('/').next().unwrap_or(text);
    let names = |is_alike: &dyn Fn(&Endpoint) -> bool| {
        let mut names: Vec<String> =
            world.endpoints().iter().filter(|endpoint| is_alike(endpoint)).map(called).collect();
        names.sort();
        names.dedup();
        names
    };
    let alike = names(&|endpoint| endpoint.name.contains(last) || last == endpoint.namespace);
    let all = if alike.is_empty() { names(&|_| true) } else { alike };
    if all.is_empty() { "there is none".to_owned() } else { format!("there is {}", few(all)) }
}

fn few(names: Vec<String>) -> String {
    let more = names.len().saturating_sub(CANDIDATES);
    let mut text = names.into_iter().take(CANDIDATES).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} others"));
    }
    text
}

impl<'w> Who<'w> {
    /// It by a family of addresses, if it has one of it.
    fn by(&self, family: Family) -> Option<Side<'w>> {
        match *self {
            Self::Endpoint(endpoint) => by_family(endpoint, family),
            Self::At(side) => Some(side).filter(|side| Family::of(side.address()) == family),
            Self::Host => Some(host(family)),
        }
    }
}

/// An endpoint by its first address of a family.
pub(super) fn by_family(endpoint: &Endpoint, family: Family) -> Option<Side<'_>> {
    let address = endpoint.addresses.iter().find(|address| Family::of(**address) == family)?;
    Some(Side::Endpoint { endpoint, address: *address })
}

/// The host by no address in particular.
pub(super) fn host<'w>(family: Family) -> Side<'w> {
    Side::Host(match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    })
}

/// The pairs of sides that two ends have, one for each family of addresses that is common to them.
pub(super) fn pairs<'w>(from: &Who<'w>, to: &Who<'w>) -> Vec<(Side<'w>, Side<'w>)> {
    let families = [Family::V4, Family::V6].into_iter();
    families.filter_map(|family| Some((from.by(family)?, to.by(family)?))).collect()
}

/// Reads traffic: `80` and `80/tcp`, also as `tcp/80`; `icmp`, with a type or without; `proto:47`.
/// A type may have a code behind it, as in `icmp:3:4`; it is 0 without.
pub fn read_traffic(text: &str) -> Result<Traffic, ResolveError> {
    let refused = || ResolveError::Traffic(text.to_owned());
    let small = text.to_ascii_lowercase();
    let transport = |name: &str| match name {
        "tcp" => Some(Transport::Tcp),
        "udp" => Some(Transport::Udp),
        "sctp" => Some(Transport::Sctp),
        _ => None,
    };
    let port = |number: &str| number.parse::<u16>().ok().filter(|number| *number > 0);
    if let Some((one, other)) = small.split_once('/') {
        let found = transport(one).zip(port(other)).or_else(|| transport(other).zip(port(one)));
        return found.map(|(transport, port)| Traffic::Port(transport, port)).ok_or_else(refused);
    }
    if let Some(number) = small.strip_prefix("proto:") {
        let number = number.parse::<u8>().ok();
        let other = number.filter(|number| Transport::from_number(*number).is_none());
        return other.map(Traffic::Other).ok_or_else(refused);
    }
    let (protocol, kind) =
        small.split_once(':').map_or((small.as_str(), None), |(name, kind)| (name, Some(kind)));
    let message = |v6, kind: &str| {
        let (kind, code) = kind.split_once(':').unwrap_or((kind, "0"));
        let (kind, code) = (kind.parse().ok()?, code.parse().ok()?);
        Some(Traffic::Icmp { v6, kind, code })
    };
    let icmp = |v6, number| {
        kind.map_or(Some(Traffic::Other(number)), |kind| message(v6, kind)).ok_or_else(refused)
    };
    match protocol {
        "icmp" => icmp(false, ICMP),
        "icmpv6" | "icmp6" => icmp(true, ICMPV6),
        number if kind.is_none() => {
            port(number).map(|port| Traffic::Port(Transport::Tcp, port)).ok_or_else(refused)
        }
        _ => Err(refused()),
    }
}

/// Traffic as it is written, and as [`read_traffic`] reads it.
pub fn write_traffic(traffic: Traffic) -> String {
    match traffic {
        Traffic::Port(transport, port) => {
            format!("{}/{port}", transport.to_string().to_ascii_lowercase())
        }
        Traffic::Icmp { v6, kind, code } => {
            let name = if v6 { "icmpv6" } else { "icmp" };
            let code = if code == 0 { String::new() } else { format!(":{code}") };
            format!("{name}:{kind}{code}")
        }
        Traffic::Other(ICMP) => "icmp".to_owned(),
        Traffic::Other(ICMPV6) => "icmpv6".to_owned(),
        Traffic::Other(number) => format!("proto:{number}"),
    }
}

/// ICMP is another protocol in each family, and an operator means that of the addresses. Of the messages,
/// only a ping is in both.
pub(super) fn in_family(traffic: Traffic, address: IpAddr) -> Traffic {
    match (traffic, Family::of(address)) {
        (Traffic::Other(ICMP), Family::V6) => Traffic::Other(ICMPV6),
        (Traffic::Other(ICMPV6), Family::V4) => Traffic::Other(ICMP),
        (Traffic::Icmp { v6: false, kind: 8, code }, Family::V6) => {
            Traffic::Icmp { v6: true, kind: 128, code }
        }
        (Traffic::Icmp { v6: true, kind: 128, code }, Family::V4) => {
            Traffic::Icmp { v6: false, kind: 8, code }
        }
        _ => traffic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_read_as_it_is_written() {
        let port = |transport, number| Ok(Traffic::Port(transport, number));
        for (text, expected) in [
            ("80", port(Transport::Tcp, 80)),
            ("80/tcp", port(Transport::Tcp, 80)),
            ("UDP/53", port(Transport::Udp, 53)),
            ("7/sctp", port(Transport::Sctp, 7)),
            ("icmp", Ok(Traffic::Other(1))),
            ("icmp:8", Ok(Traffic::Icmp { v6: false, kind: 8, code: 0 })),
            ("icmp:3:4", Ok(Traffic::Icmp { v6: false, kind: 3, code: 4 })),
            ("icmpv6:128", Ok(Traffic::Icmp { v6: true, kind: 128, code: 0 })),
            ("proto:47", Ok(Traffic::Other(47))),
        ] {
            let found = read_traffic(text);
            assert_eq!(found, expected, "{text}");
            let written = found.map(write_traffic).expect("traffic");
            assert_eq!(read_traffic(&written), expected, "{written}");
        }
        for bad in ["", "0", "65536", "80/gre", "tcp", "tcp/", "icmp:256", "80:8", "proto:6", "a/b"]
        {
            assert_eq!(read_traffic(bad), Err(ResolveError::Traffic(bad.to_owned())));
        }
    }
}
