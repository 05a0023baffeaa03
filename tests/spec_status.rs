//! STATUS: whether an ADD would succeed now, and if not, why.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::conf::{at, example, network};
use crate::support::eventually::eventually;
use crate::support::plugin::Call;

fn status(conf: &Value) -> Call {
    Call::new("STATUS").conf(conf)
}

#[test]
fn a_daemon_that_serves_says_so_and_nothing_else() {
    let world = world!();
    let _daemon = world.daemon();
    let outcome = world.call(status(&at(&example(), "1.1.0")));
    outcome.succeeded();
    assert_eq!(outcome.stdout, "");
}

#[test]
fn without_a_daemon_it_is_50() {
    let world = world!();
    let outcome = world.call(status(&at(&example(), "1.1.0")));
    outcome.failed_with(50);
    assert!(outcome.took < Duration::from_secs(2), "{outcome:?}");
    let daemon = world.daemon();
    world.call(status(&at(&example(), "1.1.0"))).succeeded();
    daemon.kill();
    world.call(status(&at(&example(), "1.1.0"))).failed_with(50);
}

#[test]
fn an_exhausted_pool_is_50_and_says_which() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = at(&network("tiny", "tiny0", "10.3.3.0/30"), "1.1.0");
    let container = world.container();
    world.call(status(&conf)).succeeded();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let said = world.call(status(&conf)).failed_with(50);
    assert!(said.contains("10.3.3.0/30"), "{said}");
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    world.call(status(&conf)).succeeded();
}

#[test]
fn an_exhausted_pool_is_known_after_a_restart() {
    let world = world!();
    let daemon = world.daemon();
    let conf = at(&network("tiny", "tiny0", "10.3.4.0/30"), "1.1.0");
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    daemon.kill();
    let _daemon = world.daemon();
    let said = world.call(status(&conf)).failed_with(50);
    assert!(said.contains("10.3.4.0/30"), "{said}");
}

#[test]
fn it_exists_since_1_1_0() {
    let world = world!();
    let _daemon = world.daemon();
    for version in ["0.3.1", "1.0.0"] {
        world.call(status(&at(&example(), version))).failed_with(1);
    }
}

#[test]
fn a_configuration_that_could_not_be_added_is_not_ready() {
    let world = world!();
    let _daemon = world.daemon();
    let unknown = json!({ "cniVersion": "1.1.0", "name": "unknown", "type": "quantum-cni" });
    world.call(status(&unknown)).failed();
    let trunk = json!({ "vlanTrunk": [{ "id": 7 }] });
    let trunk = crate::support::conf::with(&at(&example(), "1.1.0"), trunk);
    world.call(status(&trunk)).failed_with(2);
}

#[test]
fn a_network_that_could_not_be_made_ready_is_tried_again() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = at(&network("late", "late0", "10.3.5.0/24"), "1.1.0");
    let container = world.container();
    world.host.ip("link add late0 type veth peer name late1");
    world.call(Call::add("c1", &container).conf(&conf)).failed_with(7);
    let said = world.call(status(&conf)).failed_with(50);
    assert!(said.contains("late0"), "{said}");
    // A definition that does not work is no reason against another one of the same name.
    let other = at(&network("late", "other0", "10.3.5.0/24"), "1.1.0");
    world.call(status(&other)).succeeded();
    world.host.ip("link del late0");
    eventually("STATUS to see that nothing is in the way any more", || {
        (world.call(status(&conf)).code == Some(0)).then_some(())
    });
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
}

#[test]
fn what_is_free_is_known_after_calls_that_met() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = at(&network("meet", "meet0", "10.3.6.0/29"), "1.1.0");
    let containers: Vec<_> = (0..5).map(|_| world.container()).collect();
    let each = || containers.iter().enumerate().map(|(n, c)| (format!("c{n}"), c));
    for _ in 0..10 {
        for (name, container) in each() {
            world.call(Call::add(&name, container).conf(&conf)).succeeded();
        }
        std::thread::scope(|scope| {
            for (name, container) in each() {
                let (world, conf) = (&world, &conf);
                scope.spawn(move || {
                    world.call(Call::del(&name, container).conf(conf)).succeeded();
                });
            }
        });
        eventually("STATUS to know that all addresses are free", || {
            (world.call(status(&conf)).code == Some(0)).then_some(())
        });
    }
}
