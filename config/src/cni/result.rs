//! The result of an ADD. Kept in its newest form; rendered in the form the caller's version has.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::{CniError, Code, Dns, Previous, Route, Version};
use crate::ids::Mac;

/// A result, as of CNI 1.1.0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CniResult {
    /// Interfaces on the host and in the container; [`IpConfig::interface`] counts into this list.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<IpConfig>,
    /// Routes.
    pub routes: Vec<Route>,
    /// What the resolver is told.
    pub dns: Dns,
}

/// An interface of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its hardware address, if it is an Ethernet one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "ethernet")]
    pub mac: Option<Mac>,
    /// Its MTU, reported since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The container's `CNI_NETNS`; empty for an interface of the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
}

/// An address of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// Index of the interface in the list; 0 is a value, not an absence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// The address with the prefix length of its subnet.
    pub address: IpNetwork,
    /// The gateway of the subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

impl CniResult {
    /// The JSON document for stdout, in the shape of `version`: what was there before us, then ours.
    /// Our interfaces are counted on from the previous ones; our DNS, if we say any, replaces theirs.
    pub fn render(&self, version: Version, previous: &Previous) -> Result<String, CniError> {
        let mut document = if version < Version::V0_3_0 {
            self.legacy(version, previous)?
        } else {
            self.listed(version, previous)
        };
        let dns = if self.dns.is_empty() { previous.dns() } else { &self.dns };
        // Up to 0.4.0 `dns` is always there; since 1.0.0 an empty one is left out.
        if version < Version::V1_0_0 || !dns.is_empty() {
            document.insert("dns".to_owned(), json!(dns));
        }
        Ok(Value::Object(document).to_string())
    }

    fn listed(&self, version: Version, previous: &Previous) -> Map<String, Value> {
        let mut interfaces = previous.list("interfaces");
        let before = interfaces.len();
        interfaces.extend(self.interfaces.iter().map(|interface| {
            let mtu = interface.mtu.filter(|_| version >= Version::V1_1_0);
            json!(Interface { mtu, ..interface.clone() })
        }));
        let mut ips = previous.list("ips");
        ips.extend(self.ips.iter().map(|ip| {
            let interface = ip.interface.map(|index| index + before);
            let mut value = json!(IpConfig { interface, ..ip.clone() });
            if version < Version::V1_0_0 {
                value["version"] = if ip.address.is_ipv4() { "4" } else { "6" }.into();
            }
            value
        }));
        let mut routes = previous.list("routes");
        routes.extend(self.routes.iter().map(|route| json!(route.told_in(version))));
        let lists = [("interfaces", interfaces), ("ips", ips), ("routes", routes)];
        let said = lists.into_iter().filter(|(_, list)| !list.is_empty());
        let mut document = Map::new();
        document.insert("cniVersion".to_owned(), version.as_str().into());
        document.extend(said.map(|(key, list)| (key.to_owned(), Value::Array(list))));
        document
    }

    /// 0.1.0 and 0.2.0 hold one address of each family, with the routes inside. Dropping one would
    /// leave the runtime with half the truth.
    fn legacy(
        &self,
        version: Version,
        previous: &Previous,
    ) -> Result<Map<String, Value>, CniError> {
        let mut document = Map::new();
        document.insert("cniVersion".to_owned(), version.as_str().into());
        for (key, v4) in [("ip4", true), ("ip6", false)] {
            let ours = self.ips.iter().filter(|ip| ip.address.is_ipv4() == v4);
            let mut found: Vec<Value> = previous.object(key).cloned().into_iter().collect();
            found.extend(ours.map(|ip| self.legacy_address(ip)));
            if found.len() > 1 {
                return Err(CniError::new(
                    Code::InvalidNetworkConfig,
                    format!(
                        "CNI version {version} does not support more than 1 address per family"
                    ),
                )
                .with_details(format!("there are {} for {key}; raise cniVersion", found.len())));
            }
            document.extend(found.pop().map(|object| (key.to_owned(), object)));
        }
        if document.len() == 1 {
            return Err(CniError::new(
                Code::IncompatibleVersion,
                format!("cannot convert the result to {version}: it has no address"),
            ));
        }
        Ok(document)
    }

    fn legacy_address(&self, ip: &IpConfig) -> Value {
        let mut object = json!({ "ip": ip.address });
        if let Some(gateway) = ip.gateway {
            object["gateway"] = json!(gateway);
        }
        let of_family = self.routes.iter().filter(|r| r.dst.is_ipv4() == ip.address.is_ipv4());
        let routes: Vec<Route> = of_family.map(|r| r.told_in(Version::V0_2_0)).collect();
        if !routes.is_empty() {
            object["routes"] = json!(routes);
        }
        object
    }
}

