//! ClusterNetworkPolicy of `policy.networking.k8s.io/v1alpha2`: what the administrator decides before
//! (tier Admin) or after (tier Baseline) the owners of the namespaces.
//!
//! The kind is still growing, and a rule may hold a peer, a protocol or a field that came after us. Such
//! a rule must fail closed: one that accepts then matches nothing, and any other denies everything in
//! its direction. What is known and wrong is refused, as everywhere.

use super::node::{Fields, Node};
use super::ordered::read_head;
use super::rule::{read_cidr, read_port, read_port_name};
use super::{
    Action, Among, Block, Direction, Kind, OrderedPolicy, OrderedRule, OrderedTier, Peer,
    PolicyError, Ports, Scope, Selector, Subject,
};
use crate::cni::Transport;

/// The most rules of a direction, and the most peers, networks and protocols of a rule.
const MOST: usize = 25;

/// Reads a ClusterNetworkPolicy.
pub(super) fn read(
    name: String,
    staged: bool,
    spec: &Node<'_>,
) -> Result<OrderedPolicy, PolicyError> {
    let mut fields = spec.fields()?;
    let tier = fields.need("tier")?;
    let tier = match tier.text()? {
        "Admin" => OrderedTier::Admin,
        "Baseline" => OrderedTier::Baseline,
        _ => return Err(tier.invalid("is not Admin or Baseline")),
    };
    let priority = read_priority(&mut fields)?;
    let subject = read_subject(&fields.need("subject")?)?;
    let ingress = read_rules(&mut fields, Direction::Ingress)?;
    let egress = read_rules(&mut fields, Direction::Egress)?;
    fields.end()?;
    let kind = Kind::Cluster;
    Ok(OrderedPolicy { kind, name, tier, priority, staged, subject, ingress, egress })
}

/// The priority of an ordered policy.
pub(super) fn read_priority(fields: &mut Fields<'_>) -> Result<u16, PolicyError> {
    fields.need("priority")?.number(0, 1000, "is not 0 to 1000")
}

/// Whom the policy is about. A subject that we do not know may be anybody, so it is refused.
pub(super) fn read_subject(node: &Node<'_>) -> Result<Subject, PolicyError> {
    let mut fields = node.fields()?;
    let (namespaces, pods) = (fields.get("namespaces"), fields.get("pods"));
    fields.end()?;
    let (namespaces, endpoints) = match (namespaces, pods) {
        (Some(namespaces), None) => (Selector::read(&namespaces)?, Selector::default()),
        (None, Some(pods)) => read_pods(&pods)?,
        _ => return Err(node.invalid("needs one of namespaces and pods")),
    };
    Ok(Subject { networks: None, namespaces, endpoints })
}

/// A `NamespacedPod`; an absent `namespaceSelector` is an empty one.
fn read_pods(node: &Node<'_>) -> Result<(Selector, Selector), PolicyError> {
    let mut fields = node.fields()?;
    let namespaces =
        fields.get("namespaceSelector").map(|node| Selector::read(&node)).transpose()?;
    let endpoints = Selector::read(&fields.need("podSelector")?)?;
    fields.end()?;
    Ok((namespaces.unwrap_or_default(), endpoints))
}

fn read_rules(
    spec: &mut Fields<'_>,
    direction: Direction,
) -> Result<Vec<OrderedRule>, PolicyError> {
    let key = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let Some(listed) = spec.get(key) else { return Ok(Vec::new()) };
    let rules = listed.elements()?;
    if rules.len() > MOST {
        return Err(listed.invalid("has more than 25 rules"));
    }
    rules.iter().map(|rule| read_rule(rule, direction)).collect()
}

fn read_rule(node: &Node<'_>, direction: Direction) -> Result<OrderedRule, PolicyError> {
    let mut fields = node.fields()?;
    let actions = [("Accept", Action::Accept), ("Deny", Action::Deny), ("Pass", Action::Pass)];
    let (name, action) = read_head(&mut fields, &actions, "is not Accept, Deny or Pass")?;
    let listed = fields.need(if direction == Direction::Ingress { "from" } else { "to" })?;
    let mut unread = None;
    let mut peers = Vec::new();
    for peer in some(&listed)? {
        match read_peer(&peer, direction)? {
            Some(read) => peers.extend(read),
            None => unread = unread.or_else(|| Some(peer.path().to_owned())),
        }
    }
    let mut ports = Among::Any;
    if let Some(listed) = fields.get("protocols") {
        let mut read = Vec::new();
        for protocol in some(&listed)? {
            match read_protocol(&protocol)? {
                Some(ports) => read.push(ports),
                None => unread = unread.or_else(|| Some(protocol.path().to_owned())),
            }
        }
        let is_named = |ports: &Ports| matches!(ports, Ports::Named { .. });
        let is_block = |peer: &Peer| matches!(peer, Peer::Block(_));
        if read.iter().any(is_named) && peers.iter().any(is_block) {
            return Err(
                listed.invalid("has a destinationNamedPort, and networks have no names for ports")
            );
        }
        ports = Among::These(read);
    }
    // A field of the rule itself may narrow it as a peer does.
    unread = unread.or_else(|| fields.unknown().map(|field| field.path().to_owned()));
    let rule = OrderedRule { name, action, peers: Among::These(peers), ports, unread };
    Ok(if rule.unread.is_some() { closed(rule) } else { rule })
}

