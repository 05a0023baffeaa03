//! A network as an operator defines it: a configuration that was checked, with its defaults filled
//! in. Two configurations that mean the same give equal definitions.

use std::borrow::Cow;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::bounds::bounded_routes;
use super::identity::network_labels;
use super::netconf::{self, Ipam};
use super::{
    Addressing, Call, CniError, Code, Dns, IpamResult, NetConf, PortOptions, Posture, RangeSet,
    Reservation, Route, Shaping, StaticAddress, Tuning,
};
use crate::ids::{IfName, InvalidId, NetworkName};
use crate::labels::Labels;

/// The reference plugin's default bridge.
const DEFAULT_BRIDGE: &str = "cni0";
/// The least MTU an IPv4 link may have (RFC 791) and the most the kernel takes (`ETH_MAX_MTU`).
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name.
    pub name: NetworkName,
    /// The bridge its containers are ports of.
    pub bridge: IfName,
    /// It has no containers and no bridge: another plugin is lent its addresses.
    #[serde(default)]
    pub lends: bool,
    /// The bridge carries the gateways' addresses and the host forwards.
    pub gateway: bool,
    /// Containers get a default route by the gateway, whatever `routes` says.
    pub default_gateway: bool,
    /// Another address on the bridge is replaced instead of being an error.
    pub force_address: bool,
    /// Traffic that leaves the network is masqueraded.
    pub masquerade: bool,
    /// Frames may leave by the port they came in.
    pub hairpin: bool,
    /// The bridge takes every frame, whoever it is for.
    #[serde(default)]
    pub promisc: bool,
    /// What its ports are beyond the usual.
    #[serde(default)]
    pub port: PortOptions,
    /// How it stands towards others.
    #[serde(default)]
    pub posture: Posture,
    /// What policy calls its containers, unless somebody says otherwise.
    #[serde(default)]
    pub labels: Labels,
    /// MTU of both ends.
    pub mtu: Option<u32>,
    /// What containers are held to; none if the network does not say, so that a runtime may.
    #[serde(default)]
    pub shaping: Option<Shaping>,
    /// How the container's end is set up.
    #[serde(default)]
    pub tuning: Tuning,
    /// Where addresses come from.
    #[serde(default)]
    pub addressing: Addressing,
    /// The reference plugin's folder of leases, which are taken over when the network opens for the
    /// first time. Only an operator's file names one.
    #[serde(default)]
    pub data_dir: Option<String>,
    /// Routes of the container.
    pub routes: Vec<Route>,
    /// Handed to the runtime.
    pub dns: Dns,
}

impl Definition {
    /// Checks a configuration. Errors have code 7 for what is invalid and code 2 for what is valid
    /// and not supported.
    pub(super) fn new(call: &Call) -> Result<Self, CniError> {
        let conf = &call.conf;
        let port = PortOptions::new(conf).map_err(|e| of_network(call, e))?;
        let posture = Posture::new(conf).map_err(|e| of_network(call, e))?;
        let labels = network_labels(conf).map_err(|e| of_network(call, e))?;
        let shaping = Shaping::of_network(conf).map_err(|e| of_network(call, e))?;
        let tuning = Tuning::new(conf).map_err(|e| of_network(call, e))?;
        if let Some(path) = call.resolv_conf().filter(|_| !call.is_operators) {
            return Err(CniError::new(
                Code::UnsupportedField,
                format!(
                    "network {:?}: ipam.resolvConf={path:?} is not supported",
                    call.network.as_str()
                ),
            ));
        }
        let mtu = conf.checked_mtu().map_err(|e| invalid(call, &e))?;
        let bridge = if conf.bridge.is_empty() { DEFAULT_BRIDGE } else { &conf.bridge };
        let bridge = IfName::new(bridge).map_err(|e| invalid(call, &format!("bridge: {e}")))?;
        let gateway = conf.is_gateway || conf.is_default_gateway;
        if let Some(vlan) = port.vlans.native.filter(|_| gateway) {
            let end = vlan_end(&bridge, vlan);
            end.map_err(|e| invalid(call, &format!("the gateway of vlan {vlan}: {e}")))?;
        }
        let addressing = match Addressing::new(call)? {
            Addressing::Static(given) if gateway => {
                Addressing::Static(given.into_iter().map(StaticAddress::with_gateway).collect())
            }
            other => other,
        };
        let routes = conf.ipam.as_ref().map_or(Ok(Vec::new()), |ipam| routes(call, ipam))?;
        // Whatever the network says of itself replaces what its IPAM says.
        let of_ipam = conf.ipam.as_ref().map(|ipam| ipam.dns.clone());
        let dns = conf.dns.clone().filter(|dns| !dns.is_empty()).or(of_ipam).unwrap_or_default();
        let data_dir = conf.ipam.as_ref().map(|ipam| ipam.data_dir.clone());
        Ok(Self {
            name: call.network.clone(),
            bridge,
            lends: conf.lends,
            gateway,
            default_gateway: conf.is_default_gateway,
            force_address: conf.force_address,
            masquerade: conf.ip_masq,
            hairpin: conf.hairpin_mode,
            promisc: conf.promisc_mode,
            port,
            posture,
            labels,
            mtu,
            shaping,
            tuning,
            addressing,
            data_dir: data_dir.filter(|dir| !dir.is_empty() && call.is_operators),
            routes,
            dns,
        })
    }

