//! The requests that we send, as functions of values.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnetwork::IpNetwork;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecUnspec, InetDevConf, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use quantum_config::cni::{Route, Tuning};
use quantum_config::ids::{IfName, LinkIndex, Mac};

use crate::attach::{InsidePlan, LinkPlan};

/// `lo` has index 1 in every network namespace (the kernel refuses to boot otherwise).
pub(super) const LOOPBACK: LinkIndex = LinkIndex(1);

/// Makes the pair in one request: the host's end up and a port of the bridge, its peer in the
/// container's namespace. The peer cannot be up yet: it is made before the two are joined.
pub(super) fn create_pair(
    link: &LinkPlan,
    inside: &InsidePlan,
    netns: BorrowedFd<'_>,
) -> RouteNetlinkMessage {
    // One that waits on the host is moved by somebody else, into a namespace where its index may be taken.
    let index = if inside.waits { LinkIndex(0) } else { inside.index };
    let mut peer = link_message(index, identity(&inside.ifname, inside.mac, link.mtu));
    peer.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));

    let mut host = link_message(link.index, identity(&link.host, link.mac, link.mtu));
    host.header.flags = LinkFlags::Up;
    host.header.change_mask = LinkFlags::Up;
    host.attributes.extend([
        LinkAttribute::Group(link.group),
        LinkAttribute::Controller(link.bridge.0),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ]);
    RouteNetlinkMessage::NewLink(host)
}

/// Alias and port flags. The kernel ignores them in the request that makes the link.
pub(super) fn set_port(link: &LinkPlan) -> RouteNetlinkMessage {
    let mut attributes = vec![LinkAttribute::IfAlias(link.alias.clone())];
    let flags = [
        link.hairpin.then_some(InfoBridgePort::HairpinMode(true)),
        link.isolated.then_some(InfoBridgePort::Isolated(true)),
    ];
    let flags: Vec<_> = flags.into_iter().flatten().collect();
    if !flags.is_empty() {
        attributes.push(port_flags(flags));
    }
    // NEWLINK without NLM_F_CREATE changes a link; SETLINK would ignore the port's flags.
    RouteNetlinkMessage::NewLink(link_message(link.index, attributes))
}

/// Brings a link up.
pub(super) fn link_up(index: LinkIndex) -> RouteNetlinkMessage {
    let mut message = link_message(index, Vec::new());
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(message)
}

/// Brings up the container's end, and has the kernel announce its IPv4 addresses whenever its
/// hardware address is set (`arp_notify`; netlink costs a hundredth of the file in `/proc/sys`).
pub(super) fn announcing_link_up(index: LinkIndex) -> RouteNetlinkMessage {
    let mut conf = InetDevConf::default();
    conf.arp_notify = 1;
    let conf = AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(conf)]);
    let mut message = link_message(index, vec![LinkAttribute::AfSpecUnspec(vec![conf])]);
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(message)
}

/// Takes a link down.
pub(super) fn link_down(index: LinkIndex) -> RouteNetlinkMessage {
    let mut message = link_message(index, Vec::new());
    message.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(message)
}

/// Plugs a link into a bridge, out of another if it is in one.
pub(super) fn plug(index: LinkIndex, bridge: LinkIndex) -> RouteNetlinkMessage {
    let bridge = LinkAttribute::Controller(bridge.0);
    RouteNetlinkMessage::SetLink(link_message(index, vec![bridge]))
}

/// Gives a link another name.
pub(super) fn rename(index: LinkIndex, name: &IfName) -> RouteNetlinkMessage {
    let name = LinkAttribute::IfName(name.as_str().to_owned());
    RouteNetlinkMessage::SetLink(link_message(index, vec![name]))
}

/// Sets the flags of a bridge port, or takes them away.
pub(super) fn set_port_flags(
    index: LinkIndex,
    hairpin: bool,
    isolated: bool,
) -> RouteNetlinkMessage {
    let flags = vec![InfoBridgePort::HairpinMode(hairpin), InfoBridgePort::Isolated(isolated)];
    RouteNetlinkMessage::NewLink(link_message(index, vec![port_flags(flags)]))
}

fn port_flags(flags: Vec<InfoBridgePort>) -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(flags)),
    ])
}

/// Sets a link's flags and its queue, as far as anything is said of them.
pub(super) fn tune_link(index: LinkIndex, tuning: &Tuning) -> RouteNetlinkMessage {
    let queue = tuning.tx_queue.map(LinkAttribute::TxQueueLen);
    let mut message = link_message(index, queue.into_iter().collect());
    let promisc = tuning.promisc.then_some(true);
    let flags = [(LinkFlags::Promisc, promisc), (LinkFlags::Allmulti, tuning.all_multicast)];
    for (flag, wanted) in flags {
        message.header.flags.set(flag, wanted == Some(true));
        message.header.change_mask.set(flag, wanted.is_some());
    }
    RouteNetlinkMessage::SetLink(message)
}

/// Sets a link's hardware address.
pub(super) fn set_mac(index: LinkIndex, mac: Mac) -> RouteNetlinkMessage {
    RouteNetlinkMessage::SetLink(link_message(index, vec![LinkAttribute::Address(mac.0.to_vec())]))
}

/// Sets a link's MTU.
pub(super) fn set_mtu(index: LinkIndex, mtu: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::SetLink(link_message(index, vec![LinkAttribute::Mtu(mtu)]))
}

/// Moves a link to a link group.
pub(super) fn set_group(index: LinkIndex, group: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::SetLink(link_message(index, vec![LinkAttribute::Group(group)]))
}

