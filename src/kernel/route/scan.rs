//! The links of the host that are ours, found from what the kernel alone knows.

use quantum_config::ids::{AttachmentKey, IfName, LinkIndex};

use super::{Host, Link, StepError, look};

/// The host's end of a pair that we made, now or in an earlier life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedLink {
    /// Its index.
    pub index: LinkIndex,
    /// Its name.
    pub name: IfName,
    /// Its alias, which is the attachment's key; empty if we died before it was set.
    pub alias: String,
    /// Its link group.
    pub group: u32,
    /// The bridge it is a port of.
    pub master: Option<LinkIndex>,
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
        Ok(links.into_iter().filter_map(|link| owned(link, prefix, group)).collect())
    }
}

fn owned(link: Link, prefix: &str, group: u32) -> Option<OwnedLink> {
    let ours = link.is_veth
        && link.name.starts_with(prefix)
        && (link.group == group || link.alias.parse::<AttachmentKey>().is_ok());
    let Link { index, name, alias, group, master, up, .. } = link;
    ours.then_some(OwnedLink { index, name: IfName::new(name).ok()?, alias, group, master, up })
}
