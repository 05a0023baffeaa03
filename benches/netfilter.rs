//! The netfilter part of an ADD and of a DEL: the elements of one container with everything on, written
//! in one transaction beside as many other containers as a host has. `make bench` prints it.
//!
//! A promise of `docs/specification.md` is seen here: beside 1,000 containers an ADD's transaction takes
//! less than half a millisecond at the median. Criterion has no percentiles, so this has no criterion.
#![allow(clippy::expect_used, clippy::panic, missing_docs, reason = "a bench fails by panic")]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;
use quantum_cni::attach::{Assigned, BridgeEnd, Element, NetnsId, Plan, Target, WayToRules};
use quantum_cni::kernel::nft::{Kept, Table};
use quantum_config::cni::{Call, Definition, Identity, PortMapping, Transport};
use quantum_config::ids::{LinkIndex, Mac};

/// Both families, masquerade, isolation and anti-spoofing, which are what a network has by default.
const NETWORK: &str = r#"{
    "cniVersion": "1.0.0", "name": "net", "bridge": "quantum0", "isGateway": true, "ipMasq": true,
    "ipam": { "type": "host-local",
              "ranges": [[{ "subnet": "10.1.0.0/16" }], [{ "subnet": "fd00:1::/64" }]] }
}"#;

/// The promise.
const ASKED: Duration = Duration::from_micros(500);
/// How many containers there are beside the one that comes and goes.
const BESIDE: [u16; 2] = [0, 1000];
const TIMES: usize = 1000;

fn main() {
    // Before there is a second thread; without root in a user namespace of its own.
    let mut kinds = CloneFlags::CLONE_NEWNET;
    if !Uid::effective().is_root() {
        kinds |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(kinds).expect("a network namespace of its own: run as root, or allow user namespaces");
    let network = Call::parse(NETWORK.as_bytes()).and_then(|call| call.definition());
    let network = network.expect("the network");
    let mut table = Table::open(Kept::default()).expect("a netfilter socket");
    table.heal().expect("the tables: is nft installed?");
    for beside in BESIDE {
        let others: Vec<Element> = (0..beside).flat_map(|n| elements(&network, n)).collect();
        table.add(&others).expect("added");
        let one = elements(&network, 5000);
        let (mut adds, mut removals) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            adds.push(timed(|| table.add(&one).expect("added")));
            removals.push(timed(|| table.remove(&one).expect("removed")));
        }
        for (what, times) in [("ADD", &mut adds), ("DEL", &mut removals)] {
            times.sort_unstable();
            let [p50, p99] = [50, 99].map(|percent| times[TIMES * percent / 100]);
            let promised = beside == 1000 && what == "ADD";
            let verdict = match promised {
                true if p50 < ASKED => " (asked p50 < 0.5 ms): reached",
                true => " (asked p50 < 0.5 ms): NOT REACHED",
                false => "",
            };
            println!(
                "netfilter part of {what}, {} elements beside {beside} endpoints: p50 = {:.3} ms, \
                 p99 = {:.3} ms{verdict}",
                one.len(),
                p50.as_secs_f64() * 1e3,
                p99.as_secs_f64() * 1e3,
            );
        }
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

/// What an attachment has in our sets: as the daemon would write it, from the same plan.
fn elements(network: &Definition, n: u16) -> Vec<Element> {
    let target = Target {
        key: format!("net/c{n}/eth0").parse().expect("a key"),
        identity: Identity::unknown(),
        netns: NetnsId { dev: 4, ino: 7 },
        sandbox: "/run/netns/x".into(),
        mac: None,
        shaping: network.shaping.unwrap_or_default(),
        ports: vec![PortMapping {
            transport: Transport::Tcp,
            host_ip: None,
            only: None,
            host_port: n + 1,
            container_port: 80,
        }],
        handed: false,
        delegated: false,
        host_netns: NetnsId { dev: 4, ino: 1 },
    };
    let given = |set, address: String, gateway: &str| Assigned {
        set,
        address: address.parse().expect("an address"),
        gateway: Some(gateway.parse::<IpAddr>().expect("a gateway")),
    };
    let [a, b] = (n + 2).to_be_bytes();
    let addresses = vec![
        given(0, format!("10.1.{a}.{b}/16"), "10.1.0.1"),
        given(1, format!("fd00:1::{:x}/64", n + 2), "fd00:1::1"),
    ];
    let bridge = BridgeEnd {
        index: LinkIndex(3),
        mac: Mac([2, 0, 0, 0, 0, 9]),
        mtu: 1500,
        vlan_gateway: None,
        way: WayToRules::Bridge,
    };
    Plan::new(&target, network, bridge, addresses, 0, 5).expect("a plan").netfilter
}
