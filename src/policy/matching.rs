//! Whether a rule's peers and ports are those of a connection.

use quantum_config::policy::{Among, Entity, Peer, Ports, Scope};

use super::{Endpoint, Side, Traffic, World};

/// Whether `other` is one of the peers of a rule that is about `own`. A peer that is sought in the
/// policy's own namespace is sought in that of `own`: such a policy selects nowhere else.
pub(super) fn is_peer(
    world: &World,
    peers: &Among<Peer>,
    own: &Endpoint,
    other: &Side<'_>,
) -> bool {
    peers.any(|peer| match peer {
        Peer::Block(block) => block.contains(other.address()),
        Peer::Entity(entity) => is_entity(*entity, own, other),
        // Labels are an endpoint's alone: they never say anything of the host or the world.
        Peer::Endpoints { namespaces, endpoints } => other.endpoint().is_some_and(|other| {
            let is_there = match namespaces {
                Scope::Own => own.namespace == other.namespace,
                Scope::Matching(selector) => selector.matches(world.labels(&other.namespace)),
            };
            is_there && endpoints.matches(&other.labels)
        }),
    })
}

fn is_entity(entity: Entity, own: &Endpoint, other: &Side<'_>) -> bool {
    match entity {
        Entity::Host => matches!(other, Side::Host(_)),
        Entity::World => matches!(other, Side::World(_)),
        Entity::SameNetwork => other.endpoint().is_some_and(|other| other.network == own.network),
        Entity::SameNamespace => {
            other.endpoint().is_some_and(|other| other.namespace == own.namespace)
        }
        Entity::Itself => other.endpoint().is_some_and(|other| other.key == own.key),
    }
}

/// Whether the traffic is what a rule speaks of. A name means what the receiver calls so, whichever
/// side the rule is about, and nothing where it calls nothing so.
pub(super) fn is_spoken(ports: &Among<Ports>, traffic: Traffic, to: &Side<'_>) -> bool {
    ports.any(|ports| match (ports, traffic) {
        (Ports::Span { transport, first, last }, Traffic::Port(spoken, number)) => {
            *transport == spoken && (*first..=*last).contains(&number)
        }
        (Ports::Named { transport, name }, Traffic::Port(spoken, number)) => {
            let known = to.endpoint().map_or(&[][..], |to| &to.ports);
            transport.is_none_or(|transport| transport == spoken)
                && known.iter().any(|port| {
                    port.name == *name && port.transport == spoken && port.number == number
                })
        }
        (Ports::Icmp { v6, kind, code }, Traffic::Icmp { v6: spoken, kind: sent, code: with }) => {
            (*v6, *kind) == (spoken, sent) && code.is_none_or(|code| code == with)
        }
        (Ports::Protocol(number), traffic) => *number == traffic.protocol(),
        (Ports::Span { .. } | Ports::Named { .. } | Ports::Icmp { .. }, _) => false,
    })
}
