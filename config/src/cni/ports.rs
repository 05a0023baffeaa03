//! Published ports: the capability `portMappings`, checked.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::bounds::bounded;
use super::{Call, CniError, Code};

/// What a port is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Transport {
    /// Its number in an IP header (IANA).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The transport with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|t| t.number() == number)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A port of the host that leads to one of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// TCP, UDP or SCTP.
    pub transport: Transport,
    /// The address of the host that it is at; every one, of both families, if none.
    pub host_ip: Option<IpAddr>,
    /// Limits a mapping without an address of the host to one family: what `0.0.0.0` and `::` mean.
    pub only: Option<Family>,
    /// The host's port, 1 to 65535.
    pub host_port: u16,
    /// The container's port, 1 to 65535.
    pub container_port: u16,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl PortMapping {
    /// Whether it concerns this family.
    pub fn is_of(&self, family: Family) -> bool {
        self.host_ip.map(Family::of).or(self.only).is_none_or(|f| f == family)
    }

    /// Whether this one says all that the other says: the same target, wherever the other is published. One that is
    /// at every address is not at those of the loopback.
    fn covers(&self, other: &Self) -> bool {
        let is_wider = match (self.host_ip, other.host_ip) {
            (Some(_), _) => false,
            (None, Some(ip)) => self.is_of(Family::of(ip)) && !ip.is_loopback(),
            (None, None) => self.only.is_none() && other.only.is_some(),
        };
        let target = |of: &Self| (of.transport, of.host_port, of.container_port);
        self == other || target(self) == target(other) && is_wider
    }

    /// Whether both would take the same packet.
    pub fn meets(&self, other: &Self) -> bool {
        let hosts = match (self.host_ip, other.host_ip) {
            (Some(a), Some(b)) => a == b,
            (Some(a), None) => other.is_of(Family::of(a)),
            (None, Some(b)) => self.is_of(Family::of(b)),
            (None, None) => {
                [Family::V4, Family::V6].into_iter().any(|f| self.is_of(f) && other.is_of(f))
            }
        };
        hosts && self.transport == other.transport && self.host_port == other.host_port
    }
}

impl fmt::Display for PortMapping {
    /// The host's side: `tcp/8080`, `udp/53 of 192.0.2.1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.transport, self.host_port)?;
        match self.host_ip {
            Some(ip) => write!(f, " of {ip}"),
            None => Ok(()),
        }
    }
}

/// An entry of `runtimeConfig.portMappings` as it arrives.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawMapping {
    host_port: i64,
    container_port: i64,
    protocol: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
}

impl Call {
    /// The ports that this call publishes. What cannot be one is code 7, with its place and value.
    pub fn ports(&self) -> Result<Vec<PortMapping>, CniError> {
        let raw = &self.conf.runtime_config.port_mappings;
        let mut found: Vec<Option<PortMapping>> = Vec::with_capacity(raw.len());
        // By what a packet is compared with first: ranges are thousands of entries.
        let mut same: HashMap<(Transport, u16), Vec<usize>> = HashMap::new();
        for (at, entry) in raw.iter().enumerate() {
            let mapping = entry.check().map_err(|what| {
                CniError::new(
                    Code::InvalidNetworkConfig,
                    format!("runtimeConfig.portMappings[{at}]: {what}"),
                )
            })?;
            let same = same.entry((mapping.transport, mapping.host_port)).or_default();
            let mut others = same.iter().filter_map(|at| found[*at].as_ref());
            let is_other = |other: &&PortMapping| {
                other.container_port != mapping.container_port && other.meets(&mapping)
            };
            if let Some(other) = others.clone().find(is_other) {
                return Err(CniError::new(
                    Code::InvalidNetworkConfig,
                    format!(
                        "runtimeConfig.portMappings[{at}]: {mapping} is published twice, to ports {} and {}",
                        other.container_port, mapping.container_port
                    ),
                ));
            }
            let called = format!(
                "the list of addresses that {}/{} is published at",
                mapping.transport, mapping.host_port
            );
            if others.any(|other| other.covers(&mapping)) {
                continue; // said already
            }
            for at in same.iter() {
                found[*at] = found[*at].filter(|other| !mapping.covers(other));
            }
            same.retain(|at| found[*at].is_some());
            bounded(&called, same.len() + 1)?;
            same.push(found.len());
            found.push(Some(mapping));
        }
        Ok(found.into_iter().flatten().collect())
    }
}

impl RawMapping {
    fn check(&self) -> Result<PortMapping, String> {
        let transport = match self.protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            "sctp" => Transport::Sctp,
            other => return Err(format!("protocol {other:?} is not tcp, udp or sctp")),
        };
        let (host_ip, only) = match self.host_ip.as_str() {
            "" => (None, None),
            text => {
                let ip: IpAddr =
                    text.parse().map_err(|_| format!("hostIP {text:?} is not an address"))?;
                // ::ffff:192.0.2.1 is 192.0.2.1, and takes the same packets.
                let ip = ip.to_canonical();
                if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
                    return Err(format!("hostIP {text:?} is no address that a host can have"));
                }
                if ip.is_unspecified() { (None, Some(Family::of(ip))) } else { (Some(ip), None) }
            }
        };
        if let Some(IpAddr::V6(ip)) = host_ip
            && ip.is_loopback()
        {
            // The kernel has no route_localnet for IPv6.
            return Err("hostIP ::1 cannot be published at; use 127.0.0.1 or leave it out".into());
        }
        Ok(PortMapping {
            transport,
            host_ip,
            only,
            host_port: port("hostPort", self.host_port)?,
            container_port: port("containerPort", self.container_port)?,
        })
    }
}

