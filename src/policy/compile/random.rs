//! The compiled form decides as the evaluator does: for the cases of the table, and for worlds and
//! connections drawn at random.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::compile;
use super::draw::{traffic, world};
use super::interpret::{Machine, Ruled, Ruling};
use crate::policy::{Because, Decision, Flow, Side, Traffic, World, cases, evaluate, staged};

/// What the compiled form has to say where the evaluator says this.
fn expected(decision: &Decision<'_>) -> Ruling {
    match (&decision.because, decision.allowed) {
        (Because::NotOurs | Because::Standing { .. }, _) => Ruling::Undecided,
        (_, true) => Ruling::Allowed,
        (_, false) => Ruling::Denied,
    }
}

fn agree(machine: &Machine, world: &World, flow: &Flow<'_>) -> Result<[Ruled; 2], String> {
    let verdict = evaluate(world, flow);
    let found = machine.rulings(flow);
    let expected = [&verdict.egress, &verdict.ingress].map(expected);
    let mut alike = found.map(|(ruling, _)| ruling) == expected;
    let staged = staged(world, flow);
    if verdict.allowed {
        // What the posture would deny then is not seen: it is not asked twice.
        let would = staged.as_ref().map(|staged| {
            [&staged.egress, &staged.ingress]
                .map(|side| matches!(side.because, Because::Standing { .. }) || side.allowed)
        });
        alike &= found.map(|(_, noted)| !noted) == would.unwrap_or([true, true]);
    }
    if alike {
        Ok(found)
    } else {
        Err(format!("{flow:?}: {verdict}; {staged:?}; compiled {found:?}"))
    }
}

#[test]
fn the_cases_of_the_table_are_decided_alike() {
    let mut asked = 0;
    cases::each(|world| {
        let machine = Machine::new(&compile(world));
        for flow in cases::flows(world) {
            if flow.is_to_itself() {
                continue;
            }
            asked += 1;
            agree(&machine, world, &flow).expect("alike");
        }
    });
    assert!(asked > 53 * 432, "{asked}");
}

/// Whoever is not an endpoint.
const OTHERS: [&str; 6] =
    ["10.0.0.200", "10.9.0.1", "192.0.2.1", "fd00::200", "fd00:9::1", "2001:db8::1"];

/// A connection, of which the ends are chosen when the world is known.
type Drawn = (usize, usize, Traffic, bool);

/// Whoever there is of a family: endpoints, the world and, as the last, a process of the host.
fn sides(world: &World, v6: bool) -> Vec<Side<'_>> {
    let ours = world.endpoints().iter().flat_map(|endpoint| endpoint.addresses.iter().copied());
    let others = OTHERS.iter().map(|other| other.parse().expect("an address"));
    let all = ours.chain(others).filter(|address: &IpAddr| address.is_ipv6() == v6);
    let mut sides: Vec<_> = all.map(|address| world.side(address)).collect();
    let host = if v6 { "fd00::100" } else { "10.0.0.100" };
    sides.push(Side::Host(host.parse().expect("an address")));
    sides
}

fn check(world: &World, drawn: &[Drawn]) -> Result<[usize; 4], String> {
    let machine = Machine::new(&compile(world));
    let mut found = [0; 4];
    for (n, (from, to, traffic, published)) in drawn.iter().enumerate() {
        let sides = sides(world, n % 3 == 0);
        let flow = Flow {
            from: sides[from % sides.len()],
            to: sides[to % sides.len()],
            traffic: *traffic,
            published: *published,
        };
        if flow.is_to_itself() && !flow.published {
            continue;
        }
        for (ruling, noted) in agree(&machine, world, &flow)? {
            found[ruling as usize] += 1;
            found[3] += usize::from(noted);
        }
    }
    Ok(found)
}

/// What was drawn is drawn again with the seed that a failure names.
const SEED: &str = "QUANTUM_POLICY_SEED";

#[test]
fn random_worlds_are_decided_alike() {
    let drawn = (0..1000usize, 0..1000usize, traffic(), any::<bool>());
    let drawn = proptest::collection::vec(drawn, 60);
    let given = std::env::var(SEED).ok().map(|seed| seed.parse::<u64>().expect("a number"));
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
    let bytes = [seed; 4].map(u64::to_le_bytes).concat();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() };
    let total = Cell::new([0usize; 4]);
    let result = TestRunner::new_with_rng(config, rng).run(&(world(), drawn), |(world, drawn)| {
        let found = check(&world, &drawn).map_err(TestCaseError::fail)?;
        let before = total.get();
        total.set([0, 1, 2, 3].map(|n| before[n] + found[n]));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{SEED}={seed}: {error}");
    }
    // Worlds in which nothing is ever decided would agree, too.
    let total = total.get();
    assert!(total.iter().all(|found| *found > 500), "{SEED}={seed}: {total:?}");
}
