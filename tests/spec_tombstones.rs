//! A DEL that could not be carried out is written down somewhere, is carried out once, and is about no attachment
//! that was made later, wherever the clocks are.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount, umount};
use quantum_config::cni::{CniError, Code};
use quantum_config::wire::{HEADER, Header, Reply};

use crate::support::conf::example;
use crate::support::daemon::{self, Daemon, Options, log};
use crate::support::eventually::{eventually, eventually_within};
use crate::support::plugin::{Call, Outcome};
use crate::support::skip;
use crate::support::world::{World, names_in};

/// The spool is read every ten seconds.
const REPLAYED: Duration = Duration::from_secs(25);

fn mount_over(folder: &Path, flags: MsFlags, options: &str) {
    let _ = std::fs::create_dir(folder);
    mount(Some("tmpfs"), folder, Some("tmpfs"), flags, Some(options)).expect("a disk");
}

/// What it answers to the next call, whoever sends it.
fn answering(world: &World, reply: &Reply, call: impl FnOnce() -> Outcome) -> Outcome {
    use std::io::{Read, Write};
    let _ = std::fs::remove_file(&world.paths().socket);
    let listener = UnixListener::bind(&world.paths().socket).expect("a socket");
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a plugin");
            let mut header = [0; HEADER];
            stream.read_exact(&mut header).expect("a header");
            let header = Header::decode(&header).expect("a header");
            let mut body = vec![0; header.length as usize];
            stream.read_exact(&mut body).expect("a request");
            stream.write_all(&reply.encode()).expect("answered");
        });
        let outcome = call();
        serving.join().expect("it was asked");
        outcome
    })
}

fn later() -> Reply {
    let error = CniError::new(Code::TryAgainLater, "the request was not let in");
    Reply { exit: 1, stdout: error.to_json(None), ..Reply::default() }
}

#[test]
fn where_the_spool_takes_nothing_it_is_written_beside_the_socket() {
    for (flags, options) in
        [(MsFlags::empty(), "mode=700,nr_inodes=1"), (MsFlags::MS_RDONLY, "mode=700")]
    {
        let world = world!();
        let daemon = world.daemon();
        let container = world.container();
        world.call(Call::add("c1", &container).conf(&example())).succeeded();
        daemon.kill();
        mount_over(&world.paths().spool_dir, flags, options);
        world.call(Call::del("c1", &container).conf(&example())).succeeded();
        let second = world.paths().root.join("tombstones");
        assert_eq!(names_in(&second).len(), 1, "{options}");
        let daemon = world.daemon();
        assert!(container.link("eth0").is_none(), "it was carried out before the first ADD");
        assert_eq!(names_in(&second), Vec::<String>::new());
        daemon.kill();
        umount(&world.paths().spool_dir).expect("unmounted");
    }
}

#[test]
fn a_daemon_that_cannot_carry_it_out_now_does_so_later() {
    let world = world!();
    let daemon = world.daemon();
    let (first, second) = (world.container(), world.container());
    world.call(Call::add("c1", &first).conf(&example())).succeeded();
    world.call(Call::add("c2", &second).conf(&example())).succeeded();
    daemon.kill();
    let stopping = Reply { stopping: true, ..later() };
    for (name, container, reply) in [("c1", &first, later()), ("c2", &second, stopping)] {
        let del = || world.call(Call::del(name, container).conf(&example()));
        answering(&world, &reply, del).succeeded();
    }
    // Only a DEL can be: whoever asks for something else waits for an answer.
    let check = || world.call(Call::new("STATUS").conf(&example()));
    answering(&world, &later(), check).failed_with(11);
    let _daemon = world.daemon();
    assert!(first.link("eth0").is_none() && second.link("eth0").is_none(), "they were carried out");
}

#[test]
fn what_can_be_written_nowhere_has_the_answer_of_the_daemon() {
    let world = world!();
    let container = world.container();
    mount_over(&world.paths().spool_dir, MsFlags::MS_RDONLY, "mode=700");
    std::fs::write(world.paths().root.join("tombstones"), "").expect("a file in its place");
    let del = || world.call(Call::del("c1", &container).conf(&example()));
    let said = answering(&world, &later(), del).failed_with(11);
    assert!(said.contains("was not let in"), "{said}");
    let said = del().failed_with(5);
    assert!(said.contains("tombstones: Not a directory"), "{said}");
    umount(&world.paths().spool_dir).expect("unmounted");
}

#[test]
fn a_spool_has_one_daemon() {
    let world = world!();
    let _daemon = world.daemon();
    let other = world.container();
    other.ip("link set lo up");
    let mut paths = world.paths().clone();
    paths.state_dir = world.paths().root.join("other-state");
    paths.socket = world.paths().root.join("other/cni.sock");
    let mut second = Daemon::start(&other, &paths, Options::default());
    assert!(!second.wait().success());
    let said = std::fs::read_to_string(&paths.log).expect("a log");
    let spool = paths.spool_dir.display().to_string();
    assert!(said.contains("another daemon holds the lock") && said.contains(&spool), "{said}");
}

#[test]
fn what_cannot_be_set_aside_is_said_once() {
    let world = world!();
    let daemon = world.daemon();
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
    daemon.kill();
    let poison = format!("{}.del", "x".repeat(250));
    std::fs::write(world.paths().spool_dir.join(&poison), "QCNI").expect("a file");
    let daemon = world.daemon();
    // The plugin's own way to a tombstone, while the daemon runs.
    let mut alone = world.plugin_command(&world.host);
    alone.env(quantum_config::wire::SOCKET_VARIABLE, "/nowhere/cni.sock");
    Call::del("c1", &container).conf(&example()).run(alone).succeeded();
    eventually_within(REPLAYED, "the spool to be read again", || {
        container.link("eth0").is_none().then_some(())
    });
    let said = log(world.paths()).into_iter();
    let said = said.filter(|record| record["file"].to_string().contains(&poison)).count();
    assert_eq!(said, 1);
    drop(daemon);
}

#[test]
fn a_daemon_in_another_time_namespace_takes_nothing_for_newer() {
    let world = world!();
    let ahead = ["--time", "--boottime", "86400", "--fork", "--kill-child"];
    let can = Command::new("unshare").args(ahead).arg("true").output();
    if !can.is_ok_and(|output| output.status.success()) {
        return skip("there are no time namespaces here, or unshare does not know them");
    }
    let start = || {
        let plain = daemon::command(&world.host, world.paths(), &[]);
        let mut command = world.host.command("unshare");
        command.args(ahead).arg(plain.get_program()).args(plain.get_args());
        let mut daemon = Daemon::spawn(command, &world.host, world.paths());
        daemon.wait_ready();
        daemon
    };
    let daemon = start();
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
    daemon.kill();
    let gone = || !world.paths().socket.exists() || connect_fails(&world.paths().socket);
    eventually("the daemon to be gone", || gone().then_some(()));
    world.call(Call::del("c1", &container).conf(&example())).succeeded();
    assert_eq!(world.tombstones().len(), 1);
    let _daemon = start();
    assert!(container.link("eth0").is_none(), "it was carried out");
}

fn connect_fails(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_err()
}
