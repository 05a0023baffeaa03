//! The daemon's socket and those who misuse it: whatever comes, there is an answer or a close, and
//! the daemon goes on serving.

use std::fs::File;
use std::os::fd::AsRawFd;

use quantum_config::wire::{HEADER, Header, Kind, MAX_BODY};

use crate::support::conf::example;
use crate::support::eventually::eventually;
use crate::support::inventory::Inventory;
use crate::support::plugin::Call;
use crate::support::user::{be_user, can_be_played, for_all, open_to_all, set_mode};
use crate::support::wire::{Answer, Client, frame};
use crate::support::world::World;
use crate::support::{binaries, skip};

fn client(world: &World) -> Client {
    Client::connect(&world.paths().socket).expect("connected")
}

/// Sends bytes and nothing more, and gives what comes back. Sending may fail half-way, when the
/// daemon has seen enough.
#[track_caller]
fn after(world: &World, bytes: &[u8]) -> Answer {
    let mut client = client(world);
    let _ = client.send(bytes);
    client.finish();
    client.answer()
}

/// It serves a container, as if nothing had been.
#[track_caller]
fn assert_serves(world: &World) {
    let container = world.container();
    world.call(Call::add("good", &container).conf(&example())).succeeded();
    world.call(Call::del("good", &container).conf(&example())).succeeded();
}

/// An error of the daemon, or a close: no success.
#[track_caller]
fn assert_refused(answer: &Answer, what: &str) {
    match answer {
        Answer::Reply(reply) => assert_eq!(reply.exit, 1, "{what}: {reply:?}"),
        Answer::Refusal(..) | Answer::Closed => {}
    }
}

fn header(kind: u8, descriptors: u8, length: u32) -> Vec<u8> {
    let mut bytes = Header::new(Kind::Call, descriptors, length).encode().to_vec();
    bytes[6] = kind;
    bytes
}

#[test]
fn frames_that_are_none() {
    let world = world!();
    let mut daemon = world.daemon();
    assert_serves(&world);
    let before = Inventory::of(&world.host);
    let container = world.container();
    let (whole, _) = frame(&Call::add("c1", &container).conf(&example()), &world.host, None);
    let mut cut_field = header(1, 0, 20);
    cut_field.extend_from_slice(&[3, 0, 0xff, 0xff, 0xff, 0xff]);
    cut_field.resize(HEADER + 20, 0);
    let mut garbage = header(1, 0, 4096);
    garbage.resize(HEADER + 4096, 0xa5);
    let mut own_reply = Header::new(Kind::Reply, 0, 0).encode().to_vec();
    own_reply.resize(HEADER, 0);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("another protocol", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("half a header", header(1, 0, 0)[..7].to_vec()),
        ("half a body", whole[..whole.len() / 2].to_vec()),
        ("a body that never comes", header(1, 0, 100)),
        ("an unknown kind", header(77, 0, 0)),
        ("a reply", own_reply),
        ("an empty call", header(1, 0, 0)),
        ("a field longer than its frame", cut_field),
        ("fields of garbage", garbage),
        ("more descriptors than allowed", header(1, 200, 0)),
        ("descriptors that did not come", header(1, 2, 0)),
        ("an oversized body", header(1, 0, MAX_BODY + 1)),
        ("an absurdly long body", header(1, 0, u32::MAX)),
    ];
    for (what, bytes) in cases {
        assert_refused(&after(&world, &bytes), what);
        assert!(daemon.is_running(), "the daemon died of {what}");
    }
    before.assert_same(&Inventory::of(&world.host), "the host after frames that are none");
    assert_serves(&world);
}

#[test]
fn versions_that_are_not_spoken_are_told_which_are() {
    let world = world!();
    let _daemon = world.daemon();
    for (oldest, newest) in [(9, 9), (2, 200), (0, 0)] {
        let mut bytes = header(1, 0, 0);
        (bytes[4], bytes[5]) = (oldest, newest);
        assert_eq!(after(&world, &bytes), Answer::Refusal(1, 1), "{oldest} to {newest}");
    }
    let mut bytes = header(1, 0, 0);
    (bytes[4], bytes[5]) = (5, 3);
    assert_refused(&after(&world, &bytes), "an empty range");
    // A kind that only a newer version knows is no reason to hide the versions.
    let mut bytes = header(55, 200, u32::MAX);
    (bytes[4], bytes[5]) = (9, 9);
    assert_eq!(after(&world, &bytes), Answer::Refusal(1, 1));
    assert_serves(&world);
}

#[test]
fn a_newer_plugin_that_also_speaks_ours_is_served() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let call = Call::add("c1", &container).conf(&example());
    let (mut bytes, files) = frame(&call, &world.host, Some(&container));
    bytes[5] = 9; // it speaks 1 to 9
    bytes.extend_from_slice(&[0xfe, 0xff, 3, 0, 0, 0, 1, 2, 3]); // a field we do not know
    let length = u32::try_from(bytes.len() - HEADER).expect("short");
    bytes[8..HEADER].copy_from_slice(&length.to_le_bytes());
    let mut client = client(&world);
    let raw: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    client.send_with(&bytes, &raw).expect("sent");
    let reply = client.reply();
    assert_eq!(reply.exit, 0, "{reply:?}");
    assert!(container.link("eth0").is_some());
}

