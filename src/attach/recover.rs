//! What can be known of an attachment whose record was lost with a corrupt store: the link's name,
//! index and alias. It is enough to hold its addresses, so that nobody else gets them, and to serve
//! its DEL.

use ipnetwork::IpNetwork;
use quantum_config::cni::{CniResult, PortOptions, RangeSet};
use quantum_config::ids::{IfName, LinkIndex, Mac};

use super::naming::{container_mac, host_mac, read_alias};
use super::{Assigned, NetnsId, Record};

/// A record made of what the kernel shows; none where the alias does not hold the key. `masquerade`
/// is whether an address is in our nftables set, `guard` the
/// hardware address that frames of the port are compared with, if they are.
pub fn recover(
    host: IfName,
    index: LinkIndex,
    alias: &str,
    bridge: IfName,
    pools: &[RangeSet],
    masquerade: impl Fn(&IpNetwork) -> bool,
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
    Some(Record {
        // No namespace has inode 0: an ADD for this key will see another one, and replace.
        netns: NetnsId { dev: 0, ino: 0 },
        sandbox: String::new(),
        mac: guard.unwrap_or_else(|| container_mac(&key)),
        host_mac: host_mac(&key),
        host,
        index,
        bridge,
        gateway: false,
        hairpin: false,
        promisc: false,
        port: PortOptions { guarded: guard.is_some(), ..PortOptions::default() },
        mtu: None,
        masquerade: alias.addresses.iter().any(masquerade),
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
            |_| true,
            None,
        )
        .expect("recovered");
        assert_eq!(
            (&back.key, &back.host, back.index),
            (&plan.record.key, &plan.record.host, plan.record.index)
        );
        assert_eq!(back.addresses[0].address, plan.record.addresses[0].address);
        assert!(back.masquerade);
        let name = IfName::new("x").expect("name");
        assert!(
            recover(name.clone(), LinkIndex(1), "foreign", name, &[], |_| true, None).is_none()
        );
    }
}
