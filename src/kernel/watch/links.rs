//! What is heard of links and of forwarding, and whether it is any business of ours: hundreds of containers a
//! second come and go, each with a dozen messages.

use std::sync::{Arc, Mutex, PoisonError};

use netlink_packet_core::Parseable;
use netlink_packet_route::link::LinkMessage;
use quantum_config::ids::LinkIndex;

use super::super::netfilter::{Message, attribute};
use super::super::route::Link;
use crate::attach::{Families, LinkSeen, Links};

// include/uapi/linux/rtnetlink.h
pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
pub(super) const RTM_NEWNETCONF: u16 = 80;
pub(super) const RTNLGRP_LINK: u32 = 1;
pub(super) const RTNLGRP_IPV4_NETCONF: u32 = 24;
pub(super) const RTNLGRP_IPV6_NETCONF: u32 = 25;
/// The length of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
// include/uapi/linux/if_link.h
const IFLA_PROTINFO: u16 = 12;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
// include/uapi/linux/netconf.h
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_IFINDEX_ALL: i32 = -1;
// include/linux/socket.h
const AF_INET: u8 = 2;
const AF_BRIDGE: u8 = 7;
const AF_INET6: u8 = 10;

/// What our links are to be like. The watch looks into it, and whoever changes links writes it.
#[derive(Debug, Clone, Default)]
pub struct LinkBook(Arc<Mutex<Links>>);

impl LinkBook {
    /// Looks into it, or writes it.
    pub fn with<T>(&self, work: impl FnOnce(&mut Links) -> T) -> T {
        // Whoever panicked left one link out.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What was heard of links and forwarding.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LinksHeard {
    /// A link of ours is not as it should be, or was not for a moment.
    pub harmed: bool,
    /// For these families somebody turned forwarding off for all links, though it may be on again.
    pub off: Families,
    /// A link of ours does not forward.
    pub link_off: bool,
}

impl LinksHeard {
    /// Takes a message, if it is about links or forwarding.
    pub(super) fn take(&mut self, message: &Message<'_>, book: &LinkBook) {
        match message.kind {
            RTM_NEWLINK => self.harmed |= harmed(message.body, book).unwrap_or(false),
            RTM_DELLINK => {
                let is_missed = |index| book.with(|links| links.carries(index));
                let family = message.body.first().copied();
                self.harmed |=
                    family != Some(AF_BRIDGE) && index(message.body).is_some_and(is_missed);
            }
            RTM_NEWNETCONF => _ = self.forwarding(message.body, book),
            _ => {}
        }
    }

    fn forwarding(&mut self, body: &[u8], book: &LinkBook) -> Option<()> {
        let attributes = body.get(4..)?;
        let number = |kind| {
            let value = attribute(attributes, kind)?.first_chunk::<4>()?;
            Some(i32::from_ne_bytes(*value))
        };
        if number(NETCONFA_FORWARDING)? != 0 {
            return None;
        }
        match (number(NETCONFA_IFINDEX)?, body.first()?) {
            (NETCONFA_IFINDEX_ALL, &AF_INET) => self.off.ipv4 = true,
            (NETCONFA_IFINDEX_ALL, &AF_INET6) => self.off.ipv6 = true,
            (index, _) => {
                let index = LinkIndex(u32::try_from(index).ok()?);
                self.link_off |= book.with(|links| links.carries(index));
            }
        }
        Some(())
    }
}

fn index(body: &[u8]) -> Option<LinkIndex> {
    let index = body.get(4..8)?.first_chunk::<4>()?;
    Some(LinkIndex(u32::from_ne_bytes(*index)))
}

/// Whether the message is about a link of ours that is not as it should be. None if it cannot be read.
fn harmed(body: &[u8], book: &LinkBook) -> Option<bool> {
    let index = index(body)?;
    if !book.with(|links| links.knows(index)) {
        return Some(false);
    }
    if body.first() == Some(&AF_BRIDGE) {
        // What a bridge tells of a port: also its flags, and not all that makes up the link.
        let port = attribute(body.get(IFINFOMSG..)?, IFLA_PROTINFO)?;
        let flag = |kind| attribute(port, kind)?.first().map(|value| *value != 0);
        let seen = (flag(IFLA_BRPORT_MODE)?, flag(IFLA_BRPORT_ISOLATED)?);
        return Some(book.with(|links| links.has_other_flags(index, seen)));
    }
    let seen = LinkSeen::from(Link::read(&LinkMessage::parse(body).ok()?));
    Some(book.with(|links| links.is_harmed(&seen)))
}
