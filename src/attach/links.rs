//! What the links of ours on the host are to be like, and in what those that are there differ: the bridges
//! that were prepared, and the host's ends of the pairs that ADDs made. Somebody sets a link down, unplugs,
//! renames or deletes it, and its containers are mute.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use quantum_config::cni::Vlans;
use quantum_config::ids::{IfName, LinkIndex, Mac};

use super::{Families, LinkKind, Record, WayToRules, naming};

/// A link as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSeen {
    /// Its index.
    pub index: LinkIndex,
    /// Its name.
    pub name: String,
    /// Its alias; empty if it has none.
    pub alias: String,
    /// Its link group.
    pub group: u32,
    /// What it is a port of.
    pub master: Option<LinkIndex>,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Its MTU.
    pub mtu: u32,
    /// It was brought up.
    pub up: bool,
    /// What it is.
    pub kind: LinkKind,
    /// It is one end of a veth pair.
    pub is_veth: bool,
    /// As a bridge: it takes every frame, whoever it is for.
    pub promisc: bool,
    /// As a bridge: it hands packets to the rules, IPv4 and IPv6.
    pub filters: [bool; 2],
    /// As a port: frames may leave by the port they came in.
    pub hairpin: bool,
    /// As a port: no frames to and from other isolated ports.
    pub isolated: bool,
}

/// A bridge as it was when it was prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeWanted {
    /// Its name.
    pub name: IfName,
    /// Its index.
    pub index: LinkIndex,
    /// Its hardware address.
    pub mac: Mac,
    /// It takes every frame.
    pub promisc: bool,
    /// How packets from one container to another come before the rules.
    pub way: WayToRules,
    /// It is in our link group.
    pub is_grouped: bool,
    /// What has the gateways' addresses, and its index: the bridge, or the gateway of a VLAN.
    pub holder: (IfName, LinkIndex),
    /// What the host forwards for it.
    pub forwards: Families,
}

/// The host's end of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortWanted {
    /// Its name.
    pub name: IfName,
    /// Its index.
    pub index: LinkIndex,
    /// The bridge it is a port of.
    pub bridge: IfName,
    /// Its MTU, if one was asked for.
    pub mtu: Option<u32>,
    /// Whether frames may leave by it that came in by it, and whether it is isolated; none if the record was
    /// lost, and with it what was asked for.
    pub flags: Option<(bool, bool)>,
    /// Its VLANs.
    pub vlans: Vlans,
    /// The addresses of its container.
    pub addresses: Vec<IpAddr>,
}

impl PortWanted {
    /// That of an attachment.
    pub fn of(record: &Record) -> Self {
        let is_known = record.created != 0;
        Self {
            name: record.host.clone(),
            index: record.index,
            bridge: record.bridge.clone(),
            mtu: record.mtu,
            flags: is_known.then_some((record.hairpin, record.port.isolated)),
            vlans: record.port.vlans.clone(),
            addresses: record.addresses.iter().map(|a| a.address.ip()).collect(),
        }
    }

    /// In what a link differs from it, in words. Whose port it is, is said only of a bridge that is there.
    pub fn wrongs(&self, seen: &LinkSeen, bridge: Option<LinkIndex>) -> Vec<String> {
        let mut found = Vec::new();
        if seen.name != self.name.as_str() {
            found.push(format!("called {}", seen.name));
        }
        if bridge.is_some() && seen.master != bridge {
            found.push(format!("no port of {}", self.bridge));
        }
        if !seen.up {
            found.push("down".to_owned());
        }
        if seen.group != naming::GROUP {
            found.push(format!("in the link group {}", seen.group));
        }
        if let Some(wanted) = self.mtu.filter(|wanted| *wanted != seen.mtu) {
            found.push(format!("of MTU {} instead of {wanted}", seen.mtu));
        }
        let is_plugged = seen.master.is_some();
        if let Some((hairpin, isolated)) = self.flags.filter(|_| is_plugged) {
            let flags = [("hairpin", hairpin, seen.hairpin), ("isolated", isolated, seen.isolated)];
            let wrong = flags.into_iter().filter(|(_, wanted, seen)| wanted != seen);
            found
                .extend(wrong.map(|(flag, wanted, _)| {
                    format!("{}{flag}", if wanted { "not " } else { "" })
                }));
        }
        found
    }
}

/// A link that is not as it should be, and in what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Harm {
    /// A bridge that has ports of ours.
    Bridge(IfName, Vec<String>),
    /// A port, and the bridge that it is to be plugged into.
    Port(PortWanted, LinkIndex, Vec<String>),
}

