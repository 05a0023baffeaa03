//! Connections: what the kernel remembers of a container's goes with it, and nobody else's does.

use std::net::UdpSocket;

use serde_json::json;

use crate::network_burst::together;
use crate::spec_add::address;
use crate::support::conf::{network, with};
use crate::support::daemon::Options;
use crate::support::eventually::eventually;
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, PORT, SILENCE, tcp_answers, udp_answers};
use crate::support::world::{HOST, OUTSIDE, World};

/// What the host remembers, an entry a line, as the kernel prints it or as `conntrack` does; nothing if
/// this machine has neither.
pub(crate) fn connections(host: &Netns) -> Option<Vec<String>> {
    let read = || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").ok();
    let by_program = || {
        let listed = host.command("conntrack").arg("-L").output().ok()?;
        String::from_utf8(listed.stdout).ok().filter(|_| listed.status.success())
    };
    let text = host.run(read).or_else(by_program)?;
    Some(text.lines().map(str::to_owned).collect())
}

/// Those of one address, whichever part it has in them.
#[track_caller]
fn of(host: &Netns, address: &str) -> Vec<String> {
    let mut all = connections(host).expect("the connections could be listed before");
    all.retain(|line| line.split([' ', '=']).any(|word| word == address));
    all
}

/// The world of a test that looks at connections.
macro_rules! looking {
    () => {{
        let world = world!();
        // The file is there once something of the namespace is tracked, or all the time.
        if connections(&world.host).is_none() {
            return crate::support::skip("neither /proc/net/nf_conntrack nor conntrack");
        }
        world
    }};
}

/// Has the host send something to this address, whether or not anybody has it.
fn sent_by_the_host(world: &World, to: &str) {
    world.host.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.send_to(b"hello", (to, PORT)).expect("sent");
    });
}

#[test]
fn those_of_a_container_go_with_it_and_others_stay() {
    let world = looking!();
    let _daemon = world.daemon();
    let conf = network("remember", "remember0", "10.80.0.0/24");
    let (going, staying) = (world.container(), world.container());
    let gone = address(&world.call(Call::add("c1", &going).conf(&conf)).succeeded());
    let stays = address(&world.call(Call::add("c2", &staying).conf(&conf)).succeeded());
    let _echo = Echo::serve(&world.outside, OUTSIDE);
    for container in [&going, &staying] {
        assert!(
            udp_answers(container, OUTSIDE, PATIENCE) && tcp_answers(container, OUTSIDE, PATIENCE)
        );
    }
    sent_by_the_host(&world, &gone);
    sent_by_the_host(&world, &stays);
    assert!(of(&world.host, &gone).len() >= 3, "by UDP, by TCP, and from the host");
    let before = of(&world.host, &stays).len();
    assert!(before >= 3, "by UDP, by TCP, and from the host");

    world.call(Call::del("c1", &going).conf(&conf)).succeeded();
    assert_eq!(of(&world.host, &gone), Vec::<String>::new());
    assert_eq!(of(&world.host, &stays).len(), before, "{:?}", of(&world.host, &stays));
}

#[test]
fn the_next_owner_of_an_address_hears_nothing_of_the_flows_of_the_last() {
    let world = looking!();
    let _daemon = world.daemon();
    // There is room for one.
    let conf = network("reuse", "reuse0", "10.81.0.0/30");
    let (old, new) = (world.container(), world.container());
    let result = world.call(Call::add("old", &old).conf(&conf)).succeeded();
    let shared = address(&result);
    world.host.output("nft", "add table ip publish");
    world
        .host
        .output("nft", "add chain ip publish in { type nat hook prerouting priority -100 ; }");
    let publish = format!("add rule ip publish in udp dport 8053 dnat to {shared}:{PORT}");
    world.host.output("nft", &publish);

    let peer = world.outside.run(|| UdpSocket::bind((OUTSIDE, 0)).expect("a socket"));
    let asked = |within| {
        peer.set_read_timeout(Some(within)).expect("a bound");
        peer.send_to(b"a question", (HOST, 8053)).expect("sent");
        peer.recv_from(&mut [0; 16]).is_ok()
    };
    let first = Echo::serve(&old, &shared);
    eventually("the old one to answer", || asked(SILENCE).then_some(()));
    drop(first);
    assert!(!of(&world.host, &shared).is_empty(), "the flow is remembered");

    // The port is withdrawn, and the flow would still be translated.
    world.host.output("nft", "flush chain ip publish in");
    world.call(Call::del("old", &old).conf(&conf)).succeeded();
    let result = world.call(Call::add("new", &new).conf(&conf)).succeeded();
    assert_eq!(address(&result), shared, "the same address");
    let second = Echo::serve(&new, &shared);
    assert!(udp_answers(&world.host, &shared, PATIENCE), "the new one can be reached");
    assert!(!asked(SILENCE), "an answer of the new one to a question to the old one");
    let heard = second.seen();
    assert!(!heard.iter().any(|from| from.to_string() == OUTSIDE), "{heard:?}");
}

