//! The traffic that is asked about where all of it is meant: every port that a policy names, of those
//! that none names one for each set of spans it may be in, and ICMP for all that has no ports.

use std::collections::{BTreeSet, HashSet};

use quantum_config::cni::Transport;
use quantum_config::policy::Ports;

use super::terms::Terms;
use super::{Traffic, World, write_traffic};

/// The most kinds of traffic that are asked about.
const PROBES: usize = 48;
/// Where ports that nobody names are looked for first: a service is seldom there.
const UNNAMED: u16 = 40_000;

/// A kind of traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) traffic: Traffic,
    pub(super) name: String,
}

/// The traffic, and how many kinds of it are left out.
pub(super) fn probes(terms: &Terms<'_>, worlds: &[&World]) -> (Vec<Probe>, usize) {
    let mut probes = vec![Probe { traffic: Traffic::Other(1), name: "icmp".to_owned() }];
    for traffic in without_ports(terms) {
        let probe = Probe { traffic, name: write_traffic(traffic) };
        if !probes.contains(&probe) {
            probes.push(probe);
        }
    }
    for transport in [Transport::Tcp, Transport::Udp, Transport::Sctp] {
        let spans = spans(terms, transport);
        let named = named(terms, worlds, transport);
        // What no rule speaks of is decided as ICMP is, and only TCP is asked about nevertheless.
        if transport != Transport::Tcp && spans.is_empty() && named.is_empty() {
            continue;
        }
        let firsts = spans.iter().filter(|span| **span != (0, u16::MAX)).map(|(first, _)| *first);
        let mut mentioned = named.clone();
        mentioned.extend(firsts);
        for port in &mentioned {
            let traffic = Traffic::Port(transport, *port);
            probes.push(Probe { traffic, name: write_traffic(traffic) });
        }
        // Behind a span, or a single port, the set of spans may be another one.
        let behind = spans.iter().map(|(_, last)| *last).chain(named.iter().copied());
        let others = [UNNAMED, 1].into_iter().chain(behind.filter_map(|last| last.checked_add(1)));
        let mut seen = HashSet::new();
        for port in others.filter(|port| !mentioned.contains(port)) {
            let is_in: Vec<_> = spans.iter().filter(|(a, b)| (*a..=*b).contains(&port)).collect();
            let in_none = is_in.iter().all(|span| **span == (0, u16::MAX));
            if seen.insert(is_in) {
                let traffic = Traffic::Port(transport, port);
                let name = match in_none {
                    true => format!("other {transport}"),
                    false => write_traffic(traffic),
                };
                probes.push(Probe { traffic, name });
            }
        }
    }
    let left_out = probes.len().saturating_sub(PROBES);
    probes.truncate(PROBES);
    (probes, left_out)
}

/// The traffic without ports that rules name. Such rules speak of all that some other traffic is, too.
fn without_ports(terms: &Terms<'_>) -> Vec<Traffic> {
    let named = terms.ports.iter().filter_map(|ports| match ports {
        Ports::Icmp { v6, kind, code } => {
            Some(Traffic::Icmp { v6: *v6, kind: *kind, code: code.unwrap_or(0) })
        }
        Ports::Protocol(number) => {
            Transport::from_number(*number).is_none().then_some(Traffic::Other(*number))
        }
        Ports::Span { .. } | Ports::Named { .. } => None,
    });
    named.collect()
}

fn spans(terms: &Terms<'_>, of: Transport) -> BTreeSet<(u16, u16)> {
    let spans = terms.ports.iter().filter_map(|ports| match ports {
        Ports::Span { transport, first, last } if *transport == of => Some((*first, *last)),
        _ => None,
    });
    spans.collect()
}

/// The ports that an endpoint has given a name for which a rule asks.
fn named(terms: &Terms<'_>, worlds: &[&World], of: Transport) -> BTreeSet<u16> {
    let is_asked = |name: &str| {
        terms.ports.iter().any(|p| matches!(p, Ports::Named { name: asked, .. } if asked == name))
    };
    let endpoints = worlds.iter().flat_map(|world| world.endpoints());
    let ports = endpoints.flat_map(|endpoint| &endpoint.ports);
    ports
        .filter(|port| port.transport == of && is_asked(&port.name))
        .map(|port| port.number)
        .collect()
}
