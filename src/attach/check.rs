//! CHECK: the record against what the kernel shows.
//!
//! Later plugins of a chain may change MTU, MAC and routes (the tuning and sbr plugins do), so an MTU
//! that nobody asked for, or an address with company, is no difference.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use quantum_config::cni::{Rate, Vlans};

use super::{Bucket, BucketSeen, Observed, Record, VlansSeen, routes};

/// One way in which an attachment is not as ADD left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The host's end is gone.
    HostLinkGone(String),
    /// A link of that name is there and is another one.
    HostLinkForeign(String),
    /// It is down.
    HostLinkDown(String),
    /// It is no port of its bridge.
    Unplugged(String, String),
    /// Hairpin mode was switched off.
    HairpinOff(String),
    /// The port is isolated and should not be, or the other way about.
    Isolation(String, bool),
    /// The port is in other VLANs than it was given: those it is in, those it should be in.
    Vlans(String, VlansSeen, VlansSeen),
    /// An end has another MTU than was asked for: the one it has, the one it should have.
    Mtu(String, u32, u32),
    /// There is no such bridge.
    BridgeGone(String),
    /// It is down.
    BridgeDown(String),
    /// The bridge takes every frame and should not, or the other way about.
    Promiscuity(String, bool),
    /// The bridge, or the gateway of the VLAN, lost the gateway's address.
    GatewayGone(String, IpAddr),
    /// The container's end is gone, or another interface has its name.
    InterfaceGone(String),
    /// It is down.
    InterfaceDown(String),
    /// An address is gone.
    AddressGone(IpNetwork),
    /// A route is gone.
    RouteGone(IpNetwork),
    /// A route is there otherwise than it was configured: how.
    RouteChanged(IpNetwork, String),
    /// What the container receives is not held to its limit.
    IngressNotLimited(String, u64),
    /// What it sends is not.
    EgressNotLimited(String, u64),
    /// An address is not masqueraded any more.
    NotMasqueraded(IpAddr),
    /// Forged hardware addresses are not kept out any more.
    NotGuarded(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostLinkGone(name) => write!(f, "host interface {name} is gone"),
            Self::HostLinkForeign(name) => {
                write!(f, "host interface {name} is not the one ADD made")
            }
            Self::HostLinkDown(name) => write!(f, "host interface {name} is down"),
            Self::Unplugged(name, bridge) => {
                write!(f, "host interface {name} is not a port of bridge {bridge}")
            }
            Self::HairpinOff(name) => write!(f, "hairpin mode of {name} is off"),
            Self::Isolation(name, wanted) => {
                write!(f, "port {name} is {}isolated", if *wanted { "not " } else { "" })
            }
            Self::Vlans(name, seen, wanted) => {
                write!(f, "port {name} is in {seen} instead of {wanted}")
            }
            Self::Mtu(name, seen, wanted) => {
                write!(f, "interface {name} has mtu {seen} instead of {wanted}")
            }
            Self::BridgeGone(name) => write!(f, "bridge {name} is gone"),
            Self::BridgeDown(name) => write!(f, "bridge {name} is down"),
            Self::Promiscuity(name, wanted) => {
                write!(f, "bridge {name} is {}promiscuous", if *wanted { "not " } else { "" })
            }
            Self::GatewayGone(name, ip) => write!(f, "{name} has lost the address {ip}"),
            Self::InterfaceGone(name) => write!(f, "interface {name} is gone from the container"),
            Self::InterfaceDown(name) => write!(f, "interface {name} is down in the container"),
            Self::AddressGone(address) => write!(f, "address {address} is gone from the container"),
            Self::RouteGone(dst) => write!(f, "the route to {dst} is gone from the container"),
            Self::RouteChanged(dst, how) => {
                write!(f, "the route to {dst} in the container has {how}")
            }
            Self::IngressNotLimited(name, rate) => {
                write!(f, "what {name} receives is not limited to {rate} bits a second any more")
            }
            Self::EgressNotLimited(name, rate) => {
                write!(f, "what {name} sends is not limited to {rate} bits a second any more")
            }
            Self::NotMasqueraded(ip) => write!(f, "address {ip} is not masqueraded any more"),
            Self::NotGuarded(name) => {
                write!(f, "forged hardware addresses are not kept out of port {name} any more")
            }
        }
    }
}

