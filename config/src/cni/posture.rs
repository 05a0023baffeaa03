//! How a network stands towards others: the object `policy` of its configuration, and the key
//! `ingressPolicy` of the reference plugin `firewall`, checked.
//!
//! | posture      | same network      | other networks, direct routing | published ports |
//! |--------------|-------------------|--------------------------------|-----------------|
//! | `open`       | reachable         | reachable                      | reachable       |
//! | `isolated`   | reachable         | not                            | reachable       |
//! | `zero-trust` | not               | not                            | not             |
//!
//! Under zero trust policies say what is reachable all the same, and who sends must be known: what an
//! address says of its owner has to be true before a policy may go by it.
//!
//! What an earlier release has stored knows nothing of this and is `open`, as it was then.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::netconf::invalid;
use super::{CniError, NetConf};

/// Whom a network's containers reach, and who reaches them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stance {
    /// Everybody.
    #[default]
    Open,
    /// The world is reached; from elsewhere nothing comes but to published ports.
    Isolated,
    /// Nothing is allowed, in or out, that no policy allows.
    ZeroTrust,
}

/// What is looked at in the frames that a container sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Genuine {
    /// Nothing.
    #[default]
    Unchecked,
    /// The hardware address.
    Hardware,
    /// The hardware address, every address in IP, ARP and neighbour discovery, and that it is no
    /// router and no DHCP server.
    Addresses,
}

/// How packets that stay on one bridge come before the rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// The best that the kernel has.
    #[default]
    Auto,
    /// The bridge hands them to the rules for packets. Needs the module br_netfilter.
    BrNetfilter,
    /// Ports are isolated, so that the host routes what one sends to another.
    Routed,
    /// They do not: containers of one bridge are among themselves.
    None,
}

/// How a network stands towards others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Posture {
    /// Towards everybody else.
    pub stance: Stance,
    /// Its containers do not reach each other either.
    pub alone: bool,
    /// Its containers may be reached by their addresses, by whoever routes to the host.
    pub direct: bool,
    /// What is looked at in the frames of its containers.
    pub genuine: Genuine,
    /// That is asked for by name, so that it is an error where the kernel cannot.
    pub demands_genuine: bool,
    /// Its published ports are also at 127.0.0.0/8 of the host.
    pub loopback: bool,
    /// How packets on the bridge come before the rules.
    pub enforcement: Enforcement,
    /// Under zero trust the host does not reach its containers either, which it otherwise may so that
    /// their health can be probed.
    pub unprobed: bool,
    /// What policy would deny is noted and let through.
    pub audit: bool,
}

/// The object `policy` as it arrives.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawPolicy {
    posture: String,
    anti_spoof: Option<bool>,
    direct_access: bool,
    publish_loopback: bool,
    pub(super) enforcement: String,
    mode: String,
    host: RawHost,
    /// What its containers are called by policy, unless somebody says otherwise.
    pub(super) labels: BTreeMap<String, String>,
}

/// What is between the host and its containers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawHost {
    to_endpoint: String,
}

