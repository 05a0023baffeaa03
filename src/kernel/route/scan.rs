//! The links of the host that are ours, found from what the kernel alone knows.

use std::collections::HashMap;

use quantum_config::ids::{IfName, LinkIndex};

use super::{Host, Link, StepError, look};
use crate::attach::naming;

/// The host's end of a pair that we made, now or in an earlier life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedLink {
    /// Its index.
    pub index: LinkIndex,
    /// Its name.
    pub name: IfName,
    /// Its alias, which names the attachment; empty if we died before it was set.
    pub alias: String,
    /// Its link group.
    pub group: u32,
    /// The bridge it is a port of.
    pub bridge: Option<IfName>,
    /// It is up.
    pub up: bool,
}

impl Host {
    /// Lists the links that are ours: veth, with a name that begins with `prefix`, and in our link
    /// `group` or with an attachment's key as its alias. The name alone is not enough, because what
    /// is ours and has no record gets deleted; the group alone is not, because a link that could
    /// not be deleted has left it.
    pub fn scan(&mut self, prefix: &str, group: u32) -> Result<Vec<OwnedLink>, StepError> {
        let links = look::links(self.socket()?)?;
        let names: HashMap<LinkIndex, String> =
            links.iter().map(|link| (link.index, link.name.clone())).collect();
        let bridge_of = |link: &Link| names.get(&link.master?).and_then(|n| IfName::new(n).ok());
        let ours = |link| {
            let bridge = bridge_of(&link);
            owned(link, bridge, prefix, group)
        };
        Ok(links.into_iter().filter_map(ours).collect())
    }
}

fn owned(link: Link, bridge: Option<IfName>, prefix: &str, group: u32) -> Option<OwnedLink> {
    let ours = link.is_veth
        && link.name.starts_with(prefix)
        && (link.group == group || naming::read_alias(&link.alias).is_some());
    let Link { index, name, alias, group, up, .. } = link;
    ours.then_some(OwnedLink { index, name: IfName::new(name).ok()?, alias, group, bridge, up })
}
