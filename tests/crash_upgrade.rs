//! A daemon that is replaced by another, as by an upgrade: whoever comes in the gap waits for the next one, and
//! what no daemon has begun with is sent to it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use quantum_config::wire::{self, HEADER, Header, Request};
use serde_json::{Value, json};

use crate::support::conf::{at, example, network, with};
use crate::support::daemon::Daemon;
use crate::support::inventory::veths;
use crate::support::kept::Kept;
use crate::support::plugin::{Call, Outcome};
use crate::support::world::World;

/// Takes the place of a daemon: what it does with the one connection it gets, before it is gone.
fn no_daemon(world: &World, with: impl FnOnce(UnixStream)) {
    let socket = &world.paths().socket;
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).expect("a socket");
    let (stream, _) = listener.accept().expect("the plugin");
    with(stream);
    std::fs::remove_file(socket).expect("the socket goes with the daemon");
}

/// Reads the whole request.
fn read(mut stream: &UnixStream) -> wire::Call {
    let mut head = [0; HEADER];
    stream.read_exact(&mut head).expect("a header");
    let header = Header::decode(&head).expect("a header");
    let mut body = vec![0; header.length as usize];
    stream.read_exact(&mut body).expect("a body");
    match Request::decode(&header, &body).expect("a request") {
        Request::Call(call) => *call,
        other => panic!("the plugin sends calls: {other:?}"),
    }
}

/// A call that meets what is no daemon, and then the next daemon, if one comes.
fn between(world: &World, call: Call, with: impl FnOnce(UnixStream), next: bool) -> Outcome {
    std::thread::scope(|scope| {
        let call = scope.spawn(|| world.call(call));
        no_daemon(world, with);
        let _daemon = next.then(|| world.daemon());
        call.join().expect("the call")
    })
}

/// An attachment that lives, and the configurations of all verbs about it.
fn scene(world: &World) -> (crate::support::netns::Netns, Value) {
    let daemon = world.daemon();
    let container = world.container();
    let conf = at(&example(), "1.1.0");
    let result = world.call(Call::add("lives", &container).conf(&conf)).succeeded();
    assert!(daemon.terminate().success());
    let valid = json!([{ "containerID": "lives", "ifname": "eth0" }]);
    (container, with(&conf, json!({ "prevResult": result, "cni.dev/valid-attachments": valid })))
}

#[test]
fn what_no_daemon_has_read_goes_to_the_next_one() {
    let world = world!();
    let (lives, conf) = scene(&world);
    let (first, second) = (world.container(), world.container());
    let fat = with(&conf, json!({ "args": { "filler": "x".repeat(800_000) } }));
    for call in [
        Call::add("c1", &first).conf(&conf),
        // More than the kernel holds: the plugin is in the middle of sending it.
        Call::add("c2", &second).conf(&fat),
        Call::check("lives", &lives).conf(&conf),
        Call::new("GC").conf(&conf),
    ] {
        between(&world, call, drop, true).succeeded();
    }
}

#[test]
fn what_a_stopping_daemon_has_not_begun_with_goes_to_the_next_one() {
    let world = world!();
    let (lives, conf) = scene(&world);
    let container = world.container();
    let stops = |mut stream: UnixStream| {
        read(&stream);
        let reply = wire::Reply { exit: 1, stopping: true, ..wire::Reply::default() };
        stream.write_all(&reply.encode()).expect("an answer");
    };
    for call in [
        Call::add("c1", &container).conf(&conf),
        Call::check("lives", &lives).conf(&conf),
        Call::new("GC").conf(&conf),
    ] {
        between(&world, call, stops, true).succeeded();
    }
    // These do not wait for it.
    let status = Call::new("STATUS").conf(&conf);
    assert!(between(&world, status, stops, false).failed_with(50).contains("stopping"));
    let del = Call::del("c1", &container).conf(&conf);
    between(&world, del, stops, false).succeeded();
    assert_eq!(world.tombstones().len(), 1);
}

#[test]
fn what_a_daemon_may_have_begun_with_is_sent_again_only_if_it_can_be_repeated() {
    let world = world!();
    let (lives, conf) = scene(&world);
    let container = world.container();
    let dies = |stream: UnixStream| _ = read(&stream);
    let add = Call::add("c1", &container).conf(&conf);
    between(&world, add.clone(), dies, false).failed_with(11);
    between(&world, Call::check("lives", &lives).conf(&conf), dies, true).succeeded();
    between(&world, Call::new("GC").conf(&conf), dies, true).succeeded();
    let _daemon = world.daemon();
    world.call(add).succeeded();
}

#[test]
fn a_daemon_is_told_less_time_than_there_is_so_that_its_answer_arrives() {
    let world = world!();
    let _ = std::fs::create_dir_all(world.paths().socket.parent().expect("a folder"));
    let (container, mut told) = (world.container(), 0);
    let dies = |stream: UnixStream| told = read(&stream).deadline_ms;
    between(&world, Call::add("c1", &container).conf(&example()), dies, false).failed_with(11);
    assert!((1..=59_000).contains(&told), "{told} ms of 60 s");
}

/// Replaces the daemon `times` while others attach and detach; gives how many calls there were, and what
/// those said that failed.
fn replace(world: &World, times: usize, start: impl Fn() -> Daemon) -> (usize, Vec<Outcome>) {
    let conf = network("gap", "gap0", "10.91.0.0/24");
    let (is_over, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut daemon = start();
    std::thread::scope(|scope| {
        let each = (0..6).map(|worker| {
            let (conf, is_over, calls) = (&conf, &is_over, &calls);
            scope.spawn(move || {
                let mut failed = Vec::new();
                let container = world.container();
                for round in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("w{worker}-{round}");
                    for command in ["ADD", "DEL"] {
                        let call = Call::attachment(command, &name, &container).conf(conf);
                        let outcome = world.call(call);
                        calls.fetch_add(1, Ordering::Relaxed);
                        if outcome.code != Some(0) {
                            failed.push(outcome);
                        }
                    }
                }
                failed
            })
        });
        let workers: Vec<_> = each.collect();
        for _ in 0..times {
            let so_far = calls.load(Ordering::Relaxed);
            crate::support::eventually::eventually("calls to come through", || {
                (calls.load(Ordering::Relaxed) > so_far + 20).then_some(())
            });
            daemon.signal(Signal::SIGTERM);
            assert!(daemon.wait().success(), "an orderly end");
            daemon = start();
        }
        is_over.store(true, Ordering::Relaxed);
        let failed = workers.into_iter().flat_map(|worker| worker.join().expect("a worker"));
        let failed = failed.collect();
        // The DELs that came in a gap are in the spool.
        crate::support::eventually::eventually_within(
            Duration::from_secs(30),
            "the last DEL to be carried out",
            || veths(&world.host).is_empty().then_some(()),
        );
        (calls.load(Ordering::Relaxed), failed)
    })
}

#[test]
fn nobody_fails_while_daemons_replace_each_other() {
    let world = world!();
    let (calls, failed) = replace(&world, 5, || world.daemon());
    assert!(failed.is_empty(), "{} of {calls} failed: {:?}", failed.len(), failed.first());
}

#[test]
fn nobody_fails_while_daemons_replace_each_other_at_a_socket_that_is_kept() {
    let world = world!();
    let kept = Kept::at(&world.paths().socket);
    let (calls, failed) = replace(&world, 5, || kept.daemon(&world));
    assert!(failed.is_empty(), "{} of {calls} failed: {:?}", failed.len(), failed.first());
}