impl Posture {
    /// Checks the keys. The errors speak of keys and values; the caller adds the network's name.
    ///
    /// Where nothing is said a network is isolated and its containers send only what they are, as far
    /// as that can be known: not without addresses of ours, nor with VLANs.
    pub(super) fn new(conf: &NetConf) -> Result<Self, CniError> {
        let raw = &conf.policy;
        let has_ipam = conf.ipam.as_ref().is_some_and(|ipam| !ipam.plugin.is_empty());
        let has_vlans = conf.vlan != 0 || !conf.vlan_trunk.is_empty();
        let (stance, alone) = match (raw.posture.as_str(), conf.ingress_policy.as_str()) {
            ("open", "" | "open") | ("", "open") => (Stance::Open, false),
            ("isolated", "" | "same-bridge") | ("", "same-bridge") => (Stance::Isolated, false),
            ("isolated" | "", "isolated") => (Stance::Isolated, true),
            ("", "") if has_ipam => (Stance::Isolated, false),
            ("", "") => (Stance::Open, false),
            ("zero-trust", "") => (Stance::ZeroTrust, false),
            ("zero-trust", said) => {
                return Err(invalid(format!(
                    "ingressPolicy {said:?} does not go with policy.posture=\"zero-trust\", under which only policies let through; leave it out"
                )));
            }
            ("open" | "isolated", "open" | "same-bridge" | "isolated") => {
                return Err(invalid(format!(
                    "policy.posture {:?} and ingressPolicy {:?} say different things; leave one out",
                    raw.posture, conf.ingress_policy
                )));
            }
            ("" | "open" | "isolated", other) => {
                return Err(invalid(format!(
                    "ingressPolicy {other:?} is not open, same-bridge or isolated"
                )));
            }
            (other, _) => {
                return Err(invalid(format!(
                    "policy.posture {other:?} is not open, isolated or zero-trust"
                )));
            }
        };
        let is_zero_trust = stance == Stance::ZeroTrust;
        if is_zero_trust {
            zero_trust_can_be(raw, has_ipam, has_vlans)?;
        }
        if raw.anti_spoof == Some(true) && !has_ipam {
            return Err(invalid(
                "policy.antiSpoof=true needs an ipam: without one nobody knows which addresses are genuine",
            ));
        }
        if raw.anti_spoof == Some(true) && has_vlans {
            return Err(invalid(
                "policy.antiSpoof=true does not go with vlan or vlanTrunk; use macspoofchk",
            ));
        }
        let genuine = match raw.anti_spoof {
            _ if is_zero_trust => Genuine::Addresses,
            Some(true) => Genuine::Addresses,
            None if has_ipam && !has_vlans => Genuine::Addresses,
            _ if conf.macspoofchk => Genuine::Hardware,
            _ => Genuine::Unchecked,
        };
        let enforcement = match raw.enforcement.as_str() {
            "" | "auto" => Enforcement::Auto,
            "br_netfilter" => Enforcement::BrNetfilter,
            "routed" => Enforcement::Routed,
            "none" => Enforcement::None,
            other => {
                return Err(invalid(format!(
                    "policy.enforcement {other:?} is not auto, br_netfilter, routed or none"
                )));
            }
        };
        let audit = match raw.mode.as_str() {
            "" | "enforce" => false,
            "audit" => true,
            other => {
                return Err(invalid(format!("policy.mode {other:?} is not enforce or audit")));
            }
        };
        let unprobed = match raw.host.to_endpoint.as_str() {
            "" => false,
            said if !is_zero_trust => {
                return Err(invalid(format!(
                    "policy.host.toEndpoint {said:?} has a meaning with policy.posture=\"zero-trust\" only; leave it out"
                )));
            }
            "probe" => false,
            "deny" => true,
            other => {
                return Err(invalid(format!(
                    "policy.host.toEndpoint {other:?} is not probe or deny"
                )));
            }
        };
        let is_gateway = conf.is_gateway || conf.is_default_gateway;
        if enforcement == Enforcement::Routed && (!is_gateway || has_vlans) {
            return Err(invalid(
                "policy.enforcement=\"routed\" needs isGateway=true and no VLANs: the host routes from one container to another",
            ));
        }
        Ok(Self {
            stance,
            alone,
            direct: raw.direct_access,
            genuine,
            demands_genuine: is_zero_trust || raw.anti_spoof == Some(true) || conf.macspoofchk,
            loopback: raw.publish_loopback,
            enforcement,
            unprobed,
            audit,
        })
    }

    /// Nothing comes from elsewhere.
    pub fn is_closed(&self) -> bool {
        self.stance != Stance::Open
    }

    /// Nothing comes from or goes to an address that is not a container's.
    pub fn is_strict(&self) -> bool {
        self.is_zero_trust() || self.is_closed() && self.genuine == Genuine::Addresses
    }

    /// Something may be let through to an address that is nobody's yet, and wait until it is somebody's.
    pub fn awaits(&self) -> bool {
        !self.is_strict() || self.direct
    }

    /// Nothing is allowed that no policy allows.
    pub fn is_zero_trust(&self) -> bool {
        self.stance == Stance::ZeroTrust
    }

    /// And the host does not reach its containers to probe them.
    pub fn denies_probes(&self) -> bool {
        self.is_zero_trust() && self.unprobed
    }
}

/// Refuses what would leave open, without saying so, what zero trust closes.
fn zero_trust_can_be(raw: &RawPolicy, has_ipam: bool, has_vlans: bool) -> Result<(), CniError> {
    let why = if !has_ipam {
        "needs an ipam: without one nobody knows which addresses are genuine"
    } else if has_vlans {
        "does not go with vlan or vlanTrunk, where nobody sees which addresses are genuine"
    } else if raw.anti_spoof == Some(false) {
        "does not go with policy.antiSpoof=false: policies go by addresses"
    } else if raw.direct_access {
        "does not go with policy.directAccess=true; allow it by a policy"
    } else if raw.enforcement == "none" {
        "does not go with policy.enforcement=\"none\": no policy would see what passes on the bridge"
    } else {
        return Ok(());
    };
    Err(invalid(format!("policy.posture=\"zero-trust\" {why}")))
}

#[cfg(test)]
mod tests {
    use super::super::{Call, Code};
    use super::*;

    const IPAM: &str = r#","ipam":{"type":"host-local","subnet":"10.0.0.0/24"}"#;

