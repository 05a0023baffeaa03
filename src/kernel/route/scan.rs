//! The links of the host that are ours, found from what the kernel alone knows; and those that share a
//! bridge with them.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use quantum_config::ids::{IfName, LinkIndex};

use super::{Host, Link, StepError, look};
use crate::attach::naming;

/// A link that we made, now or in an earlier life: the host's end of a pair, or a shaper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedLink {
    /// Its index.
    pub index: LinkIndex,
    /// Its name.
    pub name: IfName,
    /// It is a shaper.
    pub is_shaper: bool,
    /// Its alias, which names the attachment; empty if we died before it was set.
    pub alias: String,
    /// Its link group.
    pub group: u32,
    /// The bridge it is a port of.
    pub bridge: Option<IfName>,
    /// It is up.
    pub up: bool,
}

impl OwnedLink {
    /// The host's end of the pair that it is, or belongs to.
    pub fn host(&self) -> Option<IfName> {
        if self.is_shaper { naming::host_of_shaper(&self.name) } else { Some(self.name.clone()) }
    }
}

impl Host {
    /// Lists the links that are ours: veth and ifb, with the marks that [`naming`] asks for.
    pub fn scan(&mut self) -> Result<Vec<OwnedLink>, StepError> {
        let links = look::links(self.socket()?)?;
        let names: HashMap<LinkIndex, String> =
            links.iter().map(|link| (link.index, link.name.clone())).collect();
        let bridge_of = |link: &Link| names.get(&link.master?).and_then(|n| IfName::new(n).ok());
        let ours = |link| {
            let bridge = bridge_of(&link);
            owned(link, bridge)
        };
        Ok(links.into_iter().filter_map(ours).collect())
    }

    /// The links that are there and do not have an address that they should have.
    pub fn without(&mut self, wanted: &[(IfName, IpAddr)]) -> Result<HashSet<IfName>, StepError> {
        let mut found = HashSet::new();
        for (name, address) in wanted {
            let Some(link) = look::link_by_name(self.socket()?, name)? else { continue };
            let present = look::addresses(self.socket()?, link.index)?;
            if !present.iter().any(|a| a.ip() == *address) {
                found.insert(name.clone());
            }
        }
        Ok(found)
    }

    /// The names of a bridge's ports, whoever made them.
    pub fn ports(&mut self, bridge: LinkIndex) -> Result<Vec<String>, StepError> {
        let ports = look::ports(self.socket()?, bridge)?;
        Ok(ports.into_iter().map(|port| port.name).collect())
    }
}

pub(super) fn owned(link: Link, bridge: Option<IfName>) -> Option<OwnedLink> {
    let Link { index, name, alias, group, up, is_veth, is_ifb, .. } = link;
    let is_shaper = is_ifb && naming::is_our_shaper(&name, index, group, &alias);
    let ours = is_shaper || is_veth && naming::is_ours(&name, index, group, &alias);
    let name = IfName::new(name).ok()?;
    ours.then_some(OwnedLink { index, name, is_shaper, alias, group, bridge, up })
}
