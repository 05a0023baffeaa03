//! The changes that attach and detach a container, each as one message.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Step;

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// A pair of interfaces: one end in the host, up and in a bridge, the other end in a container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Veth<'a> {
    /// Name of the host's end.
    pub(crate) name: &'a str,
    /// Index of the host's end; chosen, so that later steps need not ask for it.
    pub(crate) index: u32,
    /// Index of the bridge.
    pub(crate) bridge: Option<u32>,
    /// Link group of the host's end.
    pub(crate) group: u32,
    /// Name of the container's end.
    pub(crate) peer_name: &'a str,
    /// Index of the container's end, in its own namespace.
    pub(crate) peer_index: u32,
    /// MAC address of the container's end.
    pub(crate) peer_mac: [u8; 6],
    /// The container's network namespace.
    pub(crate) netns: BorrowedFd<'a>,
}

/// Creates both ends where they belong: an end that is created in one namespace and moved to
/// another costs some 20 ms more. The far end stays down, as the kernel refuses to set it up before
/// the two are joined (ENOTCONN).
pub(crate) fn veth(veth: &Veth<'_>) -> Step {
    let mut peer = LinkMessage::default();
    peer.header.index = veth.peer_index;
    peer.attributes = vec![
        LinkAttribute::IfName(veth.peer_name.to_owned()),
        LinkAttribute::Address(veth.peer_mac.to_vec()),
        LinkAttribute::NetNsFd(veth.netns.as_raw_fd()),
    ];
    let mut host = with_up(veth.index);
    host.attributes = vec![
        LinkAttribute::IfName(veth.name.to_owned()),
        LinkAttribute::Group(veth.group),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    host.attributes.extend(veth.bridge.map(LinkAttribute::Controller));
    link("creating a veth pair", NEW, host)
}

/// Creates a bridge, up.
pub(crate) fn bridge(name: &str, index: u32) -> Step {
    let mut bridge = with_up(index);
    bridge.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    link("creating a bridge", NEW, bridge)
}

/// Sets an interface up.
pub(crate) fn up(index: u32) -> Step {
    link("setting an interface up", 0, with_up(index))
}

/// Sets an interface down.
pub(crate) fn down(index: u32) -> Step {
    let mut change = with_index(index);
    change.header.change_mask = LinkFlags::Up;
    link("setting an interface down", 0, change)
}

/// Moves an interface to another link group.
pub(crate) fn regroup(index: u32, group: u32) -> Step {
    let mut change = with_index(index);
    change.attributes = vec![LinkAttribute::Group(group)];
    link("moving an interface to another link group", 0, change)
}

/// Deletes one interface.
pub(crate) fn delete(index: u32) -> Step {
    let message = RouteNetlinkMessage::DelLink(with_index(index));
    Step { what: "deleting an interface", flags: 0, message }
}

/// Deletes every interface of a link group, all in one wait.
pub(crate) fn delete_group(group: u32) -> Step {
    let mut all = LinkMessage::default();
    all.attributes = vec![LinkAttribute::Group(group)];
    Step { what: "deleting a link group", flags: 0, message: RouteNetlinkMessage::DelLink(all) }
}

/// Adds an address, without waiting for duplicate address detection.
pub(crate) fn address(index: u32, address: Ipv4Addr, prefix: u8) -> Step {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address)),
        AddressAttribute::Address(IpAddr::V4(address)),
        AddressAttribute::Flags(AddressFlags::Nodad),
    ];
    Step {
        what: "adding an address",
        flags: NEW,
        message: RouteNetlinkMessage::NewAddress(message),
    }
}

/// Adds the default route.
pub(crate) fn default_route(index: u32, gateway: Ipv4Addr) -> Step {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes =
        vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(index)];
    Step {
        what: "adding the default route",
        flags: NEW,
        message: RouteNetlinkMessage::NewRoute(message),
    }
}

fn link(what: &'static str, flags: u16, message: LinkMessage) -> Step {
    Step { what, flags, message: RouteNetlinkMessage::NewLink(message) }
}

fn with_index(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn with_up(index: u32) -> LinkMessage {
    let mut message = with_index(index);
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}