/// Others' interfaces may have hardware addresses that are none of ours to judge (Infiniband's have
/// 20 bytes).
fn ethernet<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mac>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> CniResult {
        CniResult {
            interfaces: vec![
                Interface {
                    name: "quantum0".into(),
                    mac: Some(Mac([2, 0, 0, 0, 0, 1])),
                    mtu: Some(1500),
                    sandbox: String::new(),
                },
                Interface {
                    name: "eth0".into(),
                    mac: Some(Mac([2, 0, 0, 0, 0, 2])),
                    mtu: Some(1500),
                    sandbox: "/ns".into(),
                },
            ],
            ips: vec![IpConfig {
                interface: Some(0),
                address: "172.20.0.2/16".parse().expect("address"),
                gateway: Some("172.20.0.1".parse().expect("gateway")),
            }],
            routes: vec![Route::new("0.0.0.0/0".parse().expect("dst"), None)],
            dns: Dns::default(),
        }
    }

    fn render(result: &CniResult, version: Version) -> Value {
        render_after(result, version, &Previous::default())
    }

    fn render_after(result: &CniResult, version: Version, previous: &Previous) -> Value {
        let text = result.render(version, previous).expect("rendered");
        serde_json::from_str(&text).expect("json")
    }

    #[test]
    fn each_version_has_its_shape() {
        let v1 = render(&sample(), Version::V1_0_0);
        assert_eq!(v1["cniVersion"], "1.0.0");
        assert_eq!(v1["ips"][0]["interface"], 0, "index 0 is written");
        assert!(v1["ips"][0].get("version").is_none() && v1.get("dns").is_none());
        assert!(v1["interfaces"][0].get("mtu").is_none());
        assert_eq!(render(&sample(), Version::V1_1_0)["interfaces"][0]["mtu"], 1500);
        let v04 = render(&sample(), Version::V0_4_0);
        assert_eq!((&v04["ips"][0]["version"], &v04["dns"]), (&json!("4"), &json!({})));
        let v02 = render(&sample(), Version::V0_2_0);
        assert_eq!(v02["ip4"]["ip"], "172.20.0.2/16");
        assert_eq!(v02["ip4"]["routes"][0]["dst"], "0.0.0.0/0");
        assert!(v02.get("ips").is_none());
    }

    #[test]
    fn a_result_without_address_has_no_old_form() {
        let result = CniResult { ips: vec![], ..sample() };
        assert!(result.render(Version::V0_2_0, &Previous::default()).is_err());
        assert!(result.render(Version::V0_3_0, &Previous::default()).is_ok());
    }

    #[test]
    fn ours_comes_behind_what_was_there_before() {
        let before = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{ "name": "x0", "mac": "02:00:00:00:00:09", "socketPath": "/s" }],
            "ips": [{ "address": "fd00::2/64", "interface": 0 }],
            "routes": [{ "dst": "::/0", "mtu": 1400, "scope": 0 }],
            "dns": { "nameservers": ["fd00::1"] }
        });
        let previous = Previous::parse(&before, Version::V1_1_0).expect("readable");
        let joined = render_after(&sample(), Version::V1_1_0, &previous);
        assert_eq!(joined["interfaces"][0], before["interfaces"][0]);
        assert_eq!(joined["interfaces"].as_array().map(Vec::len), Some(3));
        assert_eq!(joined["ips"][0], before["ips"][0]);
        assert_eq!(joined["ips"][1]["interface"], 1, "counted on from theirs");
        assert_eq!(joined["routes"][0], before["routes"][0]);
        assert_eq!(joined["dns"], before["dns"]);
        let dns = Dns { domain: "ours".into(), ..Dns::default() };
        let ours = CniResult { dns, ..sample() };
        assert_eq!(
            render_after(&ours, Version::V1_1_0, &previous)["dns"],
            json!({ "domain": "ours" })
        );
    }

    #[test]
    fn the_old_shape_joins_families_and_refuses_two_of_one() {
        let previous = |key: &str, ip: &str| {
            let before = json!({ key: { "ip": ip }, "dns": { "domain": "theirs" } });
            Previous::parse(&before, Version::V0_2_0).expect("readable")
        };
        let joined = render_after(&sample(), Version::V0_2_0, &previous("ip6", "fd00::2/64"));
        assert_eq!(joined["ip6"]["ip"], "fd00::2/64");
        assert_eq!(joined["ip4"]["ip"], "172.20.0.2/16");
        assert_eq!(joined["dns"]["domain"], "theirs");
        let error = sample().render(Version::V0_2_0, &previous("ip4", "10.0.0.2/8"));
        assert!(error.expect_err("two of a family").msg.contains("more than 1 address"));
        let none = CniResult { ips: vec![], routes: vec![], ..sample() };
        let passed = render_after(&none, Version::V0_1_0, &previous("ip4", "10.0.0.2/8"));
        assert_eq!(passed["ip4"], json!({ "ip": "10.0.0.2/8" }));
    }
}
