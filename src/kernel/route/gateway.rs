//! The gateway of a VLAN. A bridge's own address is in none of the VLANs of its ports, so the gateway is
//! the end of a pair of its own, whose other end is a port of the bridge like any container's:
//!
//! ```text
//!   br0 ─┬─ port, VLAN 100 untagged ── br0.100, which has the addresses
//!        └─ port, VLAN 100 untagged ── eth0 of a container
//! ```
//!
//! Like the bridge it is made once and stays; one that is there already, whoever made it, is taken over.

use futures_util::TryStreamExt;
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use nix::libc;
use quantum_config::cni::Vlans;
use quantum_config::ids::{IfName, Mac};
use rtnetlink::{Handle, LinkUnspec, LinkVeth};

use super::bridge::{BridgeError, errno_of, find, refused, silence};
use super::look::Link;
use super::vlan;
use crate::attach::naming;

/// The pair that a VLAN's gateway is at the end of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VlanGateway {
    /// The end that has the addresses.
    pub name: IfName,
    /// Its hardware address, if it has to be made.
    pub mac: Mac,
    /// The end that is a port of the bridge, if it has to be made.
    pub port: IfName,
    /// Its hardware address, if it has to be made.
    pub port_mac: Mac,
    /// The VLANs of the port.
    pub vlans: Vlans,
}

/// Makes the pair, or finds it, has both ends up and the port in its VLANs. Gives the end that is to
/// have the addresses.
pub(super) async fn ensure(
    handle: &Handle,
    plan: &VlanGateway,
    bridge: &Link,
    wants_ipv6: bool,
) -> Result<Link, BridgeError> {
    let (end, port) = pair(handle, plan, bridge).await?;
    silence(&plan.name, wants_ipv6)?;
    let plugged = LinkUnspec::new_with_index(port.index.0).controller(bridge.index.0).up();
    let plugged = handle.link().set(plugged.build()).execute().await;
    plugged.map_err(refused("plug in the port of", &plan.name))?;
    join(handle, plan, &port).await?;
    let mut up = LinkUnspec::new_with_index(end.index.0).up();
    if end.mac == Some(plan.mac) {
        up = up.append_extra_attribute(LinkAttribute::Group(naming::GROUP));
    }
    let up = handle.link().set(up.build()).execute().await;
    up.map_err(refused("bring up the link", &plan.name))?;
    Ok(end)
}

/// Both ends.
async fn pair(
    handle: &Handle,
    plan: &VlanGateway,
    bridge: &Link,
) -> Result<(Link, Link), BridgeError> {
    let vanished = || BridgeError::Vanished { name: plan.name.clone() };
    let end = match find(handle, &plan.name).await? {
        Some(end) => end,
        None => {
            match handle.link().add(request(plan, bridge.mtu)).execute().await {
                Ok(()) => {}
                // Somebody was quicker. It is looked at like any that was there before.
                Err(error) if errno_of(&error) == Some(libc::EEXIST) => {}
                Err(error) => return Err(refused("create the link", &plan.name)(error)),
            }
            find(handle, &plan.name).await?.ok_or_else(vanished)?
        }
    };
    let name = (plan.name.clone(), plan.port.clone());
    let foreign = || BridgeError::NotAGateway { name: name.0, bridge: bridge.name.clone() };
    let Some(other) = end.other.filter(|_| end.is_veth && end.master.is_none()) else {
        return Err(foreign());
    };
    let mut answers = handle.link().get().match_index(other.0).execute();
    match answers.try_next().await {
        Ok(Some(port)) => {
            let port = Link::read(&port);
            let is_free = port.master.is_none_or(|master| master == bridge.index);
            match port.is_veth && port.other == Some(end.index) && port != end && is_free {
                true => Ok((end, port)),
                false => Err(foreign()),
            }
        }
        Ok(None) => Err(foreign()),
        Err(error) if errno_of(&error) == Some(libc::ENODEV) => Err(foreign()),
        Err(error) => Err(refused("look at the port of", &plan.name)(error)),
    }
}

