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
        let inside = InsidePlan {
            ifname: if target.handed { naming::peer_name(key)? } else { key.ifname.clone() },
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
pub(super) mod tests {
    use quantum_config::cni::{Call, Environment};

    use super::*;

    pub(in crate::attach) fn sample(extra: &str) -> Plan {
        sample_of(extra, WayToRules::Bridge, false)
    }

    pub(in crate::attach) fn sample_of(extra: &str, way: WayToRules, handed: bool) -> Plan {
        let text = format!(
            r#"{{"cniVersion":"1.0.0","name":"net","bridge":"br0","isGateway":true,"ipMasq":true,
            "ipam":{{"type":"host-local","subnet":"10.1.0.0/24","routes":[{{"dst":"0.0.0.0/0"}}]}}{extra}}}"#
        );
        let call = Call::parse(text.as_bytes()).expect("readable");
        let network = call.definition().expect("valid");
        let args = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db-0".to_owned();
        let env = Environment { args, ..Environment::default() };
        let target = Target {
            key: "net/c1/eth0".parse().expect("a key"),
            identity: call.identity(&network, &env).expect("valid"),
            netns: NetnsId { dev: 4, ino: 7 },
            sandbox: "/run/netns/x".into(),
            mac: None,
            shaping: network.shaping.unwrap_or_default(),
            ports: Vec::new(),
            handed,
        };
        let addresses = vec![Assigned {
            set: 0,
            address: "10.1.0.2/24".parse().expect("address"),
            gateway: Some("10.1.0.1".parse().expect("gateway")),
        }];
        let bridge = BridgeEnd {
            index: LinkIndex(3),
            mac: Mac([2, 0, 0, 0, 0, 9]),
            mtu: 1500,
            vlan_gateway: None,
            way,
        };
        Plan::new(&target, &network, bridge, addresses, 0, 5).expect("a plan")
    }

    #[test]
    fn the_plan_says_what_the_result_promises() {
        let plan = sample("");
        assert_eq!(plan.inside.routes.len(), 1);
        assert_eq!(plan.inside.routes[0].gw, Some("10.1.0.1".parse().expect("gateway")));
        let result = &plan.record.result;
        assert_eq!(result.interfaces[2].name, "eth0");
        assert_eq!(result.interfaces[2].mac, Some(plan.inside.mac));
        assert_eq!(result.interfaces[2].sandbox, "/run/netns/x");
        assert_eq!(result.ips[0].interface, Some(2));
        assert_eq!(result.routes[0].gw, None, "routes are told as they were configured");
        assert_eq!(plan.netfilter, elements(&plan.record));
    }

    #[test]
    fn ports_are_isolated_where_that_takes_the_place_of_rules() {
        use WayToRules::{Among, Bridge, Routed};
        let alone = r#","ingressPolicy":"isolated""#;
        for (keys, way, isolated) in [
            ("", Bridge, false),
            ("", Routed, true),
            ("", Among, false),
            (alone, Bridge, false),
            (alone, Routed, true),
            (alone, Among, true),
        ] {
            let plan = sample_of(keys, way, false);
            assert_eq!(plan.link.isolated, isolated, "{keys} {way:?}");
            assert_eq!(plan.record.port.isolated, isolated, "as CHECK is to find it");
        }
    }

    #[test]
    fn a_default_gateway_gives_one_default_route() {
        let plan = sample(r#","isDefaultGateway":true"#);
        assert_eq!(plan.record.routes.len(), 1);
        assert_eq!(plan.record.routes[0].gw, Some("10.1.0.1".parse().expect("gateway")));
    }

    #[test]
    fn a_route_on_the_link_has_no_next_hop() {
        let mut plan = sample("");
        let mut route = plan.record.routes.remove(0);
        let next_hop = |route: &Route| resolved(route, &plan.record.addresses).gw;
        assert!(next_hop(&route).is_some());
        route.scope = Some(253);
        assert_eq!(next_hop(&route), None);
    }

    #[test]
    fn in_a_vlan_the_containers_are_at_home_on_its_gateway() {
        let mut plan = sample(r#","vlan":100"#);
        assert_eq!(plan.link.vlans.native, Some(100));
        let home = IfName::new("br0.100").expect("a name");
        let at_home = |e: &Element| matches!(e, Element::Home { bridge, .. } if *bridge == home);
        assert!(plan.netfilter.iter().any(at_home));
        assert_eq!((plan.record.home(), plan.record.bridge.as_str()), (&home, "br0"));
        plan.record.vlan_gateway = None;
        assert_eq!(plan.record.home().as_str(), "br0");
    }

    #[test]
    fn an_interface_is_tuned_under_its_own_name() {
        let keys = r#","sysctl":{"net.ipv4.conf.IFNAME.rp_filter":"2"},"mac":"02:00:00:00:00:07""#;
        let plan = sample(keys);
        assert_eq!(plan.inside.tuning.sysctls[0].name.path(), "net/ipv4/conf/eth0/rp_filter");
        assert_eq!(plan.inside.tuning, plan.record.tuning);
        assert_eq!((plan.inside.mac, plan.record.mac), (Mac([2, 0, 0, 0, 0, 7]), plan.inside.mac));
    }
}
