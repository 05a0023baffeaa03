//! What would change in another world: which connections that could be made, and which of those that are
//! under way. It is asked for groups of endpoints to whom everything applies alike, and not for each.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use quantum_config::ask::{Became, DroppedFlow, Shift, Simulation};
use quantum_config::cni::Family;
use quantum_config::policy::Direction;

use super::ends::{End, When, endpoints, outsiders};
use super::explain::{because, is_audited, party};
use super::probes::{Probe, probes};
use super::resolve::in_family;
use super::terms::{Selecting, Terms, are_peopled_alike};
use super::{
    Decision, Endpoint, Flow, LiveFlow, Side, Verdict, View, World, evaluate, write_traffic,
};

/// The most changes that are named, others of a change, and dropped connections.
const SHIFTS: usize = 100;
const OTHERS: usize = 8;
const DROPPED: usize = 100;
/// The most decisions. Where no two endpoints are alike there could be millions for each kind of traffic.
const DECISIONS: usize = 4_000_000;

/// What would change if `then` were in force instead of `now`, and which of the `flows` would be dropped.
pub fn simulate(now: &World, then: &World, flows: &[LiveFlow]) -> Simulation {
    let worlds = [now, then];
    let terms = Terms::of(&worlds);
    let (probes, traffic_left_out) = probes(&terms, &worlds);
    let groups = endpoints(&terms, now, then, false);
    let (strangers, strangers_left_out) = outsiders(&terms, &worlds);
    let (groups_found, of_all) = (groups.len(), groups.iter().map(End::size).sum());
    let mut ends: Vec<End<'_>> = strangers;
    ends.push(End::Host);
    ends.extend(groups);
    let groups_left_out = bound(now, then, &mut ends, probes.len());

    let mut simulation = Simulation {
        endpoints: of_all,
        groups: groups_found,
        groups_left_out,
        strangers_left_out,
        traffic: probes.iter().map(|probe| probe.name.clone()).collect(),
        traffic_left_out,
        flows: flows.len(),
        ..Simulation::default()
    };
    let shifts = shifts(now, then, &ends, &probes);
    for (cause, effect) in &shifts {
        match cause.became {
            Became::Denied => simulation.denied += effect.connections,
            Became::Allowed => simulation.allowed += effect.connections,
        }
    }
    simulation.shifts_left_out = shifts.len().saturating_sub(SHIFTS);
    let named = shifts.into_iter().take(SHIFTS);
    simulation.shifts =
        named.map(|(cause, effect)| shift(&ends, &probes, cause, &effect)).collect();
    dropped(now, then, flows, &mut simulation);
    simulation
}

/// Leaves out ends if there were too many decisions, those first for whom nothing changes. Each of the
/// others is asked about with everybody, both ways and in both worlds.
fn bound(now: &World, then: &World, ends: &mut Vec<End<'_>>, probes: usize) -> usize {
    let count = touched(now, then, ends).iter().filter(|is_touched| **is_touched).count();
    let all = ends.len();
    if count * all * probes * 4 > DECISIONS {
        let mut is_touched = touched(now, then, ends).into_iter();
        let (mut first, others): (Vec<_>, Vec<_>) =
            std::mem::take(ends).into_iter().partition(|_| is_touched.next() == Some(true));
        first.extend(others);
        first.truncate((DECISIONS / (4 * probes)).isqrt());
        *ends = first;
    }
    all - ends.len()
}

/// Connections change for one reason if this is the same for them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Cause {
    became: Became,
    /// Which end the side is of whose decision changes.
    own: usize,
    direction: Direction,
    now: String,
    then: String,
    published: bool,
}

#[derive(Debug, Default)]
struct Effect {
    others: BTreeSet<usize>,
    probes: BTreeSet<usize>,
    connections: u64,
}

