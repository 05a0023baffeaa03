//! NetworkPolicy of `networking.k8s.io/v1`: what the owner of a namespace lets its endpoints do.
//!
//! A policy isolates what it selects in the directions it speaks of, and its rules let something
//! through. Rules only add up; there is none that denies.

use super::node::{Fields, Node};
use super::rule::{read_port, read_port_name};
use super::{Among, Block, Direction, Peer, PolicyError, Ports, Scope, Selector};
use crate::cni::Transport;

/// A NetworkPolicy, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Its namespace, and that of the endpoints it selects.
    pub namespace: String,
    /// Its name there.
    pub name: String,
    /// It decides nothing: what it would deny is noted.
    pub staged: bool,
    /// The endpoints it selects.
    pub subject: Selector,
    /// What it lets come; none if it does not speak of that direction, which then is not isolated.
    pub ingress: Option<Vec<NetworkRule>>,
    /// What it lets go; none likewise.
    pub egress: Option<Vec<NetworkRule>>,
}

/// A rule of a NetworkPolicy: one of the peers and one of the ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRule {
    /// The other side.
    pub peers: Among<Peer>,
    /// The traffic.
    pub ports: Among<Ports>,
}

impl NetworkPolicy {
    /// Its rules of one direction; none if it does not isolate there.
    pub fn rules(&self, direction: Direction) -> Option<&[NetworkRule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    pub(super) fn read(
        namespace: String,
        name: String,
        staged: bool,
        spec: &Node<'_>,
    ) -> Result<Self, PolicyError> {
        let mut fields = spec.fields()?;
        // Kubernetes demands the field in its text and takes `{}` for it in its code.
        let subject = fields.get("podSelector").map(|node| Selector::read(&node)).transpose()?;
        let ingress = read_rules(&mut fields, "ingress", "from")?;
        let egress = read_rules(&mut fields, "egress", "to")?;
        let (mut is_ingress, mut is_egress) = (false, false);
        let types = fields.list("policyTypes")?;
        for node in &types {
            match node.text()? {
                "Ingress" => is_ingress = true,
                "Egress" => is_egress = true,
                _ => return Err(node.invalid("is not Ingress or Egress")),
            }
        }
        if types.is_empty() {
            (is_ingress, is_egress) = (true, !egress.is_empty());
        }
        fields.end()?;
        Ok(Self {
            namespace,
            name,
            staged,
            subject: subject.unwrap_or_default(),
            ingress: is_ingress.then_some(ingress),
            egress: is_egress.then_some(egress),
        })
    }
}

fn read_rules(
    spec: &mut Fields<'_>,
    direction: &'static str,
    peers: &'static str,
) -> Result<Vec<NetworkRule>, PolicyError> {
    let read = |node: &Node<'_>| {
        let mut fields = node.fields()?;
        let listed = fields.list(peers)?;
        let listed: Vec<Peer> = listed.iter().map(read_peer).collect::<Result<_, _>>()?;
        let ports = fields.list("ports")?;
        let ports: Vec<Ports> = ports.iter().map(read_ports).collect::<Result<_, _>>()?;
        fields.end()?;
        Ok(NetworkRule { peers: Among::unless_empty(listed), ports: Among::unless_empty(ports) })
    };
    spec.list(direction)?.iter().map(read).collect()
}

fn read_peer(node: &Node<'_>) -> Result<Peer, PolicyError> {
    let mut fields = node.fields()?;
    let endpoints = fields.get("podSelector").map(|node| Selector::read(&node)).transpose()?;
    let namespaces =
        fields.get("namespaceSelector").map(|node| Selector::read(&node)).transpose()?;
    let block = fields.get("ipBlock").map(|node| Block::read(&node)).transpose()?;
    fields.end()?;
    match (endpoints, namespaces, block) {
        (None, None, Some(block)) => Ok(Peer::Block(block)),
        (None, None, None) => {
            Err(node.invalid("names neither podSelector nor namespaceSelector nor ipBlock"))
        }
        (endpoints, namespaces, None) => Ok(Peer::Endpoints {
            namespaces: namespaces.map_or(Scope::Own, Scope::Matching),
            endpoints: endpoints.unwrap_or_default(),
        }),
        (_, _, Some(_)) => Err(node.invalid("names an ipBlock and a selector; make two of it")),
    }
}

