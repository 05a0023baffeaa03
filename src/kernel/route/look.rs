//! What there is: links, addresses and routes as plain data.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteNextHop, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use quantum_config::ids::{IfName, LinkIndex, Mac};

use super::{RouteSocket, Step, StepError, message, vlan};
use crate::attach::{LinkKind, RouteSeen, VlansSeen};

/// A link as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: LinkIndex,
    /// Its name.
    pub name: String,
    /// Its alias; empty if it has none.
    pub alias: String,
    /// Its link group.
    pub group: u32,
    /// The bridge or other master it belongs to.
    pub master: Option<LinkIndex>,
    /// The link it hangs on; of a veth its other end, by its index where that one is.
    pub other: Option<LinkIndex>,
    /// Its hardware address, if it has one of six bytes.
    pub mac: Option<Mac>,
    /// Its MTU.
    pub mtu: u32,
    /// It was brought up (which does not say that it has a carrier).
    pub up: bool,
    /// What it is, for whether the host learns by it or forwards to it.
    pub kind: LinkKind,
    /// It is one end of a veth pair.
    pub is_veth: bool,
    /// It is an intermediate functional block.
    pub is_ifb: bool,
    /// As a bridge port: frames may leave by the port they came in.
    pub hairpin: bool,
    /// As a bridge port: no frames to and from other isolated ports.
    pub isolated: bool,
    /// It takes every frame, whoever it is for.
    pub promisc: bool,
    /// It takes every multicast frame.
    pub all_multicast: bool,
    /// How many packets may wait to be sent.
    pub tx_queue: u32,
    /// As a bridge: what stays on it is handed to the rules for packets, IPv4 and IPv6.
    pub filters: [bool; 2],
}

impl Link {
    /// Reads an answer.
    pub(in crate::kernel) fn read(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: LinkIndex(message.header.index),
            name: String::new(),
            alias: String::new(),
            group: 0,
            master: None,
            other: None,
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            kind: match message.header.flags.contains(LinkFlags::Loopback) {
                true => LinkKind::Other,
                false => LinkKind::Device, // of which the kernel tells no kind
            },
            is_veth: false,
            is_ifb: false,
            hairpin: false,
            isolated: false,
            promisc: message.header.flags.contains(LinkFlags::Promisc),
            all_multicast: message.header.flags.contains(LinkFlags::Allmulti),
            tx_queue: 0,
            filters: [false; 2],
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name.clone(),
                LinkAttribute::IfAlias(alias) => link.alias = alias.clone(),
                LinkAttribute::Group(group) => link.group = *group,
                LinkAttribute::Controller(index) => link.master = Some(LinkIndex(*index)),
                LinkAttribute::Link(index) => link.other = Some(LinkIndex(*index)),
                LinkAttribute::Address(bytes) => {
                    link.mac = bytes.as_slice().try_into().ok().map(Mac);
                }
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::TxQueueLen(length) => link.tx_queue = *length,
                LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| link.note(info)),
                _ => {}
            }
        }
        link
    }

    /// It is a bridge.
    pub fn is_bridge(&self) -> bool {
        self.kind == LinkKind::Bridge
    }

    fn note(&mut self, info: &LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => {
                self.kind = read_kind(kind);
                self.is_veth = *kind == InfoKind::Veth;
                self.is_ifb = *kind == InfoKind::Ifb;
            }
            LinkInfo::Data(InfoData::Bridge(flags)) => {
                self.filters = [
                    flags.contains(&InfoBridge::NfCallIpTables(true)),
                    flags.contains(&InfoBridge::NfCallIp6Tables(true)),
                ];
            }
            LinkInfo::PortData(InfoPortData::BridgePort(flags)) => {
                self.hairpin = flags.contains(&InfoBridgePort::HairpinMode(true));
                self.isolated = flags.contains(&InfoBridgePort::Isolated(true));
            }
            _ => {}
        }
    }
}

fn read_kind(kind: &InfoKind) -> LinkKind {
    match kind {
        InfoKind::Bridge => LinkKind::Bridge,
        InfoKind::Bond | InfoKind::Team | InfoKind::Vlan | InfoKind::Ipoib => LinkKind::Device,
        InfoKind::Wwan | InfoKind::Dsa | InfoKind::MacSec | InfoKind::VirtWifi => LinkKind::Device,
        InfoKind::Tun | InfoKind::Wireguard | InfoKind::Xfrm | InfoKind::Vxlan => LinkKind::Tunnel,
        InfoKind::Geneve | InfoKind::IpIp | InfoKind::Ip6Tnl | InfoKind::SitTun => LinkKind::Tunnel,
        InfoKind::GreTun | InfoKind::GreTun6 | InfoKind::Vti | InfoKind::Vti6 => LinkKind::Tunnel,
        _ => LinkKind::Other,
    }
}

/// The link with this index, if there is one.
pub(in crate::kernel) fn link_by_index(
    socket: &mut RouteSocket,
    index: LinkIndex,
) -> Result<Option<Link>, StepError> {
    find_link(socket, &format!("with index {index}"), message::get_link(index))
}

/// The link with this name, if there is one.
pub(in crate::kernel) fn link_by_name(
    socket: &mut RouteSocket,
    name: &IfName,
) -> Result<Option<Link>, StepError> {
    find_link(socket, name.as_str(), message::get_link_by_name(name))
}

/// All links.
pub(in crate::kernel) fn links(socket: &mut RouteSocket) -> Result<Vec<Link>, StepError> {
    list_links(socket, "links", &message::list_links())
}

/// All links, but what comes and goes meanwhile may be missing, or be there twice.
pub(super) fn links_about(socket: &mut RouteSocket) -> Result<Vec<Link>, StepError> {
    Ok(read_links(&socket.list_about("links", &message::list_links())?.0))
}