    /// The network as it is for the call whose addresses an IPAM plugin has said: as with `static`,
    /// with the routes and, if the network says nothing of its own, the resolver of that plugin.
    #[must_use]
    pub fn assigned(&self, result: IpamResult) -> Self {
        let IpamResult { mut addresses, routes, dns } = result;
        if self.gateway {
            addresses = addresses.into_iter().map(StaticAddress::with_gateway).collect();
        }
        let dns = if self.dns.is_empty() { dns } else { self.dns.clone() };
        Self { addressing: Addressing::Static(addresses), routes, dns, ..self.clone() }
    }

    /// The sets that addresses are leased from, one of each.
    pub fn sets(&self) -> &[RangeSet] {
        match &self.addressing {
            Addressing::HostLocal(pools) => &pools.sets,
            _ => &[],
        }
    }

    /// The addresses that are kept for somebody.
    pub fn reservations(&self) -> &[Reservation] {
        match &self.addressing {
            Addressing::HostLocal(pools) => &pools.reservations,
            _ => &[],
        }
    }

    /// The link that carries the gateways' addresses instead of the bridge, because the containers are
    /// in a VLAN.
    pub fn vlan_gateway(&self) -> Option<IfName> {
        let vlan = self.port.vlans.native.filter(|_| self.gateway)?;
        vlan_end(&self.bridge, vlan).ok()
    }

    /// The addresses the bridge carries, with their prefix lengths; none without `isGateway`.
    pub fn gateway_addresses(&self) -> Vec<IpNetwork> {
        if !self.gateway {
            return Vec::new();
        }
        let all: Vec<_> = match &self.addressing {
            Addressing::None | Addressing::Delegated(_) => Vec::new(),
            Addressing::HostLocal(pools) => {
                let ranges = pools.sets.iter().flat_map(|set| &set.0);
                ranges.map(|r| (r.gateway, r.subnet.prefix())).collect()
            }
            Addressing::Static(given) => {
                given.iter().filter_map(|g| Some((g.gateway?, g.address.prefix()))).collect()
            }
        };
        let mut found: Vec<IpNetwork> = Vec::new();
        for (gateway, prefix) in all {
            if let Ok(address) = IpNetwork::new(gateway, prefix)
                && !found.contains(&address)
            {
                found.push(address);
            }
        }
        found
    }

