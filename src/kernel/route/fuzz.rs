//! What must hold of route netlink's answers, whatever they are.

use netlink_packet_core::NetlinkDeserializable;
use netlink_packet_route::RouteNetlinkMessage;
use quantum_config::ids::LinkIndex;

use super::look::{Link, hops, read_address, read_route};
use super::socket::{read_error, show_each};
use super::{scan, shape, vlan};
use crate::attach::naming;

/// Reads a datagram as each of our readers would.
pub fn read(datagram: &[u8]) {
    let mut count = 0;
    let _ = show_each(datagram, |header, payload| {
        count += 1;
        let _ = read_error(header, payload);
        if let Ok(message) = RouteNetlinkMessage::deserialize(header, payload) {
            of(&message);
        }
    });
    assert!(count <= datagram.len() / 16, "each has a header");
}

fn of(message: &RouteNetlinkMessage) {
    match message {
        RouteNetlinkMessage::NewLink(link) => {
            let _ = vlan::read(link);
            let link = Link::read(link);
            let (group, alias) = (link.group, link.alias.clone());
            if let Some(owned) = scan::owned(link, None) {
                // What is owned is swept: it has our marks.
                let is_ours = naming::is_ours(owned.name.as_str(), owned.index, group, &alias)
                    || naming::is_our_shaper(owned.name.as_str(), owned.index, group, &alias);
                assert!(is_ours, "{owned:?}");
                let _ = owned.host();
            }
            if let Some(alias) = naming::read_alias(&alias)
                && let Some(key) = &alias.key
            {
                let written = naming::alias(key, alias.addresses.iter().copied());
                let back = naming::read_alias(&written);
                assert_eq!(back.and_then(|back| back.key), Some(key.clone()), "{written}");
            }
        }
        RouteNetlinkMessage::NewAddress(address) => {
            if let Some(address) = read_address(address) {
                let most = if address.is_ipv4() { 32 } else { 128 };
                assert!(address.prefix() <= most);
            }
        }
        RouteNetlinkMessage::NewRoute(route) => {
            for hop in hops(route) {
                for seen in read_route(route, LinkIndex(hop.link)) {
                    assert!(!seen.destination.to_string().is_empty());
                }
            }
            let _ = read_route(route, LinkIndex(1));
        }
        RouteNetlinkMessage::NewQueueDiscipline(found) => drop(shape::read_bucket(found)),
        RouteNetlinkMessage::NewTrafficFilter(found) => drop(shape::read_redirect(found)),
        _ => {}
    }
}
