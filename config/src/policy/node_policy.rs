//! NodePolicy of `policy.quantum/v1alpha1`: a ClusterNetworkPolicy's rules with more to say. It selects
//! by network, names others by what they are, speaks of ICMP, may refuse instead of drop, and may be
//! staged.
//!
//! The kind is ours, so nothing in it comes after us: what is not known is refused.

use std::collections::BTreeSet;

use super::cluster::{read_priority, read_protocol};
use super::node::{Fields, Node};
use super::ordered::read_head;
use super::{
    Action, Among, Block, Entity, Kind, OrderedPolicy, OrderedRule, OrderedTier, Peer, PolicyError,
    Ports, Scope, Selector, Subject,
};

/// The protocol numbers of ICMP and ICMPv6 (IANA).
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Reads a NodePolicy.
pub(super) fn read(name: String, spec: &Node<'_>) -> Result<OrderedPolicy, PolicyError> {
    let mut fields = spec.fields()?;
    let tier = fields.need("tier")?;
    let tier = match tier.text()? {
        "Admin" => OrderedTier::Admin,
        "Application" => OrderedTier::Application,
        "Baseline" => OrderedTier::Baseline,
        _ => return Err(tier.invalid("is not Admin, Application or Baseline")),
    };
    let priority = read_priority(&mut fields)?;
    let staged = fields.get("mode").map_or(Ok(false), |mode| read_mode(&mode))?;
    let subject = read_subject(&fields.need("subject")?)?;
    let ingress = read_rules(&mut fields, "ingress", "from")?;
    let egress = read_rules(&mut fields, "egress", "to")?;
    refuse(&mut fields, "limits", "is not supported: take it away")?;
    fields.end()?;
    let kind = Kind::Node;
    Ok(OrderedPolicy { kind, name, tier, priority, staged, subject, ingress, egress })
}

/// Whether a policy of this mode is staged.
pub(super) fn read_mode(node: &Node<'_>) -> Result<bool, PolicyError> {
    match node.text()? {
        "enforce" => Ok(false),
        "audit" => Ok(true),
        _ => Err(node.invalid("is not enforce or audit")),
    }
}

/// Whom the policy is about: everybody, unless a field says otherwise.
pub(super) fn read_subject(node: &Node<'_>) -> Result<Subject, PolicyError> {
    let mut fields = node.fields()?;
    let networks = fields.get("networks").map(|node| read_networks(&node)).transpose()?;
    let (namespaces, endpoints) = read_selectors(&mut fields)?;
    fields.end()?;
    let (namespaces, endpoints) = (namespaces.unwrap_or_default(), endpoints.unwrap_or_default());
    Ok(Subject { networks, namespaces, endpoints })
}

fn read_networks(node: &Node<'_>) -> Result<BTreeSet<String>, PolicyError> {
    some(node)?.iter().map(|name| name.text().map(str::to_owned)).collect()
}

fn read_selectors(
    fields: &mut Fields<'_>,
) -> Result<(Option<Selector>, Option<Selector>), PolicyError> {
    let mut read = |key| fields.get(key).map(|node| Selector::read(&node)).transpose();
    Ok((read("namespaces")?, read("endpoints")?))
}

const ACTIONS: [(&str, Action); 4] = [
    ("Accept", Action::Accept),
    ("Deny", Action::Deny),
    ("Reject", Action::Reject),
    ("Pass", Action::Pass),
];

fn read_rules(
    spec: &mut Fields<'_>,
    direction: &'static str,
    peers: &'static str,
) -> Result<Vec<OrderedRule>, PolicyError> {
    let read = |node: &Node<'_>| {
        let mut fields = node.fields()?;
        let (name, action) =
            read_head(&mut fields, &ACTIONS, "is not Accept, Deny, Reject or Pass")?;
        let mut listed = Vec::new();
        for peer in some(&fields.need(peers)?)? {
            listed.append(&mut read_peer(&peer, direction == "ingress")?);
        }
        let ports = match fields.get("protocols") {
            None => Among::Any,
            Some(node) => {
                Among::These(some(&node)?.iter().map(read_ports).collect::<Result<_, _>>()?)
            }
        };
        refuse(&mut fields, "log", "is not supported: what is denied is always noted")?;
        fields.end()?;
        Ok(OrderedRule { name, action, peers: Among::These(listed), ports, unread: None })
    };
    spec.list(direction)?.iter().map(read).collect()
}

