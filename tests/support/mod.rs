//! The harness: a world of namespaces for each test, the programs under test, and ways to look.

pub(crate) mod binaries;
pub(crate) mod cgroup;
pub(crate) mod chain;
pub(crate) mod conf;
pub(crate) mod ctl;
pub(crate) mod daemon;
pub(crate) mod docker;
pub(crate) mod enter;
pub(crate) mod eventually;
pub(crate) mod forged;
pub(crate) mod frames;
pub(crate) mod grid;
pub(crate) mod inventory;
pub(crate) mod ipam;
pub(crate) mod kept;
pub(crate) mod knock;
pub(crate) mod lines;
pub(crate) mod lingering;
pub(crate) mod netns;
pub(crate) mod node;
pub(crate) mod ping;
pub(crate) mod plugin;
pub(crate) mod ports;
pub(crate) mod probe;
pub(crate) mod random;
pub(crate) mod traffic;
pub(crate) mod unit;
pub(crate) mod user;
pub(crate) mod wire;
pub(crate) mod world;

/// The world of this test; where there can be none, the test says why and ends.
macro_rules! world {
    () => {
        match $crate::support::world::World::new() {
            Ok(world) => world,
            Err(reason) => return $crate::support::skip(&reason),
        }
    };
}

/// Says that this test did not run, past the test runner's capture, so that it is seen.
pub(crate) fn skip(reason: &str) {
    use std::io::Write;
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr().lock(), "skipped: {name}: {reason}");
}