/// Everything that changes, the most connections first.
fn shifts(now: &World, then: &World, ends: &[End<'_>], probes: &[Probe]) -> Vec<(Cause, Effect)> {
    let mut found: HashMap<Cause, Effect> = HashMap::new();
    let touched = touched(now, then, ends);
    for (f, from) in ends.iter().enumerate() {
        for (t, to) in ends.iter().enumerate() {
            let is_same = f == t;
            if is_same && from.size() < 2 || !from.is_endpoints() && !to.is_endpoints() {
                continue;
            }
            if !touched[f] && !touched[t] {
                continue;
            }
            let connections = from.size() as u64 * (to.size() - usize::from(is_same)) as u64;
            // What others send to a port of the host may be translated to an endpoint.
            let ways: &[bool] = if from.is_endpoints() { &[false] } else { &[false, true] };
            for (p, probe) in probes.iter().enumerate() {
                for published in ways {
                    let Some(change) = change(now, then, from, to, is_same, probe, *published)
                    else {
                        continue;
                    };
                    let (own, other) =
                        if change.direction == Direction::Egress { (f, t) } else { (t, f) };
                    let effect = found.entry(Cause { own, ..change }).or_default();
                    effect.others.insert(other);
                    effect.probes.insert(p);
                    effect.connections += connections;
                }
            }
        }
    }
    let mut found: Vec<(Cause, Effect)> = found.into_iter().collect();
    found.sort_by(|(a, x), (b, y)| y.connections.cmp(&x.connections).then_with(|| a.cmp(b)));
    found
}

/// For whom something may change: whose documents are others, or everybody, if more is than documents.
fn touched(now: &World, then: &World, ends: &[End<'_>]) -> Vec<bool> {
    let are_alike = are_peopled_alike(now, then);
    let is_touched = |end: &End<'_>| match (end.first(When::Now), end.first(When::Then)) {
        (Some(one), Some(other)) => {
            Selecting::of(now, one, View::InForce) != Selecting::of(then, other, View::InForce)
        }
        _ => false,
    };
    ends.iter().map(|end| !are_alike || is_touched(end)).collect()
}

/// What changes for one of these connections, by whichever family of addresses.
fn change(
    now: &World,
    then: &World,
    from: &End<'_>,
    to: &End<'_>,
    is_same: bool,
    probe: &Probe,
    published: bool,
) -> Option<Cause> {
    [Family::V4, Family::V6].into_iter().find_map(|family| {
        let flow = |when| {
            let from = from.side(when, family, 0)?;
            let to = to.side(when, family, usize::from(is_same))?;
            let traffic = in_family(probe.traffic, to.address());
            Some(Flow { from, to, traffic, published })
        };
        let (before, after) = (flow(When::Now)?, flow(When::Then)?);
        changed(&evaluate(now, &before), &evaluate(then, &after), published)
    })
}

fn changed(now: &Verdict<'_>, then: &Verdict<'_>, published: bool) -> Option<Cause> {
    let became = match (now.allowed, then.allowed) {
        (true, false) => Became::Denied,
        (false, true) => Became::Allowed,
        _ => return None,
    };
    // Of the world that denies; where both sides do, the sender is the first to be stopped.
    let denying = if became == Became::Denied { then } else { now };
    let is_egress = !denying.egress.allowed;
    let of =
        |verdict: &Verdict<'_>| because(if is_egress { &verdict.egress } else { &verdict.ingress });
    let direction = if is_egress { Direction::Egress } else { Direction::Ingress };
    Some(Cause { became, own: 0, direction, now: of(now), then: of(then), published })
}

fn shift(ends: &[End<'_>], probes: &[Probe], cause: Cause, effect: &Effect) -> Shift {
    let name = |end: &usize| ends.get(*end).map(End::group).unwrap_or_default();
    let direction = match cause.direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    };
    Shift {
        became: cause.became,
        group: name(&cause.own),
        direction: direction.to_owned(),
        now: cause.now,
        then: cause.then,
        published: cause.published,
        others: effect.others.iter().take(OTHERS).map(|end| name(end).name).collect(),
        others_left_out: effect.others.len().saturating_sub(OTHERS),
        traffic: effect.probes.iter().filter_map(|p| Some(probes.get(*p)?.name.clone())).collect(),
        connections: effect.connections,
    }
}

/// Who has which address.
struct Homes<'w>(HashMap<IpAddr, &'w Endpoint>);

impl<'w> Homes<'w> {
    fn of(world: &'w World) -> Self {
        let homes = world.endpoints().iter().flat_map(|e| e.addresses.iter().map(move |a| (*a, e)));
        Self(homes.collect())
    }

    fn side(&self, address: IpAddr, is_host: bool) -> Side<'w> {
        match self.0.get(&address) {
            Some(endpoint) => Side::Endpoint { endpoint, address },
            None if is_host => Side::Host(address),
            None => Side::World(address),
        }
    }

    /// The flow; nothing if it is nobody's whom we know.
    fn flow(&self, live: &LiveFlow) -> Option<Flow<'w>> {
        let from = self.side(live.from, live.from_host);
        let to = self.side(live.to, live.to_host);
        from.endpoint().or(to.endpoint())?;
        Some(Flow { from, to, traffic: live.traffic, published: live.translated })
    }
}

/// Those under way that come through now and would not then.
fn dropped(now: &World, then: &World, flows: &[LiveFlow], simulation: &mut Simulation) {
    let (before, after) = (Homes::of(now), Homes::of(then));
    for live in flows {
        let (Some(was), Some(flow)) = (before.flow(live), after.flow(live)) else { continue };
        let verdict = evaluate(then, &flow);
        let Some(denied) = dropping(&verdict, &flow) else { continue };
        if dropping(&evaluate(now, &was), &was).is_some() {
            continue;
        }
        simulation.flows_dropped += 1;
        if simulation.dropped.len() < DROPPED {
            simulation.dropped.push(DroppedFlow {
                from: party(&flow.from),
                to: party(&flow.to),
                sent_to: Some(live.sent_to).filter(|_| live.translated),
                traffic: write_traffic(live.traffic),
                because: denied.to_string(),
            });
        }
    }
}

/// The decision that drops a flow. Where that is only told, none does.
fn dropping<'v, 'w>(verdict: &'v Verdict<'w>, flow: &Flow<'w>) -> Option<&'v Decision<'w>> {
    let sides = [(&verdict.egress, &flow.from), (&verdict.ingress, &flow.to)];
    let mut denied = sides.into_iter().filter(|(d, own)| !d.allowed && !is_audited(d, own));
    denied.next().map(|(decision, _)| decision)
}

/// How many connections between endpoints would become denied, and how many allowed.
#[cfg(test)]
pub(super) fn between_endpoints(now: &World, then: &World) -> (u64, u64) {
    let worlds = [now, then];
    let terms = Terms::of(&worlds);
    let ends = endpoints(&terms, now, then, false);
    let sum = |became| {
        let all = shifts(now, then, &ends, &probes(&terms, &worlds).0).into_iter();
        all.filter(|(cause, _)| cause.became == became).map(|(_, effect)| effect.connections).sum()
    };
    (sum(Became::Denied), sum(Became::Allowed))
}