/// Why containers may have less connectivity than they should, and cannot be helped for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The bridge that it is about; none if it is about all of them.
    pub bridge: Option<IfName>,
    /// What it is, and what to do.
    pub why: String,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Links {
    bridges: BTreeMap<IfName, BridgeWanted>,
    ports: HashMap<LinkIndex, PortWanted>,
}

impl Links {
    /// A bridge was prepared. Gives how it was before.
    pub fn prepared(&mut self, bridge: BridgeWanted) -> Option<BridgeWanted> {
        self.bridges.insert(bridge.name.clone(), bridge)
    }

    /// A bridge is not wanted any more.
    pub fn dismantled(&mut self, bridge: &IfName) {
        self.bridges.remove(bridge);
    }

    /// An attachment was made, or changed.
    pub fn attached(&mut self, port: PortWanted) {
        self.ports.insert(port.index, port);
    }

    /// An attachment is to go.
    pub fn detached(&mut self, name: &IfName, index: LinkIndex) {
        if self.ports.get(&index).is_some_and(|port| port.name == *name) {
            self.ports.remove(&index);
        }
    }

    /// How a bridge was when it was prepared.
    pub fn bridge(&self, name: &IfName) -> Option<&BridgeWanted> {
        self.bridges.get(name)
    }

    /// The names of the bridges.
    pub fn bridges(&self) -> Vec<IfName> {
        self.bridges.keys().cloned().collect()
    }

    /// Links of others that are in our link group, by which the rules would let nothing through.
    pub fn intruders(&self, seen: &[LinkSeen]) -> Vec<Trouble> {
        let is_device = |link: &&LinkSeen| matches!(link.kind, LinkKind::Device | LinkKind::Tunnel);
        let intruders = seen.iter().filter(is_device).filter(|link| link.group == naming::GROUP);
        let told = |link: &LinkSeen| Trouble {
            bridge: None,
            why: format!(
                "{0} is in the link group {1}, which is that of quantum-cni's links: what comes and goes by it is dropped; give it another ('ip link set {0} group default')",
                link.name,
                naming::GROUP
            ),
        };
        intruders.map(told).collect()
    }

    /// The ports that a bridge is to have.
    pub fn ports_of<'a>(&'a self, bridge: &'a IfName) -> impl Iterator<Item = &'a PortWanted> {
        self.ports.values().filter(move |port| port.bridge == *bridge)
    }

    /// The links with gateways' addresses that are there, and for whose containers the host has to forward.
    pub fn gateways(&self, seen: &[LinkSeen]) -> Vec<(IfName, Families)> {
        let there = self.there(seen);
        let used: BTreeSet<&IfName> = there.iter().map(|(port, _)| &port.bridge).collect();
        let used = self.bridges.values().filter(|bridge| used.contains(&bridge.name));
        let all = used.map(|bridge| (bridge.holder.0.clone(), bridge.forwards));
        all.filter(|(holder, _)| seen.iter().any(|link| link.name == holder.as_str())).collect()
    }

    /// The bridges that are there, and that containers are on.
    pub fn used(&self, seen: &[LinkSeen]) -> Vec<BridgeWanted> {
        let there = self.there(seen);
        let used: BTreeSet<&IfName> = there.iter().map(|(port, _)| &port.bridge).collect();
        let bridges = self.bridges.values().filter(|bridge| used.contains(&bridge.name));
        bridges.filter(|b| seen.iter().any(|link| link.index == b.index)).cloned().collect()
    }

