//! One daemon for each network namespace: a second one would sweep the links of the first.

use crate::support::conf::network;
use crate::support::daemon::{Daemon, Options};
use crate::support::plugin::Call;
use crate::support::world::Paths;

#[test]
fn a_second_daemon_in_a_namespace_does_not_start_and_harms_nobody() {
    let world = world!();
    let first = world.daemon();
    let conf = network("alone", "alone1", "10.71.0.0/24");
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    // Everything of the second one is its own, but for the namespace.
    let root = world.paths().root.join("second");
    std::fs::create_dir(&root).expect("a folder");
    let paths = Paths {
        socket: root.join("cni.sock"),
        config_dir: root.join("net.d"),
        state_dir: root.join("state"),
        spool_dir: root.join("spool"),
        log: root.join("log"),
        root,
    };
    let options = Options::default().args("--http-listen 127.0.0.1:9642");
    let mut second = Daemon::start(&world.host, &paths, options);
    let status = second.wait();
    assert_eq!(status.code(), Some(1));
    let said = std::fs::read_to_string(&paths.log).expect("its log");
    assert!(said.contains("another quantum-cnid works in this network namespace"), "{said}");
    assert!(container.link("eth0").is_some(), "the first one's container");
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    drop(first);
    // Its lock goes with it, however it ends.
    let _third = world.daemon();
}
