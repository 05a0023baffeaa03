//! STATUS: whether an ADD would succeed now, and if not, why.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::conf::{at, example, network};
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
    let vlan = crate::support::conf::with(&at(&example(), "1.1.0"), json!({ "vlan": 7 }));
    world.call(status(&vlan)).failed_with(2);
}