#[test]
fn descriptors_that_are_not_what_they_are_said_to_be() {
    let world = world!();
    let mut daemon = world.daemon();
    assert_serves(&world);
    let before = Inventory::of(&world.host);
    let container = world.container();
    let plain = world.paths().root.join("plain");
    std::fs::write(&plain, "").expect("a file");
    let open = |path: &std::path::Path| File::open(path).expect("opened");
    let (host, inside) = (world.host.path(), container.path());
    let (null, mnt) =
        (std::path::Path::new("/dev/null"), std::path::Path::new("/proc/self/ns/mnt"));
    let call = Call::add("c1", &container).conf(&example());
    for (what, files, code) in [
        ("a plain file for the container", [open(host), open(&plain)], "8"),
        ("a device for the container", [open(host), open(null)], "8"),
        ("another kind of namespace", [open(host), open(mnt)], "8"),
        ("the host for the container", [open(host), open(host)], "8"),
        ("the container for the host", [open(inside), open(inside)], "100"),
        ("a plain file for the host", [open(&plain), open(inside)], ""),
    ] {
        let (bytes, _) = frame(&call, &world.host, Some(&container));
        let mut client = client(&world);
        let raw: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
        client.send_with(&bytes, &raw).expect("sent");
        let reply = client.reply();
        assert_eq!(reply.exit, 1, "{what}: {reply:?}");
        assert!(reply.stdout.contains(&format!("\"code\":{code}")), "{what}: {reply:?}");
        assert!(daemon.is_running(), "the daemon died of {what}");
    }
    // Fewer than announced, more than announced, and none where the verb needs them.
    let (bytes, files) = frame(&call, &world.host, Some(&container));
    let raw: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    for count in [0, 1] {
        let mut client = client(&world);
        client.send_with(&bytes, &raw[..count]).expect("sent");
        assert_refused(&client.answer(), "descriptors that are missing");
    }
    let (none, _) = frame(&call, &world.host, None);
    let mut client = client(&world);
    client.send_with(&none, &[raw[0], raw[1]]).expect("sent");
    assert_refused(&client.answer(), "descriptors that were not announced");
    assert!(container.link("eth0").is_none());
    before.assert_same(&Inventory::of(&world.host), "the host after wrong descriptors");
    assert_serves(&world);
}

#[test]
fn those_who_say_nothing_keep_nobody_from_being_served() {
    let world = world!();
    let _daemon = world.daemon();
    let mut silent: Vec<Client> = (0..150).map(|_| client(&world)).collect();
    for (n, client) in silent.iter_mut().enumerate() {
        if n % 2 == 0 {
            client.send(&header(1, 0, 1000)[..n % HEADER]).expect("sent");
        }
    }
    assert_serves(&world);
    drop(silent);
    assert_serves(&world);
}

#[test]
fn descriptors_of_refused_requests_are_closed() {
    let world = world!();
    let daemon = world.daemon();
    assert_serves(&world);
    let open = || {
        let folder = format!("/proc/{}/fd", daemon.pid());
        std::fs::read_dir(folder).expect("its descriptors").count()
    };
    let before = open();
    let container = world.container();
    let (_, files) = frame(&Call::add("c1", &container), &world.host, Some(&container));
    let raw: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    for bytes in [header(77, 2, 0), header(1, 2, 0), header(1, 0, 0), header(1, 2, MAX_BODY + 1)] {
        for _ in 0..20 {
            let mut client = client(&world);
            let _ = client.send_with(&bytes, &raw);
            client.finish();
            client.answer();
        }
    }
    for _ in 0..20 {
        world.call(Call::add("c1", &container).stdin("[]")).failed_with(6);
    }
    eventually("no more open descriptors than before", || (open() <= before).then_some(()));
}

#[test]
fn a_client_without_permission_is_refused() {
    let world = world!();
    if !can_be_played() {
        return skip("another user can only be played by root");
    }
    let _daemon = world.daemon();
    assert_serves(&world);
    let before = Inventory::of(&world.host);
    let container = world.container();
    open_to_all(&world);
    let plugin = for_all(&world, binaries::plugin());
    let call_as_nobody = |call: Call| {
        let mut command = world.host.command(&plugin);
        command.env_clear();
        command.env(quantum_config::wire::SOCKET_VARIABLE, &world.paths().socket);
        command.env(quantum_config::spool::DIR_VARIABLE, &world.paths().spool_dir);
        be_user(&mut command, &[]);
        call.run(command)
    };
    let add = || Call::add("c1", &container).conf(&example());
    let del = || Call::del("c1", &container).conf(&example());
    call_as_nobody(add()).failed_with(102); // by the socket's own mode
    set_mode(&world.paths().socket, 0o666);
    call_as_nobody(add()).failed_with(102); // by the daemon, which asks who it is
    assert!(container.link("eth0").is_none());
    before.assert_same(&Inventory::of(&world.host), "the host after refused clients");

    world.call(add()).succeeded();
    call_as_nobody(del()).failed_with(102);
    assert!(container.link("eth0").is_some(), "nobody's DEL was carried out");
}
