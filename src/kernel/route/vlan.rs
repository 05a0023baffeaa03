//! The VLANs of a bridge port, as requests, and read back. They are of the bridge's own family, and
//! honoured by bridges that filter VLANs only.

use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use quantum_config::cni::Vlans;
use quantum_config::ids::LinkIndex;

use crate::attach::VlansSeen;

/// What puts a port into its VLANs, in this order: it joins before it leaves, so that it is never in
/// none. No requests if there is nothing to be done.
pub(super) fn join(port: LinkIndex, vlans: &Vlans) -> Vec<RouteNetlinkMessage> {
    let native = BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
    let mut infos: Vec<_> = vlans.native.map(|vid| info(vid, native)).into_iter().collect();
    for &(first, last) in &vlans.trunk {
        // The native one is in already; joining again would take its flags away.
        let pieces = match vlans.native {
            Some(vid) if (first..=last).contains(&vid) => [(first, vid - 1), (vid + 1, last)],
            _ => [(first, last), (1, 0)],
        };
        for (first, last) in pieces.into_iter().filter(|(first, last)| first <= last) {
            infos.extend(range(first, last));
        }
    }
    let mut requests = Vec::new();
    if !infos.is_empty() {
        requests.push(RouteNetlinkMessage::SetLink(message(port, infos)));
    }
    if let Some(vid) = vlans.leaves() {
        let left = vec![info(vid, BridgeVlanInfoFlags::empty())];
        requests.push(RouteNetlinkMessage::DelLink(message(port, left)));
    }
    requests
}

fn range(first: u16, last: u16) -> Vec<AfSpecBridge> {
    if first == last {
        return vec![info(first, BridgeVlanInfoFlags::empty())];
    }
    vec![info(first, BridgeVlanInfoFlags::RangeBegin), info(last, BridgeVlanInfoFlags::RangeEnd)]
}

fn info(vid: u16, flags: BridgeVlanInfoFlags) -> AfSpecBridge {
    AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid })
}

fn message(port: LinkIndex, infos: Vec<AfSpecBridge>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = port.0;
    message.attributes = vec![LinkAttribute::AfSpecBridge(infos)];
    message
}

/// The VLANs that a port has.
pub(super) fn read(port: &LinkMessage) -> VlansSeen {
    let mut seen = VlansSeen::default();
    let infos = port.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::AfSpecBridge(infos) => Some(infos),
        _ => None,
    });
    let mut begins = None;
    for info in infos.flatten() {
        let AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid }) = info else { continue };
        if flags.contains(BridgeVlanInfoFlags::Pvid) {
            seen.native = Some(*vid);
        }
        if flags.contains(BridgeVlanInfoFlags::RangeBegin) {
            begins = Some(*vid);
            continue;
        }
        seen.members.extend(begins.take().unwrap_or(*vid)..=*vid);
    }
    seen
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};

    use super::*;

    // linux/if_bridge.h, linux/if_link.h, linux/rtnetlink.h, linux/socket.h
    const IFLA_AF_SPEC: u16 = 26;
    const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
    const PVID: u16 = 1 << 1;
    const UNTAGGED: u16 = 1 << 2;
    const RANGE_BEGIN: u16 = 1 << 3;
    const RANGE_END: u16 = 1 << 4;
    const RTM_NEWLINK: u16 = 16;
    const RTM_DELLINK: u16 = 17;
    const RTM_SETLINK: u16 = 19;
    const AF_BRIDGE: u8 = 7;

    /// The request as the kernel's headers lay it out: `struct ifinfomsg`, then one nested attribute
    /// with a `struct bridge_vlan_info` each.
    fn expected(port: u32, infos: &[(u16, u16)]) -> Vec<u8> {
        let mut bytes = vec![AF_BRIDGE, 0, 0, 0];
        bytes.extend(port.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend((4 + 8 * infos.len() as u16).to_ne_bytes());
        bytes.extend(IFLA_AF_SPEC.to_ne_bytes());
        for (flags, vid) in infos {
            for part in [8, IFLA_BRIDGE_VLAN_INFO, *flags, *vid] {
                bytes.extend(part.to_ne_bytes());
            }
        }
        bytes
    }

    fn requests(vlans: &Vlans) -> Vec<(u16, Vec<u8>)> {
        let encode = |message: RouteNetlinkMessage| {
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            // The kernel ignores the flag for nesting in attributes that it knows.
            bytes[19] &= 0x7f;
            (message.message_type(), bytes)
        };
        join(LinkIndex(12), vlans).into_iter().map(encode).collect()
    }

    /// What is read of an answer of the kernel's with these VLANs.
    fn answered(infos: &[(u16, u16)]) -> VlansSeen {
        let mut header = NetlinkHeader::default();
        header.message_type = RTM_NEWLINK;
        match RouteNetlinkMessage::deserialize(&header, &expected(12, infos)) {
            Ok(RouteNetlinkMessage::NewLink(port)) => read(&port),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_native_vlan_replaces_the_default_one() {
        let vlans = Vlans { native: Some(100), ..Vlans::default() };
        assert_eq!(
            requests(&vlans),
            [
                (RTM_SETLINK, expected(12, &[(PVID | UNTAGGED, 100)])),
                (RTM_DELLINK, expected(12, &[(0, 1)])),
            ]
        );
        let vlans = Vlans { keeps_default: true, ..vlans };
        assert_eq!(requests(&vlans).len(), 1);
    }

    #[test]
    fn a_trunk_is_ranges_beside_the_native_vlan() {
        let trunk = vec![(7, 7), (90, 110)];
        let vlans = Vlans { native: Some(100), trunk, keeps_default: true };
        let infos = [
            (PVID | UNTAGGED, 100),
            (0, 7),
            (RANGE_BEGIN, 90),
            (RANGE_END, 99),
            (RANGE_BEGIN, 101),
            (RANGE_END, 110),
        ];
        assert_eq!(requests(&vlans), [(RTM_SETLINK, expected(12, &infos))]);
        let vlans = Vlans { native: Some(5), trunk: vec![(5, 6)], keeps_default: true };
        let infos = [(PVID | UNTAGGED, 5), (0, 6)];
        assert_eq!(requests(&vlans), [(RTM_SETLINK, expected(12, &infos))]);
    }

    #[test]
    fn what_was_joined_is_read_back() {
        let (pvid, none) = ((PVID | UNTAGGED, 100), (0, 7));
        let infos = [pvid, none, (RANGE_BEGIN, 90), (RANGE_END, 99), (UNTAGGED, 101)];
        let seen = answered(&infos);
        assert_eq!(seen.native, Some(100));
        let members: Vec<u16> = [7].into_iter().chain(90..=101).collect();
        assert_eq!(seen.members.into_iter().collect::<Vec<_>>(), members);
    }

    #[test]
    fn a_port_without_vlans_costs_nothing() {
        assert_eq!(requests(&Vlans::default()), []);
    }
}
