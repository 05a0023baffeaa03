//! What a network has in our nftables sets, apart from its containers. It is known there by its bridge, which
//! several networks may share: then what keeps apart holds if one of them has it, and what lets in if all do.

use std::collections::HashMap;
use std::net::IpAddr;

use quantum_config::cni::{Definition, Posture};
use quantum_config::ids::{IfName, Mac, NetworkName};

use super::Element;
use super::element::Trait;
use super::same_addresses::{Assigns, SameAddresses};

/// How the networks stand that were prepared, by the link that the host reaches their containers by.
#[derive(Debug, Clone, Default)]
pub struct Stances(HashMap<IfName, HashMap<NetworkName, Stance>>);

/// How one stands, and which addresses it may give.
#[derive(Debug, Clone)]
struct Stance {
    network: Definition,
    assigns: Assigns,
}

impl Stances {
    /// A network is there, or stands otherwise than it did. Gives how the others of its bridge stand.
    pub fn enter(&mut self, network: &Definition) -> Vec<Posture> {
        let all = self.0.entry(home(network)).or_default();
        let (definition, assigns) = (network.clone(), Assigns::new(network));
        all.insert(network.name.clone(), Stance { network: definition, assigns });
        let others = all.iter().filter(|(name, _)| **name != network.name);
        others.map(|(_, stance)| stance.network.posture.clone()).collect()
    }

    /// Another bridge's network that may give the same addresses as this one, if that is of harm.
    pub fn same_addresses(&self, network: &Definition) -> Option<SameAddresses> {
        let (own, assigns) = (home(network), Assigns::new(network));
        let elsewhere = self.0.iter().filter(|(link, _)| **link != own);
        let mut others = elsewhere
            .flat_map(|(link, all)| all.iter().map(move |(name, stance)| (link, name, stance)))
            .filter(|(_, name, _)| **name != network.name);
        others.find_map(|(link, other, stance)| {
            let address = assigns.shared(&stance.assigns)?;
            let (network, other) = (network.name.clone(), other.clone());
            Some(SameAddresses { network, address, other, link: link.clone() })
        })
    }

    /// The networks whose containers the host reaches by this link.
    pub fn of(&self, link: &str) -> Vec<NetworkName> {
        let all = self.0.iter().filter(|(home, _)| home.as_str() == link);
        let mut names: Vec<_> = all.flat_map(|(_, networks)| networks.keys().cloned()).collect();
        names.sort();
        names
    }

    /// The same as they are defined.
    pub fn on(&self, link: &str) -> Vec<Definition> {
        let all = self.0.iter().filter(|(home, _)| home.as_str() == link);
        all.flat_map(|(_, networks)| networks.values().map(|stance| stance.network.clone()))
            .collect()
    }

    /// A network is no more. True if no other of its bridge is left.
    pub fn leave(&mut self, network: &Definition) -> bool {
        let home = home(network);
        let Some(all) = self.0.get_mut(&home) else { return true };
        all.remove(&network.name);
        let is_last = all.is_empty();
        if is_last {
            self.0.remove(&home);
        }
        is_last
    }

    /// All of these are there. Gives what they have.
    pub fn begin(&mut self, networks: &[Definition]) -> Vec<Element> {
        for network in networks {
            self.enter(network);
        }
        let of = |network| network_elements(network, &self.enter(network));
        networks.iter().flat_map(of).collect()
    }
}

/// What a network has beside others of its bridge.
pub fn network_elements(network: &Definition, beside: &[Posture]) -> Vec<Element> {
    if network.lends {
        return Vec::new();
    }
    let bridge = &home(network);
    let traits = Trait::ALL.into_iter().filter(|trait_| is_there(*trait_, network, beside));
    let gateway = |address: IpAddr| Element::Gateway {
        address,
        bridge: bridge.clone(),
        strict: is_there(Trait::Strict, network, beside),
    };
    traits
        .map(|trait_| Element::Network { bridge: bridge.clone(), trait_ })
        .chain(network.gateway_addresses().iter().map(|g| gateway(g.ip())))
        .collect()
}

/// What a network has as soon as its bridge is there, and whether it has it or must not. Rules for
/// frames do not see which bridge a port is at; they see whom a frame is for, and from.
pub fn bridge_element(network: &Definition, beside: &[Posture], mac: Mac) -> (Element, bool) {
    (Element::Strangers { mac }, is_there(Trait::Strict, network, beside))
}

/// What a network of this bridge could have and this one has not: left by what it was before.
pub fn network_remains(network: &Definition, beside: &[Posture]) -> Vec<Element> {
    let traits = Trait::ALL.into_iter().filter(|trait_| !is_there(*trait_, network, beside));
    traits.map(|trait_| Element::Network { bridge: home(network), trait_ }).collect()
}

/// The link that the host reaches its containers by.
pub fn home(network: &Definition) -> IfName {
    network.vlan_gateway().unwrap_or_else(|| network.bridge.clone())
}

fn is_there(trait_: Trait, network: &Definition, beside: &[Posture]) -> bool {
    let mut all = beside.iter().chain([&network.posture]);
    match trait_ {
        Trait::Inward | Trait::Direct | Trait::Guarded => all.all(|posture| trait_.is_of(posture)),
        Trait::Ours | Trait::Closed | Trait::Strict | Trait::Denied | Trait::Unprobed => {
            all.any(|posture| trait_.is_of(posture))
        }
    }
}

#[cfg(test)]
mod tests {
    use quantum_config::cni::Call;

    use super::*;

    fn traits(elements: &[Element]) -> Vec<Trait> {
        let of = |element: &Element| match element {
            Element::Network { trait_, .. } => Some(*trait_),
            _ => None,
        };
        elements.iter().filter_map(of).collect()
    }

    #[test]
    fn on_one_bridge_the_stricter_wins_whoever_comes_last() {
        let named = |name: &str, policy: &str| {
            let text = format!(
                r#"{{"cniVersion":"1.0.0","name":"{name}","bridge":"br0","isGateway":true,
                "ipam":{{"type":"host-local","subnet":"10.1.0.0/24"}},"policy":{{{policy}}}}}"#
            );
            let call = Call::parse(text.as_bytes()).expect("readable");
            call.definition().expect("valid")
        };
        let open = named("open", r#""posture":"open""#);
        let strict = named("strict", r#""posture":"zero-trust""#);
        let alone = traits(&network_elements(&open, &[]));
        assert!(!alone.contains(&Trait::Closed) && alone.contains(&Trait::Inward));
        for order in [[&open, &strict], [&strict, &open]] {
            let mut stances = Stances::default();
            stances.enter(order[0]);
            let beside = stances.enter(order[1]);
            let mut left = stances.clone();
            assert!(!left.leave(order[0]) && left.leave(order[1]) && left.leave(order[1]));
            let found = traits(&network_elements(order[1], &beside));
            assert!(found.contains(&Trait::Denied) && found.contains(&Trait::Closed), "{found:?}");
            assert!(!found.contains(&Trait::Inward) && !found.contains(&Trait::Direct));
            let remains = traits(&network_remains(order[1], &beside));
            assert!(!remains.contains(&Trait::Denied) && remains.contains(&Trait::Inward));
        }
        // The same network again, as something else.
        let mut stances = Stances::default();
        stances.enter(&strict);
        assert!(stances.enter(&named("strict", "")).is_empty());
        let both = traits(&Stances::default().begin(&[open, strict]));
        assert!(both.contains(&Trait::Denied) && !both.contains(&Trait::Inward), "{both:?}");
    }
}
