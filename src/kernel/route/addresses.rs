//! Gives a bridge, or the gateway of a VLAN, the gateways' addresses.

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_route::address::AddressMessage;
use nix::libc;
use quantum_config::ids::LinkIndex;
use rtnetlink::Handle;

use super::bridge::{BridgeError, BridgePlan, errno_of, refused};
use super::look::read_address;
use super::message::address_message;

/// Adds those that are missing. What is in the way goes if the plan says so, and else is an error.
pub(super) async fn give(
    handle: &Handle,
    plan: &BridgePlan,
    index: LinkIndex,
) -> Result<(), BridgeError> {
    let present: Vec<(IpNetwork, AddressMessage)> = handle
        .address()
        .get()
        .set_link_index_filter(index.0)
        .execute()
        .try_filter_map(async |message| Ok(read_address(&message).map(|a| (a, message))))
        .try_collect()
        .await
        .map_err(refused("list the addresses of", plan.holder()))?;

    for &wanted in &plan.addresses {
        if present.iter().any(|(address, _)| *address == wanted) {
            continue;
        }
        for (address, message) in &present {
            if plan.addresses.contains(address) || !in_the_way(*address, wanted) {
                continue;
            }
            if !plan.force_address {
                let (name, present) = (plan.holder().clone(), *address);
                return Err(BridgeError::OtherAddress { name, wanted, present });
            }
            remove(handle, plan, *address, message).await?;
        }
        add(handle, plan, index, wanted).await?;
    }
    Ok(())
}

/// A bridge has one IPv4 gateway unless the plan says more; IPv6 addresses get in each other's way
/// only if their subnets overlap.
fn in_the_way(present: IpNetwork, wanted: IpNetwork) -> bool {
    match (present, wanted) {
        (IpNetwork::V4(_), IpNetwork::V4(_)) => true,
        (IpNetwork::V6(_), IpNetwork::V6(_)) => {
            present.contains(wanted.ip()) || wanted.contains(present.ip())
        }
        _ => false,
    }
}

async fn add(
    handle: &Handle,
    plan: &BridgePlan,
    index: LinkIndex,
    address: IpNetwork,
) -> Result<(), BridgeError> {
    let mut request = handle.address().add(index.0, address.ip(), address.prefix());
    *request.message_mut() = address_message(index, address);
    match request.execute().await {
        Ok(()) => Ok(()),
        Err(error) if errno_of(&error) == Some(libc::EEXIST) => Ok(()),
        Err(error) => {
            let object = format!("{address} to {}", plan.holder());
            Err(BridgeError::Kernel { doing: "add the address", object, source: error })
        }
    }
}

async fn remove(
    handle: &Handle,
    plan: &BridgePlan,
    address: IpNetwork,
    message: &AddressMessage,
) -> Result<(), BridgeError> {
    match handle.address().del(message.clone()).execute().await {
        Ok(()) => Ok(()),
        // Removed for an earlier address of the plan, or with the primary it belonged to.
        Err(error) if errno_of(&error) == Some(libc::EADDRNOTAVAIL) => Ok(()),
        Err(error) => {
            let object = format!("{address} from {}", plan.holder());
            Err(BridgeError::Kernel { doing: "remove the address", object, source: error })
        }
    }
}
