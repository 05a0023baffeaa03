//! The plan of an attachment: what the kernel is to be told, as a value. Making it decides
//! everything; carrying it out decides nothing, and undoing it needs nothing but the record.

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;
use quantum_config::cni::{
    CniResult, Definition, Identity, Interface, IpConfig, PortMapping, Route, Shaping, Tuning,
    Vlans,
};
use quantum_config::ids::{AttachmentKey, IfName, InvalidId, LinkIndex, Mac};

use super::naming;
use super::{Assigned, Element, NetnsId, Record, ShapePlan, WayToRules, elements};

/// What a veth has when nobody asks for another MTU (`ETH_DATA_LEN`).
const ETHERNET_MTU: u32 = 1500;

/// Everything one ADD changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The host's end of the pair.
    pub link: LinkPlan,
    /// The container's end.
    pub inside: InsidePlan,
    /// Elements of our nftables sets.
    pub netfilter: Vec<Element>,
    /// What is kept when all of it is done.
    pub record: Record,
}

/// The veth pair, seen from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPlan {
    /// Name of the host's end.
    pub host: IfName,
    /// Index chosen for both ends, each in its own namespace.
    pub index: LinkIndex,
    /// Hardware address of the host's end, set so that no udev policy rewrites it.
    pub mac: Mac,
    /// The bridge.
    pub bridge: LinkIndex,
    /// MTU of both ends; the kernel's default if none.
    pub mtu: Option<u32>,
    /// Link group that marks what is ours.
    pub group: u32,
    /// The attachment's key, put into the link's alias so that the kernel alone can tell whose it is.
    pub alias: String,
    /// Bridge port flag.
    pub hairpin: bool,
    /// Bridge port flag: no frames to and from other isolated ports.
    pub isolated: bool,
    /// The addresses that the host answers neighbour discovery for.
    pub answered: Vec<Ipv6Addr>,
    /// The port's VLANs.
    pub vlans: Vlans,
    /// What the container's traffic is held to.
    pub shape: ShapePlan,
}

/// The container's end and what is configured on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsidePlan {
    /// Name inside the container.
    pub ifname: IfName,
    /// Its index in the namespace that it is in.
    pub index: LinkIndex,
    /// Its hardware address.
    pub mac: Mac,
    /// Addresses, each with the prefix length of its subnet.
    pub addresses: Vec<IpNetwork>,
    /// Routes. Without a next hop the destination is on the link.
    pub routes: Vec<Route>,
    /// The link is not brought up.
    pub stays_down: bool,
    /// IPv6 addresses are looked for on the link before they are used.
    pub detects_duplicates: bool,
    /// How else it is set up.
    pub tuning: Tuning,
    /// It stays on the host, down and without addresses, for whoever moves it into the container and
    /// sets it up.
    pub waits: bool,
}

/// What is to be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whose it is.
    pub key: AttachmentKey,
    /// Who it is, for policy.
    pub identity: Identity,
    /// The container's namespace.
    pub netns: NetnsId,
    /// `CNI_NETNS` as it was given.
    pub sandbox: String,
    /// The hardware address that was asked for.
    pub mac: Option<Mac>,
    /// What its traffic is held to.
    pub shaping: Shaping,
    /// The ports that are published.
    pub ports: Vec<PortMapping>,
    /// The container's end is handed over: somebody else moves it into the container and sets it up, as
    /// Docker does. The namespace is the host's then.
    pub handed: bool,
    /// Another program gives the addresses.
    pub delegated: bool,
    /// The network namespace of the host.
    pub host_netns: NetnsId,
}

/// The bridge as it was found or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgeEnd {
    /// Its index on the host.
    pub index: LinkIndex,
    /// Its hardware address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// What has the gateways' addresses instead of it.
    pub vlan_gateway: Option<GatewayEnd>,
    /// How packets from one container to another come before the rules.
    pub way: WayToRules,
}

impl BridgeEnd {
    /// That of a network that only lends addresses: nothing is ever plugged into it.
    pub const NONE: Self = Self {
        index: LinkIndex(0),
        mac: Mac([0; 6]),
        mtu: 0,
        vlan_gateway: None,
        way: WayToRules::Among,
    };
}

/// The gateway of a VLAN as it was found or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayEnd {
    /// Its index.
    pub index: LinkIndex,
    /// Its hardware address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
}

