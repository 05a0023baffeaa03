//! The capability `bandwidth` and its keys: what a container receives and sends is held to its rate,
//! nobody else is, and nothing is left of it afterwards. Here the measured rate is what is promised,
//! so it decides; it may be measured three times, since a busy machine can only make it lower.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::network_keys::{check, port};
use crate::spec_add::address;
use crate::support::conf::{at, network, with};
use crate::support::daemon::Options;
use crate::support::eventually::eventually;
use crate::support::inventory::Inventory;
use crate::support::netns::Netns;
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::traffic::PATIENCE;

const INVALID_CONFIG: u64 = 7;
const CHECK_FAILED: u64 = 105;

/// What a UDP datagram's frame has besides: Ethernet, IPv4 and UDP headers.
const HEADERS: u64 = 14 + 20 + 8;
/// The payload of a full TCP segment, with its timestamps, and its frame.
const SEGMENT: (u64, u64) = (1448, 1514);
/// Bits a second. A packet takes 1.2 ms.
const RATE: u64 = 10_000_000;
/// 12 kB: eight packets.
const BURST: u64 = 96_000;
/// How much is sent for one measurement, which takes a second and a half.
const BYTES: u64 = RATE / 8 * 3 / 2;

fn both(rate: u64, burst: u64) -> Value {
    json!({ "ingressRate": rate, "ingressBurst": burst, "egressRate": rate, "egressBurst": burst })
}

fn asked(bandwidth: Value) -> Value {
    json!({ "runtimeConfig": { "bandwidth": bandwidth } })
}

/// Bits a second that arrive of datagrams that are sent twice as fast as they may pass.
fn udp_rate(from: &Netns, to: &Netns, address: &str) -> u64 {
    let at: SocketAddr = format!("{address}:7100").parse().expect("an address");
    let receiver = to.run(|| UdpSocket::bind(at).expect("a socket"));
    let sender = from.run(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
    sender.connect(at).expect("a route");
    receiver.set_read_timeout(Some(Duration::from_millis(500))).expect("a bound");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let frame = 1400 + HEADERS;
            let mut sent = 0;
            while sent < 2 * BYTES {
                while sent > (begun.elapsed().as_secs_f64() * 2.0 * (RATE / 8) as f64) as u64 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let _ = sender.send(&[0; 1400]);
                sent += frame;
            }
        });
        let mut buffer = [0; 2048];
        let (mut passed, mut last) = (0, begun);
        while let Ok(length) = receiver.recv(&mut buffer) {
            passed += length as u64 + HEADERS;
            last = Instant::now();
        }
        rate(passed, last - begun)
    })
}

/// The same of a TCP stream.
fn tcp_rate(from: &Netns, to: &Netns, address: &str) -> u64 {
    let at: SocketAddr = format!("{address}:7101").parse().expect("an address");
    let listener = to.run(|| TcpListener::bind(at).expect("a listener"));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = from.run(|| TcpStream::connect(at).expect("a connection"));
            let _ = stream.write_all(&vec![0; usize::try_from(BYTES).expect("small")]);
        });
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut buffer = [0; 1 << 16];
        let mut passed = 0;
        loop {
            let length = stream.read(&mut buffer).expect("a stream") as u64;
            if length == 0 {
                break;
            }
            passed += length;
        }
        rate(passed * SEGMENT.1 / SEGMENT.0, begun.elapsed())
    })
}

/// Of what has passed since before the first was sent, less the burst, which is no rate. A machine that
/// is busy makes it lower, never higher: there is nothing before that could arrive in this time.
fn rate(bytes: u64, time: Duration) -> u64 {
    (bytes.saturating_sub(BURST / 8) as f64 * 8.0 / time.as_secs_f64()) as u64
}

