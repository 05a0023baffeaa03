//! CHECK: the record against what the kernel shows.
//!
//! Later plugins of a chain may change MTU, MAC and routes (the tuning and sbr plugins do), so an MTU
//! that nobody asked for, or an address with company, is no difference.

use quantum_config::cni::{Enforcement, Rate, Vlans};

use super::{Bucket, BucketSeen, Difference, InsideSeen, Observed, Record, VlansSeen, routes};

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
            found.extend(unfiltered(record, seen.filters));
            let gateways = record.gateway.then_some(&record.addresses).into_iter().flatten();
            let lost = gateways.filter_map(|a| a.gateway);
            let lost = lost.filter(|ip| !seen.addresses.iter().any(|a| a.ip() == *ip));
            found.extend(lost.map(|ip| Difference::GatewayGone(record.home().to_string(), ip)));
        }
    }
    found.extend(observed.off.iter().cloned().map(Difference::NotForwarding));
    match &observed.inside {
        Some(link) if link.index == record.inside_index() => {
            if !link.up && !record.port.stays_down {
                found.push(Difference::InterfaceDown(record.key.ifname.to_string()));
            }
            found.extend(mtu(record, record.key.ifname.as_str(), link.mtu));
            found.extend(retuned(record, link));
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

/// What the bridge passes on without a rule having seen it. Between isolated ports nothing is.
fn unfiltered(record: &Record, seen: Option<[bool; 2]>) -> impl Iterator<Item = Difference> {
    let wanted = match record.posture.enforcement {
        Enforcement::Auto | Enforcement::BrNetfilter => !record.port.isolated,
        Enforcement::Routed | Enforcement::None => false,
    };
    let seen = seen.filter(|_| wanted).into_iter().flatten();
    let lost = seen.zip(["IPv4", "IPv6"]).filter(|(is_handed, _)| !is_handed);
    lost.map(|(_, family)| Difference::NotFiltered(record.bridge.to_string(), family))
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

/// What the configuration said of the container's end, and somebody changed.
fn retuned(record: &Record, link: &InsideSeen) -> Vec<Difference> {
    let name = || record.key.ifname.to_string();
    let tuning = &record.tuning;
    let mut found = Vec::new();
    for sysctl in &tuning.sysctls {
        // One that can be written only has nothing to compare.
        if link.sysctls.get(&sysctl.name).is_some_and(|shown| !sysctl.is(shown)) {
            found.push(Difference::Setting(sysctl.name.to_string(), sysctl.value.clone()));
        }
    }
    if tuning.promisc && !link.promisc {
        found.push(Difference::NotPromiscuous(name()));
    }
    let multicast = tuning.all_multicast.filter(|wanted| *wanted != link.all_multicast);
    found.extend(multicast.map(|wanted| Difference::AllMulticast(name(), wanted)));
    let queue = tuning.tx_queue.filter(|wanted| *wanted != link.tx_queue);
    found.extend(queue.map(|wanted| Difference::TxQueue(name(), wanted)));
    found
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
    use std::collections::HashMap;

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
                filters: Some([true; 2]),
                addresses: vec!["10.1.0.1/24".parse().expect("address")],
            }),
            inside: Some(InsideSeen {
                index: record.index,
                mac: None,
                up: true,
                mtu: 1400,
                promisc: false,
                all_multicast: false,
                tx_queue: 1000,
                sysctls: HashMap::new(),
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
            off: Vec::new(),
            waits: false,
        }
    }

    type Breakage = (fn(&mut Observed), Difference);
    type Retuning = (fn(&mut InsideSeen), Difference);

    #[test]
    fn each_breakage_is_named() {
        let record = sample("").record;
        assert_eq!(differences(&record, &healthy(&record)), []);
        let host = record.host.to_string();
        let cases: Vec<Breakage> = vec![
            (
                |o| o.off.push("ip_forward".into()),
                Difference::NotForwarding("ip_forward".to_owned()),
            ),
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
            (
                |o| o.bridge.as_mut().expect("bridge").filters = Some([true, false]),
                Difference::NotFiltered("br0".into(), "IPv6"),
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
    fn an_interface_that_is_set_up_otherwise_is_named() {
        let record = sample(
            r#","mtu":1400,"promisc":true,"allmulti":true,"txQLen":500,
            "sysctl":{"net.ipv4.conf.IFNAME.rp_filter":"2","net.ipv4.route.flush":"1"}"#,
        )
        .record;
        let filter = record.tuning.sysctls[0].name.clone();
        let mut observed = healthy(&record);
        let inside = observed.inside.as_mut().expect("inside");
        (inside.promisc, inside.all_multicast, inside.tx_queue) = (true, true, 500);
        inside.mtu = 1400;
        inside.sysctls.insert(filter.clone(), "2\n".into());
        observed.host.as_mut().expect("host").mtu = 1400;
        assert_eq!(differences(&record, &observed), []);
        let eth0 = || "eth0".to_owned();
        let cases: Vec<Retuning> = vec![
            (|i| i.mtu = 1500, Difference::Mtu(eth0(), 1500, 1400)),
            (|i| i.promisc = false, Difference::NotPromiscuous(eth0())),
            (|i| i.all_multicast = false, Difference::AllMulticast(eth0(), true)),
            (|i| i.tx_queue = 1000, Difference::TxQueue(eth0(), 500)),
            (
                |i| i.sysctls.values_mut().for_each(|value| *value = "0".into()),
                Difference::Setting(filter.to_string(), "2".into()),
            ),
        ];
        for (breaking, expected) in cases {
            let mut observed = observed.clone();
            breaking(observed.inside.as_mut().expect("inside"));
            assert_eq!(differences(&record, &observed), [expected]);
        }
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
    fn a_bridge_need_not_filter_what_was_not_to_be_filtered() {
        for (keys, isolated) in [(r#","policy":{"enforcement":"none"}"#, false), ("", true)] {
            let mut record = sample(keys).record;
            record.port.isolated = isolated;
            let mut observed = healthy(&record);
            observed.host.as_mut().expect("host").isolated = isolated;
            observed.bridge.as_mut().expect("bridge").filters = Some([false; 2]);
            assert_eq!(differences(&record, &observed), [], "{keys} {isolated}");
        }
        let record = sample("").record;
        let mut observed = healthy(&record);
        observed.bridge.as_mut().expect("bridge").filters = None;
        assert_eq!(differences(&record, &observed), [], "no br_netfilter");
    }

    #[test]
    fn a_bridge_without_gateway_need_not_have_the_address() {
        let record = sample(r#","isGateway":false"#).record;
        let mut observed = healthy(&record);
        observed.bridge.as_mut().expect("bridge").addresses.clear();
        assert_eq!(differences(&record, &observed), []);
    }
}
