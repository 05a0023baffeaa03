//! What a bridge looks at in the frames it passes on: VLANs, and the packets in them.

use netlink_packet_route::link::{InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo};
use rtnetlink::{Handle, LinkUnspec};

use super::bridge::{BridgeError, BridgePlan, is_unsupported, refused};
use super::look::Link;

/// Has it filter VLANs, also if somebody else made it. What has no VLAN is in VLAN 1, as before.
pub(super) async fn filter_vlans(
    handle: &Handle,
    plan: &BridgePlan,
    bridge: &Link,
) -> Result<(), BridgeError> {
    match change(handle, bridge, vec![InfoBridge::VlanFiltering(true)]).await {
        Ok(()) => Ok(()),
        Err(error) if is_unsupported(&error) => {
            Err(BridgeError::NoVlanFiltering { name: plan.name.clone() })
        }
        Err(error) => Err(refused("filter the VLANs of", &plan.name)(error)),
    }
}

/// Has it hand IP packets to the rules for packets, or not: an attribute of this bridge alone, whatever
/// the sysctls of all bridges say. IPv6 has one of its own; forgetting it leaves IPv6 unfiltered.
pub(super) async fn filter_packets(
    handle: &Handle,
    plan: &BridgePlan,
    bridge: &Link,
) -> Result<(), BridgeError> {
    let wanted = plan.filters_packets;
    let attributes = vec![InfoBridge::NfCallIpTables(wanted), InfoBridge::NfCallIp6Tables(wanted)];
    match change(handle, bridge, attributes).await {
        Ok(()) => Ok(()),
        Err(error) if is_unsupported(&error) => Ok(()),
        Err(error) => Err(refused("filter the packets of", &plan.name)(error)),
    }
}

async fn change(
    handle: &Handle,
    bridge: &Link,
    attributes: Vec<InfoBridge>,
) -> Result<(), rtnetlink::Error> {
    let info = LinkInfo::Data(InfoData::Bridge(attributes));
    let change = LinkUnspec::new_with_index(bridge.index.0).append_extra_attribute(
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge), info]),
    );
    handle.link().change(change.build()).execute().await
}
