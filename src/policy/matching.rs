//! Whether a rule's peers and ports are those of a connection.

use quantum_config::policy::{Among, Peer, Ports, Scope};

use super::{Side, Traffic, World};

/// Whether the other side is one of a rule's peers. `own` is the namespace of the rule's policy; a kind
/// that has none has no peers that would ask for it.
pub(super) fn is_peer(
    world: &World,
    peers: &Among<Peer>,
    own: Option<&str>,
    other: &Side<'_>,
) -> bool {
    peers.any(|peer| match peer {
        Peer::Block(block) => block.contains(other.address()),
        // Labels are an endpoint's alone: they never say anything of the host or the world.
        Peer::Endpoints { namespaces, endpoints } => other.endpoint().is_some_and(|other| {
            let is_there = match namespaces {
                Scope::Own => own == Some(other.namespace.as_str()),
                Scope::Matching(selector) => selector.matches(world.labels(&other.namespace)),
            };
            is_there && endpoints.matches(&other.labels)
        }),
    })
}

/// Whether the traffic is what a rule speaks of. A name means what the receiver calls so, whichever
/// side the rule is about, and nothing where it calls nothing so.
pub(super) fn is_spoken(ports: &Among<Ports>, traffic: Traffic, to: &Side<'_>) -> bool {
    ports.any(|ports| {
        let Traffic::Port(spoken, number) = traffic else { return false };
        match ports {
            Ports::Span { transport, first, last } => {
                *transport == spoken && (*first..=*last).contains(&number)
            }
            Ports::Named { transport, name } => {
                let known = to.endpoint().map_or(&[][..], |to| &to.ports);
                transport.is_none_or(|transport| transport == spoken)
                    && known.iter().any(|port| {
                        port.name == *name && port.transport == spoken && port.number == number
                    })
            }
        }
    })
}
