//! Policy at the beginnings: of a container, of a daemon, and of one that has lost its memory.

use serde_json::{Value, json};

use crate::network_isolation::{Attached, connect, dual};
use crate::policy_live::{network_policy, pod, reach, serve};
use crate::support::ctl::{apply, quantumctl_with, told};
use crate::support::eventually::eventually;
use crate::support::inventory::{nft_elements, veths};
use crate::support::knock::{Ear, Knocks};
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, SILENCE, Steady, tcp_answers, udp_answers};
use crate::support::world::{OUTSIDE, World};

const DOOR: u16 = 7301;
/// How many knocks come after the ADD at least.
const AFTER: u32 = 2000;

/// An ADD into the namespace `shop` to a container that is there already.
#[track_caller]
fn add(world: &World, name: &str, netns: &Netns, conf: &Value) -> Value {
    let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name}");
    world.call(Call::add(name, netns).conf(conf).var("CNI_ARGS", &args)).succeeded()
}

fn deny(direction: &str) -> Value {
    network_policy("deny", json!({ "podSelector": {}, "policyTypes": [direction] }))
}

#[test]
fn who_knocks_before_a_container_is_there_is_not_heard_by_it() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[161]);
    for (number, keys) in [(160, json!({})), (161, json!({ "posture": "open" }))] {
        let name = format!("door{number}");
        let conf = dual(&name, number, json!({ "ipMasq": false, "policy": keys }));
        let web = pod(&world, &format!("web{number}"), &conf);
        apply(&world, &deny("Ingress"));
        let next = [format!("10.{number}.0.3"), format!("fd00:{number}::3")];
        let coming = world.container();
        let ear = Ear::at(&coming, DOOR);
        let mut knocks = vec![Knocks::begin(&web.netns, &next, DOOR)];
        if number == 161 {
            knocks.push(Knocks::begin(&world.outside, &next, DOOR));
        }
        let result = add(&world, &format!("late{number}"), &coming, &conf);
        for (n, address) in next.iter().enumerate() {
            let got = result["ips"][n]["address"].as_str().expect("an address");
            assert!(got.starts_with(&format!("{address}/")), "{result}");
        }
        for knocks in &knocks {
            knocks.more(AFTER);
        }
        let heard = ear.heard();
        assert!(heard.is_empty(), "{name}: {heard:?}");
        // The same knocks are heard as soon as that is allowed.
        told(&world, "policy delete NetworkPolicy shop/deny", "");
        eventually("a knock to be heard", || (!ear.heard().is_empty()).then_some(()));
    }
}

#[test]
fn what_a_container_sends_as_soon_as_it_can_is_judged() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("eager", 162, json!({}));
    let db = pod(&world, "db", &conf);
    apply(&world, &deny("Egress"));
    let ears =
        [Ear::at(&db.netns, DOOR), Ear::at(&world.host, DOOR), Ear::at(&world.outside, DOOR)];
    let coming = world.container();
    let mut to = [&db.addresses[..], &db.gateways].concat();
    to.push(OUTSIDE.to_owned());
    let knocks = Knocks::begin(&coming, &to, DOOR);
    add(&world, "eager", &coming, &conf);
    knocks.more(AFTER);
    for ear in &ears {
        assert!(ear.heard().is_empty(), "{ear:?}");
    }
    told(&world, "policy delete NetworkPolicy shop/deny", "");
    for ear in &ears {
        eventually("a knock to be heard", || (!ear.heard().is_empty()).then_some(()));
    }
}

/// The file of policy is as it is whatever the daemon forgets.
fn write(world: &World, documents: &Value) {
    let folder = world.paths().root.join("policy.d");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("10.json"), documents.to_string()).expect("written");
}

