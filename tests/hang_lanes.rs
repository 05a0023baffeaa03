//! A thread that hangs, in the kernel or at a disk, is seen and named, holds up no DEL, and no stop. The
//! daemon's debug build is made to hang where it is about to write to the store, to have the disk keep it,
//! and in the middle of what it does in a network namespace.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::daemon_http::sample;
use crate::daemon_status::quantumctl;
use crate::support::conf::{at, network};
use crate::support::daemon::{Daemon, Options};
use crate::support::eventually::eventually_within;
use crate::support::inventory::veths;
use crate::support::plugin::{Call, Outcome};
use crate::support::world::World;

/// A lane counts as one that hangs after 10 s.
const SEEN: Duration = Duration::from_secs(20);
/// An orderly stop has 20 s, and each part of it at least one.
const STOPPED: Duration = Duration::from_secs(30);

/// Where a step is made to hang: for as long as there is a file of its name.
struct Hangs(PathBuf);

impl Hangs {
    fn new(world: &World) -> Self {
        let folder = world.paths().root.join("hangs");
        std::fs::create_dir(&folder).expect("a folder");
        Self(folder)
    }

    fn options(&self) -> Options {
        Options::default().var("QUANTUM_HANG_AT", self.0.to_str().expect("UTF-8"))
    }

    fn at(&self, point: &str) -> PathBuf {
        let file = self.0.join(point);
        std::fs::write(&file, "").expect("a file");
        file
    }
}

fn status(world: &World, conf: &Value) -> Outcome {
    world.call(Call::new("STATUS").conf(&at(conf, "1.1.0")))
}

/// Every sign says which lane hangs.
#[track_caller]
fn is_seen(world: &World, daemon: &Daemon, conf: &Value, lane: &str) {
    let told = format!("{lane}: one job for ");
    eventually_within(SEEN, &format!("the lane {lane} to be seen"), || {
        let (code, page) = daemon.get("/healthz");
        (code == 503 && page.contains(&told)).then_some(())
    });
    let (code, page) = daemon.get("/readyz");
    assert!(code == 503 && page.contains(&told), "{code} {page}");
    let said = status(world, conf).failed_with(50);
    assert!(said.contains(&told), "{said}");
    let shown = quantumctl(world, "status");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(!shown.status.success() && text.contains(&format!("stuck: {told}")), "{text}");
    let (_, metrics) = daemon.get("/metrics");
    assert_eq!(sample(&metrics, "cni_ready", &[]), 0.0);
    assert!(sample(&metrics, "cni_lane_busy_seconds", &[&format!("\"{lane}\"")]) > 9.0);
}

/// What hangs at `point` while an ADD is served is seen; a DEL succeeds all the same; and when it goes on, all
/// is well. Or the daemon is stopped, which has its time, and the next one carries the DEL out.
fn hangs(point: &str, lane: &str, is_stopped: bool) {
    let world = world!();
    let hangs = Hangs::new(&world);
    let mut daemon = world.daemon_with(hangs.options());
    let conf = network("hung", "hung0", "10.44.0.0/24");
    let (first, second) = (world.container(), world.container());
    world.call(Call::add("c1", &first).conf(&conf)).succeeded();
    let file = hangs.at(point);
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| world.call(Call::add("c2", &second).conf(&conf)));
        is_seen(&world, &daemon, &conf, lane);
        world.call(Call::del("c1", &first).conf(&conf)).succeeded();
        if is_stopped {
            let began = Instant::now();
            daemon.signal(Signal::SIGTERM);
            eventually_within(STOPPED, "the daemon to stop", || {
                (!daemon.is_running()).then_some(())
            });
            println!("{point}: stopped after {:?}", began.elapsed());
            assert!(daemon.wait().success());
            std::fs::remove_file(&file).expect("removed");
            adding.join().expect("an ADD").failed_with(11);
            daemon = world.daemon();
        } else {
            std::fs::remove_file(&file).expect("removed");
            adding.join().expect("an ADD");
            daemon.wait_ready();
            assert_eq!(daemon.get("/healthz"), (200, r#"{"stuck":[]}"#.to_owned()));
            status(&world, &conf).succeeded();
        }
    });
    world.call(Call::del("c2", &second).conf(&conf)).succeeded();
    eventually_within(SEEN, "all DELs to be carried out", || {
        veths(&world.host).is_empty().then_some(())
    });
    world.call(Call::add("c3", &first).conf(&conf)).succeeded();
}

#[test]
fn a_write_that_hangs_is_seen() {
    hangs("store-commit", "store", false);
}

#[test]
fn a_write_that_hangs_holds_up_no_stop() {
    hangs("store-commit", "store", true);
}

#[test]
fn a_namespace_that_hangs_is_seen() {
    hangs("add-link-made", "route", false);
}

#[test]
fn a_namespace_that_hangs_holds_up_no_stop() {
    hangs("add-link-made", "route", true);
}

#[test]
fn a_disk_that_keeps_nothing_is_seen_and_holds_up_no_stop() {
    let world = world!();
    let hangs = Hangs::new(&world);
    let mut daemon = world.daemon_with(hangs.options());
    let conf = network("hung", "hung0", "10.44.0.0/24");
    let container = world.container();
    let file = hangs.at("store-checkpoint");
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    is_seen(&world, &daemon, &conf, "store");
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    daemon.signal(Signal::SIGTERM);
    eventually_within(STOPPED, "the daemon to stop", || (!daemon.is_running()).then_some(()));
    assert!(daemon.wait().success());
    std::fs::remove_file(&file).expect("removed");
    let _daemon = world.daemon();
    assert!(container.link("eth0").is_none(), "the DEL is carried out before the first ADD");
}

#[test]
fn a_start_that_hangs_at_the_store_is_ended() {
    let world = world!();
    let hangs = Hangs::new(&world);
    world.daemon().kill();
    let file = hangs.at("store-opened");
    let mut daemon = Daemon::start(&world.host, world.paths(), hangs.options());
    eventually_within(SEEN, "the daemon to hold its store", || {
        is_locked(&world.paths().state_dir.join("lock")).then_some(())
    });
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    std::fs::remove_file(&file).expect("removed");
    world.daemon();
}

fn is_locked(file: &Path) -> bool {
    let file = std::fs::File::open(file).expect("the lock");
    matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock))
}
