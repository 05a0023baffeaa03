//! A container that holds too many connections begins no new ones, and others go on.

use std::net::UdpSocket;

use serde_json::json;

use crate::daemon_http::sample;
use crate::daemon_status::quantumctl;
use crate::network_isolation::{attach, dual};
use crate::support::daemon::Options;
use crate::support::eventually::eventually;
use crate::support::frames::link_local;
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, SILENCE, Steady, tcp_answers, udp_answers};
use crate::support::world::{OUTSIDE, World};

const BOUND: usize = 200;

/// Begins so many connections, each from a port of its own.
fn begin(from: &Netns, to: &str, count: usize) {
    from.run(|| {
        for _ in 0..count {
            let any = if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(any).expect("a socket");
            socket.set_broadcast(true).expect("allowed");
            socket.send_to(b"begun", (to, 9)).expect("sent");
        }
    });
}

/// How many connections the kernel tracks now.
fn tracked(world: &World) -> usize {
    let text = world.host.output("cat", "/proc/sys/net/netfilter/nf_conntrack_count");
    text.trim().parse().expect("a number")
}

#[test]
fn who_holds_too_many_connections_begins_no_new_ones() {
    let world = world!();
    let options = Options::default().args(&format!("--container-connections {BOUND}"));
    let daemon = world.daemon_with(options);
    // What is never answered would be forgotten within the test, on a slow machine.
    for name in ["udp_timeout", "udp_timeout_stream"] {
        world.host.output("sysctl", &format!("-qw net.netfilter.nf_conntrack_{name}=600"));
    }
    let conf = dual("crowd", 156, json!({}));
    let [greedy, modest] = ["greedy", "modest"].map(|id| attach(&world, id, &conf));
    let _outside = Echo::serve(&world.outside, OUTSIDE);
    let steady = Steady::start(&greedy.netns, OUTSIDE);
    begin(&greedy.netns, OUTSIDE, BOUND - 50);
    begin(&modest.netns, OUTSIDE, BOUND / 2);
    let metric = |name: &str| sample(&daemon.get("/metrics").1, name, &[]);
    let held = (BOUND - 50 + BOUND / 2) as f64;
    eventually("all of them to be counted", || (metric("cni_connections") >= held).then_some(()));
    assert!(metric("cni_connections_max") > held);
    assert!(tcp_answers(&greedy.netns, OUTSIDE, PATIENCE), "not yet too many");

    begin(&greedy.netns, OUTSIDE, 60);
    eventually("the container to be found", || {
        (metric("cni_crowded_addresses") > 0.0).then_some(())
    });
    let output = quantumctl(&world, "status");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&format!("crowded: {} holds ", greedy.addresses[0])), "{said}");
    assert!(!said.contains(&modest.addresses[0]), "{said}");
    assert!(!tcp_answers(&greedy.netns, OUTSIDE, SILENCE), "a new connection");
    assert!(!udp_answers(&greedy.netns, &modest.addresses[0], SILENCE), "to a neighbour");
    assert!(tcp_answers(&modest.netns, OUTSIDE, PATIENCE), "of another container");
    // What is for several receivers takes an entry, too.
    let before = tracked(&world);
    for to in ["239.1.1.1", "255.255.255.255", "10.156.0.255"] {
        begin(&greedy.netns, to, BOUND);
    }
    let now = tracked(&world);
    assert!(now < before + BOUND, "{before} connections, and then {now}");
    // A link-local address is a container's, too.
    let gateway = format!("{}%eth0", link_local(modest.bridge));
    begin(&modest.netns, &gateway, BOUND + 10);
    eventually("the link-local address to be found", || {
        let said = quantumctl(&world, "status").stdout;
        let own = link_local(modest.mac).to_string();
        String::from_utf8(said).expect("text").contains(&own).then_some(())
    });
    let before = tracked(&world);
    begin(&modest.netns, &gateway, BOUND);
    let now = tracked(&world);
    assert!(now < before + BOUND, "{before} connections, and then {now}");
    assert!(tcp_answers(&modest.netns, OUTSIDE, PATIENCE), "its other address goes on");
    steady.was_undisturbed();

    // Who gets its address next holds nothing.
    world.call(Call::del("modest", &modest.netns).conf(&conf)).succeeded();
    world.call(Call::del("greedy", &greedy.netns).conf(&conf)).succeeded();
    let address = json!({ "runtimeConfig": { "ips": [format!("{}/24", greedy.addresses[0])] },
        "capabilities": { "ips": true } });
    let next = attach(&world, "next", &crate::support::conf::with(&conf, address));
    assert_eq!(next.addresses[0], greedy.addresses[0]);
    assert!(tcp_answers(&next.netns, OUTSIDE, PATIENCE), "the next container of that address");
    eventually("nobody to be crowded", || (metric("cni_crowded_addresses") == 0.0).then_some(()));
}
