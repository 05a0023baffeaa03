//! Address ranges of the host-local IPAM: sets of ranges, one address from each set.
//!
//! Validation follows the reference plugin: a subnet has no host bits and is at least a /30 (/126);
//! bounds lie inside it; ranges of one set are of one family and do not overlap, and neither do sets.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::CniError;
use super::bounds::bounded;
use super::netconf::invalid;

/// A run of addresses within one subnet, both ends included, the gateway left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The subnet, whose prefix length every address is handed out with.
    pub subnet: IpNetwork,
    /// First address to hand out.
    pub start: IpAddr,
    /// Last address to hand out.
    pub end: IpAddr,
    /// The gateway, never handed out.
    pub gateway: IpAddr,
}

/// Ranges of one family that an address is taken from. A container gets one address of each set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeSet(pub Vec<Range>);

impl Range {
    /// Makes a range of the configuration's texts; empty ones mean the defaults: the first usable
    /// address, the last usable one (in IPv4 the one before broadcast), the first address as gateway.
    pub(super) fn new(
        subnet: &str,
        start: &str,
        end: &str,
        gateway: &str,
    ) -> Result<Self, CniError> {
        let net: IpNetwork = subnet.parse().map_err(|_| {
            invalid(format!("ipam subnet {subnet:?} is not an address with a prefix length"))
        })?;
        if !subnet.contains('/') {
            return Err(invalid(format!("ipam subnet {subnet:?} has no prefix length")));
        }
        if net.ip() != net.network() {
            return Err(invalid(format!("ipam subnet {subnet:?} has host bits set")).with_details(
                format!("the network address is {}/{}", net.network(), net.prefix()),
            ));
        }
        let bits = if net.is_ipv4() { 32 } else { 128 };
        if net.prefix() > bits - 2 {
            return Err(invalid(format!("ipam subnet {subnet:?} is too small to allocate from"))
                .with_details(format!("the longest prefix possible is /{}", bits - 2)));
        }
        let first = add(net.network(), 1);
        let last = if net.is_ipv4() { add(net.broadcast(), -1) } else { net.broadcast() };
        let within = |name: &str, text: &str, default: IpAddr| -> Result<IpAddr, CniError> {
            if text.is_empty() {
                return Ok(default);
            }
            let ip: IpAddr = text
                .parse()
                .map_err(|_| invalid(format!("ipam {name} {text:?} is not an address")))?;
            if !net.contains(ip) {
                return Err(invalid(format!("ipam {name} {text:?} is not in subnet {net}")));
            }
            Ok(ip)
        };
        let range = Self {
            subnet: net,
            start: within("rangeStart", start, first)?,
            end: within("rangeEnd", end, last)?,
            gateway: if gateway.is_empty() {
                first
            } else {
                gateway
                    .parse()
                    .map_err(|_| invalid(format!("ipam gateway {gateway:?} is not an address")))?
            },
        };
        if range.gateway.is_ipv4() != net.is_ipv4() {
            return Err(invalid(format!(
                "ipam gateway {gateway:?} is not of subnet {net}'s family"
            )));
        }
        if range.start > range.end {
            return Err(invalid(format!(
                "ipam rangeStart {} is after rangeEnd {}",
                range.start, range.end
            )));
        }
        Ok(range)
    }

    /// True if `ip` lies between the ends.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.start.is_ipv4() == ip.is_ipv4() && self.start <= ip && ip <= self.end
    }

    /// How many addresses there are to hand out, the gateway not counted.
    pub fn capacity(&self) -> u128 {
        let all = number(self.end).saturating_sub(number(self.start)).saturating_add(1);
        all - u128::from(self.contains(self.gateway))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.start.is_ipv4() == other.start.is_ipv4()
            && self.start <= other.end
            && other.start <= self.end
    }
}

impl RangeSet {
    /// The first range that holds `ip`.
    pub fn range_of(&self, ip: IpAddr) -> Option<&Range> {
        self.0.iter().find(|r| r.contains(ip))
    }

    /// How many addresses there are to hand out.
    pub fn capacity(&self) -> u128 {
        self.0.iter().fold(0, |sum, r| sum.saturating_add(r.capacity()))
    }

