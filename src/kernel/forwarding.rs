//! Turns the host's forwarding on for the first gateway of ours, and off again after the last one, if it was
//! us who turned it on. What that means and when it is left alone is decided in `attach/forwarding.rs`.
//!
//! The note is written before anything is changed: a daemon that is killed in between takes back what the
//! note says, or finds that there is nothing to take back.

mod change;
mod put_back;

use std::collections::BTreeSet;
use std::{fmt, io};

use quantum_config::cni::Family;
use quantum_config::ids::IfName;

pub use self::change::Change;
use super::route::bridge::BridgeError;
use super::route::{Host, StepError};
use super::sysctl::{self, Setting};
use crate::attach::{Element, Families, ForwardingNote, TurnedOn, forwarders, uplinks};
use crate::store::ForwardingFile;

/// The value of `accept_ra` with which a router, too, believes router advertisements.
const ALTHOUGH_FORWARDING: u8 = 2;

/// The host's forwarding, as far as it is our doing. It is used by one thread, in the network namespace
/// that the note is about.
#[derive(Debug)]
pub struct Forwarding {
    host: Host,
    file: ForwardingFile,
    note: ForwardingNote,
}

impl Forwarding {
    /// With what was kept for this boot and namespace, which `new` names.
    pub fn open(file: ForwardingFile, new: ForwardingNote) -> io::Result<Self> {
        let note = file.restore(new);
        Ok(Self { host: Host::open()?, file, note })
    }

    /// Which families the host forwards because of us, and did not before.
    pub fn turned_on(&self) -> Families {
        self.note.turned_on()
    }

    /// The links between which the host does not forward, each with the family: those that did not when it was
    /// turned on for us, or will be for `gateway`.
    pub fn apart(
        &mut self,
        gateway: Option<(&IfName, Families)>,
    ) -> Result<Vec<Element>, StepError> {
        let mut found = Vec::new();
        for family in [Family::V4, Family::V6] {
            let wanted = gateway.filter(|(_, wanted)| wanted.has(family));
            let links = match (wanted, self.note.of(family).clone()) {
                (Some((gateway, _)), None) if matches!(forwards(family), Ok(false)) => {
                    self.not_forwarding(family, gateway)?
                }
                (_, ours) => ours.unwrap_or_default().apart,
            };
            found.extend(links.into_iter().map(|link| Element::Apart { link, family }));
        }
        Ok(found)
    }

    /// The links that forward nothing by themselves, but for the one of the gateway.
    fn not_forwarding(
        &mut self,
        family: Family,
        gateway: &IfName,
    ) -> Result<BTreeSet<IfName>, StepError> {
        let links = self.host.host_links()?.into_iter().map(|link| link.name);
        let links = links.filter(|link| link != gateway && link.as_str() != "lo");
        Ok(links.filter(|link| !link_forwards(family, link)).collect())
    }

    /// Sees that the host forwards these families, as it has to for as long as the link `gateway` is there.
    /// If it turns that on, the rules have the links in `apart` already ([`apart`](Self::apart)).
    pub fn hold(
        &mut self,
        gateway: &IfName,
        wanted: Families,
        apart: &[Element],
    ) -> Result<Vec<Change>, BridgeError> {
        let mut changes = Vec::new();
        for (family, is_wanted) in [(Family::V4, wanted.ipv4), (Family::V6, wanted.ipv6)] {
            if !is_wanted {
                continue;
            }
            let failed = |source| BridgeError::Setting {
                path: for_all(family).path().display().to_string(),
                source,
            };
            if forwards(family).map_err(failed)? {
                let ours = self.note.of(family).as_mut();
                if ours.is_some_and(|ours| ours.gateways.insert(gateway.clone())) {
                    self.save(&mut changes);
                }
            } else {
                self.turn_on(family, gateway, apart, &mut changes).map_err(failed)?;
            }
        }
        Ok(changes)
    }

    fn turn_on(
        &mut self,
        family: Family,
        gateway: &IfName,
        apart: &[Element],
        changes: &mut Vec<Change>,
    ) -> io::Result<()> {
        // Somebody turned it off meanwhile: who had it on before is known no more.
        let earlier = self.note.of(family).take().unwrap_or_default();
        let of_family = |element: &Element| match element {
            Element::Apart { link, family: of } if *of == family => Some(link.clone()),
            _ => None,
        };
        let apart = apart.iter().filter_map(of_family).collect();
        let mut ours = TurnedOn { before: forwarding_links(family), apart, ..earlier };
        ours.gateways.insert(gateway.clone());
        ours.redirects =
            family == Family::V4 && Setting::AcceptRedirects4.read().is_ok_and(|v| v != "0");
        *self.note.of(family) = Some(ours);
        match family {
            Family::V4 => self.save(changes),
            Family::V6 => self.raise(changes, false),
        }
        for_all(family).write(true)?;
        changes.push(Change::TurnedOn(family));
        Ok(())
    }