#[test]
fn of_whom_nothing_is_known_any_more_has_to_do_with_nobody() {
    let world = world!();
    let everything = json!({ "apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
        "metadata": { "name": "all" }, "spec": { "tier": "Admin", "priority": 1, "subject": {},
            "ingress": [{ "action": "Accept", "from": [{ "endpoints": {} },
                { "entities": ["host", "world"] }] }],
            "egress": [{ "action": "Accept", "to": [{ "endpoints": {} },
                { "entities": ["host", "world"] }] }] } });
    for (number, policy, keys) in [
        (163, Some(everything), json!({})),
        (164, None, json!({ "policy": { "posture": "zero-trust" } })),
    ] {
        let documents = json!({ "apiVersion": "v1", "kind": "List",
            "items": policy.iter().collect::<Vec<_>>() });
        write(&world, &documents);
        let daemon = world.daemon();
        let conf = dual(&format!("lost{number}"), number, keys);
        let (web, db) = (pod(&world, "web", &conf), pod(&world, "db", &conf));
        let _db = serve(&db);
        let _host = [0, 1].map(|n| Echo::serve(&world.host, &db.gateways[n]));
        if policy.is_some() {
            reach(&web.netns, &db.addresses, true, "known to each other");
        }
        reach(&world.host, &db.addresses, true, "the host");
        daemon.kill();
        world.forget();
        let daemon = world.daemon_that_serves();
        let (code, said) = daemon.get("/readyz");
        assert!(code == 503 && said.contains(&format!("lost{number}/db/eth0")), "{code} {said}");
        let _web = serve(&web);
        reach(&web.netns, &db.addresses, false, "unknown to each other");
        reach(&web.netns, &db.gateways, false, "who is unknown and the host");
        reach(&world.host, &db.addresses, false, "the host and who is unknown");
        let late = pod(&world, "late", &conf);
        let _late = serve(&late);
        reach(&late.netns, &db.addresses, false, "who came later and who is unknown");
        reach(&db.netns, &late.addresses, false, "who is unknown and who came later");
        reach(&world.host, &late.addresses, true, "the host and who came later");
        let explained = quantumctl_with(
            &world,
            &format!("policy explain {} {} 7007/udp", late.addresses[0], db.addresses[0]),
            "",
        );
        assert_eq!(explained.status.code(), Some(1), "{explained:?}");
        // It is known again when it is attached anew.
        drop((_db, _web));
        for (name, old) in [("web", &web), ("db", &db)] {
            world.call(Call::del(name, &old.netns).conf(&conf)).succeeded();
        }
        if policy.is_some() {
            let again = pod(&world, "db", &conf);
            let _again = serve(&again);
            reach(&late.netns, &again.addresses, true, "known again");
            world.call(Call::del("db", &again.netns).conf(&conf)).succeeded();
        }
        world.call(Call::del("late", &late.netns).conf(&conf)).succeeded();
        assert_eq!(daemon.get("/readyz").0, 200, "all that are there are known");
    }
}

#[test]
fn without_a_daemon_policy_stays_and_what_is_new_is_refused() {
    let world = world!();
    let daemon = world.daemon();
    let conf = dual("alone", 165, json!({}));
    let names = ["web", "other", "db"];
    let [web, other, db] = names.map(|name| pod(&world, name, &conf));
    let _db = serve(&db);
    let web_only = json!([{ "podSelector": { "matchLabels": { "app": "web" } } }]);
    let spec = json!({ "podSelector": { "matchLabels": { "app": "db" } },
        "ingress": [{ "from": web_only }] });
    apply(&world, &network_policy("db", spec));
    let talks = db.addresses.each_ref().map(|to| Steady::start(&web.netns, to));
    let before = (veths(&world.host), nft_elements(&world.host));
    let rules = world.host.output("nft", "-s list ruleset");
    daemon.kill();
    let container = world.container();
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=late";
    let call = Call::add("late", &container).conf(&conf).var("CNI_ARGS", args);
    assert_eq!((veths(&world.host), nft_elements(&world.host)), before);
    reach(&other.netns, &db.addresses, false, "without a daemon");
    let answered = talks.each_ref().map(Steady::answered);
    let _daemon = world.daemon();
    assert_eq!(world.host.output("nft", "-s list ruleset"), rules, "nothing differs");
    world.call(call).succeeded();
    reach(&container, &db.addresses, false, "with the next daemon, one that comes late");
    for (talk, before) in talks.into_iter().zip(answered) {
        let goes_on = || (talk.answered() > before + 20).then_some(());
        eventually("the conversation to go on", goes_on);
        talk.was_undisturbed();
    }
}

/// Whether any of the four ways leads from one to the other.
fn any_way(from: &Netns, to: &[String; 2]) -> bool {
    to.iter().any(|to| udp_answers(from, to, SILENCE) || tcp_answers(from, to, SILENCE))
}

