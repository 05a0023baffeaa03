//! What a request costs before the kernel is asked. `make bench` prints it beside the bursts.
//!
//! Two promises of `docs/specification.md` are seen here: a lease from a pool that is 99 % full takes
//! at most twice what one from an empty pool takes, and reading a configuration and rendering a result
//! takes less than 50 µs.
#![allow(clippy::expect_used, clippy::panic, missing_docs, reason = "a bench fails by panic")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use quantum_cni::ipam::Allocator;
use quantum_config::cni::{Call, CniResult, Environment, Previous, Version};
use quantum_config::ids::AttachmentKey;

const NETWORK: &str = include_str!("../config/samples/net.d/10-quantum-bridge.conf");

fn key(n: usize) -> AttachmentKey {
    format!("n/c{n}/eth0").parse().expect("a key")
}

/// A /16 of which `held` addresses are leased.
fn pool(held: usize) -> Allocator {
    let call = Call::parse(NETWORK.as_bytes()).expect("the sample");
    let network = call.definition().expect("the sample");
    let mut pool = Allocator::new(network.sets().to_vec(), []);
    for n in 0..held {
        pool.lease(&key(n), &[], &[]).expect("an address");
    }
    pool
}

/// One container comes and goes again, so that the pool stays as full as it is.
fn leases(c: &mut Criterion) {
    let mut group = c.benchmark_group("lease and release in a /16");
    let capacity = 65_533;
    for (name, held) in [("empty", 0), ("99 % full", capacity * 99 / 100)] {
        let (mut pool, owner, mut now) = (pool(held), key(usize::MAX), 0);
        group.bench_function(name, |b| {
            b.iter(|| {
                now += 1;
                black_box(pool.lease(&owner, &[], &[]).expect("an address"));
                pool.release(&owner, now);
            });
        });
    }
    group.finish();
}

fn requests(c: &mut Criterion) {
    c.bench_function("read a configuration", |b| {
        b.iter(|| {
            let call = Call::parse(black_box(NETWORK.as_bytes())).expect("the sample");
            let network = call.definition().expect("the sample");
            let meant = call.meant(&network, &Environment::default()).expect("the sample");
            black_box(meant.wanted)
        });
    });
    let given = serde_json::json!({
        "interfaces": [
            { "name": "quantum0", "mac": "02:00:00:00:00:01" },
            { "name": "qc0123456789abc", "mac": "02:00:00:00:00:02" },
            { "name": "eth0", "mac": "02:00:00:00:00:03", "sandbox": "/run/netns/c" }
        ],
        "ips": [{ "interface": 2, "address": "172.20.0.2/16", "gateway": "172.20.0.1" }],
        "routes": [{ "dst": "0.0.0.0/0" }],
        "dns": { "nameservers": ["172.20.0.1"], "domain": "quantum.local" }
    });
    let result: CniResult = serde_json::from_value(given).expect("a result");
    let version = Version::parse("1.0.0").expect("a version");
    c.bench_function("render a result", |b| {
        b.iter(|| black_box(&result).render(version, &Previous::default()).expect("rendered"));
    });
}

criterion_group!(benches, leases, requests);
criterion_main!(benches);
