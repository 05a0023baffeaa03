//! A route of a container: as it is configured, checked, and told in a result.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::Version;

/// `RT_SCOPE_LINK`: from here on a scope says that the destination is on the link.
const SCOPE_LINK: u8 = 253;
/// The least and the most that an MTU may be (`rtnetlink(7)` caps a route's at the latter).
const MTU: std::ops::RangeInclusive<u32> = 68..=65520;
/// What the kernel takes for an advertised segment size (`IPV6_MAXPLEN` less headers).
const ADVMSS: std::ops::RangeInclusive<u32> = 1..=65495;

/// A route of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The destination; 0.0.0.0/0 and ::/0 are the default routes.
    pub dst: IpNetwork,
    /// The next hop; without one, the gateway of the address of that family.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gw: Option<IpAddr>,
    /// Packets that go there are no longer than this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mtu: Option<u32>,
    /// The segment size that TCP advertises there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub advmss: Option<u32>,
    /// The lower, the sooner it is taken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub priority: Option<u32>,
    /// The routing table; the main one if none is named.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub table: Option<u32>,
    /// How far away the destination is: `rtm_scope`, of which IPv6 has none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scope: Option<u8>,
}

impl Route {
    /// A route with nothing but a destination and perhaps a next hop.
    pub fn new(dst: IpNetwork, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }

    /// Its scope says that the destination is on the link, so that it has no next hop.
    pub fn is_on_link(&self) -> bool {
        self.scope.is_some_and(|scope| scope >= SCOPE_LINK)
    }

    /// The keys that a result of this version has: all but destination and next hop are of 1.1.0.
    pub(super) fn told_in(&self, version: Version) -> Self {
        match version {
            Version::V1_1_0 => self.clone(),
            _ => Self::new(self.dst, self.gw),
        }
    }
}

/// An entry of `ipam.routes` as it arrives.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct RawRoute {
    dst: String,
    gw: String,
    mtu: i64,
    advmss: i64,
    priority: i64,
    table: Option<i64>,
    scope: Option<i64>,
}

impl RawRoute {
    /// Checks it; the error says what is wrong with which key.
    pub(super) fn check(&self) -> Result<Route, String> {
        let bad =
            |what: &str, value: &str| format!("ipam route {what} {value:?} is not an address");
        let dst: IpNetwork = self.dst.parse().map_err(|_| bad("dst", &self.dst))?;
        let dst = IpNetwork::new(dst.network(), dst.prefix()).map_err(|_| bad("dst", &self.dst))?;
        let gw = match self.gw.as_str() {
            "" => None,
            text => Some(text.parse::<IpAddr>().map_err(|_| bad("gw", text))?),
        };
        if gw.is_some_and(|gw| gw.is_ipv4() != dst.is_ipv4()) {
            return Err(format!("ipam route {dst} has a gw of the other family"));
        }
        let number = |key: &str, value: i64, range: std::ops::RangeInclusive<u32>| match value {
            0 => Ok(None),
            value => match u32::try_from(value) {
                Ok(number) if range.contains(&number) => Ok(Some(number)),
                _ => {
                    let (least, most) = range.into_inner();
                    let range = format!("{least} to {most}");
                    Err(format!("ipam route {dst}: {key} {value} is not within {range}"))
                }
            },
        };
        let scope =
            match self.scope {
                None => None,
                Some(value) => Some(u8::try_from(value).map_err(|_| {
                    format!("ipam route {dst}: scope {value} is not within 0 to 255")
                })?),
            };
        let route = Route {
            dst,
            gw,
            mtu: number("mtu", self.mtu, MTU)?,
            advmss: number("advmss", self.advmss, ADVMSS)?,
            priority: number("priority", self.priority, 0..=u32::MAX)?,
            // Table 0 is no table: the kernel means the main one by it.
            table: number("table", self.table.unwrap_or_default(), 0..=u32::MAX)?,
            scope,
        };
        if route.is_on_link() && gw.is_some() {
            return Err(format!(
                "ipam route {dst}: by its scope it is on the link, and it has a gw; leave one out"
            ));
        }
        Ok(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Route, String> {
        serde_json::from_str::<RawRoute>(text).expect("json").check()
    }

    #[test]
    fn every_key_is_read_and_told_by_those_who_know_it() {
        let text = r#"{"dst":"10.0.0.0/8","gw":"10.1.0.1","mtu":1400,"advmss":1360,"priority":7,"table":1000,"scope":0}"#;
        let route = check(text).expect("valid");
        assert_eq!(serde_json::to_string(&route.told_in(Version::V1_1_0)).expect("json"), text);
        assert_eq!(
            serde_json::to_string(&route.told_in(Version::V1_0_0)).expect("json"),
            r#"{"dst":"10.0.0.0/8","gw":"10.1.0.1"}"#
        );
    }

    #[test]
    fn what_the_kernel_could_not_take_is_refused_by_name() {
        for (keys, named) in [
            (r#""mtu":10"#, "mtu 10"),
            (r#""advmss":70000"#, "advmss 70000"),
            (r#""priority":-1"#, "priority -1"),
            (r#""table":4294967296"#, "table 4294967296"),
            (r#""scope":256"#, "scope 256"),
            (r#""scope":253,"gw":"10.1.0.1""#, "scope"),
        ] {
            let error = check(&format!(r#"{{"dst":"10.0.0.0/8",{keys}}}"#)).expect_err(keys);
            assert!(error.contains(named) && error.contains("10.0.0.0/8"), "{error}");
        }
        assert_eq!(check(r#"{"dst":"10.0.0.0/8","table":0}"#).expect("main").table, None);
    }
}
