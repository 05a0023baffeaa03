//! How packets from one container of a bridge to another come before the rules for packets. A bridge by
//! itself passes them on as frames, and no rule for packets sees them.
//!
//! ```text
//!   Bridge   the bridge hands each to the rules (br_netfilter, by an attribute of this bridge)
//!   Routed   the ports are isolated from each other; the host answers ARP and neighbour discovery for
//!            everybody, and routes what it gets
//!   Among    nothing comes before the rules; frames are looked at all the same
//! ```

use quantum_config::cni::{Definition, Enforcement};
use quantum_config::ids::IfName;

/// How it is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WayToRules {
    /// The bridge hands packets over.
    Bridge,
    /// The host routes them.
    Routed,
    /// Not at all.
    #[default]
    Among,
}

/// The network asks for what this kernel does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoWayToRules {
    /// For br_netfilter by its name.
    #[error(
        "policy.enforcement=\"br_netfilter\" on {bridge} needs the module br_netfilter: load it ('modprobe br_netfilter'), or leave the key out"
    )]
    NoBrNetfilter {
        /// The bridge.
        bridge: IfName,
    },
    /// For zero trust, of which nothing would hold between the containers of the bridge.
    #[error(
        "policy.posture=\"zero-trust\" on {bridge} needs the module br_netfilter, as what one container sends to another passes no rule without it: load it ('modprobe br_netfilter'), or set isGateway=true so that the host routes"
    )]
    Unseen {
        /// The bridge.
        bridge: IfName,
    },
}

/// Decides by what the network says and the kernel has. Only a gateway can route; who is in a VLAN of
/// its own is not reached by the bridge's.
pub fn way_to_rules(
    network: &Definition,
    has_br_netfilter: bool,
) -> Result<WayToRules, NoWayToRules> {
    let can_route = network.gateway && !network.port.vlans.is_used();
    let bridge = || network.bridge.clone();
    let way = match network.posture.enforcement {
        Enforcement::None => WayToRules::Among,
        Enforcement::Routed => WayToRules::Routed,
        Enforcement::Auto | Enforcement::BrNetfilter if has_br_netfilter => WayToRules::Bridge,
        Enforcement::BrNetfilter => {
            return Err(NoWayToRules::NoBrNetfilter { bridge: bridge() });
        }
        Enforcement::Auto if can_route => WayToRules::Routed,
        Enforcement::Auto => WayToRules::Among,
    };
    match way {
        WayToRules::Among if network.posture.is_zero_trust() => {
            Err(NoWayToRules::Unseen { bridge: bridge() })
        }
        way => Ok(way),
    }
}

#[cfg(test)]
mod tests {
    use quantum_config::cni::Call;

    use super::*;

    fn way(keys: &str, has_br_netfilter: bool) -> Result<WayToRules, NoWayToRules> {
        let text = format!(
            r#"{{"name":"n","bridge":"b","ipam":{{"type":"host-local","subnet":"10.0.0.0/24"}}{keys}}}"#
        );
        let network = Call::parse(text.as_bytes()).and_then(|c| c.definition()).expect("valid");
        way_to_rules(&network, has_br_netfilter)
    }

    #[test]
    fn the_best_that_the_kernel_has_is_taken() {
        assert_eq!(way("", true), Ok(WayToRules::Bridge));
        assert_eq!(way(r#","isGateway":true"#, false), Ok(WayToRules::Routed));
        assert_eq!(way("", false), Ok(WayToRules::Among), "nobody is there to route");
        let tagged = r#","isGateway":true,"vlan":7"#;
        assert_eq!(way(tagged, false), Ok(WayToRules::Among));
    }

    #[test]
    fn zero_trust_is_refused_where_no_rule_would_see_anything() {
        let zero = r#","policy":{"posture":"zero-trust"}"#;
        assert_eq!(way(zero, true), Ok(WayToRules::Bridge));
        let routed = format!(r#"{zero},"isGateway":true"#);
        assert_eq!(way(&routed, false), Ok(WayToRules::Routed));
        let error = way(zero, false).expect_err("nothing is seen").to_string();
        assert!(error.contains("zero-trust") && error.contains("on b "), "{error}");
        assert!(error.contains("modprobe br_netfilter") && error.contains("isGateway"), "{error}");
    }

    #[test]
    fn what_is_named_is_done_or_refused() {
        let named = |name| format!(r#","isGateway":true,"policy":{{"enforcement":"{name}"}}"#);
        assert_eq!(way(&named("none"), true), Ok(WayToRules::Among));
        assert_eq!(way(&named("routed"), true), Ok(WayToRules::Routed));
        assert_eq!(way(&named("br_netfilter"), true), Ok(WayToRules::Bridge));
        let error = way(&named("br_netfilter"), false).expect_err("not there");
        assert!(error.to_string().contains("modprobe br_netfilter"), "{error}");
    }
}