    /// This network with the ranges of `other` where it has none of its own: each call brings them, and a call
    /// that needs no address brings none.
    #[must_use]
    pub fn with_ranges_of(&self, other: &Self) -> Cow<'_, Self> {
        match (&self.addressing, &other.addressing) {
            (Addressing::HostLocal(own), Addressing::HostLocal(_)) if own.sets.is_empty() => {
                Cow::Owned(Self { addressing: other.addressing.clone(), ..self.clone() })
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// True if a network that was prepared as `self` serves a call that means `other`: they differ, if
    /// at all, in what concerns one container only (its resolver, its interface, its limits, its labels, its own
    /// static addresses, and the routes that may come with them).
    pub fn serves(&self, other: &Self) -> bool {
        let shared = |of: &Self| {
            let (addressing, routes) = match &of.addressing {
                Addressing::Static(_) | Addressing::Delegated(_) => {
                    (Addressing::Static(Vec::new()), Vec::new())
                }
                pools => (pools.clone(), of.routes.clone()),
            };
            let (dns, tuning, labels) = (Dns::default(), Tuning::default(), Labels::new());
            Self { dns, addressing, routes, shaping: None, tuning, labels, ..of.clone() }
        };
        let prepared = self.gateway_addresses();
        shared(self) == shared(other)
            && other.gateway_addresses().iter().all(|address| prepared.contains(address))
    }
}

impl NetConf {
    /// `mtu`, if one is asked for.
    pub(super) fn checked_mtu(&self) -> Result<Option<u32>, String> {
        match self.mtu {
            0 => Ok(None),
            mtu if MTU.contains(&mtu) => Ok(Some(mtu)),
            mtu => Err(format!("mtu {mtu} is not within 68 to 65535")),
        }
    }
}

/// The name is the reference plugin's.
fn vlan_end(bridge: &IfName, vlan: u16) -> Result<IfName, InvalidId> {
    IfName::new(format!("{bridge}.{vlan}"))
}

fn routes(call: &Call, ipam: &Ipam) -> Result<Vec<Route>, CniError> {
    bounded_routes(ipam.routes.len()).map_err(|e| of_network(call, e))?;
    let checked = ipam.routes.iter().map(|raw| raw.check().map_err(|e| invalid(call, &e)));
    checked.collect()
}

/// The same error, with the network's name before it.
fn of_network(call: &Call, error: CniError) -> CniError {
    let msg = format!("network {:?}: {}", call.network.as_str(), error.msg);
    CniError { msg, ..error }
}

fn invalid(call: &Call, what: &str) -> CniError {
    of_network(call, netconf::invalid(what))
}

#[cfg(test)]
mod tests {
    use super::super::Environment;
    use super::*;

    fn define(text: &str) -> Result<Definition, CniError> {
        Call::parse(text.as_bytes()).and_then(|c| c.definition())
    }

    #[test]
    fn the_module_documents_example_is_a_definition() {
        let d = define(include_str!("../../samples/net.d/10-quantum-bridge.conf")).expect("valid");
        assert_eq!(d.bridge.as_str(), "quantum0");
        assert!(d.gateway && d.masquerade && d.hairpin && !d.default_gateway);
        assert_eq!(d.sets()[0].subnets(), "172.20.0.0/16");
        assert_eq!(d.gateway_addresses()[0].to_string(), "172.20.0.1/16");
        assert_eq!(d.routes, [Route::new("0.0.0.0/0".parse().expect("dst"), None)]);
        assert_eq!(d.dns.domain, "quantum.local");
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name_and_value() {
        let call = Call::parse(br#"{"name":"n","ipam":{"type":"dhcp"}}"#).expect("readable");
        let error = call.of_operator().definition().expect_err("dhcp");
        assert_eq!(error.code, Code::UnsupportedField);
        assert!(error.msg.contains("ipam.type=\"dhcp\""), "{error}");
        let error = define(r#"{"name":"n","vlanTrunk":[{"id":5}],"isGateway":true}"#)
            .expect_err("a gateway");
        assert_eq!(error.code, Code::UnsupportedField);
        assert!(error.msg.contains("\"n\"") && error.msg.contains("isGateway=true"), "{error}");
    }

    #[test]
    fn the_gateway_of_a_vlan_has_the_bridges_name_and_its_number() {
        let gateway = |keys: &str| {
            let name = |d: Definition| d.vlan_gateway().map(|name| name.to_string());
            define(&format!(r#"{{"name":"n"{keys}}}"#)).map(name)
        };
        let bridge = r#","bridge":"br0","vlan":100"#;
        assert_eq!(gateway(bridge).expect("valid"), None);
        assert_eq!(gateway(r#","isGateway":true"#).expect("valid"), None);
        let keys = format!(r#"{bridge},"isDefaultGateway":true"#);
        assert_eq!(gateway(&keys).expect("valid").as_deref(), Some("br0.100"));
        let long = r#","bridge":"twelve-bytes","vlan":100,"isGateway":true"#;
        let error = gateway(long).expect_err("16 bytes");
        assert_eq!(error.code, Code::InvalidNetworkConfig);
        assert!(error.msg.contains("gateway of vlan 100"), "{error}");
    }

    #[test]
    fn a_definition_of_an_earlier_release_can_be_read() {
        let now = define(r#"{"name":"n","bridge":"b"}"#).expect("valid");
        let mut stored = serde_json::to_value(&now).expect("json");
        let members = stored.as_object_mut().expect("an object");
        members.remove("promisc").expect("written");
        members.remove("port").expect("written");
        members.remove("shaping").expect("written");
        members.remove("tuning").expect("written");
        members.remove("labels").expect("written");
        assert_eq!(serde_json::from_value::<Definition>(stored).expect("readable"), now);
    }

    #[test]
    fn what_an_ipam_plugin_says_is_as_static() {
        let text = r#"{"name":"n","isGateway":true,"ipam":{"type":"other"}DNS}"#;
        let printed = br#"{"ips":[{"address":"10.0.0.5/24"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{"domain":"theirs"}}"#;
        for (dns, domain) in [("", "theirs"), (r#","dns":{"domain":"ours"}"#, "ours")] {
            let call = Call::parse(text.replace("DNS", dns).as_bytes()).expect("readable");
            let before = call.definition().expect("valid");
            let after = before.assigned(call.ipam_result(printed).expect("a result"));
            assert_eq!(after.gateway_addresses()[0].to_string(), "10.0.0.1/24");
            assert_eq!((after.routes.len(), after.dns.domain.as_str()), (1, domain));
            let other = before.assigned(IpamResult {
                routes: Vec::new(),
                ..call.ipam_result(printed).expect("a result")
            });
            assert!(after.serves(&other), "routes concern one container");
            assert!(!before.serves(&after), "the bridge has no gateway yet");
        }
    }

    #[test]
    fn what_says_nothing_is_as_if_it_were_absent() {
        let absent = define(r#"{"name":"n","bridge":"b"}"#).expect("valid");
        for nothing in [
            r#""ipam":{}"#,
            r#""ipam":null"#,
            r#""ipam":{"type":""}"#,
            r#""ipam":{"type":"","subnet":"","ranges":[],"routes":null,"dns":{},"addresses":[]}"#,
            r#""dns":{},"args":{},"runtimeConfig":{},"policy":{},"type":"","mac":"""#,
            r#""vlanTrunk":[],"sysctl":{},"ingressPolicy":"""#,
            r#""runtimeConfig":{"ipRanges":[],"dns":{},"bandwidth":{},"portMappings":[],"mac":""}"#,
            r#""policy":{"posture":"","enforcement":"","mode":"","host":{"toEndpoint":""},"labels":{}}"#,
            r#""args":{"cni":{"ips":[],"mac":"","labels":[]}}"#,
        ] {
            let text = format!(r#"{{"name":"n","bridge":"b",{nothing}}}"#);
            assert_eq!(define(&text).expect(nothing), absent, "{nothing}");
        }
    }

    #[test]
    fn a_call_may_bring_all_the_ranges_there_are() {
        let ranges = r#""runtimeConfig":{"ipRanges":[[{"subnet":"10.9.0.0/24"}]]}"#;
        let of = |rest: &str| {
            let text =
                format!(r#"{{"name":"n","isGateway":true,"ipam":{{"type":"host-local"}}{rest}}}"#);
            let call = Call::parse(text.as_bytes()).expect("readable");
            let network = call.definition().expect("valid without");
            let meant = call.meant(&network, &Environment::default());
            meant.map(|meant| meant.network.into_owned())
        };
        let brought = of(&format!(",{ranges}")).expect("its ranges");
        assert_eq!(brought.sets()[0].subnets(), "10.9.0.0/24");
        assert_eq!(brought.gateway_addresses()[0].to_string(), "10.9.0.1/24");
        let error = of("").expect_err("no ranges at all");
        assert_eq!(error.code, Code::InvalidNetworkConfig);
        assert!(error.msg.contains("\"n\"") && error.msg.contains("ipRanges"), "{error}");
    }

    #[test]
    fn what_is_invalid_is_code_7() {
        for bad in [
            r#"{"name":"n","bridge":"a/b"}"#,
            r#"{"name":"n","bridge":"b","mtu":10}"#,
            r#"{"name":"n","ipam":{"type":"","subnet":"10.0.0.0/24"}}"#,
            r#"{"name":"n","ipam":{"type":"/bin/sh"}}"#,
            r#"{"name":"n","ipam":{"type":".."}}"#,
            r#"{"name":"n","ipam":{"type":"host-local","ranges":[[]]}}"#,
            r#"{"name":"n","ipam":{"type":"host-local","subnet":"10.0.0.0/24","routes":[{"dst":"x"}]}}"#,
            r#"{"name":"n","ipam":{"type":"host-local","subnet":"10.0.0.0/24","routes":[{"dst":"::/0","gw":"10.0.0.1"}]}}"#,
        ] {
            assert_eq!(define(bad).expect_err(bad).code, Code::InvalidNetworkConfig, "{bad}");
        }
    }
}
