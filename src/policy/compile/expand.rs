//! A rule of a document as rules of nft: one for each way in which a connection may match it, as a rule
//! of nft knows no "or" but that of a set.

use ipnetwork::IpNetwork;
use quantum_config::cni::{Family, Transport};
use quantum_config::policy::{Among, Entity, Peer, Ports, Scope, Selector};

use super::rule::{End, Match};
use super::sets::{Akin, Both, Sets};
use crate::policy::Way;

/// The protocol numbers of ICMP and ICMPv6 (IANA).
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A way to match peers, and the family that it is of, if of one.
type ByPeer = (Option<Family>, Vec<Match>);

/// A way to match the traffic.
enum ByTraffic {
    /// In both families alike.
    Alike(Vec<Match>),
    /// By what the receiver calls a port.
    Named(Transport, Both),
}

/// Every way to match `peers` and `ports`. None, if nothing can.
pub(super) fn expand(
    sets: &mut Sets,
    way: Way,
    own: Option<&str>,
    peers: &Among<Peer>,
    ports: &Among<Ports>,
) -> Vec<Vec<Match>> {
    let traffic = by_traffic(sets, ports);
    let mut found = Vec::new();
    for (family, peer) in by_peer(sets, way, own, peers) {
        for traffic in &traffic {
            match traffic {
                ByTraffic::Alike(traffic) => found.push([&peer[..], traffic].concat()),
                ByTraffic::Named(transport, both) => {
                    let both = both.iter().filter(|(of, _)| family.is_none_or(|f| f == *of));
                    found.extend(both.map(|(family, set)| {
                        let named = Match::Named(*family, set.clone());
                        [&peer[..], &[Match::Protocol(transport.number()), named]].concat()
                    }));
                }
            }
        }
    }
    found
}

fn by_peer(sets: &mut Sets, way: Way, own: Option<&str>, peers: &Among<Peer>) -> Vec<ByPeer> {
    let Among::These(peers) = peers else { return vec![(None, Vec::new())] };
    let end = match way {
        Way::Egress => End::Receiver,
        Way::Ingress | Way::FromHost => End::Sender,
    };
    let mut found: Vec<ByPeer> = Vec::new();
    let mut whole = Vec::new();
    for peer in peers {
        match peer {
            Peer::Entity(entity) => found.extend(by_entity(sets, way, end, *entity)),
            // The host is no endpoint, whatever its address.
            Peer::Endpoints { .. } if way == Way::FromHost => {}
            Peer::Endpoints { namespaces, endpoints } => {
                for (family, set) in sets.selector(own, namespaces, endpoints).into_iter().flatten()
                {
                    found.push((Some(family), vec![Match::Member(end, family, set)]));
                }
            }
            Peer::Block(block) if block.except.is_empty() => whole.push(block.cidr),
            Peer::Block(block) => {
                let mut matches = within(end, vec![block.cidr]);
                if block.cidr.prefix() == 0 {
                    // What follows says it, too.
                    matches.clear();
                }
                matches.push(Match::Outside(end, disjoint(block.except.clone())));
                found.push((Some(Family::of(block.cidr.ip())), matches));
            }
        }
    }
    for family in [Family::V4, Family::V6] {
        let nets = whole.iter().copied().filter(|net| Family::of(net.ip()) == family);
        let nets = disjoint(nets.collect());
        if !nets.is_empty() {
            found.push((Some(family), within(end, nets)));
        }
    }
    // The same peer may be listed twice.
    let mut once: Vec<ByPeer> = Vec::new();
    for way in found {
        if !once.contains(&way) {
            once.push(way);
        }
    }
    once
}

fn by_entity(sets: &mut Sets, way: Way, end: End, entity: Entity) -> Vec<ByPeer> {
    let member = |(family, set)| (Some(family), vec![Match::Member(end, family, set)]);
    match (entity, way) {
        (Entity::Host, Way::FromHost) => vec![(None, Vec::new())],
        (Entity::Host, Way::Ingress) | (_, Way::FromHost) => Vec::new(),
        (Entity::Host, Way::Egress) => {
            [false, true].map(|back| (None, vec![Match::Host { back, is: true }])).to_vec()
        }
        (Entity::World, _) => {
            let all = Selector::default();
            let all = sets.selector(None, &Scope::Matching(all.clone()), &all);
            let mut found = Vec::new();
            for (family, set) in all.into_iter().flatten() {
                let stranger = Match::Stranger(end, family, set);
                if way == Way::Ingress {
                    found.push((Some(family), vec![stranger]));
                    continue;
                }
                for back in [false, true] {
                    let not_host = Match::Host { back, is: false };
                    found.push((Some(family), vec![stranger.clone(), not_host]));
                }
            }
            found
        }
        (Entity::Itself, _) => [Family::V4, Family::V6]
            .map(|family| (Some(family), vec![Match::Itself(family)]))
            .to_vec(),
        (Entity::SameNetwork, _) => {
            sets.akin.insert(Akin::Network);
            Akin::Network.stand_in().map(member).to_vec()
        }
        (Entity::SameNamespace, _) => {
            sets.akin.insert(Akin::Namespace);
            Akin::Namespace.stand_in().map(member).to_vec()
        }
    }
}

