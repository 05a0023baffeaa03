//! What the rules denied: who and why is found by deciding once more, then it is counted, remembered and,
//! within limits, logged.

use actix::{Context, Handler};
use quantum_cni::kernel::clock::boottime_ms;
use quantum_cni::policy::{Denial, Flow, Side, Told, World, evaluate, staged};
use quantum_config::policy::Direction;
use slog::info;

use super::Policy;
use crate::messages::policy::Refused;

impl Handler<Refused> for Policy {
    type Result = ();

    fn handle(&mut self, Refused(heard): Refused, _: &mut Context<Self>) {
        self.meters.denied_lost.inc_by(heard.lost);
        if heard.denials.is_empty() {
            return;
        }
        let world = self.world();
        for denial in &heard.denials {
            let flow = flow(&world, denial);
            let audit = denial.audit || is_audited(&flow, denial.direction);
            let denial = Denial { audit, ..*denial };
            let direction = match denial.direction {
                Direction::Egress => "egress",
                Direction::Ingress => "ingress",
            };
            let mode = if audit { "audit" } else { "enforce" };
            self.meters.denied.with_label_values(&[direction, mode]).inc();
            let told = self.denied.note(boottime_ms(), &denial, || why(&world, &flow, &denial));
            let times = match told {
                Told::First => 1,
                Told::Again { times } => times,
                Told::Quiet => continue,
            };
            info!(self.log, "denied"; "mode" => mode, "direction" => direction,
                "from" => %denial.from, "to" => %denial.to, "traffic" => %denial.spoken,
                "why" => why(&world, &flow, &denial), "times" => times);
        }
        let withheld = self.denied.take_withheld();
        if withheld > 0 {
            info!(self.log, "denied flows that are not logged, as there are many";
                "records" => withheld);
        }
    }
}

/// A denied packet's connection. One that came in by no interface was begun by the host, and one that
/// goes out by none is for it.
fn flow<'w>(world: &'w World, denial: &Denial) -> Flow<'w> {
    let from = match denial.in_index {
        None => Side::Host(denial.from),
        Some(_) => world.side(denial.from),
    };
    let to = match denial.out_index {
        None => Side::Host(denial.to),
        Some(_) => world.side(denial.to),
    };
    Flow { from, to, traffic: denial.traffic(), published: false }
}

fn is_audited(flow: &Flow<'_>, direction: Direction) -> bool {
    let side = match direction {
        Direction::Egress => flow.from,
        Direction::Ingress => flow.to,
    };
    side.endpoint().is_some_and(|endpoint| endpoint.audit)
}

/// The rule that decides now, which may be another than when the packet was there.
fn why(world: &World, flow: &Flow<'_>, denial: &Denial) -> String {
    let verdict = match staged(world, flow) {
        Some(would) if denial.audit => would,
        _ => evaluate(world, flow),
    };
    match denial.direction {
        Direction::Egress => verdict.egress.to_string(),
        Direction::Ingress => verdict.ingress.to_string(),
    }
}