fn port(key: &str, number: i64) -> Result<u16, String> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{key} {number} is not within 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(entries: &str) -> Result<Vec<PortMapping>, CniError> {
        let text = format!(r#"{{"name":"n","runtimeConfig":{{"portMappings":{entries}}}}}"#);
        Call::parse(text.as_bytes()).and_then(|call| call.ports())
    }

    #[test]
    fn keys_match_as_go_matches_them() {
        let found = ports(
            r#"[{"HostPort":8080,"ContainerPort":80,"Protocol":"TCP","HostIP":""},
                {"hostPort":53,"containerPort":5353,"protocol":"udp","hostIP":"192.0.2.1"},
                {"hostPort":9,"containerPort":9,"protocol":"sctp","hostIP":"::"}]"#,
        )
        .expect("valid");
        assert_eq!(found[0].to_string(), "tcp/8080");
        assert_eq!((found[0].container_port, found[0].only), (80, None));
        assert_eq!(found[1].to_string(), "udp/53 of 192.0.2.1");
        assert!(found[2].is_of(Family::V6) && !found[2].is_of(Family::V4));
        assert!(ports("null").expect("none").is_empty());
    }

    #[test]
    fn what_takes_the_same_packet_meets() {
        let one = |host: &str| {
            let entry = format!(r#"[{{"hostPort":80,"containerPort":1,"hostIP":"{host}"}}]"#);
            ports(&entry).expect("valid")[0]
        };
        for (a, b, expected) in [
            ("", "", true),
            ("", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("0.0.0.0", "::", false),
            ("0.0.0.0", "2001:db8::1", false),
            ("::", "2001:db8::1", true),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("", "::", true),
        ] {
            assert_eq!(one(a).meets(&one(b)), expected, "{a} {b}");
            assert_eq!(one(b).meets(&one(a)), expected, "{b} {a}");
        }
    }

    #[test]
    fn what_says_the_same_is_said_once_in_any_order() {
        let read = |hosts: &[&str], target: u16| {
            let entry = |host: &&str| {
                format!(r#"{{"hostPort":80,"containerPort":{target},"hostIP":"{host}"}}"#)
            };
            ports(&format!("[{}]", hosts.iter().map(entry).collect::<Vec<_>>().join(",")))
        };
        for (said, left) in [
            (&["", ""][..], &[""][..]),
            (&["", "0.0.0.0"], &[""]),
            (&["", "::", "0.0.0.0"], &[""]),
            (&["", "192.0.2.1", "2001:db8::1"], &[""]),
            (&["0.0.0.0", "192.0.2.1"], &["0.0.0.0"]),
            (&["0.0.0.0", "::"], &["0.0.0.0", "::"]),
            (&["::", "192.0.2.1"], &["::", "192.0.2.1"]),
            (&["192.0.2.1", "192.0.2.1", "192.0.2.2"], &["192.0.2.1", "192.0.2.2"]),
            // A port that is everywhere is not at the loopback.
            (&["", "127.0.0.1"], &["", "127.0.0.1"]),
        ] {
            let sorted = |mut list: Vec<PortMapping>| {
                list.sort_by_key(|port| (port.host_ip, port.only.map(|f| f == Family::V6)));
                list
            };
            let expected = sorted(read(left, 8080).expect("valid"));
            let mut order = said.to_vec();
            for _ in 0..said.len() {
                order.rotate_left(1);
                assert_eq!(sorted(read(&order, 8080).expect("no contradiction")), expected);
                let reversed: Vec<_> = order.iter().rev().copied().collect();
                assert_eq!(sorted(read(&reversed, 8080).expect("no contradiction")), expected);
            }
            assert_eq!(expected.len(), left.len());
        }
        let other = r#"[{"hostPort":80,"containerPort":1,"hostIP":"0.0.0.0"},{"hostPort":80,"containerPort":2}]"#;
        let error = ports(other).expect_err("two targets");
        assert!(error.msg.contains("to ports 1 and 2"), "{error}");
    }

    #[test]
    fn what_cannot_be_published_is_code_7_and_named() {
        for (entries, named) in [
            (r#"[{"hostPort":0,"containerPort":80}]"#, "hostPort 0"),
            (r#"[{"hostPort":80}]"#, "containerPort 0"),
            (r#"[{"hostPort":65536,"containerPort":80}]"#, "hostPort 65536"),
            (r#"[{"hostPort":1,"containerPort":1,"protocol":"gre"}]"#, "gre"),
            (r#"[{"hostPort":1,"containerPort":1,"hostIP":"x"}]"#, "\"x\""),
            (r#"[{"hostPort":1,"containerPort":1,"hostIP":"::1"}]"#, "::1"),
            (r#"[{"hostPort":1,"containerPort":1,"hostIP":"224.0.0.1"}]"#, "224.0.0.1"),
            (r#"[{"hostPort":1,"containerPort":1},{"hostPort":1,"containerPort":2}]"#, "[1]"),
        ] {
            let error = ports(entries).expect_err(entries);
            assert_eq!(error.code, Code::InvalidNetworkConfig, "{entries}");
            assert!(error.msg.contains(named), "{error}");
        }
    }
}