#[test]
fn those_of_many_go_together() {
    let world = looking!();
    let _daemon = world.daemon();
    let conf = network("many", "many0", "10.82.0.0/24");
    let neighbour = world.container();
    let stays = address(&world.call(Call::add("neighbour", &neighbour).conf(&conf)).succeeded());
    let containers: Vec<Netns> = (0..30).map(|_| world.container()).collect();
    let calls = |make: fn(&str, &Netns) -> Call| -> Vec<Call> {
        let each = containers.iter().enumerate();
        each.map(|(n, container)| make(&format!("c{n}"), container).conf(&conf)).collect()
    };
    let added = together(&world, calls(Call::add));
    let addresses: Vec<String> = added.iter().map(|o| address(&o.succeeded())).collect();
    let _echo = Echo::serve(&world.outside, OUTSIDE);
    for container in containers.iter().chain([&neighbour]) {
        assert!(udp_answers(container, OUTSIDE, PATIENCE));
    }
    assert!(addresses.iter().all(|a| !of(&world.host, a).is_empty()), "each is remembered");
    for outcome in together(&world, calls(Call::del)) {
        outcome.succeeded();
    }
    let left: Vec<String> = addresses.iter().flat_map(|a| of(&world.host, a)).collect();
    assert_eq!(left, Vec::<String>::new());
    assert!(!of(&world.host, &stays).is_empty(), "the neighbour's stay");
}

#[test]
fn what_could_not_be_removed_is_tried_again_before_the_address_is_free() {
    let world = looking!();
    let daemon = world.daemon_with(Options::default().var("QUANTUM_FAIL_AT", "del-purging"));
    let conf = network("again", "again0", "10.83.0.0/30");
    let (old, new) = (world.container(), world.container());
    let shared = address(&world.call(Call::add("old", &old).conf(&conf)).succeeded());
    sent_by_the_host(&world, &shared);
    assert!(!of(&world.host, &shared).is_empty());
    world.call(Call::del("old", &old).conf(&conf)).succeeded();
    eventually("the address to be free", || {
        let again = world.call(Call::add("new", &new).conf(&conf));
        if again.code != Some(0) {
            again.failed_with(7);
            return None;
        }
        assert_eq!(of(&world.host, &shared), Vec::<String>::new(), "before it is given again");
        Some(())
    });
    let warned = daemon.log().iter().any(|line| line.to_string().contains("del-purging"));
    assert!(warned, "the log says why it took two attempts");
}

#[test]
fn a_failed_add_leaves_none() {
    let world = looking!();
    // Open, so that the host may send to who is not there.
    let open = json!({ "policy": { "posture": "open" } });
    let conf = with(&network("failed", "failed0", "10.84.0.0/30"), open);
    let (before, container) = (world.container(), world.container());
    // Makes the bridge and the table by which connections are tracked.
    let daemon = world.daemon();
    let held = address(&world.call(Call::add("before", &before).conf(&conf)).succeeded());
    world.call(Call::del("before", &before).conf(&conf)).succeeded();
    daemon.kill();
    // What is sent to an address before anybody has it is remembered, too.
    sent_by_the_host(&world, &held);
    assert!(!of(&world.host, &held).is_empty());
    let _daemon = world.daemon_with(Options::default().var("QUANTUM_FAIL_AT", "add-filtered"));
    world.call(Call::add("c1", &container).conf(&conf)).failed();
    assert_eq!(of(&world.host, &held), Vec::<String>::new());
}

#[test]
fn those_of_an_attachment_that_a_daemon_left_half_done_go_with_it() {
    let world = looking!();
    let mut daemon = world.daemon_with(Options::default().var("QUANTUM_CRASH_AT", "add-applied"));
    let conf = network("half", "half0", "10.85.0.0/24");
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).failed();
    daemon.wait();
    let held = container.addresses("eth0", 4).remove(0);
    let held = held.split('/').next().expect("an address").to_owned();
    let _echo = Echo::serve(&world.outside, OUTSIDE);
    assert!(udp_answers(&container, OUTSIDE, PATIENCE), "it is connected, and nobody's");
    assert!(!of(&world.host, &held).is_empty());
    let _daemon = world.daemon();
    assert_eq!(of(&world.host, &held), Vec::<String>::new());
}

/// `cargo test --test blackbox measure_del_with_connections -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn measure_del_with_connections() {
    let world = looking!();
    let _daemon = world.daemon();
    let conf = network("measured", "measured0", "10.86.0.0/24");
    let container = world.container();
    let socket = world.host.run(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
    for (count, speaks) in [(0_u16, false), (1000, false), (1000, true)] {
        let mut took = Vec::new();
        for _ in 0..50 {
            // They are remembered for half a minute: the same ones again.
            for port in 0..count {
                socket.send_to(b"hello", (OUTSIDE, 10_000 + port)).expect("sent");
            }
            let added = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
            if speaks {
                sent_by_the_host(&world, &address(&added));
            }
            let outcome = world.call(Call::del("c1", &container).conf(&conf));
            outcome.succeeded();
            took.push(outcome.took);
        }
        took.sort();
        let there = connections(&world.host).expect("a list").len();
        println!("{there} connections, of the container's own: {speaks}: DEL p50 {:?}", took[25]);
    }
}