    fn posture(keys: &str) -> Result<Posture, CniError> {
        let text = format!(r#"{{"name":"n","bridge":"b"{keys}}}"#);
        Call::parse(text.as_bytes()).and_then(|call| Posture::new(&call.conf))
    }

    #[test]
    fn a_network_with_addresses_is_isolated_and_genuine() {
        let usual = posture(IPAM).expect("valid");
        assert_eq!((usual.stance, usual.genuine), (Stance::Isolated, Genuine::Addresses));
        assert!(usual.is_closed() && usual.is_strict() && !usual.alone);
        assert_eq!(posture("").expect("valid"), Posture::default());
        let framed = posture(r#","macspoofchk":true"#).expect("valid");
        assert_eq!(framed.genuine, Genuine::Hardware);
        let tagged = posture(&format!(r#"{IPAM},"vlan":5"#)).expect("valid");
        assert_eq!((tagged.stance, tagged.genuine), (Stance::Isolated, Genuine::Unchecked));
    }

    #[test]
    fn the_firewall_plugins_values_are_postures() {
        let of = |value: &str| {
            let keys = format!(r#"{IPAM},"ingressPolicy":"{value}""#);
            posture(&keys).map(|p| (p.stance, p.alone))
        };
        assert_eq!(of("open").expect("valid"), (Stance::Open, false));
        assert_eq!(of("same-bridge").expect("valid"), (Stance::Isolated, false));
        assert_eq!(of("isolated").expect("valid"), (Stance::Isolated, true));
        assert_eq!(of("closed").expect_err("unknown").code, Code::InvalidNetworkConfig);
    }

    #[test]
    fn what_cannot_be_is_refused_and_named() {
        for (keys, named) in [
            (r#","policy":{"posture":"shut"}"#, "shut"),
            (r#","policy":{"posture":"open"},"ingressPolicy":"isolated""#, "different"),
            (r#","policy":{"antiSpoof":true}"#, "ipam"),
            (r#","policy":{"enforcement":"ebpf"}"#, "ebpf"),
            (r#","policy":{"enforcement":"routed"}"#, "isGateway"),
        ] {
            let error = posture(keys).expect_err(keys);
            assert_eq!(error.code, Code::InvalidNetworkConfig, "{keys}");
            assert!(error.msg.contains(named), "{error}");
        }
        let error = posture(&format!(r#"{IPAM},"policy":{{"antiSpoof":true}},"vlan":7"#));
        assert!(error.expect_err("tags").msg.contains("vlan"));
    }

    #[test]
    fn zero_trust_lets_nothing_through_by_itself() {
        let zero =
            |keys: &str| posture(&format!(r#"{IPAM},"policy":{{"posture":"zero-trust"{keys}}}"#));
        let usual = zero("").expect("valid");
        assert!(usual.is_zero_trust() && usual.is_closed() && usual.is_strict());
        assert!(!usual.awaits());
        assert!(usual.demands_genuine && usual.genuine == Genuine::Addresses);
        assert!(!usual.denies_probes() && !usual.direct && !usual.audit);
        assert_eq!(zero(r#","host":{"toEndpoint":"probe"},"antiSpoof":true"#), Ok(usual));
        assert!(zero(r#","host":{"toEndpoint":"deny"}"#).expect("valid").denies_probes());
        assert!(zero(r#","mode":"audit""#).expect("valid").audit);
        assert!(!zero(r#","mode":"enforce""#).expect("valid").audit);
        for (keys, named) in [
            (r#","antiSpoof":false"#, "antiSpoof=false"),
            (r#","directAccess":true"#, "directAccess=true"),
            (r#","enforcement":"none""#, "enforcement"),
            (r#","host":{"toEndpoint":"allow"}"#, "\"allow\""),
            (r#","mode":"off""#, "\"off\""),
        ] {
            let error = zero(keys).expect_err(keys);
            assert_eq!(error.code, Code::InvalidNetworkConfig, "{keys}");
            assert!(error.msg.contains(named), "{error}");
        }
    }

    #[test]
    fn zero_trust_knows_who_sends_and_agrees_with_nothing_else() {
        let zero = r#","policy":{"posture":"zero-trust"}"#;
        for (keys, named) in [
            (zero.to_owned(), "needs an ipam"),
            (format!(r#"{IPAM}{zero},"vlan":7"#), "vlan"),
            (format!(r#"{IPAM}{zero},"ingressPolicy":"open""#), "ingressPolicy \"open\""),
            (format!(r#"{IPAM}{zero},"ingressPolicy":"same-bridge""#), "ingressPolicy"),
            (format!(r#"{IPAM}{zero},"ingressPolicy":"isolated""#), "ingressPolicy"),
            (format!(r#"{IPAM},"policy":{{"host":{{"toEndpoint":"deny"}}}}"#), "toEndpoint"),
        ] {
            let error = posture(&keys).expect_err(&keys);
            assert_eq!(error.code, Code::InvalidNetworkConfig, "{keys}");
            assert!(error.msg.contains(named), "{error}");
        }
    }

    #[test]
    fn every_key_is_read() {
        let all = posture(&format!(
            r#"{IPAM},"policy":{{"posture":"open","antiSpoof":false,"directAccess":true,"publishLoopback":true,"enforcement":"none","mode":"audit"}}"#
        ));
        let expected = Posture {
            stance: Stance::Open,
            alone: false,
            direct: true,
            genuine: Genuine::Unchecked,
            demands_genuine: false,
            loopback: true,
            enforcement: Enforcement::None,
            unprobed: false,
            audit: true,
        };
        assert_eq!(all.expect("valid"), expected);
    }
}