/// A peer, which is several if it lists entities.
fn read_peer(node: &Node<'_>, is_ingress: bool) -> Result<Vec<Peer>, PolicyError> {
    let mut fields = node.fields()?;
    let selectors = read_selectors(&mut fields)?;
    let entities = fields.get("entities");
    let (cidr, except) = (fields.get("cidr"), fields.get("except"));
    let is_block = cidr.is_some() || except.is_some();
    refuse(&mut fields, "domainNames", "is not supported: name their addresses with cidr")?;
    fields.end()?;
    match (selectors, entities, is_block) {
        ((None, None), None, true) => Ok(vec![Peer::Block(Block::read(node)?)]),
        ((None, None), Some(entities), false) => {
            some(&entities)?.iter().map(|entity| read_entity(entity, is_ingress)).collect()
        }
        ((None, None), None, false) => {
            Err(node.invalid("names none of endpoints, namespaces, entities and cidr"))
        }
        ((namespaces, endpoints), None, false) => Ok(vec![Peer::Endpoints {
            namespaces: Scope::Matching(namespaces.unwrap_or_default()),
            endpoints: endpoints.unwrap_or_default(),
        }]),
        _ => Err(node.invalid("names more than one sort of peer; make several of it")),
    }
}

fn read_entity(node: &Node<'_>, is_ingress: bool) -> Result<Peer, PolicyError> {
    let entity = match node.text()? {
        "host" => Entity::Host,
        "world" => Entity::World,
        "same-network" => Entity::SameNetwork,
        "same-namespace" => Entity::SameNamespace,
        "self" => Entity::Itself,
        "gateway" => {
            let rule =
                "is not supported: a gateway is the host; name it so, or its address with cidr";
            return Err(node.invalid(rule));
        }
        "dns" if is_ingress => return Err(node.invalid("is not whom connections come from")),
        "dns" => {
            let rule = "is not supported: name the server's address with cidr and port 53";
            return Err(node.invalid(rule));
        }
        _ => {
            return Err(node.invalid("is not host, world, same-network, same-namespace or self"));
        }
    };
    Ok(Peer::Entity(entity))
}

fn read_ports(node: &Node<'_>) -> Result<Ports, PolicyError> {
    let mut fields = node.fields()?;
    let (icmp, icmpv6) = (fields.get("icmp"), fields.get("icmpv6"));
    let number = fields.get("number");
    if icmp.is_none() && icmpv6.is_none() && number.is_none() {
        return read_protocol(node)?
            .ok_or_else(|| node.invalid("names no protocol that is known, or not all it needs"));
    }
    if fields.unknown().is_some() {
        return Err(node.invalid("names more than one protocol, or one that is not known"));
    }
    match (icmp, icmpv6, number) {
        (Some(icmp), None, None) => read_icmp(&icmp, false),
        (None, Some(icmp), None) => read_icmp(&icmp, true),
        (None, None, Some(number)) => read_byte(&number).map(Ports::Protocol),
        _ => Err(node.invalid("names more than one protocol")),
    }
}

/// A message of ICMP; all of them, if no type is given.
fn read_icmp(node: &Node<'_>, v6: bool) -> Result<Ports, PolicyError> {
    let mut fields = node.fields()?;
    let kind = fields.get("type").map(|node| read_byte(&node)).transpose()?;
    let code = fields.get("code");
    fields.end()?;
    match (kind, code) {
        (None, None) => Ok(Ports::Protocol(if v6 { ICMPV6 } else { ICMP })),
        (None, Some(code)) => Err(code.invalid("needs a type that it is the code of")),
        (Some(kind), code) => {
            let code = code.map(|node| read_byte(&node)).transpose()?;
            Ok(Ports::Icmp { v6, kind, code })
        }
    }
}

fn read_byte(node: &Node<'_>) -> Result<u8, PolicyError> {
    let number = node.number(0, u8::MAX.into(), "is not 0 to 255")?;
    u8::try_from(number).map_err(|_| node.invalid("is not 0 to 255"))
}

/// The elements of a list that must have one: an empty one may mean nothing or everything.
fn some<'a>(node: &Node<'a>) -> Result<Vec<Node<'a>>, PolicyError> {
    let elements = node.elements()?;
    if elements.is_empty() { Err(node.invalid("is empty")) } else { Ok(elements) }
}

/// Refuses a field that the kind is meant to have one day.
fn refuse(
    fields: &mut Fields<'_>,
    key: &'static str,
    why: &'static str,
) -> Result<(), PolicyError> {
    fields.get(key).map_or(Ok(()), |node| Err(node.invalid(why)))
}

#[cfg(test)]
#[path = "node_policy_tests.rs"]
mod tests;
