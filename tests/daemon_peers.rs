//! Peers that would stop the daemon, fill it, or take others' places: by descriptors whose close blocks, by
//! requests that are never complete, by saying nothing, by reading nothing.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::libc;
use quantum_config::wire::{Control, HEADER, Header, Kind, MAX_BODY};

use crate::support::conf::example;
use crate::support::ctl::told;
use crate::support::daemon::Daemon;
use crate::support::enter::{Entered, entered};
use crate::support::eventually::eventually;
use crate::support::lingering::{Lingering, Unanswered, closing};
use crate::support::plugin::Call;
use crate::support::skip;
use crate::support::wire::{self, Answer, Client, frame};
use crate::support::world::World;

fn client(world: &World) -> Client {
    Client::connect(&world.paths().socket).expect("connected")
}

/// All that anybody may ask is answered.
#[track_caller]
fn assert_answers(world: &World, daemon: &Daemon, what: &str) {
    assert!(wire::ready(&world.paths().socket), "STATUS after {what}");
    told(world, "status", "");
    assert_eq!(daemon.get("/healthz").0, 200, "after {what}");
}

fn assert_serves(world: &World) {
    let container = world.container();
    world.call(Call::add("good", &container).conf(&example())).succeeded();
    world.call(Call::del("good", &container).conf(&example())).succeeded();
}

fn header(descriptors: u8, length: u32) -> Vec<u8> {
    Header::new(Kind::Call, descriptors, length).encode().to_vec()
}

/// How many descriptors a daemon has open.
fn open(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("its descriptors").count()
}

#[test]
fn descriptors_that_cannot_be_closed_hold_up_nobody() {
    let world = world!();
    let daemon = world.daemon();
    assert_serves(&world);
    let before = open(&daemon);
    let container = world.container();
    let (add, files) =
        frame(&Call::add("c1", &container).conf(&example()), &world.host, Some(&container));
    let host = files[0].as_raw_fd();
    let status = Control { question: "status".into(), ..Control::default() };
    let status = status.encode().expect("a frame");
    let mut unknown = header(2, 0);
    unknown[6] = 77;
    let last = |bytes: &[u8]| bytes.len() - 1;
    let (none, protocol, three) = (&b""[..], &b"GET / HTTP/1.1\r\n\r\n"[..], header(2, 9));
    // What is sent before them, with them, and when the test has let go of them.
    let cases = [
        ("one for the container", 1, [none, &add[..last(&add)], &add[last(&add)..]]),
        ("two for host and container", 2, [none, &add[..last(&add)], &add[last(&add)..]]),
        ("two of a frame that is none", 2, [none, &unknown[..7], &unknown[7..]]),
        ("two of half a header", 2, [none, &add[..7], none]),
        ("two of half a body", 2, [none, &add[..HEADER + 9], none]),
        ("one with a question", 1, [none, &status[..3], &status[3..]]),
        ("three", 3, [none, &three, none]),
        ("as many as a message can carry", 253, [none, &three, none]),
        ("one after a question", 1, [&status, b"more", none]),
        ("one after another protocol", 1, [protocol, b"more", none]),
    ];
    let (mut all, mut sure) = (Vec::new(), 0);
    for (what, count, [before, with, after]) in cases {
        let mut client = client(&world);
        client.send(before).expect("sent");
        // These the daemon has until more comes. Others it may have closed before the test has.
        let has_them = count < 3 && before.is_empty();
        let (peers, ()) = Lingering::give(&world.host, count, |sockets| {
            let mut files = sockets.raw();
            if what == "one for the container" {
                files.insert(0, host);
            }
            let _ = client.send_with(with, &files);
            let left = sockets.leave();
            if has_them {
                left.join().expect("a thread");
            }
        });
        sure += usize::from(has_them);
        let _ = client.send(after);
        client.finish();
        client.answer();
        all.push(peers);
        eventually(what, || (closing(&daemon) >= sure).then_some(()));
        assert_answers(&world, &daemon, what);
    }
    assert_serves(&world);
    assert!(
        sure > 5 && closing(&daemon) >= sure,
        "they could be closed after all: nothing was tried"
    );
    drop(all);
    eventually("all to be closed", || {
        (closing(&daemon) == 0 && open(&daemon) <= before).then_some(())
    });
}

#[test]
fn a_file_whose_server_does_not_answer_is_not_asked_what_it_is() {
    let world = world!();
    let folder = world.paths().root.join("fuse");
    let unanswered = match Unanswered::mount(&folder) {
        Ok(unanswered) => unanswered,
        Err(reason) => return skip(&reason),
    };
    let daemon = world.daemon();
    let container = world.container();
    let call = Call::add("c1", &container).conf(&example());
    let (bytes, files) = frame(&call, &world.host, Some(&container));
    let (host, file) = (files[0].as_raw_fd(), unanswered.descriptor());
    for (files, code) in [([host, file.as_raw_fd()], "8"), ([file.as_raw_fd(), host], "100")] {
        let mut client = client(&world);
        client.send_with(&bytes, &files).expect("sent");
        let reply = client.reply();
        assert!(reply.stdout.contains(&format!("\"code\":{code}")), "{reply:?}");
    }
    assert_answers(&world, &daemon, "a file of FUSE");
    assert_serves(&world);
}

