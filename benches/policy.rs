//! What a change of policy costs, by its parts: deciding what it comes to, and having the kernel make it.
//! `make bench` prints it. The promise, less than 50 ms for a policy about 1,000 endpoints as an operator
//! sees it, is measured by the load test; this says where the time goes.
#![allow(clippy::expect_used, clippy::panic, missing_docs, reason = "a bench fails by panic")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;
use quantum_cni::kernel::nft::{Kept, Table};
use quantum_cni::policy::{Documents, Endpoint, Registry, Standing};
use quantum_config::ids::IfName;
use quantum_config::policy::{Document, Labels, read};
use serde_json::{Value, json};

const ENDPOINTS: usize = 1000;
const NAMESPACES: usize = 100;
const TIMES: u16 = 21;

fn main() {
    // Before there is a second thread; without root in a user namespace of its own.
    let mut kinds = CloneFlags::CLONE_NEWNET;
    if !Uid::effective().is_root() {
        kinds |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(kinds).expect("a network namespace of its own: run as root, or allow user namespaces");
    for policies in [0, 500] {
        measure(policies);
    }
}

fn measure(policies: usize) {
    let mut table = Table::open(Kept::default()).expect("a netfilter socket");
    table.reconcile(Vec::new(), Arc::default()).expect("the tables: is nft installed?");
    let mut registry = Registry::new(documents(policies, 1));
    for n in 0..ENDPOINTS {
        registry.judge(endpoint(n), Standing::Isolated { alone: false, direct: false });
    }
    table.govern(registry.take_changes().expect("changes")).expect("governed");
    let (mut decided, mut made) = (Vec::new(), Vec::new());
    let (mut chains, mut elements) = (0, 0);
    for port in 2..2 + TIMES {
        let documents = documents(policies, port);
        let began = Instant::now();
        registry.rewrite(documents);
        let changes = registry.take_changes().expect("changes");
        decided.push(began.elapsed());
        (chains, elements) = (changes.rules.chains.len(), changes.add.len() + changes.remove.len());
        let began = Instant::now();
        table.govern(changes).expect("governed");
        made.push(began.elapsed());
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e3
    };
    println!(
        "a change about {ENDPOINTS} endpoints beside {policies} policies: decided in {:.1} ms, made in \
         {:.1} ms (p50; {chains} chains, {elements} elements that come or go)",
        median(&mut decided),
        median(&mut made),
    );
}

fn endpoint(n: usize) -> Endpoint {
    let namespace = format!("ns{}", n % NAMESPACES);
    let [a, b] = u16::try_from(n + 2).expect("few").to_be_bytes();
    Endpoint {
        key: format!("net/c{n}/eth0").parse().expect("a key"),
        bridge: IfName::new("quantum0").expect("a name"),
        link_local: Some(format!("fe80::{:x}", n + 2).parse().expect("an address")),
        audit: false,
        unknown: false,
        namespace,
        name: format!("c{n}"),
        network: "net".to_owned(),
        labels: Labels::from([("app".to_owned(), format!("app{}", n % 5))]),
        addresses: vec![format!("10.1.{a}.{b}").parse().expect("an address")],
        ports: Vec::new(),
    }
}

/// One policy about everybody, which lets in at this port, and others about some.
fn documents(policies: usize, port: u16) -> Arc<Documents> {
    let everybody = json!({"apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
        "metadata": {"name": "everybody"},
        "spec": {"tier": "Admin", "priority": 1, "subject": {},
            "ingress": [{"action": "Accept", "from": [{"endpoints": {"matchLabels": {"app": "app0"}}}],
                "protocols": [{"tcp": {"destinationPort": {"number": port}}}]}]}});
    let others = (0..policies).map(|n| {
        let app = json!({"matchLabels": {"app": format!("app{}", n / NAMESPACES)}});
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": format!("p{n}"), "namespace": format!("ns{}", n % NAMESPACES)},
            "spec": {"podSelector": app, "ingress": [{"from": [{"podSelector": {}}],
                "ports": [{"port": 8080}, {"port": 9090, "protocol": "UDP"}]}]}})
    });
    let all = std::iter::once(everybody).chain(others);
    let read = |value: Value| -> Document { read(&value).expect("valid") };
    Arc::new(Documents::new(all.map(read)))
}