/// One of three measurements is within a tenth of the rate, and none is above.
#[track_caller]
fn is_held_to(what: &str, measure: impl Fn() -> u64) {
    let mut measured = Vec::new();
    while measured.len() < 3 {
        let rate = measure();
        measured.push(rate);
        assert!(rate <= RATE / 10 * 11, "{what}: more than {RATE}: {measured:?}");
        if rate >= RATE / 10 * 9 {
            return;
        }
    }
    panic!("{what}: not within a tenth of {RATE}: {measured:?}");
}

/// The links of that kind.
fn shapers(host: &Netns) -> Vec<Value> {
    let links = host.ip_json("link show");
    links.into_iter().filter(|link| link["linkinfo"]["info_kind"] == "ifb").collect()
}

/// What a link is held to, in bits a second.
fn limit(host: &Netns, link: &str) -> Option<u64> {
    let text = host.output("tc", &format!("-j qdisc show dev {link}"));
    let list: Vec<Value> = serde_json::from_str(&text).expect("JSON from tc");
    let found = list.iter().find(|q| q["kind"] == "tbf")?;
    Some(found["options"]["rate"].as_u64().expect("a rate") * 8)
}

#[test]
fn what_a_container_receives_and_sends_is_held_to_its_rate() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("held", "held0", "10.71.0.0/24");
    let before = world.container();
    world.call(Call::add("c0", &before).conf(&conf)).succeeded();
    let inventory = Inventory::of(&world.host);

    let limited = with(&conf, asked(both(RATE, BURST)));
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&limited)).succeeded();
    assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(3), "{result}");
    let own = address(&result);
    let (host, gateway) = (&world.host, "10.71.0.1");
    is_held_to("received by UDP", || udp_rate(host, &container, &own));
    is_held_to("sent by UDP", || udp_rate(&container, host, gateway));
    is_held_to("received by TCP", || tcp_rate(host, &container, &own));
    is_held_to("sent by TCP", || tcp_rate(&container, host, gateway));
    // The neighbour is as fast as ever: what it is sent in this way, twice as fast, arrives.
    let neighbour = address_of(&before);
    assert!((0..3).any(|_| udp_rate(host, &before, &neighbour) > RATE / 10 * 15));
    world.call(check(&limited, &container, &result)).succeeded();

    world.call(Call::del("c1", &container).conf(&limited)).succeeded();
    inventory.assert_same(&Inventory::of(&world.host), "the host after DEL");
}

fn address_of(container: &Netns) -> String {
    let all = container.addresses("eth0", 4);
    all[0].split('/').next().expect("an address").to_owned()
}

#[test]
fn each_direction_may_be_limited_alone() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("alone", "alone0", "10.72.0.0/24");
    for (keys, ingress, egress) in [
        (json!({ "ingressRate": RATE, "ingressBurst": BURST }), true, false),
        (json!({ "egressRate": RATE, "egressBurst": BURST }), false, true),
        (json!({ "ingressRate": 0, "ingressBurst": 0 }), false, false),
    ] {
        // Both places say it in the same words.
        for conf in [with(&conf, keys.clone()), with(&conf, asked(keys.clone()))] {
            let container = world.container();
            let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
            let is_limited = limit(&world.host, port(&result)) == Some(RATE);
            assert_eq!(is_limited, ingress, "{conf}");
            let shapers = shapers(&world.host);
            assert_eq!(shapers.len(), usize::from(egress), "{shapers:?} {conf}");
            for shaper in &shapers {
                let name = shaper["ifname"].as_str().expect("a name");
                assert_eq!(limit(&world.host, name), Some(RATE));
                assert!(shaper["ifalias"].as_str().expect("an alias").contains("alone/c1/eth0"));
            }
            assert!(ping(&container, "10.72.0.1", PATIENCE));
            world.call(check(&conf, &container, &result)).succeeded();
            world.call(Call::del("c1", &container).conf(&conf)).succeeded();
        }
    }
    assert!(shapers(&world.host).is_empty());
}

