//! GC: which of a network's attachments are not in the runtime's list of valid ones.

use std::collections::HashSet;

use quantum_config::cni::ValidAttachment;
use quantum_config::ids::{AttachmentKey, NetworkName};

use super::naming::stand_in;

/// The keys of `network` that are to be detached, in their order.
pub fn stale(
    network: &NetworkName,
    known: Vec<AttachmentKey>,
    valid: &[ValidAttachment],
) -> Vec<AttachmentKey> {
    let key = |v: &ValidAttachment| AttachmentKey {
        network: network.clone(),
        container: v.container.clone(),
        ifname: v.ifname.clone(),
    };
    let valid: Vec<AttachmentKey> = valid.iter().map(key).collect();
    // An attachment whose record was lost may be known by what stands for its key.
    let stand_ins = valid.iter().filter_map(stand_in).collect::<Vec<_>>();
    let valid: HashSet<&AttachmentKey> = valid.iter().chain(&stand_ins).collect();
    known.into_iter().filter(|key| !valid.contains(key)).collect()
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
        let network = NetworkName::new("n").expect("a name");
        let gone = stale(&network, known.clone(), &valid);
        let gone: Vec<String> = gone.iter().map(ToString::to_string).collect();
        assert_eq!(gone, ["n/a/eth1", "n/b/eth0"]);
        let stand_in = stand_in(&known[0]).expect("a key");
        assert_eq!(stale(&network, vec![stand_in], &valid), []);
        assert_eq!(stale(&network, known, &[]).len(), 3, "an empty list means that none is valid");
    }
}
