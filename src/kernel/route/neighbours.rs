//! Forgets the host's neighbour entries of addresses whose container is gone. The next container with
//! such an address has another hardware address, and announces it; but an announcement may be lost, and
//! until the host asks again it would send to the old one. And of addresses whose container is about to
//! come: what waits for whoever has such an address goes with the entry.
//!
//! Best effort: an entry that is not there, or that the kernel keeps, is no reason to fail.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use quantum_config::ids::{IfName, LinkIndex};

use super::message::family_of;
use super::routed::proxy;
use super::{Batch, Host, Step, look};

/// How many entries go in one datagram: the acknowledgements must fit into the socket's queue.
const AT_ONCE: usize = 128;

impl Host {
    /// Forgets who has these addresses, each on the link that it is reached over: one question for
    /// each link, and one datagram for all.
    pub fn forget_neighbours(&mut self, addresses: &[(IfName, IpAddr)]) {
        let mut links: BTreeMap<&IfName, Vec<IpAddr>> = BTreeMap::new();
        for (link, address) in addresses {
            links.entry(link).or_default().push(*address);
        }
        let Ok(socket) = self.socket() else { return };
        let mut going = Vec::new();
        for (name, addresses) in links {
            if let Ok(Some(link)) = look::link_by_name(socket, name) {
                going.extend(addresses.into_iter().map(|address| (link.index, address)));
            }
        }
        for chunk in going.chunks(AT_ONCE) {
            let mut batch = Batch::new();
            for (link, address) in chunk {
                let object = address.to_string();
                if let IpAddr::V6(ip) = address {
                    // Only a routed network has one; what is not there is no matter.
                    let request = proxy(*link, *ip, false);
                    batch.push(Step::ForgetNeighbour, object.clone(), 0, request);
                }
                batch.push(Step::ForgetNeighbour, object, 0, delete(*link, *address));
            }
            drop(socket.send(batch));
        }
    }
}

fn delete(link: LinkIndex, address: IpAddr) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family_of(address);
    message.header.ifindex = link.0;
    let destination = match address {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    };
    message.attributes = vec![NeighbourAttribute::Destination(destination)];
    RouteNetlinkMessage::DelNeighbour(message)
}