/// Everything that differs.
pub fn differences(record: &Record, observed: &Observed) -> Vec<Difference> {
    let mut found = Vec::new();
    let host = record.host.to_string();
    let bridge = record.bridge.to_string();
    match &observed.host {
        None => found.push(Difference::HostLinkGone(host)),
        Some(link) if link.index != record.index => found.push(Difference::HostLinkForeign(host)),
        Some(link) => {
            if !link.up {
                found.push(Difference::HostLinkDown(host.clone()));
            }
            found.extend(mtu(record, &host, link.mtu));
            if link.bridge.as_ref() != Some(&bridge) {
                found.push(Difference::Unplugged(host, bridge.clone()));
            } else {
                if record.hairpin && !link.hairpin {
                    found.push(Difference::HairpinOff(host.clone()));
                }
                if record.port.isolated != link.isolated {
                    found.push(Difference::Isolation(host.clone(), record.port.isolated));
                }
                let wanted = VlansSeen::wanted(&record.port.vlans);
                if let (Some(wanted), Some(seen)) = (wanted, &link.vlans)
                    && wanted != *seen
                {
                    found.push(Difference::Vlans(host, seen.clone(), wanted));
                }
            }
        }
    }
    match &observed.bridge {
        None => found.push(Difference::BridgeGone(bridge)),
        Some(seen) if !seen.up => found.push(Difference::BridgeDown(bridge)),
        Some(seen) => {
            if record.promisc != seen.promisc {
                found.push(Difference::Promiscuity(bridge.clone(), record.promisc));
            }
            let gateways = record.gateway.then_some(&record.addresses).into_iter().flatten();
            let lost = gateways.filter_map(|a| a.gateway);
            let lost = lost.filter(|ip| !seen.addresses.iter().any(|a| a.ip() == *ip));
            found.extend(lost.map(|ip| Difference::GatewayGone(record.home().to_string(), ip)));
        }
    }
    match &observed.inside {
        Some(link) if link.index == record.index => {
            if !link.up && !record.port.stays_down {
                found.push(Difference::InterfaceDown(record.key.ifname.to_string()));
            }
            found.extend(mtu(record, record.key.ifname.as_str(), link.mtu));
            let addresses = record.addresses.iter().map(|a| a.address);
            let gone = addresses.filter(|a| !link.addresses.contains(a));
            found.extend(gone.map(Difference::AddressGone));
            let differs = |route| routes::difference(route, &link.routes);
            found.extend(record.routes.iter().filter_map(differs));
        }
        _ => found.push(Difference::InterfaceGone(record.key.ifname.to_string())),
    }
    found.extend(limits(record, observed));
    found
}

/// The MTU of an end, if one was asked for and it is another.
fn mtu(record: &Record, end: &str, seen: u32) -> Option<Difference> {
    let wanted = record.mtu.filter(|wanted| *wanted != seen)?;
    Some(Difference::Mtu(end.to_owned(), seen, wanted))
}

impl VlansSeen {
    /// What a port is to look like; none if nothing was asked for.
    fn wanted(vlans: &Vlans) -> Option<Self> {
        // Without a VLAN of its own it drops what has no tag, unless it stays in the default one.
        let native = vlans.native.or(vlans.keeps_default.then_some(Vlans::DEFAULT));
        vlans.is_used().then(|| Self { native, members: vlans.members() })
    }
}

impl fmt::Display for VlansSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut members = self.members.iter().copied().peekable();
        if members.peek().is_none() {
            return f.write_str("no VLAN");
        }
        let mut separator = "VLANs ";
        while let Some(first) = members.next() {
            let mut last = first;
            while let Some(next) = members.next_if_eq(&(last + 1)) {
                last = next;
            }
            match first == last {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ", ";
        }
        match self.native {
            Some(native) => write!(f, " ({native} untagged)"),
            None => f.write_str(" (none untagged)"),
        }
    }
}