fn read_ports(node: &Node<'_>) -> Result<Ports, PolicyError> {
    let mut fields = node.fields()?;
    let transport = match fields.get("protocol") {
        None => Transport::Tcp,
        Some(protocol) => match protocol.text()? {
            "TCP" => Transport::Tcp,
            "UDP" => Transport::Udp,
            "SCTP" => Transport::Sctp,
            _ => return Err(protocol.invalid("is not TCP, UDP or SCTP")),
        },
    };
    let (port, end) = (fields.get("port"), fields.get("endPort"));
    fields.end()?;
    match (port, end) {
        (None, None) => Ok(Ports::all(transport)),
        (None, Some(end)) => Err(end.invalid("needs a port that the span begins with")),
        (Some(port), None) if port.is_text() => {
            Ok(Ports::Named { transport: Some(transport), name: read_port_name(&port)? })
        }
        (Some(port), Some(end)) if port.is_text() => {
            Err(end.invalid("goes only with a port that is a number"))
        }
        (Some(port), end) => {
            let first = read_port(&port)?;
            let last = end.as_ref().map_or(Ok(first), read_port)?;
            match end {
                Some(end) if last < first => Err(end.invalid("is before the first port")),
                _ => Ok(Ports::Span { transport, first, last }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(spec: &Value) -> Result<NetworkPolicy, PolicyError> {
        NetworkPolicy::read("ns".to_owned(), "p".to_owned(), false, &Node::root("test", spec))
    }

    #[test]
    fn policy_types_default_to_what_is_spoken_of() {
        for (spec, expected) in [
            (json!({}), (true, false)),
            (json!({"policyTypes": []}), (true, false)),
            (json!({"egress": []}), (true, false)),
            (json!({"egress": [{}]}), (true, true)),
            (json!({"egress": [{}], "policyTypes": ["Ingress"]}), (true, false)),
            (json!({"ingress": [{}], "policyTypes": ["Egress"]}), (false, true)),
            (json!({"policyTypes": ["Ingress", "Egress"]}), (true, true)),
        ] {
            let policy = policy(&spec).expect("valid");
            assert_eq!((policy.ingress.is_some(), policy.egress.is_some()), expected, "{spec}");
        }
    }

    #[test]
    fn an_absent_selector_is_not_an_empty_one() {
        let spec = json!({"ingress": [{"from": [
            {"podSelector": {}},
            {"namespaceSelector": {}},
            {"podSelector": {}, "namespaceSelector": {}},
        ]}]});
        let rules = policy(&spec).expect("valid").ingress.expect("spoken of");
        let endpoints = Selector::default;
        let all = || Scope::Matching(Selector::default());
        let expected = [Scope::Own, all(), all()]
            .map(|namespaces| Peer::Endpoints { namespaces, endpoints: endpoints() });
        assert_eq!(rules[0].peers, Among::These(expected.to_vec()));
    }

    #[test]
    fn empty_lists_of_a_rule_mean_everything() {
        for rule in [json!({}), json!({"from": [], "ports": []}), json!({"from": null})] {
            let rules = policy(&json!({"ingress": [rule]})).expect("valid").ingress;
            let any = NetworkRule { peers: Among::Any, ports: Among::Any };
            assert_eq!(rules.expect("spoken of"), [any]);
        }
    }

    #[test]
    fn ports_are_of_tcp_unless_they_say_so() {
        let span = |transport, first, last| Ports::Span { transport, first, last };
        for (value, expected) in [
            (json!({}), span(Transport::Tcp, 0, 65535)),
            (json!({"protocol": "UDP"}), span(Transport::Udp, 0, 65535)),
            (json!({"port": 80}), span(Transport::Tcp, 80, 80)),
            (json!({"protocol": "SCTP", "port": 5, "endPort": 7}), span(Transport::Sctp, 5, 7)),
            (
                json!({"port": "web"}),
                Ports::Named { transport: Some(Transport::Tcp), name: "web".to_owned() },
            ),
        ] {
            assert_eq!(read_ports(&Node::root("test", &value)), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_and_named() {
        for (spec, named) in [
            (json!({"rules": []}), "rules=[] is not a known field"),
            (json!({"ingress": {}}), "ingress={} is not a list"),
            (json!({"ingress": [{"to": []}]}), "ingress[0].to=[] is not a known field"),
            (json!({"ingress": [{"from": [{}]}]}), "ingress[0].from[0]={} names neither"),
            (
                json!({"egress": [{"to": [{"podSelector": {}, "ipBlock": {"cidr": "::/0"}}]}]}),
                "make two of it",
            ),
            (json!({"policyTypes": ["ingress"]}), "policyTypes[0]=\"ingress\""),
            (json!({"egress": [{"ports": [{"protocol": "tcp"}]}]}), "protocol=\"tcp\""),
            (json!({"egress": [{"ports": [{"port": 0}]}]}), "port=0 is not a port"),
            (json!({"egress": [{"ports": [{"port": 70000}]}]}), "port=70000 is not a port"),
            (json!({"egress": [{"ports": [{"port": "Web"}]}]}), "port=\"Web\" is not the name"),
            (json!({"egress": [{"ports": [{"endPort": 1}]}]}), "endPort=1 needs a port"),
            (json!({"egress": [{"ports": [{"port": "a", "endPort": 1}]}]}), "goes only with"),
            (json!({"egress": [{"ports": [{"port": 2, "endPort": 1}]}]}), "endPort=1 is before"),
        ] {
            let error = policy(&spec).expect_err("invalid").to_string();
            assert!(error.contains(named), "{spec}: {error}");
        }
    }
}
