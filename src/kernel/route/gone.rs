//! Whether a link is gone for good. One that was moved into another network namespace is not: whoever did
//! that may still use it, and the container behind it.

use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use nix::libc;
use quantum_config::ids::{IfName, LinkIndex};

use super::{Host, RouteSocket, Step, StepError, look, message};
use crate::attach::LinksSeen;

/// `IFLA_TARGET_NETNSID` (include/uapi/linux/if_link.h): in which namespace is asked.
const TARGET_NETNSID: u16 = 46;

impl Host {
    /// Every link of the host, in one listing.
    pub fn links(&mut self) -> Result<LinksSeen, StepError> {
        let links = look::links(self.socket()?)?;
        Ok(links.into_iter().map(|link| (link.index, link.name)).collect())
    }

    /// The link is neither on the host, under whatever name, nor in a namespace that it was moved to. The
    /// kernel gives a namespace a number on the host when a link goes there, and has one for each container.
    pub fn is_destroyed(&mut self, name: &IfName, index: LinkIndex) -> Result<bool, StepError> {
        let socket = self.socket()?;
        let found = [look::link_by_name(socket, name)?, look::link_by_index(socket, index)?];
        let seen: LinksSeen = found.into_iter().flatten().map(|l| (l.index, l.name)).collect();
        if seen.carry(name, index) {
            return Ok(false);
        }
        for number in namespaces(socket)? {
            if is_there(socket, name, number)? {
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

/// Whether the namespace of that number has a link of that name.
fn is_there(socket: &mut RouteSocket, name: &IfName, number: i32) -> Result<bool, StepError> {
    let mut question = message::get_link_by_name(name);
    if let RouteNetlinkMessage::GetLink(link) = &mut question {
        let target = DefaultNla::new(TARGET_NETNSID, number.to_ne_bytes().to_vec());
        link.attributes.push(LinkAttribute::Other(target));
    }
    match socket.ask(Step::FindLink, name.as_str(), question) {
        Ok(_) => Ok(true),
        Err(error) if error.is_absent() => Ok(false),
        // The namespace is gone meanwhile, and its links with it.
        Err(error) if error.errno == libc::EINVAL => Ok(false),
        Err(error) => Err(error),
    }
}