/// The limits that are not there, or are others.
fn limits(record: &Record, observed: &Observed) -> impl Iterator<Item = Difference> {
    let seen = observed.shape.clone().unwrap_or_default();
    let (name, mtu) = (record.key.ifname.to_string(), record.mtu);
    let lost = move |wanted: Option<Rate>, seen: Option<BucketSeen>| {
        let wanted = wanted?;
        let bucket = Bucket::new(wanted, mtu);
        let is_there = seen.is_some_and(|s| (s.rate, s.limit) == (bucket.rate, bucket.limit));
        (!is_there).then_some(wanted.rate)
    };
    let ingress = lost(record.shaping.ingress, seen.ingress);
    let egress = lost(record.shaping.egress, seen.egress);
    let ingress = ingress.map(|rate| Difference::IngressNotLimited(name.clone(), rate));
    ingress.into_iter().chain(egress.map(|rate| Difference::EgressNotLimited(name, rate)))
}

#[cfg(test)]
mod tests {
    use quantum_config::ids::LinkIndex;

    use super::super::plan::tests::sample;
    use super::super::{BridgeSeen, HostSeen, InsideSeen, RouteSeen, ShapeSeen};
    use super::*;

    fn healthy(record: &Record) -> Observed {
        Observed {
            host: Some(HostSeen {
                index: record.index,
                mac: None,
                mtu: 1500,
                alias: String::new(),
                bridge: Some("br0".into()),
                up: true,
                hairpin: false,
                isolated: false,
                vlans: None,
            }),
            bridge: Some(BridgeSeen {
                index: LinkIndex(3),
                up: true,
                promisc: false,
                addresses: vec!["10.1.0.1/24".parse().expect("address")],
            }),
            inside: Some(InsideSeen {
                index: record.index,
                mac: None,
                up: true,
                mtu: 1400,
                addresses: vec![record.addresses[0].address],
                routes: vec![RouteSeen {
                    destination: "0.0.0.0/0".parse().expect("dst"),
                    next_hop: None,
                    table: 254,
                    priority: None,
                    mtu: None,
                    advmss: None,
                    scope: 0,
                }],
            }),
            shape: None,
        }
    }

    type Breakage = (fn(&mut Observed), Difference);

    #[test]
    fn each_breakage_is_named() {
        let record = sample("").record;
        assert_eq!(differences(&record, &healthy(&record)), []);
        let host = record.host.to_string();
        let cases: Vec<Breakage> = vec![
            (|o| o.host = None, Difference::HostLinkGone(host.clone())),
            (|o| o.host.as_mut().expect("host").up = false, Difference::HostLinkDown(host.clone())),
            (
                |o| o.host.as_mut().expect("host").index.0 += 1,
                Difference::HostLinkForeign(host.clone()),
            ),
            (
                |o| o.host.as_mut().expect("host").bridge = None,
                Difference::Unplugged(host.clone(), "br0".into()),
            ),
            (
                |o| o.host.as_mut().expect("host").isolated = true,
                Difference::Isolation(host, false),
            ),
            (
                |o| o.bridge.as_mut().expect("bridge").promisc = true,
                Difference::Promiscuity("br0".into(), false),
            ),
            (|o| o.bridge = None, Difference::BridgeGone("br0".into())),
            (
                |o| o.bridge.as_mut().expect("bridge").up = false,
                Difference::BridgeDown("br0".into()),
            ),
            (
                |o| o.bridge.as_mut().expect("bridge").addresses.clear(),
                Difference::GatewayGone("br0".into(), "10.1.0.1".parse().expect("gateway")),
            ),
            (|o| o.inside = None, Difference::InterfaceGone("eth0".into())),
            (
                |o| o.inside.as_mut().expect("inside").index.0 += 1,
                Difference::InterfaceGone("eth0".into()),
            ),
            (
                |o| o.inside.as_mut().expect("inside").up = false,
                Difference::InterfaceDown("eth0".into()),
            ),
            (
                |o| o.inside.as_mut().expect("inside").addresses.clear(),
                Difference::AddressGone(record.addresses[0].address),
            ),
            (
                |o| o.inside.as_mut().expect("inside").routes.clear(),
                Difference::RouteGone("0.0.0.0/0".parse().expect("dst")),
            ),
        ];
        for (breaking, expected) in cases {
            let mut observed = healthy(&record);
            breaking(&mut observed);
            assert_eq!(differences(&record, &observed), [expected]);
        }
    }

