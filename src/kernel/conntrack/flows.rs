//! The connections that are under way, as policy asks about them.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use quantum_config::cni::{Family, Transport};

use super::message::Entry;
use super::sought::Look;
use super::{Conntrack, ConntrackError, is_missing};
use crate::policy::{LiveFlow, Traffic};

impl Conntrack {
    /// All connections that the kernel knows of, both families'. None where it has no conntrack.
    pub fn flows(&mut self) -> Result<Vec<LiveFlow>, ConntrackError> {
        let count = self.count();
        if count == Some(0) || (count.is_none() && self.absent) {
            return Ok(Vec::new());
        }
        let host = own_addresses().map_err(|error| ConntrackError::Socket {
            doing: "list the host's addresses beside",
            why: error.to_string(),
        })?;
        let mut flows = Vec::new();
        for family in [Family::V4, Family::V6] {
            let doing = || "list all connections".to_owned();
            let look = Look { family, only: None };
            match self.list(look, doing, |entry| flow(&entry, &host)) {
                Ok(found) => flows.extend(found),
                Err(ConntrackError::Refused { errno, .. }) if is_missing(Some(errno as i32)) => {
                    self.absent = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(flows)
    }
}

/// The addresses of the network namespace of this thread. They are asked for at once, as there may be as
/// many others as there are connections.
fn own_addresses() -> io::Result<HashSet<IpAddr>> {
    let addresses = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    Ok(addresses.collect())
}

/// An entry as a flow; none if it lacks an address, which no kernel's does.
pub(super) fn flow(entry: &Entry, host: &HashSet<IpAddr>) -> Option<LiveFlow> {
    let (original, reply) = (&entry.original, &entry.reply);
    let (from, sent_to, to) = (original.source?, original.destination?, reply.source?);
    let is_host = |address: IpAddr| address.is_loopback() || host.contains(&address);
    // Who answers does so from the port that the connection was led to.
    let port = reply.source_port.or(original.port);
    let traffic = match (Transport::from_number(original.protocol), port) {
        (Some(transport), Some(port)) => Traffic::Port(transport, port),
        _ => Traffic::Other(original.protocol),
    };
    Some(LiveFlow {
        from,
        from_host: is_host(from),
        sent_to,
        to,
        to_host: is_host(to),
        traffic,
        icmp: original.icmp,
        mark: entry.mark,
        translated: to != sent_to || port != original.port,
    })
}