    /// The subnets of the set, for messages: `10.0.0.0/24, 10.0.1.0/24`.
    pub fn subnets(&self) -> String {
        self.0.iter().map(|r| r.subnet.to_string()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for RangeSet {
    /// `first-last,first-last`, as the reference plugin names a set in its messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<String> = self.0.iter().map(|r| format!("{}-{}", r.start, r.end)).collect();
        f.write_str(&text.join(","))
    }
}

/// Checks what only shows when all sets are seen together.
pub(super) fn validate_sets(sets: &[RangeSet]) -> Result<(), CniError> {
    bounded("the list of ipam range sets", sets.len())?;
    bounded("the list of ipam ranges", sets.iter().map(|set| set.0.len()).sum())?;
    for (at, set) in sets.iter().enumerate() {
        let Some(first) = set.0.first() else {
            return Err(invalid(format!("ipam range set {at} is empty")));
        };
        for (i, range) in set.0.iter().enumerate() {
            if range.subnet.is_ipv4() != first.subnet.is_ipv4() {
                return Err(invalid(format!(
                    "ipam range set {at} mixes IPv4 and IPv6: {} and {}",
                    first.subnet, range.subnet
                )));
            }
            if let Some(other) = set.0[..i].iter().find(|o| o.overlaps(range)) {
                return Err(invalid(format!(
                    "ipam ranges {}-{} and {}-{} overlap",
                    other.start, other.end, range.start, range.end
                )));
            }
        }
        for (before, other) in sets[..at].iter().enumerate() {
            if other.0.iter().any(|o| set.0.iter().any(|r| r.overlaps(o))) {
                return Err(invalid(format!(
                    "ipam range sets {before} ({other}) and {at} ({set}) overlap"
                )));
            }
        }
    }
    Ok(())
}

/// An address as a number, for arithmetic.
pub(super) fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The first address after a subnet's own, where gateways are by convention.
pub(super) fn first_of(subnet: &IpNetwork) -> IpAddr {
    add(subnet.network(), 1)
}

fn add(ip: IpAddr, n: i8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).wrapping_add_signed(n.into()).into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).wrapping_add_signed(n.into()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Code;
    use super::*;

    fn range(subnet: &str) -> Range {
        Range::new(subnet, "", "", "").expect(subnet)
    }

    #[test]
    fn defaults_are_the_usable_addresses() {
        let r = range("192.0.2.0/25");
        assert_eq!(r.start.to_string(), "192.0.2.1");
        assert_eq!(r.end.to_string(), "192.0.2.126");
        assert_eq!(r.gateway.to_string(), "192.0.2.1");
        assert_eq!(r.capacity(), 125);
        let r = range("2001:db8::/64");
        assert_eq!(r.end.to_string(), "2001:db8::ffff:ffff:ffff:ffff");
        assert_eq!(r.capacity(), u128::from(u64::MAX) - 1);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let cases = [
            (["10.0.0.1/24", "", "", ""], "host bits"),
            (["10.0.0.0/31", "", "", ""], "too small"),
            (["10.0.0.0/32", "", "", ""], "too small"),
            (["10.0.0.0", "", "", ""], "prefix length"),
            (["x", "", "", ""], "\"x\""),
            (["10.0.0.0/24", "10.0.1.1", "", ""], "rangeStart"),
            (["10.0.0.0/24", "", "10.0.1.1", ""], "rangeEnd"),
            (["10.0.0.0/24", "10.0.0.9", "10.0.0.8", ""], "after"),
            (["10.0.0.0/24", "", "", "fe80::1"], "family"),
        ];
        for ([subnet, start, end, gateway], word) in cases {
            let error = Range::new(subnet, start, end, gateway).expect_err(subnet);
            assert_eq!(error.code, Code::InvalidNetworkConfig);
            assert!(error.msg.contains(word), "{error} should say {word}");
        }
    }

    #[test]
    fn sets_do_not_overlap_and_do_not_mix() {
        let a = RangeSet(vec![range("10.0.0.0/24")]);
        let b = RangeSet(vec![range("10.0.1.0/24"), range("10.0.2.0/24")]);
        assert!(validate_sets(&[a.clone(), b.clone()]).is_ok());
        assert!(validate_sets(&[a.clone(), RangeSet(vec![])]).is_err());
        assert!(
            validate_sets(&[RangeSet(vec![range("10.0.0.0/24"), range("fd00::/64")])]).is_err()
        );
        assert!(
            validate_sets(&[RangeSet(vec![range("10.0.0.0/16"), range("10.0.1.0/24")])]).is_err()
        );
        assert!(validate_sets(&[b, RangeSet(vec![range("10.0.2.0/30")])]).is_err());
        assert!(validate_sets(&[a, RangeSet(vec![range("fd00::/64")])]).is_ok());
    }
}
