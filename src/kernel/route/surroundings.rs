//! What the host has in the way of a network's subnets: its addresses, and the routes of its main table, as far
//! as they overlap. A host may have a million routes, so the others are let go while they are read.

use std::collections::HashMap;

use ipnetwork::IpNetwork;
use netlink_packet_route::route::{RouteMessage, RouteProtocol, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use quantum_config::ids::LinkIndex;
use quantum_config::prefixes::overlap;

use super::look::{self, read_address};
use super::{Host, StepError, message};
use crate::attach::{HostAddress, HostNetworks, HostRoute, OnLink};

impl Host {
    /// What of the host overlaps one of these subnets.
    pub fn surroundings(&mut self, subnets: &[IpNetwork]) -> Result<HostNetworks, StepError> {
        let socket = self.socket()?;
        let links = look::links(socket)?;
        let names: HashMap<LinkIndex, &str> =
            links.iter().map(|link| (link.index, link.name.as_str())).collect();
        let named = |index: LinkIndex| names.get(&index).map(|name| (*name).to_owned());
        let masters: HashMap<LinkIndex, LinkIndex> =
            links.iter().filter_map(|link| Some((link.index, link.master?))).collect();
        let on = |index: LinkIndex| OnLink {
            name: named(index).unwrap_or_default(),
            bridge: masters.get(&index).and_then(|master| named(*master)),
        };
        let overlaps = |prefix: IpNetwork| subnets.iter().any(|subnet| overlap(prefix, *subnet));

        let mut host = HostNetworks::default();
        let every = message::list_addresses(LinkIndex(0));
        for found in socket.list("addresses", &every)? {
            if let RouteNetlinkMessage::NewAddress(found) = found
                && let Some(address) = read_address(&found).filter(|address| overlaps(*address))
            {
                host.addresses.push(HostAddress { address, on: on(LinkIndex(found.header.index)) });
            }
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let question = message::list_main_routes(family);
            let wanted = |message: &RouteNetlinkMessage| {
                read(message).is_some_and(|(_, destination)| overlaps(destination))
            };
            // Many come and go on a router, and what is decided by is looked at once only.
            let (routes, _) = socket.list_some("routes", &question, &wanted)?;
            for (route, destination) in routes.iter().filter_map(read) {
                let hops = look::hops(route);
                let is_connected = hops.iter().all(|hop| hop.address.is_none())
                    && matches!(route.header.protocol, RouteProtocol::Kernel | RouteProtocol::Ra);
                host.routes.extend(hops.iter().map(|hop| HostRoute {
                    destination,
                    is_connected,
                    on: on(LinkIndex(hop.link)),
                }));
            }
        }
        Ok(host)
    }
}

/// A unicast route and where it leads to.
fn read(message: &RouteNetlinkMessage) -> Option<(&RouteMessage, IpNetwork)> {
    match message {
        RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Unicast => {
            Some((route, look::destination(route)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{in_private_netns, ip_batch};

    #[test]
    fn addresses_and_routes_of_both_families_are_seen_if_they_overlap() {
        in_private_netns(|| {
            ip_batch(
                "link add br0 type bridge\n\
                 link add eth0 type veth peer name other\n\
                 link set eth0 master br0\n\
                 link set br0 up\nlink set eth0 up\nlink set other up\n\
                 address add 10.1.0.1/24 dev br0\n\
                 address add fd00:1::1/64 dev br0 nodad\n\
                 address add 10.2.0.1/24 dev eth0\n\
                 address add 10.3.0.1/24 dev other\n\
                 route add 10.0.0.0/8 via 10.1.0.9\n\
                 route add 10.9.0.0/16 via 10.1.0.9\n\
                 route add blackhole 10.1.0.128/25\n\
                 route add 10.1.0.64/26 nexthop via 10.1.0.8 nexthop dev other\n\
                 route add 10.1.0.77/32 dev other table 77\n",
            );
            let subnets = ["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64"].map(|s| s.parse().unwrap());
            let host = Host::open().unwrap().surroundings(&subnets).unwrap();
            let addresses: Vec<String> = host
                .addresses
                .iter()
                .map(|a| format!("{} {} {:?}", a.address, a.on.name, a.on.bridge))
                .collect();
            assert_eq!(
                addresses,
                ["10.1.0.1/24 br0 None", "10.2.0.1/24 eth0 Some(\"br0\")", "fd00:1::1/64 br0 None"]
            );
            let mut routes: Vec<String> = host
                .routes
                .iter()
                .map(|r| format!("{} {} {}", r.destination, r.is_connected, r.on.name))
                .collect();
            routes.sort();
            assert_eq!(
                routes,
                [
                    "10.0.0.0/8 false br0",
                    "10.1.0.0/24 true br0",
                    "10.1.0.64/26 false br0",
                    "10.1.0.64/26 false other",
                    "10.2.0.0/24 true eth0",
                    "fd00:1::/64 true br0",
                ]
            );
        });
    }
}
