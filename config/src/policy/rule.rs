//! What both kinds of policy ask of the other side and of the traffic: peers and ports.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::node::Node;
use super::{PolicyError, Selector};
use crate::cni::Transport;
use crate::labels::is_port_name;

/// What a rule lists. That nothing is listed and that everything is meant are two things: a rule none
/// of whose peers can be read must match nothing, and must not become one for everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Among<T> {
    /// Everything, also what could not be listed.
    Any,
    /// One of these.
    These(Vec<T>),
}

impl<T> Among<T> {
    /// An absent and an empty list mean everything.
    pub(super) fn unless_empty(listed: Vec<T>) -> Self {
        if listed.is_empty() { Self::Any } else { Self::These(listed) }
    }

    /// Whether one of them is `found`.
    pub fn any(&self, found: impl FnMut(&T) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::These(listed) => listed.iter().any(found),
        }
    }
}

/// Which way traffic goes, seen from an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To it.
    Ingress,
    /// From it.
    Egress,
}

/// The other side of a connection, as a rule describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Endpoints by their labels and those of their namespaces. Never anything else.
    Endpoints {
        /// Which namespaces.
        namespaces: Scope,
        /// Which endpoints there.
        endpoints: Selector,
    },
    /// Whoever has such an address, endpoints too.
    Block(Block),
    /// Who is something, seen from the endpoint that the rule is about. Only a NodePolicy has it.
    Entity(Entity),
}

/// What the other side is, seen from the endpoint that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// A process of the host.
    Host,
    /// Neither the host nor an endpoint of ours.
    World,
    /// An endpoint of the same network.
    SameNetwork,
    /// An endpoint in the same namespace.
    SameNamespace,
    /// The endpoint itself, which comes back through a port that the host publishes.
    Itself,
}

/// Which namespaces a peer is sought in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The policy's own.
    Own,
    /// Those with such labels.
    Matching(Selector),
}

/// Addresses, less some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// These.
    pub cidr: IpNetwork,
    /// But not these, which are parts of it.
    pub except: Vec<IpNetwork>,
}

impl Block {
    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(address) && !self.except.iter().any(|part| part.contains(address))
    }

    /// An `ipBlock`.
    pub(super) fn read(node: &Node<'_>) -> Result<Self, PolicyError> {
        let mut fields = node.fields()?;
        let cidr = read_cidr(&fields.need("cidr")?)?;
        let mut except = Vec::new();
        for part in fields.list("except")? {
            let net = read_cidr(&part)?;
            if net.prefix() <= cidr.prefix() || !cidr.contains(net.network()) {
                return Err(part.invalid("is not a part of the block's cidr"));
            }
            except.push(net);
        }
        fields.end()?;
        Ok(Self { cidr, except })
    }
}

/// What a rule asks of the traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// The ports from `first` to `last` of a transport.
    Span {
        /// The transport.
        transport: Transport,
        /// The first.
        first: u16,
        /// The last, which is one of them.
        last: u16,
    },
    /// The port that the destination calls so.
    Named {
        /// Of this transport; of any that the destination has such a name for, if none.
        transport: Option<Transport>,
        /// The name.
        name: String,
    },
    /// A message of ICMP. Only a NodePolicy has it.
    Icmp {
        /// Of ICMPv6.
        v6: bool,
        /// Its type.
        kind: u8,
        /// Its code; any, if none.
        code: Option<u8>,
    },
    /// A protocol of IP by its number, with all that it carries. Only a NodePolicy has it.
    Protocol(u8),
}

impl Ports {
    /// All ports of a transport.
    pub(super) fn all(transport: Transport) -> Self {
        Self::Span { transport, first: 0, last: u16::MAX }
    }
}

/// A block of addresses; the bits behind the prefix mean nothing.
pub(super) fn read_cidr(node: &Node<'_>) -> Result<IpNetwork, PolicyError> {
    let text = node.text()?;
    // The parser takes an address alone for a block of one, Kubernetes does not.
    let net: Option<IpNetwork> = text.contains('/').then(|| text.parse().ok()).flatten();
    net.and_then(|net| IpNetwork::new(net.network(), net.prefix()).ok())
        .ok_or_else(|| node.invalid("is not an address and the length of a prefix"))
}

/// The name of a port.
pub(super) fn read_port_name(node: &Node<'_>) -> Result<String, PolicyError> {
    let text = node.text()?;
    match is_port_name(text) {
        true => Ok(text.to_owned()),
        false => Err(node.invalid("is not the name of a port")),
    }
}

/// A port's number.
pub(super) fn read_port(node: &Node<'_>) -> Result<u16, PolicyError> {
    node.number(1, u16::MAX, "is not a port, 1 to 65535")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn exceptions_are_carved_out() {
        let value = json!({"cidr": "10.0.0.7/8", "except": ["10.9.0.0/16", "10.1.2.3/32"]});
        let block = Block::read(&Node::root("test", &value)).expect("valid");
        assert_eq!(block.cidr.to_string(), "10.0.0.0/8");
        for (address, expected) in
            [("10.0.0.1", true), ("10.9.1.1", false), ("10.1.2.3", false), ("11.0.0.1", false)]
        {
            assert_eq!(block.contains(address.parse().expect("address")), expected, "{address}");
        }
        assert!(!block.contains("::a00:1".parse().expect("address")), "the other family");
    }

    #[test]
    fn blocks_that_are_none_are_refused() {
        for (value, named) in [
            (json!({"cidr": "10.0.0.1"}), "cidr=\"10.0.0.1\" is not an address and"),
            (json!({"cidr": "10.0.0.0/33"}), "is not an address and"),
            (json!({"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}), "except[0]=\"11.0.0.0/16\""),
            (json!({"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}), "is not a part"),
            (json!({"cidr": "10.0.0.0/8", "except": ["fd00::/16"]}), "is not a part"),
            (json!({"except": []}), "cidr is missing"),
            (json!({"cidr": "10.0.0.0/8", "excepts": []}), "excepts=[] is not a known field"),
        ] {
            let error = Block::read(&Node::root("test", &value)).expect_err("invalid").to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn names_of_ports_are_those_of_services() {
        for (text, good) in [
            ("http", true),
            ("serve-81-tcp", true),
            ("", false),
            ("80", false),
            ("-a", false),
            ("a--b", false),
            ("HTTP", false),
            ("sixteen-letters-", false),
        ] {
            let value = json!(text);
            assert_eq!(read_port_name(&Node::root("test", &value)).is_ok(), good, "{text}");
        }
    }
}
