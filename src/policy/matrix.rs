//! Who may speak to whom: every endpoint with every other, the host and the world. Where there are many
//! endpoints, those to whom everything applies alike are taken together.

use quantum_config::ask::{Cell, Group, Matrix};
use quantum_config::cni::Family;

use super::ends::{End, When, endpoints, outsiders};
use super::explain::is_audited;
use super::resolve::in_family;
use super::terms::Terms;
use super::{Decision, Flow, Traffic, World, evaluate, write_traffic};

/// Up to this many endpoints each has a row of its own.
const EACH: usize = 24;
/// The most rows.
const ROWS: usize = 60;

/// Answers `policy.matrix`.
pub fn matrix(world: &World, traffic: Traffic) -> Matrix {
    let terms = Terms::of(&[world]);
    let each = world.endpoints().len() <= EACH;
    let mut ends = endpoints(&terms, world, world, each);
    let left_out = ends.len().saturating_sub(ROWS);
    ends.truncate(ROWS);
    ends.push(End::Host);
    ends.extend(outsiders(&terms, &[world]).0.into_iter().next());
    let row = |from: &End<'_>| ends.iter().map(|to| cell(world, traffic, from, to)).collect();
    Matrix {
        traffic: write_traffic(traffic),
        endpoints: world.endpoints().len(),
        groups: ends.iter().map(End::group).collect::<Vec<Group>>(),
        cells: ends.iter().map(row).collect(),
        left_out,
    }
}

fn cell(world: &World, traffic: Traffic, from: &End<'_>, to: &End<'_>) -> Cell {
    let is_same = std::ptr::eq(from, to);
    if is_same && from.size() < 2 {
        return Cell::Itself;
    }
    let mut cells = [Family::V4, Family::V6].into_iter().filter_map(|family| {
        let from = from.side(When::Now, family, 0)?;
        let to = to.side(When::Now, family, usize::from(is_same))?;
        let traffic = in_family(traffic, to.address());
        let verdict = evaluate(world, &Flow { from, to, traffic, published: false });
        let is_let = |decision: &Decision<'_>, own| decision.allowed || is_audited(decision, own);
        Some(if verdict.allowed {
            Cell::Allowed
        } else if is_let(&verdict.egress, &from) && is_let(&verdict.ingress, &to) {
            Cell::Audited
        } else {
            Cell::Denied
        })
    });
    match (cells.next(), cells.next()) {
        (None, _) => Cell::Apart,
        (Some(one), Some(other)) if one != other => Cell::ByFamily,
        (Some(one), _) => one,
    }
}