#[test]
fn half_a_limit_and_an_absurd_one_are_refused() {
    let world = world!();
    let _daemon = world.daemon();
    let base = network("half", "half0", "10.73.0.0/24");
    let container = world.container();
    for (keys, named) in [
        (json!({ "ingressRate": RATE }), "ingressRate"),
        (json!({ "ingressBurst": BURST }), "ingressBurst"),
        (json!({ "egressRate": RATE }), "egressRate"),
        (json!({ "egressBurst": BURST }), "egressBurst"),
        (json!({ "ingressRate": RATE, "ingressBurst": 1_u64 << 35 }), "ingressBurst"),
        (json!({ "egressRate": RATE, "egressBurst": 1_u64 << 35 }), "egressBurst"),
    ] {
        for conf in [with(&base, keys.clone()), with(&base, asked(keys.clone()))] {
            let add = Call::add("c1", &container).conf(&conf);
            let said = world.call(add).failed_with(INVALID_CONFIG);
            assert!(said.contains(named), "{said:?} should name {named}");
        }
    }
    assert!(container.link("eth0").is_none());
    // The most there can be, and what CRI-O sends.
    for burst in [(1_u64 << 35) - 1, (1 << 35) - 9, u64::from(u32::MAX)] {
        for conf in [with(&base, both(RATE, burst)), with(&base, asked(both(RATE, burst)))] {
            let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
            assert_eq!(limit(&world.host, port(&result)), Some(RATE));
            world.call(check(&conf, &container, &result)).succeeded();
            world.call(Call::del("c1", &container).conf(&conf)).succeeded();
        }
    }
}

#[test]
fn what_the_network_says_wins_over_the_runtime() {
    let world = world!();
    let operators = with(&network("operators", "oper0", "10.78.0.0/24"), both(RATE, BURST));
    let file = world.paths().config_dir.join("10-operators.conf");
    std::fs::write(file, operators.to_string()).expect("written");
    let _daemon = world.daemon();
    let conf = network("static", "static0", "10.74.0.0/24");
    let said = json!({ "ingressRate": RATE, "ingressBurst": BURST });
    let conf = with(&with(&conf, said), asked(both(2 * RATE, BURST)));
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!(limit(&world.host, port(&result)), Some(RATE));
    assert!(shapers(&world.host).is_empty(), "as a whole");
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();

    // Also where a file of the operator's says it, and the runtime only names the network.
    let thin = json!({ "cniVersion": "1.0.0", "name": "operators", "type": "quantum-cni" });
    let thin = with(&thin, asked(both(2 * RATE, BURST)));
    let result = world.call(Call::add("c1", &container).conf(&thin)).succeeded();
    assert_eq!(limit(&world.host, port(&result)), Some(RATE));
    assert_eq!(shapers(&world.host).len(), 1);
}

#[test]
fn a_burst_that_runtimes_send_for_none_is_no_credit_for_minutes() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("credit", "credit0", "10.75.0.0/24");
    let conf = with(&conf, asked(json!({ "ingressRate": RATE, "ingressBurst": u32::MAX })));
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    // A tenth of a second, 125 kB, passes at once, of two and a half megabytes that are sent twice as
    // fast as they may pass. On credit, all of them would.
    let measured = udp_rate(&world.host, &container, &address(&result));
    assert!(measured < RATE / 4 * 5, "{measured} of {RATE}");
}