    /// Has the uplinks believe router advertisements although the host forwards, or is about to. Those that
    /// forward already do not believe any.
    fn raise(&mut self, changes: &mut Vec<Change>, is_on: bool) {
        let links = match self.host.host_links() {
            Ok(links) => links,
            Err(error) => {
                return changes.push(failed("keep believing router advertisements", &error));
            }
        };
        let believes = |link: &IfName| {
            let is = |setting: Setting<'_>, value| setting.read().is_ok_and(|v| v == value);
            is(Setting::AcceptRa(link), "1") && (is_on || is(Setting::LinkForwards6(link), "0"))
        };
        let links = uplinks(&links).into_iter().map(|link| link.name.clone());
        let links: Vec<IfName> = links.filter(believes).collect();
        if let Some(ours) = &mut self.note.ipv6 {
            ours.raised.extend(links.iter().cloned());
        }
        if !links.is_empty() || !is_on {
            self.save(changes);
        }
        for link in &links {
            if let Err(error) = Setting::AcceptRa(link).write_number(ALTHOUGH_FORWARDING) {
                changes.push(failed(&format!("set accept_ra of {link}"), &error));
            }
        }
        if !links.is_empty() {
            changes.push(Change::Believes(links));
        }
    }

    /// Looks whether what we turned on is still needed, and turns it off where it is not. Links that came
    /// meanwhile believe router advertisements, too. What containers need is `held`.
    pub fn settle(&mut self, held: Families) -> Vec<Change> {
        let mut changes = Vec::new();
        for family in [Family::V4, Family::V6] {
            let Some(ours) = self.note.of(family).clone() else { continue };
            match forwards(family) {
                Ok(true) => {}
                // It could not be put back, and is tried again.
                Ok(false) if held.has(family) => continue,
                Ok(false) => {
                    lower(&ours.raised, &mut changes);
                    changes.push(Change::TurnedOffByOthers(family));
                    self.forget(family, &mut changes);
                    continue;
                }
                Err(error) => {
                    changes.push(failed(&format!("read {}", for_all(family)), &error));
                    continue;
                }
            }
            match self.host.has_any(&ours.gateways) {
                Ok(false) => {}
                Ok(true) => {
                    if family == Family::V6 {
                        self.raise(&mut changes, true);
                    }
                    continue;
                }
                Err(error) => {
                    changes.push(failed("look for our gateways", &error));
                    continue;
                }
            }
            match self.relied_on(family, &ours.gateways) {
                Ok(links) if links.is_empty() => self.turn_off(family, &ours, &mut changes),
                Ok(links) => {
                    changes.push(Change::LeftOn(family, links));
                    self.forget(family, &mut changes);
                }
                Err(error) => changes.push(failed("look for who else forwards", &error)),
            }
        }
        changes
    }

    /// The links of others that are there in order to forward, and have an address to forward by.
    fn relied_on(
        &mut self,
        family: Family,
        ours: &BTreeSet<IfName>,
    ) -> Result<Vec<IfName>, StepError> {
        let links = self.host.host_links()?;
        let mut found = Vec::new();
        for link in forwarders(&links, ours) {
            if self.host.is_reached(link.index, family)? {
                found.push(link.name.clone());
            }
        }
        Ok(found)
    }

    fn turn_off(&mut self, family: Family, ours: &TurnedOn, changes: &mut Vec<Change>) {
        if let Err(error) = for_all(family).write(false) {
            return changes.push(failed(&format!("turn off {}", for_all(family)), &error));
        }
        let restore = |setting: Setting<'_>, value| match setting.ensure(value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Some(failed(&format!("restore {setting}"), &error))
            }
            _ => None,
        };
        if family == Family::V4 {
            changes.extend(restore(Setting::AcceptRedirects4, ours.redirects));
        }
        // Before `accept_ra`: a link that begins to forward costs the others their routes.
        for link in &ours.before {
            changes.extend(restore(for_link(family, link), true));
        }
        lower(&ours.raised, changes);
        changes.push(Change::TurnedOff(family));
        self.forget(family, changes);
    }

    fn forget(&mut self, family: Family, changes: &mut Vec<Change>) {
        *self.note.of(family) = None;
        self.save(changes);
    }

    /// A note that cannot be written is known to this daemon alone: the next one turns nothing off.
    fn save(&self, changes: &mut Vec<Change>) {
        if let Err(error) = self.file.save(&self.note) {
            changes.push(Change::Failed(error.to_string()));
        }
    }
}

