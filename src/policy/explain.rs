//! Why a connection is allowed or denied, for an operator who asks.

use std::net::IpAddr;

use quantum_config::ask;

use super::resolve::{called, in_family, pairs};
use super::{
    Decision, Flow, ResolveError, Side, World, evaluate, read_traffic, resolve, write_traffic,
};

/// Answers `policy.explain`.
pub fn explain(world: &World, asked: &ask::Explain) -> Result<ask::Explanation, ResolveError> {
    let traffic = read_traffic(&asked.traffic)?;
    let (from, to) = (resolve(world, &asked.from)?, resolve(world, &asked.to)?);
    let pairs = pairs(&from, &to);
    if pairs.is_empty() {
        return Err(ResolveError::Apart { from: asked.from.clone(), to: asked.to.clone() });
    }
    let cases = pairs.into_iter().map(|(from, to)| {
        let traffic = in_family(traffic, to.address());
        explain_flow(world, &Flow { from, to, traffic, published: asked.published })
    });
    let cases: Vec<ask::Case> = cases.collect();
    Ok(ask::Explanation {
        allowed: cases.iter().all(|case| case.allowed),
        traffic: write_traffic(traffic),
        published: asked.published,
        cases,
    })
}

/// Why one flow is allowed or denied.
pub fn explain_flow(world: &World, flow: &Flow<'_>) -> ask::Case {
    let verdict = evaluate(world, flow);
    let egress = decided(&verdict.egress, &flow.from);
    let ingress = decided(&verdict.ingress, &flow.to);
    let passes = [&egress, &ingress].iter().all(|side| side.allowed || side.audited);
    ask::Case {
        allowed: passes,
        audited: passes && !verdict.allowed,
        from: party(&flow.from),
        to: party(&flow.to),
        egress,
        ingress,
    }
}

fn decided(decision: &Decision<'_>, own: &Side<'_>) -> ask::Decided {
    ask::Decided {
        allowed: decision.allowed,
        audited: is_audited(decision, own),
        because: because(decision),
    }
}

/// It is denied, and that is only told.
pub(super) fn is_audited(decision: &Decision<'_>, own: &Side<'_>) -> bool {
    !decision.allowed && own.endpoint().is_some_and(|endpoint| endpoint.audit)
}

/// What decided, without the decision.
pub(super) fn because(decision: &Decision<'_>) -> String {
    let text = decision.to_string();
    text.split_once(": ").map_or(text.clone(), |(_, because)| because.to_owned())
}

/// An end of a connection, as answers name it.
pub fn party(side: &Side<'_>) -> ask::Party {
    let is_known = |address: &IpAddr| !address.is_unspecified();
    let (name, key) = match side {
        Side::Endpoint { endpoint, .. } => (called(endpoint), Some(endpoint.key.to_string())),
        Side::Host(_) => ("host".to_owned(), None),
        Side::World(_) => ("world".to_owned(), None),
    };
    ask::Party { name, key, address: Some(side.address()).filter(is_known) }
}
