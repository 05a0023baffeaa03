//! The daemon made to die, or to fail, at every step it has a name for. `quantum-cnid
//! --list-crash-points` names them (debug builds); whatever the step, what is left is a state from
//! which a DEL, repeated as runtimes do, gets to nothing, and the neighbours feel none of it.

use std::fmt::Write;
use std::os::unix::process::ExitStatusExt;

use serde_json::json;

use crate::spec_add::address;
use crate::spec_del::{fill, fill_and_empty, on_small_disk};
use crate::support::binaries;
use crate::support::conf::{network, with};
use crate::support::daemon::{Daemon, Options};
use crate::support::eventually::eventually;
use crate::support::inventory::{Inventory, veths};
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, Steady};
use crate::support::world::World;

/// The names of the steps.
pub(crate) fn points() -> Vec<String> {
    let output = std::process::Command::new(binaries::daemon()).arg("--list-crash-points").output();
    let output = output.expect("the daemon");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "--list-crash-points, of debug builds: {errors}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

/// Two neighbours that talk all the time, and the container something happens to.
struct Scene {
    world: World,
    neighbours: [Netns; 2],
    container: Netns,
    before: Inventory,
    _echo: Echo,
    talk: Steady,
}

/// With limits, so that the links that hold to them are made and removed as well.
fn conf() -> serde_json::Value {
    let limits = json!({
        "ingressRate": 1_000_000_000, "ingressBurst": 10_000_000,
        "egressRate": 1_000_000_000, "egressBurst": 10_000_000
    });
    with(&network("steps", "steps0", "10.41.0.0/29"), limits)
}

impl Scene {
    fn new(world: World) -> Self {
        let daemon = world.daemon();
        let neighbours = [world.container(), world.container()];
        world.call(Call::add("n0", &neighbours[0]).conf(&conf())).succeeded();
        let result = world.call(Call::add("n1", &neighbours[1]).conf(&conf())).succeeded();
        let echo = Echo::serve(&neighbours[1], &address(&result));
        let talk = Steady::start(&neighbours[0], &address(&result));
        let before = Inventory::of(&world.host);
        daemon.kill();
        let container = world.container();
        Self { world, neighbours, container, before, _echo: echo, talk }
    }

    /// ADD, CHECK and DEL of the container, some of which may fail.
    fn calls(&self) {
        let add = self.world.call(Call::add("c1", &self.container).conf(&conf()));
        if add.code == Some(0) {
            let check = with(&conf(), json!({ "prevResult": add.succeeded() }));
            self.world.call(Call::check("c1", &self.container).conf(&check));
        }
        self.world.call(Call::del("c1", &self.container).conf(&conf()));
    }

    /// After a failed ADD others can have every address that is left, and a late DEL of the failed
    /// one takes nothing from them.
    fn others_get_its_address(&self) {
        let _daemon = self.world.daemon();
        let others = [self.world.container(), self.world.container(), self.world.container()];
        let each = || others.iter().enumerate().map(|(n, other)| (format!("other{n}"), other));
        let results: Vec<_> = each()
            .map(|(name, other)| self.world.call(Call::add(&name, other).conf(&conf())).succeeded())
            .collect();
        self.world.call(Call::del("c1", &self.container).conf(&conf())).succeeded();
        for ((name, other), result) in each().zip(results) {
            let check = with(&conf(), json!({ "prevResult": result }));
            self.world.call(Call::check(&name, other).conf(&check)).succeeded();
            self.world.call(Call::del(&name, other).conf(&conf())).succeeded();
        }
    }

    /// A healthy daemon gets to nothing by one more DEL, and no address was lost.
    fn ends_well(self) {
        let _daemon = self.world.daemon();
        self.world.call(Call::del("c1", &self.container).conf(&conf())).succeeded();
        assert!(self.container.link("eth0").is_none(), "eth0 is left in the container");
        self.before.assert_same(&Inventory::of(&self.world.host), "the host after the last DEL");
        // The container can be attached again, under its old name.
        self.world.call(Call::add("c1", &self.container).conf(&conf())).succeeded();
        self.world.call(Call::del("c1", &self.container).conf(&conf())).succeeded();
        self.talk.was_undisturbed();
        for (n, neighbour) in self.neighbours.iter().enumerate() {
            self.world.call(Call::del(&format!("n{n}"), neighbour).conf(&conf())).succeeded();
        }
        assert_eq!(veths(&self.world.host), Vec::<String>::new());
        fill_and_empty(&self.world, &conf(), 5);
    }
}

/// Runs `story` for every point, several at a time, and reports all that went wrong.
fn at_every_point(story: impl Fn(World, &str) + Sync) {
    if let Err(reason) = World::new() {
        return crate::support::skip(&reason);
    }
    let points = points();
    assert!(points.len() >= 4, "a handful of steps at least: {points:?}");
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failures = std::sync::Mutex::new(String::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(point) = points.get(number) else { break };
                    let world = World::new().expect("a world");
                    let run = std::panic::AssertUnwindSafe(|| story(world, point));
                    if let Err(panic) = std::panic::catch_unwind(run) {
                        let text = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| {
                            panic.downcast_ref::<&str>().copied().unwrap_or("?").to_owned()
                        });
                        let mut failures = failures.lock().expect("unpoisoned");
                        let _ = writeln!(failures, "--- at {point}: {text}");
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("unpoisoned");
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn a_daemon_that_dies_at_any_step_leaves_nothing() {
    at_every_point(|world, point| {
        let scene = Scene::new(world);
        let options = Options::default().var("QUANTUM_CRASH_AT", point);
        let mut daemon = Daemon::start(&scene.world.host, scene.world.paths(), options);
        // Steps of the start itself end it before it is ready.
        if daemon.ready_or_ended() {
            scene.calls();
        }
        // Its death is seen a moment after its last connection is closed.
        let status = daemon.wait();
        assert_eq!(status.signal(), Some(9), "it ended otherwise than at the step: {status}");
        scene.ends_well();
    });
}

#[test]
fn a_step_that_fails_leaves_nothing() {
    at_every_point(|world, point| {
        let scene = Scene::new(world);
        let options = Options::default().var("QUANTUM_FAIL_AT", point);
        let mut daemon = Daemon::start(&scene.world.host, scene.world.paths(), options);
        let mut failed_add = false;
        if daemon.ready_or_ended() {
            let add = scene.world.call(Call::add("c1", &scene.container).conf(&conf()));
            if add.code != Some(0) {
                add.failed();
                // What failed was undone at once, without anybody's DEL.
                assert!(scene.container.link("eth0").is_none(), "eth0 after the failed ADD");
                let now = Inventory::of(&scene.world.host);
                scene.before.assert_same(&now, "the host after the failed ADD");
            } else {
                scene.calls();
            }
            assert!(daemon.is_running(), "a step that fails is no reason to die");
            failed_add = add.code != Some(0);
        }
        eventually("the failed step to be logged", || {
            let log = std::fs::read_to_string(&scene.world.paths().log).expect("the log");
            log.contains(point).then_some(())
        });
        drop(daemon);
        if failed_add {
            scene.others_get_its_address();
        }
        scene.ends_well();
    });
}

#[test]
fn a_part_that_panics_is_rebuilt_and_leaves_nothing() {
    at_every_point(|world, point| {
        let scene = Scene::new(world);
        let options = Options::default().var("QUANTUM_PANIC_AT", point);
        let mut daemon = Daemon::start(&scene.world.host, scene.world.paths(), options);
        assert!(daemon.ready_or_ended(), "it ended before the step");
        let add = scene.world.call(Call::add("c1", &scene.container).conf(&conf()));
        if add.code != Some(0) {
            add.failed();
        }
        scene.world.call(Call::del("c1", &scene.container).conf(&conf())).succeeded();
        eventually("nothing to be left after the panic", || {
            let now = Inventory::of(&scene.world.host);
            (now == scene.before && scene.container.link("eth0").is_none()).then_some(())
        });
        // The same daemon goes on, with every address it had.
        eventually("its address to be free again", || {
            let probe = scene.world.call(Call::add("probe", &scene.container).conf(&conf()));
            let held = probe.code == Some(0) && address(&probe.succeeded()).ends_with(".4");
            scene.world.call(Call::del("probe", &scene.container).conf(&conf())).succeeded();
            held.then_some(())
        });
        scene.others_get_its_address();
        assert!(daemon.is_running(), "a panic costs one actor, not the daemon");
        drop(daemon);
        scene.ends_well();
    });
}

/// An ADD that fails, and whose undo the kernel refuses as well, several times.
#[test]
fn an_add_that_cannot_be_undone_holds_its_address_until_it_can() {
    let refusals = ["del-unfiltered"; 2].join(",");
    // Refused by the kernel, and given up before it was remembered.
    for point in ["add-linked", "add-applied"] {
        let world = world!();
        let points = format!("{point},{refusals}");
        let daemon = world.daemon_with(Options::default().var("QUANTUM_FAIL_AT", &points));
        let (container, other) = (world.container(), world.container());
        world.call(Call::add("c1", &container).conf(&conf())).failed();
        let left = veths(&world.host);
        assert_eq!(left.len(), 1, "{point}: the undo was refused: {left:?}");
        let wants_it = Call::add("c2", &other).conf(&conf()).var("CNI_ARGS", "IP=10.41.0.2");
        let said = world.call(wants_it.clone()).failed_with(7);
        assert!(said.contains("10.41.0.2") && said.contains("c1/eth0"), "{point}: {said}");
        eventually("the leftover to go by itself", || veths(&world.host).is_empty().then_some(()));
        eventually("its address to be free", || {
            (world.call(wants_it.clone()).code == Some(0)).then_some(())
        });
        let logged = |text: &str| daemon.log().iter().filter(|r| r["msg"] == text).count();
        assert_eq!(logged("undoing an ADD goes on in the background"), 1, "{point}");
        assert_eq!(logged("detaching goes on in the background"), 1, "{point}: tried again");
        world.call(Call::del("c2", &other).conf(&conf())).succeeded();
        fill_and_empty(&world, &conf(), 5);
    }
}

/// What was left is known to the next daemon, too, if this one dies before it is gone.
#[test]
fn an_add_that_cannot_be_undone_is_finished_by_the_next_daemon() {
    let world = world!();
    let points = format!("add-linked,{}", ["del-unfiltered"; 1000].join(","));
    let daemon = world.daemon_with(Options::default().var("QUANTUM_FAIL_AT", &points));
    let (container, other) = (world.container(), world.container());
    world.call(Call::add("c1", &container).conf(&conf())).failed();
    // Tried again, and refused again, whether a DEL comes or not.
    world.call(Call::del("c1", &container).conf(&conf())).succeeded();
    assert_eq!(veths(&world.host).len(), 1);
    daemon.kill();
    let _daemon = world.daemon();
    eventually("the leftover to go", || veths(&world.host).is_empty().then_some(()));
    eventually("its address to be free", || {
        let add = Call::add("c2", &other).conf(&conf()).var("CNI_ARGS", "IP=10.41.0.2");
        (world.call(add).code == Some(0)).then_some(())
    });
    world.call(Call::del("c2", &other).conf(&conf())).succeeded();
    fill_and_empty(&world, &conf(), 5);
}

/// The same where it cannot be recorded either: this daemon knows it all the same.
#[test]
fn an_add_that_can_neither_be_undone_nor_recorded_is_finished_by_the_same_daemon() {
    let world = world!();
    let state = on_small_disk(&world);
    let (stays, conf) = (world.container(), network("wide", "wide0", "10.42.0.0/24"));
    let first = world.daemon();
    world.call(Call::add("stays", &stays).conf(&conf)).succeeded();
    first.kill();
    let points = [vec!["add-linked"; 3], vec!["del-unfiltered"; 4]].concat().join(",");
    let daemon = world.daemon_with(Options::default().var("QUANTUM_FAIL_AT", &points));
    let filler = fill(state);
    let said = || daemon.log().iter().any(|r| r["msg"] == "undoing an ADD is not recorded");
    let containers = [0, 1, 2].map(|_| world.container());
    for (n, container) in containers.iter().enumerate() {
        // The log may take a change or two more before it needs room.
        if !said() {
            world.call(Call::add(&format!("c{n}"), container).conf(&conf)).failed();
        }
    }
    assert!(said(), "the disk is full");
    assert!(veths(&world.host).len() > 1, "the undo was refused");
    eventually("the leftovers to go", || (veths(&world.host).len() == 1).then_some(()));
    std::fs::remove_file(filler).expect("removed");
    eventually("their addresses to be free", || {
        let (_, metrics) = daemon.get("/metrics");
        metrics.contains("held{network=\"wide\"} 1\n").then_some(())
    });
    daemon.kill();
    nix::mount::umount(state).expect("unmounted");
}