/// Deletes one link.
pub(super) fn delete_link(index: LinkIndex) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelLink(link_message(index, Vec::new()))
}

/// Deletes all links of a link group.
pub(super) fn delete_group(group: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelLink(link_message(LinkIndex(0), vec![LinkAttribute::Group(group)]))
}

/// Asks for a link by index.
pub(super) fn get_link(index: LinkIndex) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(link_message(index, vec![without_statistics()]))
}

/// Asks for a link by name.
pub(super) fn get_link_by_name(name: &IfName) -> RouteNetlinkMessage {
    let name = LinkAttribute::IfName(name.as_str().to_owned());
    RouteNetlinkMessage::GetLink(link_message(LinkIndex(0), vec![name, without_statistics()]))
}

/// Asks for all links.
pub(super) fn list_links() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(link_message(LinkIndex(0), vec![without_statistics()]))
}

/// Asks for the links that have this master: the ports of a bridge.
pub(super) fn list_ports(master: LinkIndex) -> RouteNetlinkMessage {
    let master = LinkAttribute::Controller(master.0);
    RouteNetlinkMessage::GetLink(link_message(LinkIndex(0), vec![master, without_statistics()]))
}

/// Asks for the ports of all bridges, with their VLANs as ranges.
pub(super) fn list_vlans() -> RouteNetlinkMessage {
    let ranges = LinkAttribute::ExtMask(vec![LinkExtentMask::BrvlanCompressed]);
    let mut message = link_message(LinkIndex(0), vec![ranges]);
    message.header.interface_family = AddressFamily::Bridge;
    RouteNetlinkMessage::GetLink(message)
}

/// Asks for the addresses of a link.
pub(super) fn list_addresses(index: LinkIndex) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.index = index.0;
    RouteNetlinkMessage::GetAddress(message)
}

/// Asks for the routes over a link, of one family, in all tables.
pub(super) fn list_routes(index: LinkIndex, family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.attributes = vec![RouteAttribute::Oif(index.0)];
    RouteNetlinkMessage::GetRoute(message)
}

/// Asks for the IPv6 routes that router advertisements brought.
pub(super) fn list_advertised_routes() -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.header.protocol = RouteProtocol::Ra;
    RouteNetlinkMessage::GetRoute(message)
}

/// Asks for the routes of the main table, of one family.
pub(super) fn list_main_routes(family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    RouteNetlinkMessage::GetRoute(message)
}

/// Adds an address to a link.
pub(super) fn add_address(index: LinkIndex, address: IpNetwork) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewAddress(address_message(index, address))
}

/// Adds an address that is used only after nobody else was found to have it.
pub(super) fn add_address_after_detection(
    index: LinkIndex,
    address: IpNetwork,
) -> RouteNetlinkMessage {
    let mut message = address_message(index, address);
    message.attributes.retain(|a| !matches!(a, AddressAttribute::Flags(_)));
    RouteNetlinkMessage::NewAddress(message)
}

/// An address as it is added: IPv4 with its broadcast address where the subnet has one, IPv6
/// without duplicate address detection, which would keep it unusable for a second and more. We gave
/// the address out ourselves, so there is nothing to detect.
pub(super) fn address_message(index: LinkIndex, address: IpNetwork) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family_of(address.ip());
    message.header.prefix_len = address.prefix();
    message.header.index = index.0;
    message.attributes =
        vec![AddressAttribute::Address(address.ip()), AddressAttribute::Local(address.ip())];
    match address {
        IpNetwork::V4(v4) if v4.prefix() < 31 => {
            message.attributes.push(AddressAttribute::Broadcast(v4.broadcast()));
        }
        IpNetwork::V4(_) => {}
        IpNetwork::V6(_) => message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad)),
    }
    message
}

/// Adds a route.
pub(super) fn add_route(index: LinkIndex, route: &Route) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(route.dst.ip());
    message.header.destination_prefix_length = route.dst.prefix();
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    // IPv4 wants to be told that a destination is on the link; IPv6 has no scopes for routes.
    message.header.scope = match (route.scope, route.gw) {
        (Some(scope), _) => scope.into(),
        (None, None) => RouteScope::Link,
        (None, Some(_)) => RouteScope::Universe,
    };
    message.attributes = vec![RouteAttribute::Oif(index.0)];
    if route.dst.prefix() > 0 {
        message.attributes.push(RouteAttribute::Destination(route.dst.network().into()));
    }
    message.attributes.extend(route.gw.map(|hop| RouteAttribute::Gateway(hop.into())));
    message.attributes.extend(route.priority.map(RouteAttribute::Priority));
    match route.table {
        // The header has room for numbers up to 255; the attribute counts.
        Some(table) => message.attributes.push(RouteAttribute::Table(table)),
        None => message.header.table = RouteHeader::RT_TABLE_MAIN,
    }
    let metrics = [route.mtu.map(RouteMetric::Mtu), route.advmss.map(RouteMetric::Advmss)];
    let metrics: Vec<_> = metrics.into_iter().flatten().collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    RouteNetlinkMessage::NewRoute(message)
}

pub(super) fn family_of(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn link_message(index: LinkIndex, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index.0;
    message.attributes = attributes;
    message
}

/// Counters are half of an answer and nobody here reads them.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn identity(name: &IfName, mac: Mac, mtu: Option<u32>) -> Vec<LinkAttribute> {
    let mut attributes = vec![
        LinkAttribute::IfName(name.as_str().to_owned()),
        LinkAttribute::Address(mac.0.to_vec()),
    ];
    attributes.extend(mtu.map(LinkAttribute::Mtu));
    attributes
}
