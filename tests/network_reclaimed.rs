//! What containers hold whose interface is destroyed and whose DEL does not come: an ADD that wants it has it at
//! once, however long the grace time is; what is not known to be destroyed it does not get.

use serde_json::{Value, json};

use crate::daemon_http::sample;
use crate::ipam_requested::add;
use crate::spec_add::address;
use crate::spec_del::fill_and_empty;
use crate::support::chain::called_as;
use crate::support::conf::{network, with};
use crate::support::daemon::{Daemon, Options};
use crate::support::eventually::{eventually, eventually_within};
use crate::support::inventory::{Inventory, nft_elements};
use crate::support::ipam;
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::ports::publishing;
use crate::support::traffic::PORT;
use crate::support::world::World;

const INVALID_CONFIG: u64 = 7;
const EXISTS: u64 = 101;

fn conf() -> Value {
    network("taken", "taken0", "10.106.0.0/29")
}

/// With a published port and an address of its own.
fn wanting(conf: &Value, port: u16, ip: &str) -> Value {
    let conf = publishing(conf, &[("tcp", port, PORT, "")]);
    with(&conf, json!({ "args": { "cni": { "ips": [ip] } } }))
}

/// A daemon that would wait for a day.
fn patient(world: &World) -> Daemon {
    world.daemon_with(Options::default().args("--orphan-seconds 86400"))
}

/// The host's end of an attachment.
fn port(result: &Value) -> String {
    result["interfaces"][1]["name"].as_str().expect("a name").to_owned()
}

/// Attaches a container whose namespace then goes without a DEL.
fn dead(world: &World, id: &str, conf: &Value) -> Value {
    let container = world.container();
    let result = world.call(Call::add(id, &container).conf(conf)).succeeded();
    drop(container);
    eventually("the kernel to take the link away", || {
        world.host.link(&port(&result)).is_none().then_some(())
    });
    result
}

fn released(daemon: &Daemon) -> f64 {
    sample(&daemon.get("/metrics").1, "cni_orphans_released_total", &[])
}

#[test]
fn a_port_and_an_address_are_had_at_once_and_nothing_of_the_dead_is_left() {
    let world = world!();
    let daemon = patient(&world);
    let fresh = |id: &str| {
        let container = world.container();
        world.call(Call::add(id, &container).conf(&conf())).succeeded();
        world.call(Call::del(id, &container).conf(&conf())).succeeded();
    };
    fresh("warm");
    let (before, elements) = (Inventory::of(&world.host), nft_elements(&world.host));
    for (n, wants) in [
        wanting(&conf(), 8080, "10.106.0.5"),
        publishing(&conf(), &[("tcp", 8080, PORT, "")]),
        with(&conf(), json!({ "args": { "cni": { "ips": ["10.106.0.5"] } } })),
    ]
    .into_iter()
    .enumerate()
    {
        let held = wanting(&conf(), 8080, "10.106.0.5");
        dead(&world, &format!("ingress-{n}"), &held);
        let next = world.container();
        let name = format!("next-{n}");
        world.call(Call::add(&name, &next).conf(&wants)).succeeded();
        assert_eq!(released(&daemon), n as f64 + 1.0);
        // A DEL that comes after all takes nothing from who has it now.
        let had = Inventory::of(&world.host);
        let late = Call::del(&format!("ingress-{n}"), &next).var("CNI_NETNS", "");
        world.call(late.conf(&held)).succeeded();
        had.assert_same(&Inventory::of(&world.host), "a late DEL");
        world.call(Call::del(&name, &next).conf(&wants)).succeeded();
    }
    before.assert_same(&Inventory::of(&world.host), "the host at the end");
    assert_eq!(nft_elements(&world.host), elements);
    assert_eq!(sample(&daemon.get("/metrics").1, "cni_published_ports", &[]), 0.0);
    fill_and_empty(&world, &conf(), 5);
}

#[test]
fn a_pool_that_the_dead_have_filled_is_not_exhausted() {
    let world = world!();
    let daemon = patient(&world);
    let living = world.container();
    world.call(Call::add("living", &living).conf(&conf())).succeeded();
    for round in 0..2 {
        for n in 0..4 {
            dead(&world, &format!("dead-{round}-{n}"), &conf());
        }
    }
    let mut all: Vec<Netns> = Vec::new();
    let mut had = Vec::new();
    for n in 0..4 {
        let container = world.container();
        had.push(address(
            &world.call(Call::add(&format!("c{n}"), &container).conf(&conf())).succeeded(),
        ));
        all.push(container);
    }
    had.sort();
    had.dedup();
    assert_eq!(had.len(), 4);
    assert_eq!(released(&daemon), 8.0);
    add(&world, "late", &conf(), "").failed_with(INVALID_CONFIG);
    let check = Call::add("living", &living).conf(&conf());
    world.call(check).failed_with(EXISTS);
}

