//! Policy with both families, and names of ports: what is said of one says nothing of the other.

use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};

use crate::network_isolation::{Attached, dual};
use crate::policy_live::{network_policy, pod, serve};
use crate::support::conf::with;
use crate::support::ctl::{apply, told};
use crate::support::netns::Netns;
use crate::support::traffic::{PATIENCE, SILENCE, tcp_answers, udp_answers};

/// By which families `from` reaches the echo servers of `to`.
fn families(from: &Netns, to: &Attached, expected: [bool; 2]) -> [bool; 2] {
    [0, 1].map(|n| {
        let within = if expected[n] { PATIENCE } else { SILENCE };
        let by_udp = udp_answers(from, &to.addresses[n], within);
        assert_eq!(tcp_answers(from, &to.addresses[n], within), by_udp, "TCP and UDP alike");
        by_udp
    })
}

#[test]
fn a_block_of_one_family_opens_nothing_of_the_other() {
    let world = world!();
    let _daemon = world.daemon();
    for (number, posture) in [(181, "isolated"), (182, "zero-trust")] {
        let conf = dual(posture, number, json!({ "policy": { "posture": posture } }));
        let [web, db] = ["web", "db"].map(|name| pod(&world, &format!("{name}{number}"), &conf));
        let _db = serve(&db);
        let blocks = |blocks: &[Value]| {
            let peers: Vec<Value> = blocks.iter().map(|b| json!({ "ipBlock": b })).collect();
            let spec = json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
                "ingress": [{ "from": peers }], "egress": [{ "to": peers }] });
            network_policy("blocks", spec)
        };
        let (all4, all6) = (json!({ "cidr": "0.0.0.0/0" }), json!({ "cidr": "::/0" }));
        let own6 = json!({ "cidr": format!("fd00:{number}::/64") });
        let but_web = json!({ "cidr": format!("fd00:{number}::/64"),
            "except": [format!("{}/128", web.addresses[1])] });
        for (of, expected) in [
            (vec![all4.clone()], [true, false]),
            (vec![all6], [false, true]),
            (vec![own6], [false, true]),
            (vec![all4, but_web.clone()], [true, false]),
            (vec![but_web], [false, false]),
        ] {
            apply(&world, &blocks(&of));
            assert_eq!(families(&web.netns, &db, expected), expected, "{posture}: {of:?}");
        }
        told(&world, "policy delete NetworkPolicy shop/blocks", "");
    }
}

#[test]
fn a_protocol_of_one_family_opens_nothing_of_the_other() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("both", 183, json!({ "policy": { "posture": "zero-trust" } }));
    let (web, db) = (pod(&world, "web", &conf), pod(&world, "db", &conf));
    let _db = serve(&db);
    let node = |protocols: Value| {
        json!({ "apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
        "metadata": { "name": "p" }, "spec": { "tier": "Admin", "priority": 1, "subject": {},
            "ingress": [{ "action": "Accept", "from": [{ "endpoints": {} }],
                "protocols": &protocols }],
            "egress": [{ "action": "Accept", "to": [{ "endpoints": {} }],
                "protocols": protocols }] } })
    };
    apply(&world, &node(json!([{ "icmp": {} }, { "icmpv6": {} }])));
    assert_eq!(families(&web.netns, &db, [false; 2]), [false; 2], "ICMP only");
    apply(&world, &node(json!([{ "number": 6 }, { "number": 17 }])));
    assert_eq!(families(&web.netns, &db, [true; 2]), [true; 2], "by the protocols' numbers");
}

/// Listeners at these ports of a container, of both families.
fn listen(at: &Attached, ports: &[u16]) -> Vec<TcpListener> {
    let all = at.addresses.iter().flat_map(|address| ports.iter().map(move |port| (address, port)));
    let bind = |(address, port): (&String, &u16)| {
        let to = SocketAddr::new(address.parse().expect("an address"), *port);
        at.netns.run(|| TcpListener::bind(to).expect("a listener"))
    };
    all.map(bind).collect()
}

#[test]
fn a_ports_name_means_at_each_container_what_it_calls_so() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("named", 184, json!({}));
    let calling = |ports: &str| {
        let pods = json!({ "policy.quantum/named-ports": ports });
        with(&conf, json!({ "runtimeConfig": { "io.kubernetes.cri.pod-annotations": pods } }))
    };
    let web = pod(&world, "web", &conf);
    let one = pod(&world, "one", &calling("door=7401/tcp"));
    let two = pod(&world, "two", &calling("door=7402/tcp"));
    let of_udp = pod(&world, "three", &calling("door=7401/udp"));
    let none = pod(&world, "none", &conf);
    let all =
        [(&one, [true, false]), (&two, [false, true]), (&of_udp, [false; 2]), (&none, [false; 2])];
    let _listeners: Vec<_> = all.iter().map(|(at, _)| listen(at, &[7401, 7402])).collect();
    let to_door = json!([{ "ports": [{ "port": "door" }] }]);
    for (what, spec) in [
        ("ingress", json!({ "podSelector": {}, "ingress": to_door })),
        (
            "egress",
            json!({ "podSelector": { "matchLabels": { "app": "web" } },
                "policyTypes": ["Egress"], "egress": to_door }),
        ),
    ] {
        apply(&world, &network_policy("door", spec));
        for (at, open) in all {
            for (port, expected) in [7401, 7402].into_iter().zip(open) {
                for address in &at.addresses {
                    let within = if expected { PATIENCE } else { SILENCE };
                    let found = connects(&web.netns, address, port, within);
                    assert_eq!(found, expected, "{what}: {address}, port {port}");
                }
            }
        }
        told(&world, "policy delete NetworkPolicy shop/door", "");
    }
}

fn connects(from: &Netns, to: &str, port: u16, within: std::time::Duration) -> bool {
    let to = SocketAddr::new(to.parse().expect("an address"), port);
    from.run(|| std::net::TcpStream::connect_timeout(&to, within).is_ok())
}