/// What makes the pair. Nobody may rewrite its hardware addresses, so that they are said.
fn request(plan: &VlanGateway, mtu: u32) -> LinkMessage {
    let mut port = LinkMessage::default();
    port.attributes = vec![
        LinkAttribute::IfName(plan.port.to_string()),
        LinkAttribute::Address(plan.port_mac.0.to_vec()),
        LinkAttribute::Mtu(mtu),
    ];
    LinkVeth::new(plan.name.as_str(), plan.port.as_str())
        .address(plan.mac.0.to_vec())
        .mtu(mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(port)))
        .build()
}

/// Puts the port into its VLANs.
async fn join(handle: &Handle, plan: &VlanGateway, port: &Link) -> Result<(), BridgeError> {
    for request in vlan::join(port.index, &plan.vlans) {
        let is_leaving = matches!(request, RouteNetlinkMessage::DelLink(_));
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let failed = refused("set the VLANs of", &plan.name);
        let answer = match handle.clone().request(message) {
            Ok(mut answers) => futures_util::StreamExt::next(&mut answers).await,
            Err(error) => return Err(failed(error)),
        };
        if let Some(NetlinkPayload::Error(error)) = answer.map(|answer| answer.payload)
            && error.code.is_some()
        {
            let error = rtnetlink::Error::NetlinkError(error);
            // It left the VLAN when this was prepared before.
            if is_leaving && errno_of(&error) == Some(libc::ENOENT) {
                continue;
            }
            return Err(failed(error));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::name;
    use super::*;
    use crate::kernel::testing::{in_private_netns, ip, ip_json};

    fn plan() -> VlanGateway {
        VlanGateway {
            name: name("br0.100"),
            mac: Mac([2, 0, 0, 0, 0, 100]),
            port: name("qg100"),
            port_mac: Mac([2, 0, 0, 0, 0, 101]),
            // This one needs no kernel that filters VLANs; the requests are tested as bytes.
            vlans: Vlans::default(),
        }
    }

    fn ensured() -> Result<Link, BridgeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            let bridge = find(&handle, &name("br0")).await?.unwrap();
            ensure(&handle, &plan(), &bridge, true).await
        })
    }

    #[test]
    fn the_pair_is_made_once_and_found_again() {
        in_private_netns(|| {
            ip("link add br0 mtu 1450 type bridge");
            ip("link set br0 up");
            let made = ensured().unwrap();
            assert_eq!((made.mac, made.mtu), (Some(plan().mac), 1450));
            let port = &ip_json("-d link show qg100")[0];
            assert_eq!(
                (&port["master"], &port["address"]),
                (&"br0".into(), &"02:00:00:00:00:65".into())
            );
            for end in ["qg100", "br0.100"] {
                assert!(ip(&format!("link show {end}")).contains("LOWER_UP"), "{end}");
            }
            assert_eq!(ensured().unwrap().index, made.index);
            // Somebody deleted the bridge, and it was made again.
            ip("link del br0");
            ip("link add br0 type bridge");
            assert_eq!(ensured().unwrap().index, made.index);
            assert_eq!(ip_json("link show qg100")[0]["master"], "br0");
        });
    }

    #[test]
    fn one_with_another_name_of_the_port_is_taken_over() {
        in_private_netns(|| {
            ip("link add br0 type bridge");
            ip("link add br0.100 type veth peer name vethabcd");
            ip("link set vethabcd master br0");
            ensured().unwrap();
            assert!(!ip("link show").contains("qg100"));
        });
    }

    #[test]
    fn what_is_no_end_of_such_a_pair_is_refused_and_left_alone() {
        let others: [&[&str]; 3] = [
            &["link add br0.100 type bridge"],
            &["link add br0.100 type veth peer name x", "link set x master br1"],
            &["link add br0.100 type veth peer name x", "link set br0.100 master br1"],
        ];
        for other in others {
            in_private_netns(|| {
                ip("link add br0 type bridge");
                ip("link add br1 type bridge");
                other.iter().for_each(|line| drop(ip(line)));
                let before = ip("link show");
                let error = ensured().unwrap_err();
                assert!(matches!(error, BridgeError::NotAGateway { .. }), "{error}");
                assert_eq!(ip("link show"), before);
            });
        }
    }
}