    /// The ports that are there: of others the containers are gone, or on their way.
    fn there<'a>(&'a self, seen: &'a [LinkSeen]) -> Vec<(&'a PortWanted, &'a LinkSeen)> {
        let ports = seen.iter().filter_map(|link| Some((self.ports.get(&link.index)?, link)));
        ports
            .filter(|(_, link)| link.is_veth && naming::read_alias(&link.alias).is_some())
            .collect()
    }

    /// Whether a link of this index is one of ours.
    pub fn knows(&self, index: LinkIndex) -> bool {
        self.ports.contains_key(&index) || self.carries(index)
    }

    /// Whether a link of ours is not as it should be, as far as it can be told from itself. The
    /// bridge of a port is where it was prepared.
    pub fn is_harmed(&self, seen: &LinkSeen) -> bool {
        match self.ports.get(&seen.index) {
            Some(port) => {
                let bridge = self.bridges.get(&port.bridge).map(|bridge| bridge.index);
                !port.wrongs(seen, bridge).is_empty()
            }
            None => self.bridges.values().any(|bridge| match bridge.index == seen.index {
                true => !wrongs_of_bridge(bridge, Some(seen)).is_empty(),
                false => bridge.holder.1 == seen.index && !is_holder(bridge, seen),
            }),
        }
    }

    /// Whether a link of this index is a bridge, or the gateway of a VLAN: more than one container depends on it.
    pub fn carries(&self, index: LinkIndex) -> bool {
        self.bridges.values().any(|bridge| bridge.index == index || bridge.holder.1 == index)
    }

    /// Whether a bridge tells of other flags of a port than it is to have: hairpin, isolated.
    pub fn has_other_flags(&self, index: LinkIndex, seen: (bool, bool)) -> bool {
        let wanted = self.ports.get(&index).and_then(|port| port.flags);
        wanted.is_some_and(|wanted| wanted != seen)
    }

    /// What is not as it should be, of all links that there are. A port that is gone went with its container;
    /// of a bridge without a port nobody depends, and whoever deletes it means it.
    pub fn harms(&self, seen: &[LinkSeen]) -> Vec<Harm> {
        let by_name: HashMap<&str, &LinkSeen> =
            seen.iter().map(|link| (link.name.as_str(), link)).collect();
        let by_index: HashMap<LinkIndex, &LinkSeen> =
            seen.iter().map(|link| (link.index, link)).collect();
        let there = self.there(seen);
        let used: BTreeSet<&IfName> = there.iter().map(|(port, _)| &port.bridge).collect();
        let mut found = Vec::new();
        for bridge in self.bridges.values().filter(|bridge| used.contains(&bridge.name)) {
            let named = by_name.get(bridge.name.as_str()).copied();
            let mut wrongs = match (named, by_index.get(&bridge.index)) {
                (None, Some(other)) if is_same(bridge, other) => {
                    vec![format!("called {}", other.name)]
                }
                _ => wrongs_of_bridge(bridge, named),
            };
            if bridge.holder.0 != bridge.name {
                let holder = by_name.get(bridge.holder.0.as_str());
                if !holder.is_some_and(|link| is_holder(bridge, link)) {
                    wrongs.push(format!("without {}, which is gone or down", bridge.holder.0));
                }
            }
            if !wrongs.is_empty() {
                found.push(Harm::Bridge(bridge.name.clone(), wrongs));
            }
        }
        for (port, link) in there {
            let bridge = by_name.get(port.bridge.as_str()).filter(|l| l.kind == LinkKind::Bridge);
            let index = bridge.map(|bridge| bridge.index);
            let wrongs = port.wrongs(link, index);
            if let (false, Some(index)) = (wrongs.is_empty(), index) {
                found.push(Harm::Port(port.clone(), index, wrongs));
            }
        }
        found
    }
}

/// The gateway of a VLAN is there, and up.
fn is_holder(bridge: &BridgeWanted, seen: &LinkSeen) -> bool {
    seen.name == bridge.holder.0.as_str() && seen.up
}

/// The link of the index is still the bridge, under whatever name.
fn is_same(bridge: &BridgeWanted, link: &LinkSeen) -> bool {
    let is_marked =
        link.mac == Some(bridge.mac) || bridge.is_grouped && link.group == naming::GROUP;
    link.kind == LinkKind::Bridge && is_marked
}

/// In what the bridge of the name, if there is one, differs, in words.
fn wrongs_of_bridge(bridge: &BridgeWanted, seen: Option<&LinkSeen>) -> Vec<String> {
    let Some(seen) = seen else { return vec!["deleted".to_owned()] };
    if seen.kind != LinkKind::Bridge {
        return vec!["replaced by a link that is no bridge".to_owned()];
    }
    let mut found = Vec::new();
    if seen.name != bridge.name.as_str() {
        found.push(format!("called {}", seen.name));
    }
    if seen.index != bridge.index {
        found.push("replaced by another bridge".to_owned());
    }
    if !seen.up {
        found.push("down".to_owned());
    }
    if bridge.is_grouped && seen.group != naming::GROUP {
        found.push(format!("in the link group {}", seen.group));
    }
    if seen.mac != Some(bridge.mac) {
        found.push("of another hardware address".to_owned());
    }
    if seen.promisc != bridge.promisc {
        found.push(format!("{}promiscuous", if bridge.promisc { "not " } else { "" }));
    }
    if bridge.way == WayToRules::Bridge && seen.filters != [true; 2] {
        found.push("not handing packets to the rules".to_owned());
    }
    found
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
