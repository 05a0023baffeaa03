//! What can be known of an attachment whose record was lost with a corrupt store: the link's name,
//! index and alias. It is enough to hold its addresses, so that nobody else gets them, and to serve
//! its DEL.

use ipnetwork::IpNetwork;
use quantum_config::cni::{CniResult, Identity, PortOptions, RangeSet, Shaping, Tuning};
use quantum_config::ids::{IfName, LinkIndex};

use super::naming::{container_mac, host_mac, read_alias};
use super::{Assigned, NetnsId, Record, Traces};

/// A record made of what the kernel shows; none where the alias does not hold the key.
pub fn recover(
    host: IfName,
    index: LinkIndex,
    alias: &str,
    bridge: IfName,
    pools: &[RangeSet],
    traces: &Traces,
) -> Option<Record> {
    let alias = read_alias(alias)?;
    let key = alias.key?;
    let assigned = |address: &IpNetwork| {
        let set = pools.iter().position(|set| set.range_of(address.ip()).is_some()).unwrap_or(0);
        let range = pools.get(set).and_then(|s| s.range_of(address.ip()));
        Assigned { set, address: *address, gateway: range.map(|r| r.gateway) }
    };
    let addresses: Vec<Assigned> = alias.addresses.iter().map(assigned).collect();
    let own = alias.addresses.iter().map(|a| a.ip());
    let home = own.clone().find_map(|ip| traces.home(ip, &bridge));
    Some(Record {
        // No namespace has inode 0: an ADD for this key will see another one, and replace.
        netns: NetnsId { dev: 0, ino: 0 },
        sandbox: String::new(),
        identity: Identity::unknown(),
        mac: traces.mac(&host).unwrap_or_else(|| container_mac(&key)),
        host_mac: host_mac(&key),
        posture: traces.posture(&host, home.as_ref().unwrap_or(&bridge), own.clone()),
        host,
        index,
        masquerade: own.clone().any(|ip| traces.masquerades(ip)),
        vlan_gateway: home.filter(|home| *home != bridge),
        bridge,
        gateway: false,
        hairpin: false,
        promisc: false,
        port: PortOptions::default(),
        ports: own.clone().flat_map(|ip| traces.published(ip)).copied().collect(),
        mtu: None,
        shaping: Shaping::default(),
        tuning: Tuning::default(),
        addresses,
        routes: Vec::new(),
        result: CniResult::default(),
        handed: key.ifname.as_str() == super::naming::HANDED,
        delegated: false,
        host_netns: None,
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
        let plan = sample(r#","vlan":7"#);
        let link = &plan.link;
        let back = recover(
            link.host.clone(),
            link.index,
            &link.alias,
            plan.record.bridge.clone(),
            &[],
            &Traces::read(&plan.netfilter),
        )
        .expect("recovered");
        assert_eq!(
            (&back.key, &back.host, back.index),
            (&plan.record.key, &plan.record.host, plan.record.index)
        );
        assert_eq!(back.addresses[0].address, plan.record.addresses[0].address);
        assert!(back.masquerade);
        assert!(plan.record.identity.is_known() && !back.identity.is_known());
        assert_eq!((back.bridge.as_str(), back.home().as_str()), ("br0", "br0.7"));
        let name = IfName::new("x").expect("name");
        assert!(
            recover(name.clone(), LinkIndex(1), "foreign", name, &[], &Traces::default()).is_none()
        );
    }
}