/// What becomes of a rule that we cannot read in full.
fn closed(rule: OrderedRule) -> OrderedRule {
    match rule.action {
        Action::Accept => OrderedRule { peers: Among::These(Vec::new()), ..rule },
        Action::Deny | Action::Reject | Action::Pass => {
            OrderedRule { action: Action::Deny, peers: Among::Any, ports: Among::Any, ..rule }
        }
    }
}

/// The elements of a list that must have one, and not more than the kind allows.
fn some<'a>(node: &Node<'a>) -> Result<Vec<Node<'a>>, PolicyError> {
    let elements = node.elements()?;
    if (1..=MOST).contains(&elements.len()) {
        Ok(elements)
    } else {
        Err(node.invalid("does not have 1 to 25 elements"))
    }
}

/// A peer, which is several if it lists networks; none if it is of a sort that we do not know. That it
/// has no field at all means the same: what had been there was left out by one who did not know it.
fn read_peer(node: &Node<'_>, direction: Direction) -> Result<Option<Vec<Peer>>, PolicyError> {
    let mut fields = node.fields()?;
    let (namespaces, pods) = (fields.get("namespaces"), fields.get("pods"));
    // The kind has networks for destinations only.
    let networks = (direction == Direction::Egress).then(|| fields.get("networks")).flatten();
    if fields.unknown().is_some() {
        return Ok(None);
    }
    let of = |(namespaces, endpoints)| {
        vec![Peer::Endpoints { namespaces: Scope::Matching(namespaces), endpoints }]
    };
    match (namespaces, pods, networks) {
        (None, None, None) => Ok(None),
        (Some(node), None, None) => Ok(Some(of((Selector::read(&node)?, Selector::default())))),
        (None, Some(node), None) => Ok(Some(of(read_pods(&node)?))),
        (None, None, Some(node)) => {
            let block = |node: &Node<'_>| {
                read_cidr(node).map(|cidr| Peer::Block(Block { cidr, except: Vec::new() }))
            };
            some(&node)?.iter().map(block).collect::<Result<_, _>>().map(Some)
        }
        _ => Err(node.invalid("names more than one sort of peer")),
    }
}

/// A protocol that has ports; none if it is one that we do not know, or asks for something that we do not know.
pub(super) fn read_protocol(node: &Node<'_>) -> Result<Option<Ports>, PolicyError> {
    let mut fields = node.fields()?;
    let known = [
        (Transport::Tcp, fields.get("tcp")),
        (Transport::Udp, fields.get("udp")),
        (Transport::Sctp, fields.get("sctp")),
    ];
    let named = fields.get("destinationNamedPort");
    if fields.unknown().is_some() {
        return Ok(None);
    }
    let mut given = known.into_iter().filter_map(|(transport, node)| Some((transport, node?)));
    match (given.next(), given.next(), named) {
        (None, _, None) => Ok(None),
        (None, _, Some(node)) => {
            Ok(Some(Ports::Named { transport: None, name: read_port_name(&node)? }))
        }
        (Some((transport, node)), None, None) => read_destination(transport, &node),
        _ => Err(node.invalid("names more than one protocol")),
    }
}

fn read_destination(transport: Transport, node: &Node<'_>) -> Result<Option<Ports>, PolicyError> {
    let mut fields = node.fields()?;
    let port = fields.get("destinationPort");
    let (Some(port), None) = (port, fields.unknown()) else { return Ok(None) };
    let mut fields = port.fields()?;
    let (number, range) = (fields.get("number"), fields.get("range"));
    if fields.unknown().is_some() {
        return Ok(None);
    }
    match (number, range) {
        (None, None) => Ok(None),
        (Some(number), None) => {
            let number = read_port(&number)?;
            Ok(Some(Ports::Span { transport, first: number, last: number }))
        }
        (None, Some(range)) => {
            let mut fields = range.fields()?;
            let first = read_port(&fields.need("start")?)?;
            let last = read_port(&fields.need("end")?)?;
            if fields.unknown().is_some() {
                return Ok(None);
            }
            if last <= first {
                return Err(range.invalid("does not end behind its start"));
            }
            Ok(Some(Ports::Span { transport, first, last }))
        }
        _ => Err(port.invalid("names a number and a range")),
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
