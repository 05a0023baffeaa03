//! What other firewalls of the host do to our containers. An `accept` of ours is not final: a base chain
//! of somebody else whose policy is to drop has its say after it, whatever its priority. We change nothing
//! of theirs; it is told to whoever asks how the network is.
//!
//! A table that names a network's bridge in any of its rules is taken for one whose administrator knows of
//! the network and means what it does there. To go further its rules would have to be carried out.

use std::fmt;

use quantum_config::cni::{Definition, Family};

/// A base chain of somebody else at the hook `forward` whose policy is to drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropping {
    /// The packets it sees; none if it sees those of both families.
    pub family: Option<Family>,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// The interfaces that the rules of its table name, and the beginnings of names, with a `*`.
    pub names: Vec<String>,
}

impl Dropping {
    /// Whether it may drop what a network's containers are sent or send: they are reached over the host,
    /// by a family that it sees, and nothing in its table names the bridge.
    pub fn concerns(&self, network: &Definition) -> bool {
        let link = network.vlan_gateway().unwrap_or_else(|| network.bridge.clone());
        let is_named = self.names.iter().any(|name| match name.strip_suffix('*') {
            Some(beginning) => link.as_str().starts_with(beginning),
            None => name == link.as_str(),
        });
        let gateways = network.gateway_addresses();
        let is_seen = |family| self.family.is_none_or(|own| own == family);
        let is_reached = gateways.iter().any(|gateway| is_seen(Family::of(gateway.ip())));
        // Which addresses another program gives is known with each ADD only.
        let may_be_reached = network.gateway && gateways.is_empty();
        !is_named && (is_reached || may_be_reached)
    }

    /// What is wrong, and what to do about it, for networks of these bridges.
    pub fn told_for(&self, bridges: &[&str]) -> String {
        let bridges = bridges.join(", ");
        format!(
            "{self} drops by policy what it does not accept, and no rule of its table names {bridges}: accept there what comes in and goes out by {bridges} (iifname, oifname), or have the firewall that made it do so"
        )
    }
}

impl fmt::Display for Dropping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Some(Family::V4) => "ip",
            Some(Family::V6) => "ip6",
            None => "inet",
        };
        write!(f, "the nftables chain {family} {} {}", self.table, self.chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(keys: &str) -> Definition {
        let text = format!(
            r#"{{"name":"n","bridge":"br0","isGateway":true,
                "ipam":{{"type":"host-local","subnet":"10.0.0.0/24"}}{keys}}}"#
        );
        quantum_config::cni::Call::parse(text.as_bytes())
            .and_then(|c| c.definition())
            .expect("good")
    }

    fn dropping(family: Option<Family>, names: &[&str]) -> Dropping {
        Dropping {
            family,
            table: "filter".to_owned(),
            chain: "FORWARD".to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn it_concerns_whom_it_sees_and_does_not_name() {
        for (family, names, keys, concerns) in [
            (None, &[][..], "", true),
            (Some(Family::V4), &[], "", true),
            (Some(Family::V6), &[], "", false),
            (None, &["docker0", "br", "br00"], "", true),
            (None, &["docker0", "br0"], "", false),
            (None, &["b*"], "", false),
            (None, &[], r#","isGateway":false"#, false),
        ] {
            let found = dropping(family, names).concerns(&network(keys));
            assert_eq!(found, concerns, "{family:?} {names:?} {keys}");
        }
    }

    #[test]
    fn it_is_told_with_the_remedy() {
        let told = dropping(Some(Family::V4), &[]).told_for(&["br0", "br1"]);
        assert!(told.starts_with("the nftables chain ip filter FORWARD drops"), "{told}");
        assert!(told.contains("br0, br1") && told.contains("iifname"), "{told}");
    }
}
