//! Many at once: ADDs and DELs started together, as when a node comes up or is drained.

use std::collections::BTreeSet;
use std::sync::Barrier;

use crate::spec_add::address;
use crate::support::conf::{example, network};
use crate::support::inventory::{Inventory, nft_elements, veths};
use crate::support::netns::Netns;
use crate::support::plugin::{Call, Outcome};
use crate::support::traffic::{Echo, PATIENCE, udp_answers};
use crate::support::world::World;

/// How many containers come and go together.
const MANY: usize = 60;

/// Makes all calls at the same moment, each on a thread of its own, as a runtime's goroutines do.
pub(crate) fn together(world: &World, calls: Vec<Call>) -> Vec<Outcome> {
    let start = Barrier::new(calls.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = calls
            .into_iter()
            .map(|call| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    world.call(call)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("a call")).collect()
    })
}

#[test]
fn sixty_come_and_go_together() {
    let world = world!();
    let _daemon = world.daemon();
    let neighbour = world.container();
    world.call(Call::add("neighbour", &neighbour).conf(&example())).succeeded();
    let before = Inventory::of(&world.host);

    let containers: Vec<Netns> = (0..MANY).map(|_| world.container()).collect();
    let calls = |make: fn(&str, &Netns) -> Call| -> Vec<Call> {
        let each = containers.iter().enumerate();
        each.map(|(n, c)| make(&format!("c{n}"), c).conf(&example())).collect()
    };
    let results: Vec<_> =
        together(&world, calls(Call::add)).iter().map(Outcome::succeeded).collect();

    let addresses: BTreeSet<String> = results.iter().map(address).collect();
    let macs: BTreeSet<String> =
        results.iter().map(|r| r["interfaces"][2]["mac"].to_string()).collect();
    assert_eq!((addresses.len(), macs.len()), (MANY, MANY), "all of them distinct");
    assert_eq!(veths(&world.host).len(), MANY + 1);
    for (container, result) in containers.iter().zip(&results) {
        assert_eq!(container.addresses("eth0", 4), [format!("{}/16", address(result))]);
    }
    let last = address(&results[MANY - 1]);
    let _echo = Echo::serve(&containers[MANY - 1], &last);
    assert!(udp_answers(&containers[0], &last, PATIENCE), "the first reaches the last");

    for outcome in together(&world, calls(Call::del)) {
        outcome.succeeded();
    }
    before.assert_same(&Inventory::of(&world.host), "the host after all DELs");
    assert!(containers.iter().all(|c| c.link("eth0").is_none()));
}

#[test]
fn a_fresh_bridge_meets_all_its_first_adds_at_once() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("fresh", "fresh0", "10.21.0.0/24");
    let containers: Vec<Netns> = (0..16).map(|_| world.container()).collect();
    let adds = containers.iter().enumerate();
    let adds = adds.map(|(n, c)| Call::add(&format!("c{n}"), c).conf(&conf)).collect();
    let given: BTreeSet<String> =
        together(&world, adds).iter().map(|o| address(&o.succeeded())).collect();
    assert_eq!(given.len(), 16);
    assert_eq!(world.host.addresses("fresh0", 4), ["10.21.0.1/24"]);
}

#[test]
fn comings_and_goings_mix() {
    let world = world!();
    let _daemon = world.daemon();
    let elements = nft_elements(&world.host);
    let confs = [network("mix0", "mix0", "10.22.0.0/24"), network("mix1", "mix1", "10.23.0.0/24")];
    // One thread for each container: its own calls are in order, others' in any.
    std::thread::scope(|scope| {
        for n in 0..12 {
            let (world, conf) = (&world, &confs[n % 2]);
            scope.spawn(move || {
                let name = format!("c{n}");
                for _ in 0..4 {
                    let container = world.container();
                    let result = world.call(Call::add(&name, &container).conf(conf)).succeeded();
                    let held = container.addresses("eth0", 4);
                    assert_eq!(held, [format!("{}/24", address(&result))]);
                    world.call(Call::del(&name, &container).conf(conf)).succeeded();
                    assert!(container.link("eth0").is_none());
                }
            });
        }
    });
    assert_eq!(veths(&world.host), Vec::<String>::new());
    let left: Vec<_> = nft_elements(&world.host)
        .difference(&elements)
        .filter(|e| e.contains("\"10.22.0.") || e.contains("\"10.23.0."))
        .filter(|e| !e.contains(".0.0\"") && !e.contains(".0.1\""))
        .cloned()
        .collect();
    assert_eq!(left, Vec::<String>::new(), "elements of endpoints that are gone");
}

#[test]
fn what_does_not_fit_fails_and_the_rest_succeeds() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("narrow", "narrow0", "10.24.0.0/29");
    let containers: Vec<Netns> = (0..12).map(|_| world.container()).collect();
    let adds = containers.iter().enumerate();
    let adds = adds.map(|(n, c)| Call::add(&format!("c{n}"), c).conf(&conf)).collect();
    let outcomes = together(&world, adds);
    let (made, refused): (Vec<_>, Vec<_>) = outcomes.iter().partition(|o| o.code == Some(0));
    let given: BTreeSet<String> = made.iter().map(|o| address(&o.succeeded())).collect();
    assert_eq!((made.len(), given.len()), (5, 5));
    for outcome in refused {
        outcome.failed_with(7);
    }
    assert_eq!(veths(&world.host).len(), 5);
}