/// What `/proc/PID/status` says of a daemon's memory, in KiB.
fn memory(daemon: &Daemon, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("there");
    let line = status.lines().find(|line| line.starts_with(key)).expect("its line");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

#[test]
fn requests_that_are_never_complete_take_a_bounded_memory_and_give_it_back() {
    // Twice as many as there is room for: the others wait for those.
    const COUNT: usize = 24;
    let world = world!();
    let daemon = world.daemon();
    assert_serves(&world);
    let (most, now) = (memory(&daemon, "VmHWM:"), memory(&daemon, "VmRSS:"));
    let mut all_but_one = header(0, MAX_BODY);
    all_but_one.resize(HEADER + MAX_BODY as usize - 1, 0);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let one = || {
            let mut client = client(&world);
            let _ = client.send(&all_but_one);
            client.answer()
        };
        let threads: Vec<_> = (0..COUNT).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let of = |code: &str| {
        let is =
            |a: &&Answer| matches!(a, Answer::Reply(r) if r.exit == 1 && r.stdout.contains(code));
        answers.iter().filter(is).count()
    };
    assert_eq!(of("\"code\":5,"), COUNT, "{:?}", answers[0]);
    let grown = memory(&daemon, "VmHWM:") - most;
    assert!(grown < 20 << 10, "it grew by {grown} KiB");
    eventually("the memory to go back to the system", || {
        (memory(&daemon, "VmRSS:") < now + (6 << 10)).then_some(())
    });
    assert_serves(&world);
}

#[test]
fn a_connection_that_says_nothing_is_closed_and_one_that_reads_nothing_too() {
    let world = world!();
    let _daemon = world.daemon();
    let (mut silent, mut half) = (client(&world), client(&world));
    half.send(&header(0, 10)[..5]).expect("sent");
    // The answer repeats the question, and does not fit into a socket.
    let question = Control { question: "x".repeat(900_000), ..Control::default() };
    let mut deaf = client(&world);
    deaf.send(&question.encode().expect("a frame")).expect("sent");
    for client in [&mut silent, &mut half] {
        let reply = client.reply();
        assert!(reply.stdout.contains("did not finish its request in time"), "{reply:?}");
    }
    eventually("the daemon to close", || deaf.is_closed().then_some(()));
    assert_serves(&world);
}

/// Does something on a thread that is another user.
fn as_user<T: Send>(uid: u32, f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            // SAFETY: three numbers; as a plain system call it concerns this thread only.
            let set = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
            assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
            f()
        };
        scope.spawn(run).join().expect("a thread")
    })
}

#[test]
fn one_user_takes_no_place_of_another() {
    const EACH: usize = 64;
    let world = world!();
    if entered() != Ok(Entered::Root) {
        return skip("another user can only be played by root");
    }
    let daemon = world.daemon();
    let open_to_all = |path: &Path, mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, permissions).expect("its mode");
    };
    open_to_all(&world.paths().root, 0o755);
    open_to_all(&world.paths().socket, 0o666);
    let code = |client: &mut Client| match client.answer() {
        Answer::Reply(reply) => {
            let code = reply.stdout.split("\"code\":").nth(1).and_then(|t| t.split(',').next());
            code.unwrap_or_default().to_owned()
        }
        other => panic!("a reply was expected: {other:?}"),
    };
    // What cannot be closed keeps its connection's place.
    let mut all = Vec::new();
    eventually("its places to be taken", || {
        let (peer, code) = Lingering::give(&world.host, 1, |sockets| {
            as_user(65534, || {
                let mut client = client(&world);
                let _ = client.send_with(b"QCNI", &sockets.raw());
                let _ = sockets.leave();
                code(&mut client)
            })
        });
        all.push(peer);
        (code == "11").then_some(())
    });
    assert!(closing(&daemon) >= EACH, "something else was refused");
    as_user(65534, || assert_eq!(code(&mut client(&world)), "11", "its places are taken"));
    as_user(65533, || assert_eq!(code(&mut client(&world)), "102", "another user has its own"));
    assert_answers(&world, &daemon, "a user without places");
    assert_serves(&world);
    drop(all);
    as_user(65534, || {
        eventually("its places to come back", || (code(&mut client(&world)) == "102").then_some(()))
    });
}

#[test]
fn a_daemon_that_may_not_enter_namespaces_says_so_and_lives() {
    use std::os::unix::process::CommandExt;
    /// `CAP_SYS_ADMIN`.
    const SYS_ADMIN: libc::c_ulong = 21;
    let world = world!();
    let mut command = crate::support::daemon::command(&world.host, world.paths(), &[]);
    // SAFETY: a system call that takes numbers. Registered after the one that enters the namespace.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_CAPBSET_DROP, SYS_ADMIN, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let mut daemon = Daemon::spawn(command, &world.host, world.paths());
    assert!(daemon.serves_or_ended(), "it ended");
    let container = world.container();
    // Nor may it make the one that its rules are translated in.
    let error = world.call(Call::add("c1", &container).conf(&example())).failed();
    assert!(error.details.contains("not permitted"), "{error:?}");
    assert!(daemon.is_running(), "it died of it");
    world.call(Call::del("c1", &container).conf(&example())).succeeded();
    assert!(File::open(container.path()).is_ok() && container.link("eth0").is_none());
}
