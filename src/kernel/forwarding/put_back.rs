//! What somebody turns off while containers need it comes back. The host is a router between its other links then
//! as far as it was before, and no further.

use std::collections::BTreeSet;

use quantum_config::cni::Family;
use quantum_config::ids::IfName;

use super::{Change, Forwarding, failed, for_all, for_link, forwards};
use crate::attach::{Element, Families, TurnedOn};
use crate::kernel::sysctl::Setting;

impl Forwarding {
    /// The settings that are off, and that these gateways need.
    pub fn off(gateways: &[(IfName, Families)]) -> Vec<String> {
        let mut found = Vec::new();
        for family in [Family::V4, Family::V6] {
            let mut needed =
                gateways.iter().filter(|(_, families)| families.has(family)).peekable();
            if needed.peek().is_some() && matches!(forwards(family), Ok(false)) {
                found.push(for_all(family).to_string());
                continue;
            }
            // Of IPv6 that of the link is about router advertisements only.
            let links = needed.filter(|_| family == Family::V4).map(|(link, _)| link);
            found.extend(
                links.filter(|link| is_off(link)).map(|link| for_link(family, link).to_string()),
            );
        }
        found
    }

    /// Turns on what is off, and what these gateways need.
    pub fn put_back(&mut self, gateways: &[(IfName, Families)]) -> Vec<Change> {
        let mut changes = Vec::new();
        for family in [Family::V4, Family::V6] {
            let needed: BTreeSet<&IfName> = gateways
                .iter()
                .filter(|(_, families)| families.has(family))
                .map(|(link, _)| link)
                .collect();
            let Some(first) = needed.first() else { continue };
            if matches!(forwards(family), Ok(false)) {
                let of_note = |ours: &TurnedOn| ours.apart.iter().cloned().collect();
                let apart: Vec<IfName> = self.note.of(family).as_ref().map_or(vec![], of_note);
                let apart: Vec<Element> =
                    apart.into_iter().map(|link| Element::Apart { link, family }).collect();
                match self.turn_on(family, first, &apart, &mut changes) {
                    Ok(()) => {
                        changes.retain(|change| *change != Change::TurnedOn(family));
                        changes.push(Change::PutBack(for_all(family).to_string()));
                    }
                    Err(error) => {
                        changes.push(failed(&format!("turn on {}", for_all(family)), &error));
                    }
                }
                if let Some(ours) = self.note.of(family) {
                    ours.gateways.extend(needed.iter().map(|link| (*link).clone()));
                }
                self.save(&mut changes);
            }
            for link in needed.into_iter().filter(|link| family == Family::V4 && is_off(link)) {
                let setting = for_link(family, link);
                changes.push(match setting.write(true) {
                    Ok(()) => Change::PutBack(setting.to_string()),
                    Err(error) => failed(&format!("turn on {setting}"), &error),
                });
            }
        }
        changes
    }

    /// Somebody turned these families off for a moment and on again: it is not our doing any more that they are on.
    pub fn taken_over(&mut self, families: Families) -> Vec<Change> {
        let mut changes = Vec::new();
        for family in [Family::V4, Family::V6] {
            let is_on = matches!(forwards(family), Ok(true));
            if families.has(family) && is_on && self.note.of(family).is_some() {
                changes.push(Change::TakenOver(family));
                self.forget(family, &mut changes);
            }
        }
        changes
    }
}

/// What comes in by the link is not forwarded. One that is not there is no business of ours.
fn is_off(link: &IfName) -> bool {
    Setting::LinkForwards4(link).read().is_ok_and(|value| value == "0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::ForwardingNote;
    use crate::kernel::netns::Netns;
    use crate::kernel::testing::{in_private_netns, ip};
    use crate::store::ForwardingFile;

    #[test]
    fn what_was_on_before_us_comes_back_as_it_was_and_what_we_turned_on_keeps_its_links_apart() {
        let dir = tempfile::tempdir().unwrap();
        in_private_netns(|| {
            ip("link add br0 type bridge");
            ip("link add other type bridge");
            let br0 = IfName::new("br0").unwrap();
            let both = Families { ipv4: true, ipv6: true };
            let gateways = [(br0.clone(), both)];
            Setting::Forward4.ensure(false).unwrap();
            Setting::Forward6.ensure(true).unwrap();
            let new = ForwardingNote::new("boot", Netns::current().unwrap().id());
            let mut forwarding = Forwarding::open(ForwardingFile::new(dir.path()), new).unwrap();
            let apart = forwarding.apart(Some((&br0, both))).unwrap();
            forwarding.hold(&br0, both, &apart).unwrap();
            assert_eq!(Forwarding::off(&gateways), [""; 0]);
            assert!(forwarding.put_back(&gateways).is_empty());
            Setting::Forward4.write(false).unwrap();
            Setting::Forward6.write(false).unwrap();
            assert_eq!(Forwarding::off(&gateways).len(), 2);
            assert_eq!(forwarding.put_back(&gateways).len(), 2);
            assert_eq!(Forwarding::off(&gateways), [""; 0]);
            let apart = forwarding.apart(None).unwrap();
            assert!(apart.iter().any(|e| matches!(e, Element::Apart { link, family: Family::V4 }
                if link.as_str() == "other")));
            assert!(!apart.iter().any(|e| matches!(e, Element::Apart { family: Family::V6, .. })));
            Setting::LinkForwards4(&br0).write(false).unwrap();
            let off = Setting::LinkForwards4(&br0).to_string();
            assert_eq!(Forwarding::off(&gateways), [off.as_str()]);
            assert_eq!(forwarding.put_back(&gateways), [Change::PutBack(off)]);
            let v4 = Families { ipv4: true, ipv6: false };
            assert_eq!(forwarding.taken_over(v4), [Change::TakenOver(Family::V4)]);
            assert!(forwarding.apart(None).unwrap().is_empty());
        });
    }
}
