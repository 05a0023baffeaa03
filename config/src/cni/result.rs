//! The result of an ADD. Kept in its newest form; rendered in the form the caller's version has.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{CniError, Code, Dns, Route, Version, gojson};
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
    pub name: String,
    /// Its hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    /// Reads a `prevResult` of 0.3.0 or later (the older shape has no interfaces to compare with).
    pub fn from_prev_result(value: &Value) -> Result<Self, CniError> {
        gojson::from_value(value.clone()).map_err(|e| {
            CniError::new(Code::InvalidNetworkConfig, "prevResult cannot be read")
                .with_details(e.to_string())
        })
    }

    /// The JSON document for stdout, in the shape of `version`.
    pub fn render(&self, version: Version) -> Result<String, CniError> {
        let mut document =
            if version < Version::V0_3_0 { self.legacy(version)? } else { self.listed(version) };
        let dns = serde_json::to_value(&self.dns).unwrap_or_default();
        // Up to 0.4.0 `dns` is always there; since 1.0.0 an empty one is left out.
        if version < Version::V1_0_0 || !self.dns.is_empty() {
            document.insert("dns".to_owned(), dns);
        }
        Ok(Value::Object(document).to_string())
    }

    fn listed(&self, version: Version) -> Map<String, Value> {
        let mut document = Map::new();
        document.insert("cniVersion".to_owned(), version.as_str().into());
        let interfaces: Vec<Value> = self
            .interfaces
            .iter()
            .map(|i| {
                let mut shown = i.clone();
                shown.mtu = shown.mtu.filter(|_| version >= Version::V1_1_0);
                serde_json::to_value(shown).unwrap_or_default()
            })
            .collect();
        if !interfaces.is_empty() {
            document.insert("interfaces".to_owned(), interfaces.into());
        }
        let ips: Vec<Value> = self
            .ips
            .iter()
            .map(|ip| {
                let mut value = serde_json::to_value(ip).unwrap_or_default();
                if version < Version::V1_0_0
                    && let Some(map) = value.as_object_mut()
                {
                    let family = if ip.address.is_ipv4() { "4" } else { "6" };
                    map.insert("version".to_owned(), family.into());
                }
                value
            })
            .collect();
        if !ips.is_empty() {
            document.insert("ips".to_owned(), ips.into());
        }
        if !self.routes.is_empty() {
            document.insert("routes".to_owned(), json!(self.routes));
        }
        document
    }

    /// 0.1.0 and 0.2.0 hold one address of each family, with the routes inside.
    fn legacy(&self, version: Version) -> Result<Map<String, Value>, CniError> {
        let mut document = Map::new();
        document.insert("cniVersion".to_owned(), version.as_str().into());
        for (key, v4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|ip| ip.address.is_ipv4() == v4) else { continue };
            let mut object = json!({ "ip": ip.address });
            let routes: Vec<&Route> =
                self.routes.iter().filter(|r| r.dst.is_ipv4() == v4).collect();
            if let Some(map) = object.as_object_mut() {
                if let Some(gateway) = ip.gateway {
                    map.insert("gateway".to_owned(), json!(gateway));
                }
                if !routes.is_empty() {
                    map.insert("routes".to_owned(), json!(routes));
                }
            }
            document.insert(key.to_owned(), object);
        }
        if document.len() == 1 {
            return Err(CniError::new(
                Code::IncompatibleVersion,
                format!("cannot convert the result to {version}: it has no address"),
            ));
        }
        Ok(document)
    }
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
            routes: vec![Route { dst: "0.0.0.0/0".parse().expect("dst"), gw: None }],
            dns: Dns::default(),
        }
    }

    fn render(result: &CniResult, version: Version) -> Value {
        serde_json::from_str(&result.render(version).expect("rendered")).expect("json")
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
        assert!(result.render(Version::V0_2_0).is_err());
        assert!(result.render(Version::V0_3_0).is_ok());
    }
}