/// The ports of a bridge; none if there is no such bridge. What comes and goes meanwhile may be missing:
/// a thousand ports take so long to list that under load there is always something.
pub(super) fn ports(socket: &mut RouteSocket, bridge: LinkIndex) -> Result<Vec<Link>, StepError> {
    let (found, _) = socket.list_about("the ports of the bridge", &message::list_ports(bridge))?;
    let mut ports = read_links(&found);
    ports.sort_unstable_by_key(|port| port.index);
    ports.dedup_by_key(|port| port.index);
    Ok(ports)
}

pub(super) fn list_links(
    socket: &mut RouteSocket,
    object: &str,
    question: &RouteNetlinkMessage,
) -> Result<Vec<Link>, StepError> {
    socket.list(object, question).map(|found| read_links(&found))
}

fn read_links(found: &[RouteNetlinkMessage]) -> Vec<Link> {
    let links = found.iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) => Some(Link::read(link)),
        _ => None,
    });
    links.collect()
}

/// The VLANs of a bridge port. The kernel tells those of all ports or none.
pub(in crate::kernel) fn vlans(
    socket: &mut RouteSocket,
    port: LinkIndex,
) -> Result<VlansSeen, StepError> {
    let found = socket.list("the VLANs of ports", &message::list_vlans())?;
    let of_port = found.iter().find_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) if link.header.index == port.0 => Some(vlan::read(link)),
        _ => None,
    });
    // One that is in none may be told without any, or in a way that the codec cannot read.
    Ok(of_port.unwrap_or_default())
}

/// The addresses of a link, each with the prefix length of its subnet.
pub(in crate::kernel) fn addresses(
    socket: &mut RouteSocket,
    index: LinkIndex,
) -> Result<Vec<IpNetwork>, StepError> {
    let found = socket.list("addresses", &message::list_addresses(index))?;
    let addresses = found.iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewAddress(m) if m.header.index == index.0 => read_address(m),
        _ => None,
    });
    Ok(addresses.collect())
}

/// The unicast routes over a link, of both families and all tables. One with several next hops is
/// there once for each of them that is reached over the link.
pub(in crate::kernel) fn routes(
    socket: &mut RouteSocket,
    index: LinkIndex,
) -> Result<Vec<RouteSeen>, StepError> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let found = socket.list("routes", &message::list_routes(index, family))?;
        routes.extend(
            found
                .iter()
                .filter_map(|message| match message {
                    RouteNetlinkMessage::NewRoute(route) => Some(read_route(route, index)),
                    _ => None,
                })
                .flatten(),
        );
    }
    Ok(routes)
}

fn find_link(
    socket: &mut RouteSocket,
    object: &str,
    question: RouteNetlinkMessage,
) -> Result<Option<Link>, StepError> {
    match socket.ask(Step::FindLink, object, question) {
        Ok(RouteNetlinkMessage::NewLink(link)) => Ok(Some(Link::read(&link))),
        Ok(_) => Ok(None),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn read_address(message: &AddressMessage) -> Option<IpNetwork> {
    // IPv4 has both, and where they differ (point-to-point) the local one is the link's own.
    let own = |a: &AddressAttribute| match a {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    };
    let address = |a: &AddressAttribute| match a {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    };
    let attributes = &message.attributes;
    let ip = attributes.iter().find_map(own).or_else(|| attributes.iter().find_map(address))?;
    IpNetwork::new(ip, message.header.prefix_len).ok()
}

pub(super) fn read_route(message: &RouteMessage, index: LinkIndex) -> Vec<RouteSeen> {
    if message.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let Some(destination) = destination(message) else { return Vec::new() };
    let mut seen = RouteSeen {
        destination,
        next_hop: None,
        table: u32::from(message.header.table),
        priority: None,
        mtu: None,
        advmss: None,
        scope: message.header.scope.into(),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => seen.table = *number,
            RouteAttribute::Priority(number) => seen.priority = Some(*number),
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    match metric {
                        RouteMetric::Mtu(mtu) => seen.mtu = Some(*mtu),
                        RouteMetric::Advmss(size) => seen.advmss = Some(*size),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let over = hops(message).into_iter().filter(|hop| hop.link == index.0);
    over.map(|hop| RouteSeen { next_hop: hop.address, ..seen.clone() }).collect()
}

/// Where a route leads; none if it cannot be read.
pub(super) fn destination(message: &RouteMessage) -> Option<IpNetwork> {
    let to = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(to) => Some(read_ip(to)),
        _ => None,
    });
    let everywhere = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        _ => IpAddr::from([0; 16]),
    };
    let ip = to.unwrap_or(Some(everywhere))?;
    IpNetwork::new(ip, message.header.destination_prefix_length).ok()
}

/// The ways by which a route leads there.
pub(super) fn hops(message: &RouteMessage) -> Vec<NextHop> {
    let several = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(several) => Some(several),
        _ => None,
    });
    let read = |hop: &RouteNextHop| NextHop::read(hop.interface_index, &hop.attributes);
    match several {
        Some(several) => several.iter().map(read).collect(),
        None => vec![NextHop::read(0, &message.attributes)],
    }
}

/// One way to where a route leads.
pub(super) struct NextHop {
    /// The index of its link.
    pub(super) link: u32,
    /// The router; none if the destination is on the link.
    pub(super) address: Option<IpAddr>,
}

impl NextHop {
    fn read(link: u32, attributes: &[RouteAttribute]) -> Self {
        let mut hop = Self { link, address: None };
        for attribute in attributes {
            match attribute {
                RouteAttribute::Gateway(address) => hop.address = read_ip(address),
                RouteAttribute::Oif(link) => hop.link = *link,
                _ => {}
            }
        }
        hop
    }
}

fn read_ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}
