//! The bridge of a network: made or taken over, once per network, so this may be asynchronous.
//!
//! netlink itself is synchronous: run this where a few hundred microseconds hold up nobody, on a
//! thread that is in the network namespace of the handle's socket (settings below `/proc/sys/net`
//! are those of the thread).

use std::io;
use std::pin::pin;

use futures_util::TryStreamExt;
use futures_util::future::{Either, select};
use ipnetwork::IpNetwork;
use netlink_packet_route::link::LinkAttribute;
use nix::errno::Errno;
use nix::libc;
use quantum_config::ids::{IfName, LinkIndex, Mac};
use rtnetlink::{Handle, LinkBridge, LinkUnspec};

use super::filters::{filter_packets, filter_vlans};
use super::gateway::{self, VlanGateway};
use super::look::Link;
use super::{addresses, routed};
use crate::attach::{GatewayEnd, NoWayToRules, Overlap, SameAddresses, naming};
use crate::kernel::sysctl::{Setting, has_ipv6};

/// A bridge as a network wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgePlan {
    /// Its name.
    pub name: IfName,
    /// Its hardware address if it has to be made. A bridge without one of its own takes that of a
    /// port, and changes it when the port goes: every container would lose its gateway.
    pub mac: Mac,
    /// Its MTU if it has to be made; the kernel's default if none.
    pub mtu: Option<u32>,
    /// The gateways of the subnets, with the prefix lengths. Empty: the bridge is a switch only,
    /// and nothing is forwarded.
    pub addresses: Vec<IpNetwork>,
    /// Remove other addresses that are in the way.
    pub force_address: bool,
    /// It takes every frame, whoever it is for, or no others than its own.
    pub promisc: bool,
    /// It tells VLANs apart.
    pub filters_vlans: bool,
    /// What stays on it comes before the rules for packets (`nf_call_iptables`), where the kernel has
    /// br_netfilter.
    pub filters_packets: bool,
    /// The host answers for all containers, and routes between its ports.
    pub is_routed: bool,
    /// What has the addresses instead of the bridge, because the containers are in a VLAN.
    pub vlan_gateway: Option<VlanGateway>,
    /// What it was when it was prepared before: its index and its hardware address.
    pub was: Option<(LinkIndex, Mac)>,
}

impl BridgePlan {
    /// The link that has the addresses.
    pub fn holder(&self) -> &IfName {
        self.vlan_gateway.as_ref().map_or(&self.name, |gateway| &gateway.name)
    }

    /// Whether the bridge of this hardware address is in our link group: containers are at home on it, and we
    /// made it. Somebody else's is in the group that they chose.
    pub fn is_grouped(&self, mac: Option<Mac>) -> bool {
        self.vlan_gateway.is_none() && mac == Some(self.mac)
    }
}

/// A bridge as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgeState {
    /// Its index.
    pub index: LinkIndex,
    /// Its hardware address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// What has the addresses instead of it.
    pub vlan_gateway: Option<GatewayEnd>,
}

