//! What is there: the interfaces of a namespace and their addresses.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::Route;
use crate::failure::Result;

fn links(route: &mut Route) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    route.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |entry| {
        if let RouteNetlinkMessage::NewLink(link) = entry {
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            found.extend(name.map(|name| (link.header.index, name)));
        }
    })?;
    Ok(found)
}

/// The names of all interfaces of the socket's namespace, sorted.
pub(crate) fn link_names(route: &mut Route) -> Result<Vec<String>> {
    let mut names: Vec<String> = links(route)?.into_iter().map(|(_, name)| name).collect();
    names.sort_unstable();
    Ok(names)
}

/// The index of an interface, if it is there.
pub(crate) fn link_index(route: &mut Route, name: &str) -> Result<Option<u32>> {
    Ok(links(route)?.into_iter().find(|(_, n)| n == name).map(|(index, _)| index))
}

/// The addresses of an interface.
pub(crate) fn addresses(route: &mut Route, index: u32) -> Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    route.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), |entry| {
        if let RouteNetlinkMessage::NewAddress(address) = entry
            && address.header.index == index
        {
            found.extend(address.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            }));
        }
    })?;
    Ok(found)
}

/// How many packets an interface has received; none if it is not there.
pub(crate) fn received_packets(route: &mut Route, name: &str) -> Result<u64> {
    let mut found = 0;
    route.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |entry| {
        if let RouteNetlinkMessage::NewLink(link) = entry
            && link.attributes.contains(&LinkAttribute::IfName(name.to_owned()))
        {
            found = link
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    LinkAttribute::Stats64(stats) => Some(stats.rx_packets),
                    _ => None,
                })
                .unwrap_or_default();
        }
    })?;
    Ok(found)
}
