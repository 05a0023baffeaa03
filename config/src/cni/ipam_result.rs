//! The result of an IPAM plugin: addresses that belong to no interface yet, routes, a resolver. It may
//! be of any version: by family up to 0.2.0 (`ip4`, `ip6`), as lists since. Whoever delegates asks
//! for the configuration's version, but plugins that print another are around, and it is all the
//! same to us: both shapes are read.

use serde::Deserialize;
use serde_json::Value;

use super::addressing::static_address;
use super::bounds::{bounded, bounded_routes};
use super::route::RawRoute;
use super::{Dns, Route, StaticAddress, Version, gojson};

/// What an IPAM plugin said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpamResult {
    /// The addresses; at least one.
    pub addresses: Vec<StaticAddress>,
    /// The container's routes.
    pub routes: Vec<Route>,
    /// What the resolver is told.
    pub dns: Dns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Raw {
    cni_version: String,
    ips: Vec<RawIp>,
    ip4: Option<RawFamily>,
    ip6: Option<RawFamily>,
    routes: Vec<RawRoute>,
    dns: Dns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawIp {
    address: String,
    gateway: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawFamily {
    ip: String,
    gateway: String,
    routes: Vec<RawRoute>,
}

impl IpamResult {
    /// Reads a result; the error says what is wrong with it.
    pub(super) fn parse(printed: &[u8]) -> Result<Self, String> {
        let value: Value =
            serde_json::from_slice(printed).map_err(|e| format!("it is not JSON: {e}"))?;
        if !value.is_object() {
            return Err("it is not a JSON object".to_owned());
        }
        let raw: Raw = gojson::from_value(value).map_err(|e| e.to_string())?;
        if Version::parse(&raw.cni_version).is_err() {
            return Err(format!("its cniVersion {:?} is not known", raw.cni_version));
        }
        let (mut ips, mut raw_routes) = (raw.ips, raw.routes);
        for RawFamily { ip, gateway, routes } in raw.ip4.into_iter().chain(raw.ip6) {
            ips.push(RawIp { address: ip, gateway });
            raw_routes.extend(routes);
        }
        bounded("its list of addresses", ips.len()).map_err(|e| e.msg)?;
        bounded_routes(raw_routes.len()).map_err(|e| e.msg)?;
        let mut addresses: Vec<StaticAddress> = Vec::new();
        for ip in &ips {
            let one = static_address(&ip.address, &ip.gateway).map_err(|e| e.msg)?;
            if addresses.iter().any(|other| other.address.ip() == one.address.ip()) {
                return Err(format!("it has the address {} twice", one.address.ip()));
            }
            addresses.push(one);
        }
        if addresses.is_empty() {
            return Err("it has no address".to_owned());
        }
        let routes = raw_routes.iter().map(RawRoute::check).collect::<Result<_, _>>()?;
        Ok(Self { addresses, routes, dns: raw.dns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        let read = IpamResult::parse(text.as_bytes()).expect(text);
        let address = |a: &StaticAddress| match a.gateway {
            Some(gateway) => format!("{}>{gateway}", a.address),
            None => a.address.to_string(),
        };
        let route = |r: &Route| match r.gw {
            Some(gw) => format!("{}>{gw}", r.dst),
            None => r.dst.to_string(),
        };
        let parts: Vec<String> = read
            .addresses
            .iter()
            .map(address)
            .chain(read.routes.iter().map(route))
            .chain(read.dns.nameservers)
            .collect();
        parts.join(" ")
    }

    #[test]
    fn every_version_has_its_shape() {
        let old = r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.5/24","gateway":"10.0.0.1",
            "routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"fd00::5/64"},"dns":{"nameservers":["10.0.0.53"]}}"#;
        assert_eq!(show(old), "10.0.0.5/24>10.0.0.1 fd00::5/64 0.0.0.0/0 10.0.0.53");
        let listed = r#"{"cniVersion":"V","ips":[{"version":"4","address":"10.0.0.5/24","gateway":"10.0.0.1"},
            {"version":"6","address":"fd00::5/64","interface":null}],"routes":[{"dst":"::/0","gw":"fd00::1"}],"dns":{}}"#;
        for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", ""] {
            let text = listed.replace('V', version);
            assert_eq!(show(&text), "10.0.0.5/24>10.0.0.1 fd00::5/64 ::/0>fd00::1", "{version}");
        }
        assert_eq!(show(r#"{"IPs":[{"Address":"10.0.0.5/32"}],"routes":null}"#), "10.0.0.5/32");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("", "not JSON"),
            ("[]", "object"),
            ("{}", "no address"),
            (r#"{"ips":[]}"#, "no address"),
            (r#"{"ips":3}"#, "invalid type"),
            (r#"{"cniVersion":"9.9.9","ips":[{"address":"10.0.0.5/24"}]}"#, "9.9.9"),
            (r#"{"ips":[{"address":"10.0.0.5"}]}"#, "prefix length"),
            (r#"{"ip4":{"ip":""}}"#, "prefix length"),
            (r#"{"ips":[{"address":"10.0.0.5/24","gateway":"fd00::1"}]}"#, "family"),
            (r#"{"ips":[{"address":"10.0.0.5/24"},{"address":"10.0.0.5/16"}]}"#, "twice"),
            (r#"{"ips":[{"address":"10.0.0.5/24"}],"routes":[{"dst":"x"}]}"#, "route dst"),
        ] {
            let error = IpamResult::parse(text.as_bytes()).expect_err(text);
            assert!(error.contains(words), "{error} should say {words}");
        }
    }
}