#[test]
fn many_that_come_at_once_share_what_the_dead_had() {
    let world = world!();
    let daemon = patient(&world);
    let conf = network("crowd", "crowd0", "10.107.0.0/27");
    for n in 0..29 {
        let container = world.container();
        world.call(Call::add(&format!("dead-{n}"), &container).conf(&conf)).succeeded();
    }
    eventually("the kernel to take the links away", || {
        let left = world.host.ip_json("link show type veth");
        left.iter().all(|link| link["ifname"] == "uplink").then_some(())
    });
    let outcomes = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..32)
            .map(|n| {
                let (world, conf) = (&world, &conf);
                scope.spawn(move || add(world, &format!("c{n}"), conf, ""))
            })
            .collect();
        calls.into_iter().map(|call| call.join().expect("a call")).collect::<Vec<_>>()
    });
    let mut served: Vec<String> =
        outcomes.iter().filter(|o| o.code == Some(0)).map(|o| address(&o.succeeded())).collect();
    served.sort();
    served.dedup();
    assert_eq!(served.len(), 29, "{outcomes:?}");
    assert_eq!(released(&daemon), 29.0);
}

#[test]
fn the_port_may_be_of_another_network_and_asked_for_by_portmap() {
    let world = world!();
    let daemon = patient(&world);
    let other = network("other", "other0", "10.108.0.0/24");
    dead(&world, "one", &publishing(&other, &[("tcp", 8080, PORT, "")]));
    add(&world, "two", &publishing(&conf(), &[("tcp", 8080, PORT, "")]), "").succeeded();
    dead(&world, "three", &publishing(&conf(), &[("tcp", 8081, PORT, "")]));
    let container = world.container();
    let result = world.call(Call::add("four", &container).conf(&other)).succeeded();
    let chained = publishing(
        &json!({ "cniVersion": "1.0.0", "name": "other", "type": "portmap", "prevResult": result }),
        &[("tcp", 8081, PORT, "")],
    );
    Call::add("four", &container).conf(&chained).run(called_as(&world, "portmap")).succeeded();
    assert_eq!(released(&daemon), 2.0);
}

#[test]
fn what_is_not_known_to_be_destroyed_keeps_what_it_has() {
    let world = world!();
    let daemon = patient(&world);
    let conf = network("kept", "kept0", "10.109.0.0/24");
    let (ids, elsewhere) =
        (["living", "down", "renamed", "moved", "both", "inside"], world.container());
    let (kept, third) = (world.container(), world.container());
    let mut all = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        let container = world.container();
        let wants = wanting(&conf, 9000 + n as u16, &format!("10.109.0.{}", 100 + n));
        let result = world.call(Call::add(id, &container).conf(&wants)).succeeded();
        all.push((container, port(&result), wants));
    }
    world.host.ip(&format!("link set {} down", all[1].1));
    world.host.ip(&format!("link set {} down", all[2].1));
    world.host.ip(&format!("link set {} name strange up", all[2].1));
    world.host.ip(&format!("link set {} netns {}", all[3].1, elsewhere.text()));
    // With another name, in one go.
    world.host.ip(&format!("link set {} netns {} name anything", all[4].1, kept.text()));
    all[5].0.ip(&format!("link set eth0 netns {} name inner", third.text()));
    // What another program has to be told of.
    let program = ipam::Ipam::new(&world);
    let delegated = publishing(&ipam::conf("delegated"), &[("tcp", 9100, PORT, "")]);
    let theirs = world.container();
    let theirs_port =
        port(&program.call(&world, Call::add("theirs", &theirs).conf(&delegated)).succeeded());
    drop(theirs);
    eventually("the kernel to take the link away", || {
        world.host.link(&theirs_port).is_none().then_some(())
    });
    for (n, (_, _, wants)) in all.iter().enumerate() {
        let said = add(&world, "thief", wants, "").failed_with(EXISTS);
        assert!(said.contains(ids[n]), "{said}");
        let address = json!({ "args": { "cni": { "ips": [format!("10.109.0.{}", 100 + n)] } } });
        let said = add(&world, "thief", &with(&conf, address), "").failed_with(INVALID_CONFIG);
        assert!(said.contains(ids[n]), "{said}");
    }
    let port = publishing(&conf, &[("tcp", 9100, PORT, "")]);
    assert!(add(&world, "thief", &port, "").failed_with(EXISTS).contains("theirs"));
    assert_eq!((released(&daemon), program.leases().len()), (0.0, 1));
}

#[test]
fn status_finds_a_pool_again_that_the_dead_have_filled() {
    let world = world!();
    // Looked every 15 s at most; the grace time is longer.
    let daemon = world.daemon_with(Options::default().args("--orphan-seconds 60"));
    for n in 0..5 {
        dead(&world, &format!("dead-{n}"), &conf());
    }
    let status =
        || world.call(Call::new("STATUS").conf(&with(&conf(), json!({ "cniVersion": "1.1.0" }))));
    eventually_within(std::time::Duration::from_secs(40), "the pool to have addresses", || {
        (status().code == Some(0)).then_some(())
    });
    assert_eq!(released(&daemon), 5.0);
    let says = |record: &Value| {
        let why = record["why"].as_str().unwrap_or_default();
        record["container_id"] == "dead-0" && why.contains("wants")
    };
    assert!(daemon.log().iter().any(says));
}
