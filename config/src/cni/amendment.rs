//! What a plugin that is chained after ours asks for: the keys of the reference plugins `portmap`,
//! `firewall`, `tuning` and `bandwidth`, where the same daemon serves them. Each amends the attachment
//! that an earlier plugin of the chain made, and hands its result on.

use serde::Deserialize;
use serde_json::Value;

use super::netconf::invalid;
use super::{Call, CniError, Code, Environment, Meta, PortMapping, Shaping, Tuning, gojson};
use crate::ids::Mac;

/// The marks of iptables: 32 bits.
const MARK_BITS: i64 = 31;

/// What is to be otherwise about an attachment; the default changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amendment {
    /// The ports that are published.
    pub ports: Vec<PortMapping>,
    /// Also at 127.0.0.0/8 of the host.
    pub loopback: bool,
    /// What its traffic is held to.
    pub shaping: Shaping,
    /// How the container's end is set up; its hardware address is below.
    pub tuning: Tuning,
    /// The hardware address of the container's end.
    pub mac: Option<Mac>,
    /// MTU of both ends.
    pub mtu: Option<u32>,
    /// The chain of iptables in which an administrator says what is forwarded, where one is named. It is not
    /// consulted, so this is only told.
    pub admin_chain: Option<String>,
    /// Nothing is to come from other networks. Whether it does is the network's to say, so this is only
    /// seen to.
    pub closed: bool,
}

impl Amendment {
    /// Nothing of the attachment is to be otherwise.
    pub fn is_nothing(&self) -> bool {
        *self == Self { admin_chain: self.admin_chain.clone(), ..Self::default() }
    }
}

/// The keys that are read of no other plugin.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    // portmap
    snat: Option<bool>,
    masq_all: bool,
    mark_masq_bit: Option<i64>,
    external_set_mark_chain: String,
    conditions_v4: Vec<String>,
    conditions_v6: Vec<String>,
    // portmap and firewall
    backend: String,
    // firewall
    iptables_admin_chain_name: String,
    firewalld_zone: String,
}

impl Call {
    /// What this call, of a plugin in that part, asks for. Errors have code 7 for what is invalid and
    /// code 2 for what is valid and not supported.
    pub fn amendment(&self, part: Meta, env: &Environment) -> Result<Amendment, CniError> {
        let keys: Keys = gojson::from_value(Value::Object(self.document.clone())).map_err(|e| {
            CniError::new(Code::Decode, "the network configuration has a member of the wrong type")
                .with_details(e.to_string())
        })?;
        let asked = Amendment::default();
        let asked = match part {
            Meta::Portmap => self.published(&keys)?,
            Meta::Firewall => {
                let closed = closes(&keys, &self.conf.ingress_policy)?;
                let admin_chain =
                    Some(keys.iptables_admin_chain_name).filter(|name| !name.is_empty());
                Amendment { closed, admin_chain, ..asked }
            }
            Meta::Bandwidth => Amendment { shaping: self.limits()?, ..asked },
            Meta::Tuning => {
                let tuning = Tuning::new(&self.conf)?;
                let mac = self.requested_mac(env)?.or(tuning.mac);
                let mtu = self.conf.checked_mtu().map_err(invalid)?;
                Amendment { tuning: Tuning { mac: None, ..tuning }, mac, mtu, ..asked }
            }
        };
        Ok(asked)
    }

    fn published(&self, keys: &Keys) -> Result<Amendment, CniError> {
        if !matches!(keys.backend.as_str(), "" | "iptables" | "nftables") {
            return Err(invalid(format!("backend {:?} is not iptables or nftables", keys.backend)));
        }
        if keys.mark_masq_bit.is_some_and(|bit| !(0..=MARK_BITS).contains(&bit)) {
            return Err(invalid("markMasqBit is not within 0 to 31"));
        }
        if keys.mark_masq_bit.is_some() && !keys.external_set_mark_chain.is_empty() {
            return Err(invalid("markMasqBit and externalSetMarkChain exclude each other"));
        }
        if keys.masq_all {
            return Err(unsupported("masqAll=true", "who comes in by a port keeps his address"));
        }
        let conditions =
            [("conditionsV4", &keys.conditions_v4), ("conditionsV6", &keys.conditions_v6)];
        if let Some((key, _)) = conditions.into_iter().find(|(_, said)| !said.is_empty()) {
            return Err(unsupported(key, "say who may come in by a network policy"));
        }
        let ports = self.ports()?;
        // With snat the reference plugin also serves the host's own 127.0.0.1.
        let loopback = !ports.is_empty() && keys.snat != Some(false);
        Ok(Amendment { ports, loopback, ..Amendment::default() })
    }
}

/// Whether other networks are to be kept out.
fn closes(keys: &Keys, ingress_policy: &str) -> Result<bool, CniError> {
    match keys.backend.as_str() {
        "" | "iptables" | "nftables" => {}
        "firewalld" => {
            return Err(unsupported("backend=\"firewalld\"", "leave it out: the rules are ours"));
        }
        other => return Err(invalid(format!("backend {other:?} is not iptables or firewalld"))),
    }
    if !matches!(keys.firewalld_zone.as_str(), "" | "trusted") {
        return Err(unsupported("firewalldZone", "leave it out: the rules are ours"));
    }
    match ingress_policy {
        "" => Ok(false),
        "same-bridge" => Ok(true),
        said @ ("open" | "isolated") => Err(unsupported(
            &format!("ingressPolicy={said:?} of firewall"),
            "it is the network's: move it to the entry that has the bridge",
        )),
        other => {
            Err(invalid(format!("ingressPolicy {other:?} is not open, same-bridge or isolated")))
        }
    }
}

