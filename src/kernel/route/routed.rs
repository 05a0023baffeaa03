//! Bridges whose ports are isolated, so that the host routes from one to the other: for kernels without
//! br_netfilter. The host answers ARP for every container (`proxy_arp_pvlan`) and neighbour discovery
//! for those it has an entry for, and without the wait that proxies have by default, which is up to
//! 0.8 s. It must not tell containers a shorter way, which there is none: the rules drop redirects.

use std::io;
use std::net::Ipv6Addr;
use std::path::Path;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use quantum_config::ids::{IfName, LinkIndex};

use super::message::family_of;
use crate::kernel::sysctl::{Setting, has_ipv6};

/// The kernel can hand packets of a bridge to the rules.
pub fn has_br_netfilter() -> bool {
    Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists()
}

/// Has the host answer for the containers of a bridge, in the network namespace of this thread. The
/// setting that could not be written is named.
pub(super) fn answer_for_all(bridge: &IfName) -> Result<(), (String, io::Error)> {
    for (setting, value) in settings(bridge) {
        setting.ensure(value).map_err(|error| (setting.to_string(), error))?;
    }
    Ok(())
}

/// What that takes.
pub(super) fn settings(bridge: &IfName) -> Vec<(Setting<'_>, bool)> {
    let mut settings =
        vec![(Setting::ProxyArpOnLink(bridge), true), (Setting::ProxyDelay4(bridge), false)];
    if has_ipv6() {
        settings.push((Setting::ProxyNdp(bridge), true));
        settings.push((Setting::ProxyDelay6(bridge), false));
    }
    settings
}

/// Has the host answer neighbour discovery for an address, or not any more.
pub(super) fn proxy(link: LinkIndex, address: Ipv6Addr, answers: bool) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family_of(address.into());
    message.header.ifindex = link.0;
    message.header.flags = NeighbourFlags::Proxy;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet6(address))];
    match answers {
        true => RouteNetlinkMessage::NewNeighbour(message),
        false => RouteNetlinkMessage::DelNeighbour(message),
    }
}