/// Why there is no such bridge.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// A link of that name is something else.
    #[error("{name} exists and is not a bridge; choose another bridge name or remove the link")]
    NotABridge {
        /// The name.
        name: IfName,
    },
    /// It has another name, and a link of somebody else has its own.
    #[error(
        "{bridge} is called {now}, and another link is called {bridge}; remove or rename that one, and {now} gets its name back"
    )]
    NameTaken {
        /// Its name.
        bridge: IfName,
        /// What it is called now.
        now: String,
    },
    /// It has an address that we did not ask for. The words are those of the reference plugin.
    #[error(
        "{name} already has an IP address different from {wanted}: {present}; remove it, or set forceAddress to have it replaced"
    )]
    OtherAddress {
        /// The bridge.
        name: IfName,
        /// The address that was to be added.
        wanted: IpNetwork,
        /// The one that is in the way.
        present: IpNetwork,
    },
    /// What should be a VLAN's gateway is something else.
    #[error(
        "{name} exists and is not the gateway of a VLAN of {bridge}, which is one end of a veth pair whose other end is a port of that bridge; remove the link or choose another bridge name"
    )]
    NotAGateway {
        /// The link.
        name: IfName,
        /// The bridge.
        bridge: String,
    },
    /// Its subnets get in the way of what the host has.
    #[error(transparent)]
    Overlap(#[from] Overlap),
    /// Another network may give the same addresses.
    #[error(transparent)]
    SameAddresses(#[from] SameAddresses),
    /// The kernel was built without what it takes.
    #[error(
        "the kernel does not filter VLANs on bridges (CONFIG_BRIDGE_VLAN_FILTERING), which vlan and vlanTrunk need on {name}; leave them out, or use another kernel"
    )]
    NoVlanFiltering {
        /// The bridge.
        name: IfName,
    },
    /// The kernel lacks what the network asks for.
    #[error(transparent)]
    NoWayToRules(#[from] NoWayToRules),
    /// Somebody deleted it while it was set up.
    #[error("{name} was deleted while it was set up")]
    Vanished {
        /// The bridge.
        name: IfName,
    },
    /// The kernel refused.
    #[error("cannot {doing} {object}: {}", describe(source))]
    Kernel {
        /// What was being done.
        doing: &'static str,
        /// To what.
        object: String,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
    /// No socket.
    #[error("cannot open a netlink socket for the bridge: {0}")]
    Socket(#[source] io::Error),
    /// A setting could not be written.
    #[error("cannot set {path}: {source}")]
    Setting {
        /// Its file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// [`ensure`] over a socket of its own, in the network namespace of the calling thread.
pub async fn prepare(plan: &BridgePlan) -> Result<BridgeState, BridgeError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(BridgeError::Socket)?;
    // The connection never ends by itself: it is driven for as long as the work takes.
    let work = pin!(ensure(&handle, plan));
    match select(work, pin!(connection)).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(_) => Err(BridgeError::Vanished { name: plan.name.clone() }),
    }
}

/// Makes the bridge, or takes over the one that is there with its hardware address and MTU, and
/// sees that it is up and has its addresses. That the host forwards is seen to elsewhere
/// (`kernel::forwarding`).
pub async fn ensure(handle: &Handle, plan: &BridgePlan) -> Result<BridgeState, BridgeError> {
    let bridge = match find(handle, &plan.name).await? {
        Some(link) => link,
        None => create(handle, plan).await?,
    };
    if !bridge.is_bridge() {
        return Err(BridgeError::NotABridge { name: plan.name.clone() });
    }
    if plan.filters_vlans {
        filter_vlans(handle, plan, &bridge).await?;
    }
    filter_packets(handle, plan, &bridge).await?;
    let wants_ipv6 = plan.addresses.iter().any(|address| address.is_ipv6());
    silence(&plan.name, wants_ipv6 && plan.vlan_gateway.is_none())?;
    if plan.is_routed {
        let failed = |(path, source)| BridgeError::Setting { path, source };
        routed::answer_for_all(&plan.name).map_err(failed)?;
    }
    bring_up(handle, plan, &bridge).await?;
    let vlan_gateway = match &plan.vlan_gateway {
        Some(wanted) => Some(gateway::ensure(handle, wanted, &bridge, wants_ipv6).await?),
        None => None,
    };
    let holder = vlan_gateway.as_ref().map_or(bridge.index, |link| link.index);
    addresses::give(handle, plan, holder).await?;
    let bridge = found(handle, plan).await?;
    let mac = bridge.mac.ok_or_else(|| BridgeError::Vanished { name: plan.name.clone() })?;
    let vlan_gateway = vlan_gateway
        .and_then(|Link { index, mac, mtu, .. }| Some(GatewayEnd { index, mac: mac?, mtu }));
    Ok(BridgeState { index: bridge.index, mac, mtu: bridge.mtu, vlan_gateway })
}

/// Before a link is up: a container must never become the host's router.
pub(super) fn silence(link: &IfName, wants_ipv6: bool) -> Result<(), BridgeError> {
    if has_ipv6() {
        match set(Setting::AcceptRa(link), false) {
            // With an MTU below 1280 the link has no IPv6, and nothing to accept.
            Err(BridgeError::Setting { source, .. })
                if source.kind() == io::ErrorKind::NotFound && !wants_ipv6 => {}
            other => other?,
        }
    }
    if wants_ipv6 {
        set(Setting::DisableIpv6(link), false)?;
    }
    Ok(())
}

pub(super) async fn find(handle: &Handle, name: &IfName) -> Result<Option<Link>, BridgeError> {
    let mut answers = handle.link().get().match_name(name.as_str()).execute();
    match answers.try_next().await {
        Ok(link) => Ok(link.as_ref().map(Link::read)),
        Err(error) if errno_of(&error) == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(refused("look at the link", name)(error)),
    }
}

async fn create(handle: &Handle, plan: &BridgePlan) -> Result<Link, BridgeError> {
    // Containers that are there know the address that it had.
    let mac = plan.was.map_or(plan.mac, |(_, mac)| mac);
    let mut bridge = LinkBridge::new(plan.name.as_str()).down().address(mac.0.to_vec());
    if plan.is_grouped(Some(mac)) {
        bridge = bridge.append_extra_attribute(LinkAttribute::Group(naming::GROUP));
    }
    if let Some(mtu) = plan.mtu {
        bridge = bridge.mtu(mtu);
    }
    if plan.filters_vlans {
        bridge = bridge.vlan_filtering(true);
    }
    match handle.link().add(bridge.build()).execute().await {
        Ok(()) => {}
        // Somebody was quicker. It is looked at like any that was there before.
        Err(error) if errno_of(&error) == Some(libc::EEXIST) => {}
        Err(error) if plan.filters_vlans && is_unsupported(&error) => {
            return Err(BridgeError::NoVlanFiltering { name: plan.name.clone() });
        }
        Err(error) => return Err(refused("create the bridge", &plan.name)(error)),
    }
    found(handle, plan).await
}

/// The bridge, which has to be there.
async fn found(handle: &Handle, plan: &BridgePlan) -> Result<Link, BridgeError> {
    let vanished = || BridgeError::Vanished { name: plan.name.clone() };
    find(handle, &plan.name).await?.ok_or_else(vanished)
}

/// Brings it up, and pins the hardware address that it has by setting it.
async fn bring_up(handle: &Handle, plan: &BridgePlan, bridge: &Link) -> Result<(), BridgeError> {
    let mut change = LinkUnspec::new_with_index(bridge.index.0).up();
    if bridge.promisc != plan.promisc {
        change = change.promiscuous(plan.promisc);
    }
    // The same bridge keeps the address that its containers know.
    let known = plan.was.filter(|(index, _)| *index == bridge.index).map(|(_, mac)| mac);
    if plan.is_grouped(known.or(bridge.mac)) {
        change = change.append_extra_attribute(LinkAttribute::Group(naming::GROUP));
    }
    if let Some(mac) = known.or(bridge.mac) {
        change = change.append_extra_attribute(LinkAttribute::Address(mac.0.to_vec()));
    }
    let done = handle.link().set(change.build()).execute().await;
    done.map_err(refused("bring up the bridge", &plan.name))
}

fn set(setting: Setting<'_>, value: bool) -> Result<(), BridgeError> {
    let path = || setting.path().display().to_string();
    setting.ensure(value).map_err(|source| BridgeError::Setting { path: path(), source })
}

pub(super) fn refused(
    doing: &'static str,
    name: &IfName,
) -> impl FnOnce(rtnetlink::Error) -> BridgeError {
    let object = name.to_string();
    move |source| BridgeError::Kernel { doing, object, source }
}

pub(super) fn errno_of(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.raw_code().saturating_abs()),
        _ => None,
    }
}

pub(super) fn is_unsupported(error: &rtnetlink::Error) -> bool {
    errno_of(error) == Some(libc::EOPNOTSUPP)
}

fn describe(error: &rtnetlink::Error) -> String {
    match errno_of(error).map(Errno::from_raw) {
        Some(errno) => format!("{errno:?}: {}", errno.desc().to_lowercase()),
        None => error.to_string(),
    }
}
