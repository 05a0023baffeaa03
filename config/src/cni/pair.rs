//! The reference plugin `ptp`: a container and the host, and whatever it sends to others goes by way of
//! the host. Ours is a network with a bridge of its own on which the host routes, so that all that holds
//! for networks holds for it.

use super::Call;
use crate::ids::digest;

/// How the names of such bridges begin.
const PREFIX: &str = "qp";

impl Call {
    /// The configuration of `ptp`, as the network that it means.
    #[must_use]
    pub fn as_pair(mut self) -> Self {
        // 12 digits of 64 bits: a name has 15 bytes.
        let name = digest(&["pair", self.network.as_str()]) >> 16;
        self.conf.bridge = format!("{PREFIX}{name:012x}");
        self.conf.is_gateway = true;
        if self.conf.policy.enforcement.is_empty() {
            "routed".clone_into(&mut self.conf.policy.enforcement);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::Enforcement;
    use super::*;

    #[test]
    fn it_has_a_bridge_of_its_own_and_the_host_routes() {
        let of = |name: &str| {
            let text = format!(
                r#"{{"name":"{name}","bridge":"b","ipMasq":true,"mtu":1400,"ipam":{{"type":"host-local","subnet":"10.0.0.0/24"}}}}"#
            );
            Call::parse(text.as_bytes()).expect("readable").as_pair().definition().expect("valid")
        };
        let (one, two) = (of("one"), of("two"));
        assert_ne!(one.bridge, two.bridge);
        assert!(one.gateway && one.masquerade && one.mtu == Some(1400));
        assert_eq!(one.posture.enforcement, Enforcement::Routed);
    }
}
