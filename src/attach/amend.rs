//! An attachment that a later plugin of the chain changes: the record as it will be, and what that
//! means for the kernel.

use std::collections::HashSet;

use quantum_config::cni::{Amendment, Shaping};
use quantum_config::ids::InvalidId;

use super::{Element, Record, ShapePlan, elements};

/// Why an attachment cannot be changed as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmendError {
    /// Its limits are there already.
    #[error(
        "its traffic is held to other limits already; limit it in one entry of the network only"
    )]
    Limited,
    /// Its network is open to others.
    #[error(
        "its network lets others in, and ingressPolicy=\"same-bridge\" does not; leave that out, or have the network isolated"
    )]
    Open,
    /// A name that cannot be.
    #[error(transparent)]
    Name(#[from] InvalidId),
}

/// A change of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// As it is.
    pub before: Record,
    /// As it is to be.
    pub after: Record,
    /// Limits that are to be set; nothing where they stay.
    pub shape: ShapePlan,
    /// Elements of our sets that are to be there.
    pub added: Vec<Element>,
    /// And those that are not.
    pub removed: Vec<Element>,
}

impl Revision {
    /// What an amendment makes of an attachment. What it does not speak of stays.
    pub fn new(before: &Record, asked: &Amendment) -> Result<Self, AmendError> {
        if asked.closed && !before.posture.is_closed() {
            return Err(AmendError::Open);
        }
        let mut after = before.clone();
        if !asked.ports.is_empty() {
            after.ports.clone_from(&asked.ports);
            after.posture.loopback |= asked.loopback;
        }
        after.mtu = asked.mtu.or(before.mtu);
        if !asked.shaping.is_none() && asked.shaping != before.shaping {
            if !before.shaping.is_none() {
                return Err(AmendError::Limited);
            }
            after.shaping = asked.shaping;
        }
        tune(&mut after, asked);
        let shape = match after.shaping == before.shaping {
            true => ShapePlan::new(&Shaping::default(), &before.host, before.index, after.mtu)?,
            false => ShapePlan::new(&after.shaping, &before.host, before.index, after.mtu)?,
        };
        let (added, removed) = exchanged(before, &after);
        Ok(Self { before: before.clone(), after, shape, added, removed })
    }

    /// It changes nothing.
    pub fn is_nothing(&self) -> bool {
        self.before == self.after
    }

    /// The pair itself is to be changed.
    pub fn changes_links(&self) -> bool {
        let of = |record: &Record| (record.mtu, record.mac, record.tuning.clone(), record.shaping);
        of(&self.before) != of(&self.after)
    }
}

/// The container's end. A setting that is named again has the new value.
fn tune(after: &mut Record, asked: &Amendment) {
    let tuning = asked.tuning.of_interface(&after.key.ifname);
    let ours = &mut after.tuning;
    ours.sysctls.retain(|old| !tuning.sysctls.iter().any(|new| new.name == old.name));
    ours.sysctls.extend(tuning.sysctls);
    ours.sysctls.sort_by(|a, b| a.name.cmp(&b.name));
    ours.promisc |= tuning.promisc;
    ours.all_multicast = tuning.all_multicast.or(ours.all_multicast);
    ours.tx_queue = tuning.tx_queue.or(ours.tx_queue);
    let Some(mac) = asked.mac else { return };
    after.mac = mac;
    let name = after.key.ifname.as_str();
    for interface in &mut after.result.interfaces {
        if interface.name == name && !interface.sandbox.is_empty() {
            interface.mac = Some(mac);
        }
    }
}

/// The elements that come, and those that go, when an attachment is otherwise.
pub fn exchanged(before: &Record, after: &Record) -> (Vec<Element>, Vec<Element>) {
    let (old, new) = (elements(before), elements(after));
    (without(&new, &old), without(&old, &new))
}

fn without(these: &[Element], those: &[Element]) -> Vec<Element> {
    let those: HashSet<&Element> = those.iter().collect();
    these.iter().filter(|element| !those.contains(element)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use quantum_config::cni::{PortMapping, Rate, Transport};
    use quantum_config::ids::Mac;

    use super::super::PublishedAt;
    use super::super::plan::tests::sample;
    use super::*;

    fn port() -> PortMapping {
        PortMapping {
            transport: Transport::Tcp,
            host_ip: None,
            only: None,
            host_port: 8080,
            container_port: 80,
        }
    }

    #[test]
    fn published_ports_are_elements_more_and_touch_no_link() {
        let before = sample("").record;
        let asked = Amendment { ports: vec![port()], loopback: true, ..Amendment::default() };
        let revision = Revision::new(&before, &asked).expect("can be");
        let is_at = |at| {
            let same = |e: &Element| matches!(e, Element::Published { at: a, .. } if *a == at);
            revision.added.iter().any(same)
        };
        assert!(is_at(PublishedAt::Everywhere) && is_at(PublishedAt::Loopback));
        assert!(revision.removed.is_empty() && !revision.changes_links());
        assert_eq!(revision.after.ports, [port()]);
        let again = Revision::new(&revision.after, &asked).expect("can be");
        assert!(again.is_nothing() && again.added.is_empty());
    }

    #[test]
    fn another_hardware_address_is_let_through_and_the_old_one_is_not() {
        let before = sample("").record;
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        let asked = Amendment { mac: Some(mac), ..Amendment::default() };
        let revision = Revision::new(&before, &asked).expect("can be");
        let of = |list: &[Element], mac: Mac| {
            list.iter().any(|e| matches!(e, Element::Port { mac: m, .. } if *m == mac))
        };
        assert!(of(&revision.added, mac) && of(&revision.removed, before.mac));
        assert!(revision.changes_links());
        assert_eq!(revision.after.result.interfaces[2].mac, Some(mac));
        assert_ne!(revision.after.result.interfaces[1].mac, Some(mac));
    }

    #[test]
    fn limits_are_set_once() {
        let before = sample("").record;
        let limited = |rate| {
            let shaping = Shaping { ingress: None, egress: Some(Rate { rate, burst: 80_000 }) };
            Amendment { shaping, ..Amendment::default() }
        };
        let revision = Revision::new(&before, &limited(8_000_000)).expect("can be");
        assert!(revision.shape.egress.is_some() && revision.changes_links());
        assert_eq!(revision.after.links().len(), 2, "a DEL removes the shaper");
        let again = Revision::new(&revision.after, &limited(8_000_000)).expect("the same");
        assert!(again.is_nothing() && again.shape == ShapePlan::default());
        let other = Revision::new(&revision.after, &limited(16_000_000));
        assert_eq!(other, Err(AmendError::Limited));
    }

    #[test]
    fn an_open_network_is_not_said_to_be_closed() {
        let asked = Amendment { closed: true, ..Amendment::default() };
        let of = |keys: &str| Revision::new(&sample(keys).record, &asked);
        assert!(of("").expect("isolated").is_nothing());
        assert_eq!(of(r#","policy":{"posture":"open"}"#), Err(AmendError::Open));
    }
}
