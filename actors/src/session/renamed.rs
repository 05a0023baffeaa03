//! An attachment whose network is called otherwise now. containerd reads its configuration anew while
//! containers run, and sends the DEL of an old one with the new name, without `prevResult`. So what
//! the named network does not have is looked for by container and interface alone.
//!
//! This cannot mean somebody else's attachment: a runtime never gives the ID of one container to
//! another; where one container is in two networks, its interfaces differ, since a namespace has no
//! two interfaces of one name; and where the call names a namespace, the attachment must be in it.
//! If several networks have the pair all the same (a container that was started anew), none is
//! taken. The network that was named always comes first, and is asked, not the Cache: an ADD there
//! may still be running, or have failed, and then its DEL follows.

use quantum_config::cni::CniError;
use quantum_config::ids::AttachmentKey;

use super::House;
use crate::messages::ask;
use crate::messages::cache::Find;

/// The key under which the attachment is known that `key` means, if its network is another one.
pub(super) async fn elsewhere(
    house: &House,
    key: &AttachmentKey,
) -> Result<Option<AttachmentKey>, CniError> {
    let AttachmentKey { container, ifname, network } = key.clone();
    let found = ask(&house.find, Find { container, ifname }).await?;
    Ok(found.filter(|other| other.network != network))
}
