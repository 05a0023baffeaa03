//! GC: which of a network's attachments are not in the runtime's list of valid ones.

use std::collections::HashSet;

use quantum_config::cni::ValidAttachment;
use quantum_config::ids::AttachmentKey;

/// The keys that are to be detached, in their order.
pub fn stale(known: Vec<AttachmentKey>, valid: &[ValidAttachment]) -> Vec<AttachmentKey> {
    let valid: HashSet<_> = valid.iter().map(|v| (&v.container, &v.ifname)).collect();
    known.into_iter().filter(|k| !valid.contains(&(&k.container, &k.ifname))).collect()
}

#[cfg(test)]
mod tests {
    use quantum_config::ids::{ContainerId, IfName};

    use super::*;

    #[test]
    fn what_is_not_listed_goes() {
        let known: Vec<AttachmentKey> =
            ["n/a/eth0", "n/a/eth1", "n/b/eth0"].map(|k| k.parse().expect("a key")).to_vec();
        let valid = [ValidAttachment {
            container: ContainerId::new("a").expect("id"),
            ifname: IfName::new("eth0").expect("name"),
        }];
        let gone: Vec<String> =
            stale(known.clone(), &valid).iter().map(ToString::to_string).collect();
        assert_eq!(gone, ["n/a/eth1", "n/b/eth0"]);
        assert_eq!(stale(known, &[]).len(), 3, "an empty list means that none is valid");
    }
}
