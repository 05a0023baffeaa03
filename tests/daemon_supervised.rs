//! The daemon under a supervisor as systemd is one: its socket is handed over and outlives it, and it tells how
//! it is.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::conf::example;
use crate::support::daemon::{Daemon, Options};
use crate::support::eventually::{BOUND, eventually};
use crate::support::kept::{Kept, hand_over};
use crate::support::plugin::Call;
use crate::support::skip;
use crate::support::user::can_be_played;
use crate::support::wire::Client;
use crate::support::world::World;

#[test]
fn who_comes_while_there_is_no_daemon_is_served_by_the_next_one() {
    let world = world!();
    let socket = &world.paths().socket;
    let kept = Kept::at(socket);
    let daemon = kept.daemon(&world);
    assert!(daemon.terminate().success());
    assert!(fs::metadata(socket).expect("it is still there").file_type().is_socket());
    // These know nothing of waiting.
    let containers = [world.container(), world.container()];
    let calls = containers.each_ref().map(|container| {
        let mut client = Client::connect(socket).expect("the kernel's queue");
        let name = format!("c{:p}", container);
        client.call(&Call::add(&name, container).conf(&example()), &world.host, Some(container));
        client
    });
    let daemon = kept.daemon(&world);
    for mut client in calls {
        let reply = client.reply();
        assert_eq!(reply.exit, 0, "{}", reply.stdout);
    }
    daemon.kill();
    let container = world.container();
    let served = std::thread::scope(|scope| {
        let add = scope.spawn(|| world.call(Call::add("late", &container).conf(&example())));
        let _daemon = kept.daemon(&world);
        add.join().expect("the call")
    });
    served.succeeded();
}

/// Says why it does not start.
fn refuses(world: &World, mut daemon: Daemon) -> String {
    assert!(!daemon.wait().success(), "it started");
    let log = fs::read_to_string(&world.paths().log).expect("the log");
    log.lines().last().expect("why").to_owned()
}

#[test]
fn what_is_not_its_socket_is_refused_by_name() {
    let world = world!();
    let socket = &world.paths().socket;
    let root = &world.paths().root;

    let elsewhere = UnixListener::bind(root.join("other.sock")).expect("a socket");
    let said = refuses(&world, hand_over(&elsewhere, &world, Options::default()));
    assert!(said.contains("other.sock") && said.contains("socket_path"), "{said}");
    let file = fs::File::open("/dev/null").expect("a file");
    let said = refuses(&world, hand_over(&file, &world, Options::default()));
    assert!(said.contains("ListenStream"), "{said}");
    let (one_end, _other) = UnixStream::pair().expect("a pair");
    let said = refuses(&world, hand_over(&one_end, &world, Options::default()));
    assert!(said.contains("ListenStream"), "{said}");

    let kept = Kept::at(socket);
    let said = refuses(&world, kept.start(&world, Options::default().var("LISTEN_FDS", "2")));
    assert!(said.contains("LISTEN_FDS=2"), "{said}");
    for (mode, args, word) in [
        (0o666, "", "SocketMode=0600"),
        (0o660, "", "SocketMode=0600"),
        (0o666, "--reader-group 65531", "SocketGroup=65531"),
        (0o660, "--reader-group 65531", "SocketGroup=65531"),
    ] {
        fs::set_permissions(socket, Permissions::from_mode(mode)).expect("a mode");
        let said = refuses(&world, kept.start(&world, Options::default().args(args)));
        assert!(said.contains(word), "{mode:o} {args}: {said}");
    }
    assert!(fs::metadata(socket).expect("it is still there").file_type().is_socket());
}

#[test]
fn the_group_of_the_readers_gets_it() {
    if !can_be_played() {
        return skip("only root of the machine can give a file to any group");
    }
    let world = world!();
    let socket = &world.paths().socket;
    let kept = Kept::at(socket);
    for _ in 0..2 {
        let mut daemon = kept.start(&world, Options::default().args("--reader-group 65531"));
        daemon.wait_ready();
        let file = fs::metadata(socket).expect("the socket");
        assert_eq!((file.mode() & 0o777, file.gid()), (0o660, 65531));
    }
}

#[test]
fn what_was_handed_over_to_another_process_is_not_taken() {
    let world = world!();
    let options = Options::default().var("LISTEN_PID", "1").var("LISTEN_FDS", "1");
    let daemon = world.daemon_with(options);
    assert!(daemon.terminate().success());
    assert!(!world.paths().socket.exists(), "its own socket goes with it");
}

#[test]
fn it_tells_that_it_listens_how_it_is_that_it_lives_and_that_it_stops() {
    let world = world!();
    let path = world.paths().root.join("notify");
    let supervisor = UnixDatagram::bind(&path).expect("a socket");
    supervisor.set_read_timeout(Some(BOUND)).expect("a bound");
    let next = || {
        let mut buffer = [0; 4096];
        let n = supervisor.recv(&mut buffer).expect("it tells something");
        String::from_utf8(buffer[..n].to_vec()).expect("text")
    };
    let options = Options::default()
        .var("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))
        .var("WATCHDOG_USEC", "100000");
    let daemon = world.daemon_with(options);
    assert!(next().starts_with("READY=1\nSTATUS=the daemon is starting"));
    let until = |what: &str| eventually(what, || next().contains(what).then_some(()));
    until("READY=1\nSTATUS=open");
    (0..3).for_each(|_| until("WATCHDOG=1"));
    daemon.signal(Signal::SIGTERM);
    until("STOPPING=1\nSTATUS=the daemon is stopping");
}

#[test]
fn systemd_reads_the_units() {
    let units = ["dist/quantum-cnid.socket", "dist/quantum-cnid.service"];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).args(units.map(|unit| folder.join(unit)));
    let Ok(output) = verify.output() else {
        return skip("there is no systemd-analyze");
    };
    let said = String::from_utf8_lossy(&output.stderr);
    // Where it is not installed.
    let wrong = said.lines().filter(|line| !line.contains("is not executable"));
    let wrong: Vec<&str> = wrong.filter(|line| line.contains("quantum-cnid")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let of = |unit: &str, key: &str| {
        let text = fs::read_to_string(folder.join(unit)).expect("a unit");
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("{unit} has no {key}")).to_owned()
    };
    assert_eq!(of(units[0], "ListenStream"), quantum_config::wire::DEFAULT_SOCKET);
    assert_eq!(of(units[0], "SocketMode"), "0600");
    assert_eq!(of(units[1], "Type"), "notify");
}
