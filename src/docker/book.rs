//! The book of Docker's networks and pools.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use quantum_config::cni::Route;
use quantum_config::docker::Network;
use quantum_config::ids::{AttachmentKey, ContainerId, IfName, InvalidId, NetworkName};
use serde::{Deserialize, Serialize};

use super::{PoolError, Pools};
use crate::attach::{Record, naming};

/// What is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Book {
    networks: BTreeMap<String, Network>,
    pools: Pools,
    /// What the interfaces of endpoints are to be called in their containers, by Docker's names for the endpoints.
    #[serde(default)]
    interfaces: BTreeMap<String, IfName>,
    /// Networks that are being made: dockerd has not been answered.
    #[serde(default)]
    begun: BTreeSet<String>,
    /// Those of them that another daemon began, which was killed: dockerd never heard of them.
    #[serde(skip)]
    unheard: BTreeSet<String>,
}

/// A saved book that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("it is not what we wrote: {0}")]
pub struct Unreadable(#[from] serde_json::Error);

impl Book {
    /// Reads a saved one.
    pub fn read(saved: &[u8]) -> Result<Self, Unreadable> {
        let book: Self = serde_json::from_slice(saved)?;
        Ok(Self { unheard: book.begun.clone(), ..book })
    }

    /// What is to be saved.
    pub fn to_saved(&self) -> Result<Vec<u8>, Unreadable> {
        Ok(serde_json::to_vec(self)?)
    }

    /// A network, by Docker's name for it.
    pub fn network(&self, id: &str) -> Option<&Network> {
        self.networks.get(id)
    }

    /// A network by our name for it; one of them, if several join it.
    pub fn named(&self, name: &NetworkName) -> Option<&Network> {
        self.networks.values().find(|network| network.name == *name)
    }

    /// Keeps a network. The same one again is fine; an error says what is in the way.
    pub fn define(&mut self, id: &str, network: Network) -> Result<(), String> {
        let mut others = self.networks.iter().filter(|(other, _)| *other != id);
        if let Some((other, _)) =
            others.find(|(_, other)| !network.joins && other.name == network.name)
        {
            return Err(format!(
                "network {} is Docker's network {} already; give this one another name (-o name=NAME)",
                network.name,
                other.get(..12).unwrap_or(other)
            ));
        }
        self.networks.insert(id.to_owned(), network);
        self.unheard.remove(id);
        self.begun.insert(id.to_owned());
        Ok(())
    }

    /// dockerd is told of the network, or has been, as soon as this is kept. False if it was kept before.
    pub fn made(&mut self, id: &str) -> bool {
        self.unheard.remove(id);
        self.begun.remove(id)
    }

    /// A network that dockerd never heard of, if there is one.
    pub fn unheard(&self) -> Option<(String, Network)> {
        let id = self.unheard.first()?;
        self.networks.get(id).map(|network| (id.clone(), network.clone()))
    }

    /// Forgets a network, and gives what it was.
    pub fn remove(&mut self, id: &str) -> Option<Network> {
        self.begun.remove(id);
        self.unheard.remove(id);
        self.networks.remove(id)
    }

    /// The names of the networks that are Docker's alone.
    pub fn names(&self) -> impl Iterator<Item = &NetworkName> {
        self.networks.values().filter(|network| !network.joins).map(|network| &network.name)
    }

    /// The pools, for what changes one alone.
    pub fn pools(&mut self) -> &mut Pools {
        &mut self.pools
    }

    /// The names that users chose for the interfaces of endpoints.
    pub fn interfaces(&mut self) -> &mut BTreeMap<String, IfName> {
        &mut self.interfaces
    }

    /// Makes a pool, or gives the one that was made. Nothing that a network uses is given twice.
    pub fn request_pool(&mut self, asked: &super::Asked) -> Result<(String, IpNetwork), PoolError> {
        let used: Vec<IpNetwork> =
            self.networks.values().flat_map(|network| network.pools.iter().copied()).collect();
        self.pools.request(asked, |subnet| used.contains(subnet))
    }
}

/// The attachment that an endpoint is.
pub fn key(network: &Network, endpoint: &str) -> Result<AttachmentKey, InvalidId> {
    Ok(AttachmentKey {
        network: network.name.clone(),
        container: ContainerId::new(endpoint)?,
        ifname: IfName::new(naming::HANDED)?,
    })
}

/// The gateways that an attachment's default routes go by.
pub fn gateways(record: &Record) -> Vec<IpAddr> {
    let gateway = |route: &Route| {
        let of_family =
            record.addresses.iter().filter(|a| a.address.is_ipv4() == route.dst.is_ipv4());
        route.gw.or_else(|| of_family.into_iter().find_map(|a| a.gateway))
    };
    record.routes.iter().filter(|route| route.dst.prefix() == 0).filter_map(gateway).collect()
}

#[cfg(test)]
mod tests {
    use quantum_config::docker::CreateNetwork;

    use super::*;

    fn network(id: &str, generic: &str) -> Network {
        let text = format!(
            r#"{{"NetworkID":"{id}","Options":{{"com.docker.network.generic":{generic}}},"IPv4Data":[{{"AddressSpace":"quantum","Pool":"10.1.0.0/24","Gateway":"10.1.0.1/24"}}]}}"#
        );
        Network::new(&CreateNetwork::read(text.as_bytes()).expect("readable")).expect("valid")
    }

    #[test]
    fn a_name_is_one_networks_unless_it_is_joined() {
        let mut book = Book::default();
        let own = r#"{"name":"shop"}"#;
        book.define("a", network("a", own)).expect("new");
        book.define("a", network("a", own)).expect("said again");
        let error = book.define("b", network("b", own)).expect_err("taken");
        assert!(error.contains("shop") && error.contains("-o name"), "{error}");
        let joins = r#"{"network":"cni"}"#;
        book.define("c", network("c", joins)).expect("new");
        book.define("d", network("d", joins)).expect("two may join one");
        assert_eq!(book.names().map(NetworkName::as_str).collect::<Vec<_>>(), ["shop"]);
        let saved = book.to_saved().expect("written");
        let mut read = Book::read(&saved).expect("readable");
        assert_eq!(read.networks, book.networks);
        assert!(read.remove("a").is_some() && read.remove("a").is_none());
        assert!(Book::read(b"{").is_err());
    }

    #[test]
    fn a_network_that_was_begun_by_a_daemon_that_died_is_known_for_it() {
        let mut book = Book::default();
        for id in ["a", "b", "c"] {
            book.define(id, network(id, "{}")).expect("new");
        }
        assert!(book.made("a") && !book.made("a"));
        assert_eq!(book.unheard(), None, "they are under way");
        let again = |book: &Book| Book::read(&book.to_saved().expect("written")).expect("readable");
        let mut book = again(&book);
        assert_eq!(book.unheard().map(|(id, _)| id).as_deref(), Some("b"));
        book.define("b", network("b", "{}")).expect("asked again");
        assert_eq!(book.unheard().map(|(id, _)| id).as_deref(), Some("c"));
        book.remove("c").expect("known");
        assert!(book.made("b"));
        assert_eq!((book.unheard(), again(&book).unheard()), (None, None));
    }

    #[test]
    fn a_pool_that_a_network_uses_is_not_given_to_another() {
        let mut book = Book::default();
        let asked = super::super::Asked {
            subnet: Some("10.1.0.0/24".parse().expect("a subnet")),
            part: None,
            v6: false,
        };
        let first = book.request_pool(&asked).expect("free");
        assert_eq!(book.request_pool(&asked).expect("nobody uses it"), first, "asked again");
        book.define("a", network("a", "{}")).expect("new");
        book.request_pool(&asked).expect_err("in use");
        book.pools().dockerd_starts();
        assert_eq!(book.request_pool(&asked).expect("replayed"), first);
    }

    #[test]
    fn an_endpoint_is_an_attachment() {
        let key = key(&network("a", "{}"), "0123").expect("valid");
        assert_eq!(key.to_string(), "docker-a/0123/eth");
        assert!(super::key(&network("a", "{}"), "../x").is_err());
    }
}
