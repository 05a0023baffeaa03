//! Whether a link is gone for good. One that was moved into another network namespace is not: whoever did
//! that may still use it, and the container behind it.

use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use nix::libc;

use super::{Host, Link, RouteSocket, StepError, look, message};
use crate::attach::{LinksSeen, Record};

/// `IFLA_TARGET_NETNSID` (include/uapi/linux/if_link.h): in which namespace is asked.
const TARGET_NETNSID: u16 = 46;

impl Host {
    /// Every link of the host, in one listing.
    pub fn links(&mut self) -> Result<LinksSeen, StepError> {
        let links = look::links(self.socket()?)?;
        Ok(links.into_iter().map(|link| (link.index, link.name)).collect())
    }

    /// The attachment's link is neither on the host, under whatever name, nor is one of its ends in a namespace
    /// that it was moved to, under whatever name. The kernel gives a namespace a number on the host when a link
    /// goes there, and has one for each container.
    pub fn is_destroyed(&mut self, record: &Record) -> Result<bool, StepError> {
        let (name, index) = (&record.host, record.index);
        let socket = self.socket()?;
        let found = [look::link_by_name(socket, name)?, look::link_by_index(socket, index)?];
        let seen: LinksSeen = found.into_iter().flatten().map(|l| (l.index, l.name)).collect();
        if seen.carry(name, index) {
            return Ok(false);
        }
        for number in namespaces(socket)? {
            if is_there(socket, record, number)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The numbers of the network namespaces that the host has links with.
fn namespaces(socket: &mut RouteSocket) -> Result<Vec<i32>, StepError> {
    let question = RouteNetlinkMessage::GetNsId(NsidMessage::default());
    let found = socket.list("network namespaces", &question)?;
    let number = |message| match message {
        RouteNetlinkMessage::NewNsId(message) => {
            message.attributes.into_iter().find_map(|attribute| match attribute {
                NsidAttribute::Id(number) => Some(number),
                _ => None,
            })
        }
        _ => None,
    };
    Ok(found.into_iter().filter_map(number).collect())
}

/// Whether the namespace of that number has an end of the attachment's link. Its own end keeps its index on the
/// way to another namespace where that one is free; the hardware address of the host's is of its key alone.
fn is_there(socket: &mut RouteSocket, record: &Record, number: i32) -> Result<bool, StepError> {
    let mut question = message::list_links();
    if let RouteNetlinkMessage::GetLink(link) = &mut question {
        let target = DefaultNla::new(TARGET_NETNSID, number.to_ne_bytes().to_vec());
        link.attributes.push(LinkAttribute::Other(target));
    }
    let is_end = |link: Link| {
        link.name == record.host.as_str()
            || link.mac == Some(record.host_mac)
            || link.mac == Some(record.mac) && link.index == record.index
    };
    match look::list_links(socket, "the links of a namespace", &question) {
        Ok(links) => Ok(links.into_iter().any(is_end)),
        // The namespace is gone meanwhile, and its links with it.
        Err(error) if error.is_absent() || error.errno == libc::EINVAL => Ok(false),
        Err(error) => Err(error),
    }
}
