//! ADDs while the rules are flushed all the time, and with an `nft` that fails half of the time: they take longer,
//! and succeed.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::network_isolation::{attach, dual};
use crate::support::daemon::{Daemon, Options};
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, udp_answers};
use crate::support::world::World;

/// Containers of networks that each are new, with a policy's chains or without, come and go.
#[track_caller]
fn come_and_go(world: &World, rounds: u8) {
    for round in 0..rounds {
        let zero = json!({ "policy": { "posture": "zero-trust" } });
        let conf =
            dual(&format!("n{round}"), 140 + round, if round % 2 == 0 { json!({}) } else { zero });
        let containers = ["a", "b"].map(|id| attach(world, id, &conf));
        for (id, container) in ["a", "b"].into_iter().zip(&containers) {
            world.call(Call::del(id, &container.netns).conf(&conf)).succeeded();
        }
    }
}

#[test]
fn no_add_fails_because_somebody_flushes_all_rules() {
    let world = world!();
    let _daemon = world.daemon_without_own_tables();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                world.host.output("nft", "flush ruleset");
            }
        });
        // A failed assertion would leave the other thread flushing for ever.
        let come =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| come_and_go(&world, 10)));
        done.store(true, Ordering::Relaxed);
        come.unwrap_or_else(|failure| std::panic::resume_unwind(failure));
    });
}

#[test]
fn no_add_fails_because_nft_fails_every_other_time() {
    let world = world!();
    let folder = world.paths().root.join("bin");
    std::fs::create_dir(&folder).expect("a folder");
    let (nft, turn) = (folder.join("nft"), folder.join("turn"));
    let turn = turn.display();
    let script = format!(
        "#!/bin/sh\nPATH=/usr/sbin:/sbin:/usr/bin:/bin\n\
         if rm {turn} 2>/dev/null; then exec nft \"$@\"; fi\n: > {turn}\n\
         echo 'Error: Could not process rule: Cannot allocate memory' >&2\nexit 1\n"
    );
    std::fs::write(&nft, script).expect("written");
    std::fs::set_permissions(&nft, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let options = Options::without_own_tables().var("PATH", folder.to_str().expect("UTF-8"));
    let mut daemon = Daemon::start(&world.host, world.paths(), options);
    daemon.wait_ready();
    come_and_go(&world, 4);
    let conf = dual("last", 150, json!({}));
    for round in 0..6 {
        world.host.output("nft", "flush ruleset");
        let container = attach(&world, &format!("c{round}"), &conf);
        let _echo = Echo::serve(&world.host, &container.gateways[0]);
        assert!(udp_answers(&container.netns, &container.gateways[0], PATIENCE));
    }
}