fn unsupported(what: &str, instead: &str) -> CniError {
    CniError::new(Code::UnsupportedField, format!("{what} is not supported")).with_details(instead)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(part: Meta, keys: &str, args: &str) -> Result<Amendment, CniError> {
        let text = format!(r#"{{"name":"n","cniVersion":"1.0.0"{keys}}}"#);
        let env = Environment { args: args.to_owned(), ..Environment::default() };
        Call::parse(text.as_bytes())?.amendment(part, &env)
    }

    const PORTS: &str = r#""runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#;

    #[test]
    fn what_asks_for_nothing_changes_nothing() {
        for (part, keys) in [
            (Meta::Portmap, r#","capabilities":{"portMappings":true}"#),
            (
                Meta::Portmap,
                r#","snat":true,"backend":"nftables","runtimeConfig":{"portMappings":null}"#,
            ),
            (Meta::Firewall, r#","backend":"""#),
            (Meta::Firewall, r#","backend":"iptables","iptablesAdminChainName":"CNI-ADMIN""#),
            (Meta::Tuning, r#","capabilities":{"mac":true}"#),
            (Meta::Bandwidth, r#","capabilities":{"bandwidth":true},"runtimeConfig":{}"#),
        ] {
            assert!(asked(part, keys, "").expect(keys).is_nothing(), "{keys}");
        }
    }

    #[test]
    fn ports_are_at_the_loopback_too_unless_snat_is_off() {
        let of = |keys: &str| asked(Meta::Portmap, &format!(",{PORTS}{keys}"), "").expect("valid");
        let usual = of("");
        assert_eq!((usual.ports.len(), usual.loopback), (1, true));
        assert!(!of(r#","snat":false"#).loopback);
        assert_eq!(of(r#","markMasqBit":5"#), usual);
        assert_eq!(of(r#","externalSetMarkChain":"KUBE-MARK-MASQ""#), usual);
    }

    #[test]
    fn limits_tuning_and_the_firewalls_policy_are_read() {
        let limited = asked(
            Meta::Bandwidth,
            r#","runtimeConfig":{"bandwidth":{"IngressRate":8000000,"IngressBurst":800000}}"#,
            "",
        );
        assert!(limited.expect("valid").shaping.ingress.is_some());
        let fixed = r#","ingressRate":8000,"ingressBurst":800,"runtimeConfig":{"bandwidth":{"egressRate":8000,"egressBurst":800}}"#;
        let shaping = asked(Meta::Bandwidth, fixed, "").expect("valid").shaping;
        assert!(shaping.ingress.is_some() && shaping.egress.is_none(), "what is written wins");
        let keys = r#","mac":"02:00:00:00:00:01","mtu":1400,"sysctl":{"net.core.somaxconn":"5"}"#;
        let tuned = asked(Meta::Tuning, keys, "MAC=02:00:00:00:00:02").expect("valid");
        assert_eq!(tuned.mac, Some(Mac([2, 0, 0, 0, 0, 2])));
        assert_eq!(
            (tuned.mtu, tuned.tuning.sysctls.len(), tuned.tuning.mac),
            (Some(1400), 1, None)
        );
        let nomad = r#","iptablesAdminChainName":"NOMAD-ADMIN""#;
        let named = asked(Meta::Firewall, nomad, "").expect("valid");
        assert_eq!(named.admin_chain.as_deref(), Some("NOMAD-ADMIN"));
        assert!(named.is_nothing());
        let closed = asked(Meta::Firewall, r#","ingressPolicy":"same-bridge""#, "");
        assert!(closed.expect("valid").closed);
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let (unsupported, invalid) = (Code::UnsupportedField, Code::InvalidNetworkConfig);
        for (part, keys, code, named) in [
            (Meta::Portmap, r#""masqAll":true"#, unsupported, "masqAll"),
            (Meta::Portmap, r#""conditionsV4":["-s","1.2.3.4"]"#, unsupported, "conditionsV4"),
            (Meta::Portmap, r#""backend":"pf""#, invalid, "pf"),
            (Meta::Portmap, r#""markMasqBit":32"#, invalid, "markMasqBit"),
            (Meta::Firewall, r#""backend":"firewalld""#, unsupported, "firewalld"),
            (Meta::Firewall, r#""ingressPolicy":"isolated""#, unsupported, "isolated"),
            (Meta::Firewall, r#""ingressPolicy":"shut""#, invalid, "shut"),
            (Meta::Bandwidth, r#""ingressRate":8000"#, invalid, "ingressRate"),
            (Meta::Tuning, r#""mtu":10"#, invalid, "mtu 10"),
        ] {
            let error = asked(part, &format!(",{keys}"), "").expect_err(keys);
            assert_eq!(error.code, code, "{error}");
            assert!(error.msg.contains(named), "{error}");
        }
    }
}