fn failed(doing: &str, error: &dyn fmt::Display) -> Change {
    Change::Failed(format!("cannot {doing}: {error}"))
}

/// Gives `accept_ra` back where it is still what we made it.
fn lower(raised: &BTreeSet<IfName>, changes: &mut Vec<Change>) {
    for link in raised {
        let setting = Setting::AcceptRa(link);
        if setting.read().is_ok_and(|v| v == ALTHOUGH_FORWARDING.to_string())
            && let Err(error) = setting.write(true)
        {
            changes.push(failed(&format!("restore {setting}"), &error));
        }
    }
}

fn for_all(family: Family) -> Setting<'static> {
    match family {
        Family::V4 => Setting::Forward4,
        Family::V6 => Setting::Forward6,
    }
}

fn for_link(family: Family, link: &IfName) -> Setting<'_> {
    match family {
        Family::V4 => Setting::LinkForwards4(link),
        Family::V6 => Setting::LinkForwards6(link),
    }
}

/// Whether the host forwards a family. Any number but 0 is yes.
fn forwards(family: Family) -> io::Result<bool> {
    Ok(for_all(family).read()? != "0")
}

/// Whether what comes in by a link is forwarded, also if nothing else is.
fn link_forwards(family: Family, link: &IfName) -> bool {
    for_link(family, link).read().is_ok_and(|value| value != "0")
}

/// The links, and `default`, that forward by themselves.
fn forwarding_links(family: Family) -> Vec<IfName> {
    let names = sysctl::names(family).into_iter();
    names.filter(|link| link.as_str() != "all" && link_forwards(family, link)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kernel::netns::Netns;
    use crate::kernel::testing::{in_private_netns, ip};

    fn open(dir: &Path) -> Forwarding {
        let new = ForwardingNote::new("boot", Netns::current().unwrap().id());
        Forwarding::open(ForwardingFile::new(dir), new).unwrap()
    }

    #[test]
    fn what_is_our_doing_is_known_before_and_after_and_to_the_next_daemon() {
        let dir = tempfile::tempdir().unwrap();
        in_private_netns(|| {
            let (ipv4, none) = (Families { ipv4: true, ipv6: false }, Families::default());
            let both = Families { ipv6: true, ..ipv4 };
            Setting::Forward4.ensure(false).unwrap();
            Setting::Forward6.ensure(true).unwrap();
            ip("link add br0 type bridge");
            let mut forwarding = open(dir.path());
            assert_eq!(forwarding.turned_on(), none);
            let changes = forwarding.hold(&IfName::new("br0").unwrap(), both, &[]).unwrap();
            assert_eq!(changes, [Change::TurnedOn(Family::V4)]);
            assert_eq!(forwarding.turned_on(), ipv4);
            let mut next = open(dir.path());
            assert_eq!((next.turned_on(), next.settle(none)), (ipv4, vec![]));
            ip("link del br0");
            assert_eq!(next.settle(none), [Change::TurnedOff(Family::V4)]);
            assert_eq!((next.turned_on(), open(dir.path()).turned_on()), (none, none));
            let now = [Setting::Forward4, Setting::Forward6].map(|setting| setting.read().unwrap());
            assert_eq!(now, ["0", "1"]);
        });
    }

    #[test]
    fn what_somebody_else_turned_off_is_not_ours_any_more() {
        let dir = tempfile::tempdir().unwrap();
        in_private_netns(|| {
            Setting::Forward6.ensure(false).unwrap();
            ip("link add br0 type bridge");
            let (mut forwarding, br0) = (open(dir.path()), IfName::new("br0").unwrap());
            forwarding.hold(&br0, Families { ipv4: false, ipv6: true }, &[]).unwrap();
            Setting::Forward6.write(false).unwrap();
            assert_eq!(
                forwarding.settle(Families::default()),
                [Change::TurnedOffByOthers(Family::V6)]
            );
            Setting::Forward6.write(true).unwrap();
            ip("link del br0");
            assert_eq!(forwarding.settle(Families::default()), []);
            assert_eq!(Setting::Forward6.read().unwrap(), "1");
        });
    }
}