#[test]
fn in_zero_trust_nobody_reaches_anybody_and_neighbours_are_found() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[166, 167]);
    let zero = |name, number| {
        dual(name, number, json!({ "ipMasq": false, "policy": { "posture": "zero-trust" } }))
    };
    let (first, second) = (zero("first", 166), zero("second", 167));
    let all: Vec<Attached> = [("a", &first), ("b", &first), ("c", &second)]
        .map(|(name, conf)| pod(&world, name, conf))
        .into();
    let _echoes: Vec<_> = all.iter().map(serve).collect();
    let _host: Vec<_> = [0, 2]
        .into_iter()
        .flat_map(|n| all[n].gateways.each_ref().map(|to| Echo::serve(&world.host, to)))
        .collect();
    let mut ways: Vec<(String, &Netns, &[String; 2])> = Vec::new();
    for (n, from) in all.iter().enumerate() {
        for (m, to) in all.iter().enumerate().filter(|(m, _)| *m != n) {
            ways.push((format!("{n} to {m}"), &from.netns, &to.addresses));
        }
        ways.push((format!("{n} to its gateway"), &from.netns, &from.gateways));
        ways.push((
            format!("{n} to the other's gateway"),
            &from.netns,
            &all[2 - n / 2 * 2].gateways,
        ));
        ways.push((format!("the world to {n}"), &world.outside, &from.addresses));
    }
    std::thread::scope(|scope| {
        let asked: Vec<_> =
            ways.iter().map(|(what, from, to)| (what, scope.spawn(|| any_way(from, to)))).collect();
        for (what, found) in asked {
            assert!(!found.join().expect("the one who asks"), "{what}");
        }
    });
    let known = |at: &Attached, whom: &str| {
        let found = at.netns.output("ip", &format!("neigh show {whom} dev eth0"));
        found.contains("lladdr")
    };
    for at in &all {
        assert!(at.gateways.iter().all(|gateway| known(at, gateway)), "the gateway");
        eventually("addresses to be looked for and not found", || {
            let text = at.netns.output("ip", "-6 address show dev eth0");
            assert!(!text.contains("dadfailed"), "{text}");
            (text.contains("scope link") && !text.contains("tentative")).then_some(())
        });
    }
    assert!(all[1].addresses.iter().all(|address| known(&all[0], address)), "a neighbour");
    // By its own name, and not the prober's, the kubelet gets in.
    reach(&world.host, &all[0].addresses, true, "a probe of the host");
}

#[test]
fn link_local_addresses_are_no_way_around() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("links", 168, json!({ "policy": { "posture": "zero-trust" } }));
    let (web, db) = (pod(&world, "web", &conf), pod(&world, "db", &conf));
    let local = |netns: &Netns, link: &str| {
        eventually("a link-local address", || {
            let found = netns.ip_json(&format!("-6 address show dev {link} scope link"));
            let infos = found.first()?["addr_info"].as_array()?.clone();
            let info = infos.into_iter().find(|info| info["local"].is_string())?;
            (info["tentative"] != true).then(|| info["local"].as_str().map(str::to_owned))?
        })
    };
    let index = |netns: &Netns, link: &str| {
        netns.run(|| nix::net::if_::if_nametoindex(link).expect("a link"))
    };
    let bind =
        |netns: &Netns| netns.run(|| std::net::UdpSocket::bind(("::", DOOR)).expect("a socket"));
    let heard =
        |from: &std::net::UdpSocket, to: &str, scope: u32, ear: &std::net::UdpSocket, within| {
            let to = std::net::SocketAddrV6::new(to.parse().expect("an address"), DOOR, 0, scope);
            let _ = from.send_to(b"knock", to);
            ear.set_read_timeout(Some(within)).expect("a bound");
            ear.recv_from(&mut [0; 8]).is_ok()
        };
    let ends = [
        (local(&world.host, "links0"), bind(&world.host)),
        (local(&db.netns, "eth0"), bind(&db.netns)),
    ];
    let hand = web.netns.run(|| std::net::UdpSocket::bind("[::]:0").expect("a socket"));
    let scope = index(&web.netns, "eth0");
    for (to, ear) in &ends {
        assert!(!heard(&hand, to, scope, ear, SILENCE), "{to} without policy");
    }
    // Selectors name endpoints by their addresses in the network; these are named as a block.
    let links = json!({ "cidr": "fe80::/10" });
    let both = json!({ "apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
        "metadata": { "name": "links" }, "spec": { "tier": "Admin", "priority": 1, "subject": {},
            "ingress": [{ "action": "Accept", "from": [links] }],
            "egress": [{ "action": "Accept", "to": [links, { "entities": ["host"] }] }] } });
    apply(&world, &both);
    for (to, ear) in &ends {
        let comes = || heard(&hand, to, scope, ear, SILENCE).then_some(());
        eventually(&format!("{to} by policy"), comes);
    }
}
