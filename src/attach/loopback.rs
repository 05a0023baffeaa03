//! What is published at 127.0.0.0/8: for processes of the host alone, and only if it was asked for.

use std::collections::HashSet;
use std::net::IpAddr;

use quantum_config::ids::IfName;

use super::{Element, PublishedAt};

/// Whether one of these is published there.
pub fn publishes_at_loopback<'a>(elements: impl IntoIterator<Item = &'a Element>) -> bool {
    elements.into_iter().any(|element| target(element).is_some())
}

/// Whether a container that is at home at `home` publishes there.
pub fn serves_loopback(elements: &HashSet<Element>, home: &IfName) -> bool {
    let served: HashSet<IpAddr> = elements.iter().filter_map(target).collect();
    elements.iter().any(|element| match element {
        Element::Home { address, bridge } => bridge == home && served.contains(address),
        _ => false,
    })
}

/// To whom a port at 127.0.0.0/8 leads, if this is one.
fn target(element: &Element) -> Option<IpAddr> {
    let Element::Published { at, address, .. } = element else { return None };
    let is_there = match at {
        PublishedAt::Everywhere => false,
        PublishedAt::Address(ip) => ip.is_loopback(),
        PublishedAt::Loopback => true,
    };
    is_there.then_some(*address)
}

#[cfg(test)]
mod tests {
    use quantum_config::cni::{PortMapping, Transport};

    use super::super::elements;
    use super::super::plan::tests::sample;
    use super::*;

    fn with(keys: &str, host: Option<&str>) -> Vec<Element> {
        let mut record = sample(keys).record;
        record.ports = vec![PortMapping {
            transport: Transport::Tcp,
            host_ip: host.map(|h| h.parse().expect("an address")),
            only: None,
            host_port: 80,
            container_port: 80,
        }];
        elements(&record)
    }

    #[test]
    fn only_who_asks_for_it_is_there() {
        let asks = r#","policy":{"publishLoopback":true}"#;
        for (keys, host, expected) in [
            ("", None, false),
            ("", Some("192.0.2.1"), false),
            ("", Some("127.0.0.5"), true),
            (asks, None, true),
            (asks, Some("192.0.2.1"), false),
        ] {
            let found = with(keys, host);
            assert_eq!(publishes_at_loopback(&found), expected, "{keys} {host:?}");
            let home = IfName::new("br0").expect("a name");
            let kept: HashSet<Element> = found.into_iter().collect();
            assert_eq!(serves_loopback(&kept, &home), expected);
            let other = IfName::new("br1").expect("a name");
            assert!(!serves_loopback(&kept, &other));
        }
    }
}
