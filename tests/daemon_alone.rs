//! One daemon for each network namespace: a second one would sweep the links of the first. Who is not root can
//! keep none from starting.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;

use nix::sched::{CloneFlags, unshare};

use crate::support::conf::network;
use crate::support::daemon::{self, Daemon};
use crate::support::plugin::Call;
use crate::support::user::{USER, be_user, can_be_played, for_all, open_to_all};
use crate::support::world::Paths;
use crate::support::{binaries, skip};

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
    // Also its mounts, as those of a daemon in a container.
    let args = ["--http-listen", "127.0.0.1:9642"].map(str::to_owned);
    let mut command = daemon::command(&world.host, &paths, &args);
    // SAFETY: one system call; nothing is allocated after the fork.
    unsafe {
        command.pre_exec(|| Ok(unshare(CloneFlags::CLONE_NEWNS)?));
    }
    let mut second = Daemon::spawn(command, &world.host, &paths);
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

#[test]
fn a_name_that_anybody_can_take_keeps_no_daemon_from_starting() {
    let world = world!();
    let name = SocketAddr::from_abstract_name("quantum-cnid").expect("a name");
    // Both kinds: one name is free for each.
    let taken = world.host.run(|| (UnixDatagram::bind_addr(&name), UnixListener::bind_addr(&name)));
    assert!(taken.0.is_ok() || taken.1.is_ok(), "{taken:?}");
    let mut first = world.daemon();
    assert!(first.is_running());
    // It is one daemon all the same.
    let args = ["--http-listen", "127.0.0.1:9642"].map(str::to_owned);
    let mut second = Daemon::spawn(
        daemon::command(&world.host, world.paths(), &args),
        &world.host,
        world.paths(),
    );
    assert_eq!(second.wait().code(), Some(1));
}

#[test]
fn a_user_cannot_take_the_lock() {
    let world = world!();
    if !can_be_played() {
        return skip("another user can only be played by root");
    }
    open_to_all(&world);
    // The daemon itself, as another user, is who tries hardest.
    let daemon = for_all(&world, binaries::daemon());
    let root = world.paths().root.join("theirs");
    std::fs::create_dir(&root).expect("a folder");
    std::os::unix::fs::chown(&root, Some(USER), Some(USER)).expect("theirs");
    let mut command = world.host.command(daemon);
    for (flag, file) in [("--socket-path", "s"), ("--state-dir", "state"), ("--spool-dir", "spool")]
    {
        command.arg(flag).arg(root.join(file));
    }
    be_user(&mut command, &[]);
    let output = command.output().expect("it ran");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("CAP_NET_ADMIN is missing"), "{output:?}");
    let _daemon = world.daemon();
}