#[test]
fn a_limit_that_was_taken_away_is_noticed() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = with(&network("seen", "seen0", "10.76.0.0/24"), both(RATE, BURST));
    let changed = |harm: &dyn Fn(&str, &str), word: &str| {
        let container = world.container();
        let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
        world.call(check(&conf, &container, &result)).succeeded();
        let shaper = shapers(&world.host)[0]["ifname"].as_str().expect("a name").to_owned();
        harm(port(&result), &shaper);
        let said = world.call(check(&conf, &container, &result)).failed_with(CHECK_FAILED);
        assert!(said.contains(word), "{said:?} should speak of {word:?}");
        world.call(Call::del("c1", &container).conf(&conf)).succeeded();
        assert!(shapers(&world.host).is_empty(), "after {word}");
    };
    let tc = |args: String| _ = world.host.output("tc", &args);
    changed(&|port, _| tc(format!("qdisc del dev {port} root")), "eth0 receives");
    changed(
        &|port, _| tc(format!("qdisc change dev {port} root tbf rate 1mbit burst 12kb limit 50kb")),
        "eth0 receives",
    );
    changed(&|port, _| tc(format!("filter del dev {port} ingress")), "eth0 sends");
    changed(&|port, _| tc(format!("qdisc del dev {port} ingress")), "eth0 sends");
    changed(&|_, shaper| tc(format!("qdisc del dev {shaper} root")), "eth0 sends");
    changed(&|_, shaper| world.host.ip(&format!("link set {shaper} down")), "eth0 sends");
    changed(&|_, shaper| world.host.ip(&format!("link del {shaper}")), "eth0 sends");
}

#[test]
fn nothing_is_left_however_it_ends() {
    let world = world!();
    let daemon = world.daemon();
    let base = at(&network("ends", "ends0", "10.77.0.0/24"), "1.1.0");
    let conf = with(&base, both(RATE, BURST));
    let witness = world.container();
    world.call(Call::add("c0", &witness).conf(&base)).succeeded();
    let before = Inventory::of(&world.host);
    let nothing_is_left = |when: &str| before.assert_same(&Inventory::of(&world.host), when);

    // An ADD that fails at its last step in the container.
    let container = world.container();
    let unreachable =
        json!({ "ipam": { "routes": [{ "dst": "203.0.113.0/24", "gw": "198.51.100.1" }] } });
    world.call(Call::add("c1", &container).conf(&with(&conf, unreachable))).failed();
    nothing_is_left("a failed ADD");

    // A DEL that knows no more than the key.
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let bare = json!({ "cniVersion": "1.1.0", "name": "ends", "type": "quantum-cni" });
    world.call(Call::del("c1", &container).conf(&bare).var("CNI_NETNS", "")).succeeded();
    nothing_is_left("a bare DEL");

    // The namespace goes first, and takes the port along.
    for by_gc in [false, true] {
        let container = world.container();
        world.call(Call::add("c1", &container).conf(&conf)).succeeded();
        let shaper = shapers(&world.host).len();
        let path = container.text().to_owned();
        drop(container);
        eventually("the port to go with its namespace", || {
            (crate::support::inventory::veths(&world.host).len() == 1).then_some(())
        });
        assert_eq!((shaper, shapers(&world.host).len()), (1, 1), "the shaper stays behind");
        if by_gc {
            let valid = json!([{ "containerID": "c0", "ifname": "eth0" }]);
            let keys = json!({ "cni.dev/valid-attachments": valid });
            world.call(Call::new("GC").conf(&with(&base, keys))).succeeded();
        } else {
            let del = Call::new("DEL").var("CNI_CONTAINERID", "c1").var("CNI_IFNAME", "eth0");
            world.call(del.var("CNI_NETNS", &path).conf(&conf)).succeeded();
        }
        nothing_is_left("the end of a container that was gone");
    }

    // A daemon that is killed between the shaper and the record; the namespace dies meanwhile.
    drop(daemon);
    for point in ["add-shaper-made", "add-applied"] {
        let options = Options::default().var("QUANTUM_CRASH_AT", point);
        let mut daemon = world.daemon_with(options);
        let container = world.container();
        world.call(Call::add("c1", &container).conf(&conf));
        daemon.wait();
        assert_eq!(shapers(&world.host).len(), 1, "left by a daemon that was killed at {point}");
        drop(container);
        let _next = world.daemon();
        nothing_is_left("the next start");
    }

    // The store is lost: the records come back from the kernel, and a DEL finds both links.
    let container = world.container();
    let daemon = world.daemon();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    daemon.kill();
    world.forget();
    let _next = world.daemon_that_serves();
    assert_eq!(shapers(&world.host).len(), 1, "kept for its container");
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    nothing_is_left("a DEL after the store was lost");
}
