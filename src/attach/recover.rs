//! What can be known of an attachment whose record was lost with a corrupt store: the link's name,
//! index and alias. It is enough to hold its addresses, so that nobody else gets them, and to serve
//! its DEL.

use ipnetwork::IpNetwork;
use quantum_config::cni::{CniResult, PortOptions, RangeSet, Shaping, Tuning};
use quantum_config::ids::{IfName, LinkIndex, Mac};

use super::naming::{container_mac, host_mac, read_alias};
use super::{Assigned, NetnsId, Record};

/// A record made of what the kernel shows; none where the alias does not hold the key. `home`
/// is the link that our nftables set has for an address that is masqueraded, `guard` the
/// hardware address that frames of the port are compared with, if they are.
pub fn recover(
    host: IfName,
    index: LinkIndex,
    alias: &str,
    bridge: IfName,
    pools: &[RangeSet],
    home: impl Fn(&IpNetwork) -> Option<IfName>,
    guard: Option<Mac>,
) -> Option<Record> {
    let alias = read_alias(alias)?;
    let key = alias.key?;
    let assigned = |address: &IpNetwork| {
        let set = pools.iter().position(|set| set.range_of(address.ip()).is_some()).unwrap_or(0);
        let range = pools.get(set).and_then(|s| s.range_of(address.ip()));
        Assigned { set, address: *address, gateway: range.map(|r| r.gateway) }
    };
    let addresses: Vec<Assigned> = alias.addresses.iter().map(assigned).collect();
    let home = alias.addresses.iter().find_map(home);
    Some(Record {
        // No namespace has inode 0: an ADD for this key will see another one, and replace.
        netns: NetnsId { dev: 0, ino: 0 },
        sandbox: String::new(),
        mac: guard.unwrap_or_else(|| container_mac(&key)),
        host_mac: host_mac(&key),
        host,
        index,
        masquerade: home.is_some(),
        vlan_gateway: home.filter(|home| *home != bridge),
        bridge,
        gateway: false,
        hairpin: false,
        promisc: false,
        port: PortOptions { guarded: guard.is_some(), ..PortOptions::default() },
        mtu: None,
        shaping: Shaping::default(),
        tuning: Tuning::default(),
        addresses,
        routes: Vec::new(),
        result: CniResult::default(),
        created: 0,
        key,
    })
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::sample;
    use super::*;

    #[test]
    fn a_link_gives_its_record_back_as_far_as_dels_need_it() {
        let plan = sample("");
        let link = &plan.link;
        let back = recover(
            link.host.clone(),
            link.index,
            &link.alias,
            plan.record.bridge.clone(),
            &[],
            |_| IfName::new("br0.7").ok(),
            None,
        )
        .expect("recovered");
        assert_eq!(
            (&back.key, &back.host, back.index),
            (&plan.record.key, &plan.record.host, plan.record.index)
        );
        assert_eq!(back.addresses[0].address, plan.record.addresses[0].address);
        assert!(back.masquerade);
        assert_eq!((back.bridge.as_str(), back.home().as_str()), ("br0", "br0.7"));
        let name = IfName::new("x").expect("name");
        assert!(
            recover(name.clone(), LinkIndex(1), "foreign", name, &[], |_| None, None).is_none()
        );
    }
}
