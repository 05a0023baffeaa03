//! The book of published ports.

use std::collections::HashMap;

use quantum_config::cni::{PortMapping, Transport};
use quantum_config::ids::AttachmentKey;

use super::Process;

/// Why a port cannot be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// A container has it.
    #[error(
        "port {port} of the host is published already, by container {} (interface {}) of network {}; remove that one first, or choose another port", .holder.container, .holder.ifname, .holder.network
    )]
    Published {
        /// Which port.
        port: PortMapping,
        /// Who has it.
        holder: AttachmentKey,
    },
    /// A process of the host listens there, and that is to be refused.
    #[error(
        "port {port} of the host is in use by a process of the host ({}); stop that one, or choose another port", named(.process)
    )]
    Listening {
        /// Which port.
        port: PortMapping,
        /// The process, if it is known.
        process: Option<Process>,
    },
}

fn named(process: &Option<Process>) -> String {
    process.as_ref().map_or_else(|| "'ss -lnp' names it".to_owned(), ToString::to_string)
}

/// Who has which port.
#[derive(Debug, Default)]
pub struct Book {
    /// By what is compared first; entries of one port differ in the host's addresses.
    ports: HashMap<(Transport, u16), Vec<(PortMapping, AttachmentKey)>>,
    owners: HashMap<AttachmentKey, Vec<PortMapping>>,
    count: usize,
}

impl Book {
    /// Gives the ports to the owner, all or none, and tells which. What it has already it keeps. What another
    /// attachment of the same container has, just so, that one keeps: the port leads to the container.
    pub fn claim(
        &mut self,
        owner: &AttachmentKey,
        ports: &[PortMapping],
    ) -> Result<Vec<PortMapping>, PortError> {
        let mut given = Vec::with_capacity(ports.len());
        for port in ports {
            let same = self.ports.get(&(port.transport, port.host_port)).into_iter().flatten();
            let mut others = same.filter(|(other, of)| of != owner && other.meets(port));
            let is_left = |(other, of): &(PortMapping, AttachmentKey)| {
                other == port && of.container == owner.container
            };
            if others.clone().any(is_left) {
                continue;
            }
            match others.next() {
                None => given.push(*port),
                Some((_, holder)) => {
                    return Err(PortError::Published { port: *port, holder: holder.clone() });
                }
            }
        }
        if given.is_empty() {
            return Ok(given);
        }
        let has = self.owners.entry(owner.clone()).or_default();
        for port in &given {
            let same = self.ports.entry((port.transport, port.host_port)).or_default();
            if !same.iter().any(|(other, of)| other == port && of == owner) {
                same.push((*port, owner.clone()));
                has.push(*port);
                self.count += 1;
            }
        }
        Ok(given)
    }

    /// Takes all its ports from the owner.
    pub fn release(&mut self, owner: &AttachmentKey) {
        for port in self.owners.remove(owner).unwrap_or_default() {
            self.count -= 1;
            let at = (port.transport, port.host_port);
            if let Some(same) = self.ports.get_mut(&at) {
                same.retain(|(_, of)| of != owner);
                if same.is_empty() {
                    self.ports.remove(&at);
                }
            }
        }
    }

    /// How many ports are published.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Nothing is published.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host: Option<&str>, number: u16) -> PortMapping {
        PortMapping {
            transport: Transport::Tcp,
            host_ip: host.map(|h| h.parse().expect("an address")),
            only: None,
            host_port: number,
            container_port: 80,
        }
    }

    fn key(name: &str) -> AttachmentKey {
        format!("net/{name}/eth0").parse().expect("a key")
    }

    #[test]
    fn a_port_has_one_holder_and_a_refusal_names_it() {
        let mut book = Book::default();
        book.claim(&key("a"), &[port(None, 80), port(None, 81)]).expect("free");
        let wanted = [port(None, 82), port(Some("192.0.2.1"), 81)];
        let error = book.claim(&key("b"), &wanted).expect_err("taken");
        assert_eq!(error, PortError::Published { port: wanted[1], holder: key("a") });
        assert!(error.to_string().contains("container a (interface eth0) of network net"));
        book.claim(&key("c"), &[port(None, 82)]).expect("a refused claim takes nothing");
        book.claim(&key("a"), &[port(None, 80)]).expect("its own");
        assert_eq!(book.len(), 3);
        book.release(&key("a"));
        book.release(&key("a"));
        book.claim(&key("b"), &wanted[1..]).expect("free again");
        book.release(&key("b"));
        book.release(&key("c"));
        assert!(book.is_empty() && book.ports.is_empty());
    }

    #[test]
    fn what_another_attachment_of_the_container_has_is_left_to_it() {
        let mut book = Book::default();
        let [one, two]: [AttachmentKey; 2] =
            ["n/c/eth0", "m/c/eth1"].map(|key| key.parse().expect("a key"));
        let ports = [port(None, 80), port(None, 81)];
        assert_eq!(book.claim(&one, &ports[..1]), Ok(vec![ports[0]]));
        assert_eq!(book.claim(&two, &ports), Ok(vec![ports[1]]));
        assert_eq!(book.claim(&two, &ports[..1]), Ok(Vec::new()));
        let elsewhere = PortMapping { container_port: 8080, ..ports[0] };
        for other in [elsewhere, port(Some("192.0.2.1"), 80)] {
            assert!(book.claim(&two, &[other]).is_err(), "{other:?} is another");
        }
        // One port in two places, as at every address and at the loopback.
        let both = [port(None, 82), port(Some("127.0.0.1"), 82)];
        assert_eq!(book.claim(&one, &both), Ok(both.to_vec()));
        assert_eq!(book.claim(&two, &both), Ok(Vec::new()));
        assert!(book.claim(&key("a"), &both[1..]).is_err());
        // Who had none of it takes none of it away.
        book.release(&two);
        assert!(book.claim(&key("a"), &ports[..1]).is_err());
        book.release(&one);
        assert_eq!(book.claim(&two, &ports), Ok(ports.to_vec()));
    }

    #[test]
    fn one_port_of_two_addresses_has_two_holders() {
        let mut book = Book::default();
        book.claim(&key("a"), &[port(Some("192.0.2.1"), 80)]).expect("free");
        book.claim(&key("b"), &[port(Some("192.0.2.2"), 80)]).expect("another address");
        assert!(book.claim(&key("c"), &[port(None, 80)]).is_err());
        book.release(&key("a"));
        assert!(book.claim(&key("c"), &[port(None, 80)]).is_err());
    }
}