    #[test]
    fn an_mtu_counts_where_one_was_asked_for() {
        let record = sample(r#","mtu":1400"#).record;
        let host = record.host.to_string();
        let mut observed = healthy(&record); // the host's end has 1500
        assert_eq!(differences(&record, &observed), [Difference::Mtu(host, 1500, 1400)]);
        observed.host.as_mut().expect("host").mtu = 1400;
        observed.inside.as_mut().expect("inside").mtu = 1300;
        assert_eq!(differences(&record, &observed), [Difference::Mtu("eth0".into(), 1300, 1400)]);
    }

    #[test]
    fn vlans_are_those_that_were_asked_for_and_no_others() {
        let keys = r#","isGateway":false,"vlan":100,"vlanTrunk":[{"minID":10,"maxID":12}]"#;
        let seen = |native, members: &[u16]| VlansSeen {
            native,
            members: members.iter().copied().collect(),
        };
        let right = [10, 11, 12, 100];
        for (is, words) in [
            (seen(Some(100), &right), None),
            (seen(None, &right), Some("VLANs 10-12, 100 (none untagged)")),
            (seen(Some(100), &[1, 10, 11, 100]), Some("VLANs 1, 10-11, 100 (100 untagged)")),
            (seen(None, &[]), Some("no VLAN")),
        ] {
            let record = sample(keys).record;
            let mut observed = healthy(&record);
            observed.host.as_mut().expect("host").vlans = Some(is);
            let found = differences(&record, &observed);
            let host = &record.host;
            let wanted = "VLANs 10-12, 100 (100 untagged)";
            let expected =
                words.map(|words| format!("port {host} is in {words} instead of {wanted}"));
            assert_eq!(found.first().map(ToString::to_string), expected);
        }
        let keeps = sample(&format!(r#"{keys},"preserveDefaultVlan":true"#)).record.port.vlans;
        let expected = seen(Some(100), &[1, 10, 11, 12, 100]);
        assert_eq!(VlansSeen::wanted(&keeps), Some(expected));
        assert_eq!(VlansSeen::wanted(&Vlans::default()), None);
    }

    #[test]
    fn a_limit_that_is_not_there_or_is_another_is_named() {
        let record = sample(
            r#","ingressRate":8000000,"ingressBurst":800000,"egressRate":8000,"egressBurst":80000"#,
        )
        .record;
        let mut observed = healthy(&record);
        let gone = |ingress, egress| {
            let ingress = Difference::IngressNotLimited("eth0".into(), ingress);
            [ingress, Difference::EgressNotLimited("eth0".into(), egress)]
        };
        assert_eq!(differences(&record, &observed), gone(8_000_000, 8000));
        let bucket = |rate, limit| Some(BucketSeen { rate, limit });
        let mut seen =
            ShapeSeen { ingress: bucket(1_000_000, 125_000), egress: bucket(1000, 10_025) };
        observed.shape = Some(seen.clone());
        assert_eq!(differences(&record, &observed), []);
        seen.egress = bucket(1000, 10_024);
        observed.shape = Some(seen);
        assert_eq!(differences(&record, &observed), gone(0, 8000)[1..]);
    }

    #[test]
    fn a_bridge_without_gateway_need_not_have_the_address() {
        let record = sample(r#","isGateway":false"#).record;
        let mut observed = healthy(&record);
        observed.bridge.as_mut().expect("bridge").addresses.clear();
        assert_eq!(differences(&record, &observed), []);
    }
}