impl Plan {
    /// Makes the plan. `attempt` counts the indexes that turned out to be taken; `now` is
    /// milliseconds since boot.
    pub fn new(
        target: &Target,
        network: &Definition,
        bridge: BridgeEnd,
        addresses: Vec<Assigned>,
        attempt: u32,
        now: u64,
    ) -> Result<Self, InvalidId> {
        let key = &target.key;
        let tuning = network.tuning.of_interface(&key.ifname);
        let mac = target.mac.or(tuning.mac).unwrap_or_else(|| naming::container_mac(key));
        let host_mac = naming::host_mac(key);
        let host = naming::host_name(key)?;
        let index = naming::link_index(key, attempt);
        let routes = routes(network, &addresses);
        // A container that comes to itself by a published port leaves by the port it came in; on a
        // promiscuous bridge it would hear everything twice. Whose end is handed over may be given ports
        // later.
        let may_publish = target.handed || !target.ports.is_empty();
        let hairpin = network.hairpin || may_publish && !network.promisc;
        let mut port = network.port.clone();
        let is_routed = bridge.way == WayToRules::Routed;
        // Those who are not to reach each other do not, also where no rule would see them do it.
        port.isolated |= is_routed || network.posture.alone && bridge.way == WayToRules::Among;
        let answered = addresses.iter().filter_map(|a| match a.address.ip() {
            IpAddr::V6(ip) if is_routed => Some(ip),
            _ => None,
        });
        let link = LinkPlan {
            host: host.clone(),
            index,
            mac: host_mac,
            bridge: bridge.index,
            mtu: network.mtu,
            group: naming::GROUP,
            alias: naming::alias(key, addresses.iter().map(|a| a.address)),
            hairpin,
            isolated: port.isolated,
            answered: answered.collect(),
            vlans: network.port.vlans.clone(),
            shape: ShapePlan::new(&target.shaping, &host, index, network.mtu)?,
        };
        // One that is handed over is on the host, too, until it is taken.
        let is_beside = target.netns == target.host_netns;
        let inside = InsidePlan {
            ifname: if target.handed { naming::peer_name(key)? } else { key.ifname.clone() },
            index: if is_beside { naming::index_beside(index) } else { index },
            mac,
            addresses: addresses.iter().map(|a| a.address).collect(),
            routes: routes.iter().map(|r| resolved(r, &addresses)).collect(),
            stays_down: network.port.stays_down,
            detects_duplicates: network.port.detects_duplicates,
            tuning: tuning.clone(),
            waits: target.handed,
        };
        let mtu = network.mtu.unwrap_or(ETHERNET_MTU);
        let interface = |name: &IfName, mac, mtu, sandbox: &str| Interface {
            name: name.to_string(),
            mac: Some(mac),
            mtu: Some(mtu),
            sandbox: sandbox.to_owned(),
        };
        let vlan_gateway = network.vlan_gateway();
        let mut interfaces = vec![
            interface(&network.bridge, bridge.mac, bridge.mtu, ""),
            interface(&host, host_mac, mtu, ""),
            interface(&key.ifname, mac, mtu, &target.sandbox),
        ];
        if let (Some(name), Some(end)) = (&vlan_gateway, bridge.vlan_gateway) {
            // Last, as addresses point at the third one.
            interfaces.push(interface(name, end.mac, end.mtu, ""));
        }
        let result = CniResult {
            interfaces,
            ips: addresses
                .iter()
                .map(|a| IpConfig { interface: Some(2), address: a.address, gateway: a.gateway })
                .collect(),
            routes: routes.clone(),
            dns: network.dns.clone(),
        };
        let record = Record {
            key: key.clone(),
            identity: target.identity.clone(),
            netns: target.netns,
            sandbox: target.sandbox.clone(),
            host,
            index,
            mac,
            host_mac,
            bridge: network.bridge.clone(),
            gateway: network.gateway,
            vlan_gateway,
            hairpin,
            promisc: network.promisc,
            port,
            posture: network.posture.clone(),
            ports: target.ports.clone(),
            mtu: network.mtu,
            shaping: target.shaping,
            tuning,
            addresses,
            routes,
            masquerade: network.masquerade,
            result,
            handed: target.handed,
            delegated: target.delegated,
            host_netns: Some(target.host_netns),
            created: now,
        };
        Ok(Self { link, inside, netfilter: elements(&record), record })
    }
}

impl Plan {
    /// Somebody has to wait until the addresses are known to be nobody else's.
    pub fn detects_duplicates(&self) -> bool {
        let inside = &self.inside;
        let may_be_used = inside.detects_duplicates && !inside.stays_down && !inside.waits;
        may_be_used && inside.addresses.iter().any(IpNetwork::is_ipv6)
    }
}

/// The configured routes, and with `isDefaultGateway` a default route for each family that has an
/// address and no default route with a next hop of its own.
fn routes(network: &Definition, addresses: &[Assigned]) -> Vec<Route> {
    let mut routes = network.routes.clone();
    if !network.default_gateway {
        return routes;
    }
    for address in addresses {
        let v4 = address.address.is_ipv4();
        // One in another table is nobody's default route.
        let is_default =
            |r: &Route| r.dst.prefix() == 0 && r.dst.is_ipv4() == v4 && r.table.is_none();
        if routes.iter().any(|r| is_default(r) && r.gw.is_some()) {
            continue;
        }
        // One without a next hop would mean the same route twice.
        routes.retain(|r| !is_default(r));
        let any: IpAddr = if v4 { [0u8; 4].into() } else { [0u8; 16].into() };
        if let (Ok(dst), Some(gw)) = (IpNetwork::new(any, 0), address.gateway) {
            routes.push(Route::new(dst, Some(gw)));
        }
    }
    routes
}

/// A route without a next hop goes by the gateway of the first address of its family that has one,
/// unless its scope says that it needs none.
fn resolved(route: &Route, addresses: &[Assigned]) -> Route {
    let of_family = |a: &&Assigned| a.address.is_ipv4() == route.dst.is_ipv4();
    let gateway = || addresses.iter().filter(of_family).find_map(|a| a.gateway);
    let gw = if route.is_on_link() { None } else { route.gw.or_else(gateway) };
    Route { gw, ..route.clone() }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;