/// An end is in one of these; that it is in all there is says only which family it is of.
fn within(end: End, nets: Vec<IpNetwork>) -> Vec<Match> {
    match nets.iter().find(|net| net.prefix() == 0) {
        Some(all) => vec![Match::Family(Family::of(all.ip()))],
        None => vec![Match::Within(end, nets)],
    }
}

/// Without those that are part of another: nft takes no overlaps in a set.
fn disjoint(mut nets: Vec<IpNetwork>) -> Vec<IpNetwork> {
    nets.sort_by_key(|net| (net.prefix(), net.ip()));
    let mut kept: Vec<IpNetwork> = Vec::new();
    for net in nets {
        if !kept.iter().any(|wider| wider.contains(net.ip())) {
            kept.push(net);
        }
    }
    kept
}

fn by_traffic(sets: &mut Sets, ports: &Among<Ports>) -> Vec<ByTraffic> {
    let Among::These(ports) = ports else { return vec![ByTraffic::Alike(Vec::new())] };
    let mut found = Vec::new();
    for transport in [Transport::Tcp, Transport::Udp, Transport::Sctp] {
        let spans = ports.iter().filter_map(|ports| match ports {
            Ports::Span { transport: of, first, last } if *of == transport => Some((*first, *last)),
            _ => None,
        });
        let mut matches = vec![Match::Protocol(transport.number())];
        match &joined(spans.collect())[..] {
            [] => continue,
            [(0, u16::MAX)] => {}
            [(first, last)] => matches.push(Match::Ports(*first, *last)),
            several => matches.push(Match::PortIn(sets.ports(several.to_vec()))),
        }
        found.push(ByTraffic::Alike(matches));
    }
    for ports in ports {
        match ports {
            Ports::Protocol(number) => {
                found.push(ByTraffic::Alike(vec![Match::Protocol(*number)]));
            }
            Ports::Icmp { v6, kind, code } => {
                let number = if *v6 { ICMPV6 } else { ICMP };
                let [first, last] = [code.unwrap_or(0), code.unwrap_or(u8::MAX)]
                    .map(|c| u16::from_be_bytes([*kind, c]));
                let matches = vec![Match::Protocol(number), Match::Icmp(first, last)];
                found.push(ByTraffic::Alike(matches));
            }
            Ports::Span { .. } | Ports::Named { .. } => {}
        }
    }
    let mut seen = Vec::new();
    for ports in ports {
        let Ports::Named { transport, name } = ports else { continue };
        for of in [Transport::Tcp, Transport::Udp, Transport::Sctp] {
            if transport.is_none_or(|transport| transport == of) && !seen.contains(&(name, of)) {
                seen.push((name, of));
                found.push(ByTraffic::Named(of, sets.named(name, of)));
            }
        }
    }
    found
}

/// Spans of ports, in order, those that touch made one.
fn joined(mut spans: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    spans.sort_unstable();
    let mut kept: Vec<(u16, u16)> = Vec::new();
    for (first, last) in spans {
        match kept.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => kept.push((first, last)),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_is_made_one() {
        assert_eq!(joined(vec![(80, 80), (5, 9), (10, 12), (7, 8)]), [(5, 12), (80, 80)]);
        assert_eq!(joined(vec![(9, 65535), (0, 8), (65535, 65535)]), [(0, 65535)]);
        let net = |text: &str| text.parse::<IpNetwork>().expect("a network");
        let nets = ["10.1.0.0/16", "10.0.0.0/8", "10.1.2.3/32", "11.0.0.0/8", "10.0.0.0/8"];
        assert_eq!(disjoint(nets.map(net).to_vec()), [net("10.0.0.0/8"), net("11.0.0.0/8")]);
    }
}
