//! Attachments whose container went without a DEL: what they had comes free after the grace time, and nothing
//! else does. That a daemon does not do something is seen by what it does meanwhile for another attachment.

use serde_json::{Value, json};

use crate::daemon_http::sample;
use crate::spec_add::address;
use crate::spec_del::fill_and_empty;
use crate::support::chain::called_as;
use crate::support::conf::{network, with};
use crate::support::daemon::{Daemon, Options};
use crate::support::eventually::eventually;
use crate::support::inventory::{Inventory, nft_elements};
use crate::support::ipam;
use crate::support::netns::Netns;
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::ports::publishing;
use crate::support::traffic::{PATIENCE, PORT};
use crate::support::world::World;

const CHECK_FAILED: u64 = 105;
const EXISTS: u64 = 101;

fn conf() -> Value {
    network("orphans", "orphans0", "10.103.0.0/29")
}

/// The same with a published port.
fn published() -> Value {
    publishing(&conf(), &[("tcp", 8080, PORT, "")])
}

fn patient(seconds: u32) -> Options {
    Options::default().args(&format!("--orphan-seconds {seconds}"))
}

fn metric(daemon: &Daemon, name: &str) -> f64 {
    sample(&daemon.get("/metrics").1, name, &[])
}

/// Waits until it has been released; what the log says of that.
#[track_caller]
fn released(daemon: &Daemon, id: &str) -> Value {
    let says = |record: &Value| {
        let msg = record["msg"].as_str().unwrap_or_default();
        record["container_id"] == id && msg.starts_with("released an attachment")
    };
    eventually(&format!("{id} to be released"), || daemon.log().into_iter().find(says))
}

fn count(daemon: &Daemon) -> f64 {
    metric(daemon, "cni_orphans_released_total")
}

/// Attaches a container, whose namespace then goes without a DEL. Gives its address.
fn orphan(world: &World, id: &str, conf: &Value) -> String {
    let container = world.container();
    let add = Call::add(id, &container).var("CNI_ARGS", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db-0");
    address(&world.call(add.conf(conf)).succeeded())
}

#[test]
fn what_it_had_is_free_after_the_grace_time() {
    let world = world!();
    let daemon = world.daemon_with(patient(1));
    let warm = world.container();
    world.call(Call::add("warm", &warm).conf(&conf())).succeeded();
    let before = Inventory::of(&world.host);
    let elements = nft_elements(&world.host);

    let had = orphan(&world, "lost", &published());
    assert_ne!(nft_elements(&world.host), elements, "it had elements");
    let said = released(&daemon, "lost");
    before.assert_same(&Inventory::of(&world.host), "the host after the release");
    assert_eq!(
        (metric(&daemon, "cni_published_ports"), metric(&daemon, "cni_orphans")),
        (0.0, 0.0)
    );
    assert_eq!(count(&daemon), 1.0);
    assert_eq!((&said["ip_address"], &said["network_name"]), (&json!(had), &json!("orphans")));
    assert_eq!((&said["pod"], &said["level"]), (&json!("shop/db-0"), &json!("warning")), "{said}");

    let next = world.container();
    world.call(Call::add("next", &next).conf(&published())).succeeded();
    let held = Inventory::of(&world.host);
    world.call(Call::del("lost", &next).var("CNI_NETNS", "").conf(&published())).succeeded();
    held.assert_same(&Inventory::of(&world.host), "a late DEL takes nothing from the next one");
    for (id, container) in [("next", &next), ("warm", &warm)] {
        world.call(Call::del(id, container).conf(&conf())).succeeded();
    }
    fill_and_empty(&world, &conf(), 5);
}

#[test]
fn the_next_daemon_releases_it_too() {
    let world = world!();
    let daemon = world.daemon_with(patient(0));
    let before = {
        let warm = world.container();
        world.call(Call::add("warm", &warm).conf(&conf())).succeeded();
        world.call(Call::del("warm", &warm).conf(&conf())).succeeded();
        Inventory::of(&world.host)
    };
    orphan(&world, "before", &published());
    let container = world.container();
    world.call(Call::add("meanwhile", &container).conf(&conf())).succeeded();
    daemon.kill();
    drop(container);
    let daemon = world.daemon_with(patient(1));
    released(&daemon, "before");
    released(&daemon, "meanwhile");
    before.assert_same(&Inventory::of(&world.host), "the host after the release");
    fill_and_empty(&world, &conf(), 5);
}

/// The host's end of an attachment.
fn port(result: &Value) -> String {
    result["interfaces"][1]["name"].as_str().expect("a name").to_owned()
}

#[test]
fn what_is_not_known_to_be_destroyed_is_kept() {
    let world = world!();
    let daemon = world.daemon_with(patient(1));
    let conf = network("kept", "kept0", "10.104.0.0/24");
    let add = |id: &str, netns: &Netns| world.call(Call::add(id, netns).conf(&conf)).succeeded();
    let ids = ["living", "down", "renamed", "moved", "inside", "again"];
    let netns: Vec<Netns> = ids.iter().map(|_| world.container()).collect();
    let results: Vec<Value> = ids[..5].iter().zip(&netns).map(|(id, n)| add(id, n)).collect();
    let elsewhere = world.container();
    world.host.ip(&format!("link set {} down", port(&results[1])));
    world.host.ip(&format!("link set {} down", port(&results[2])));
    world.host.ip(&format!("link set {} name strange up", port(&results[2])));
    world.host.ip(&format!("link set {} netns {}", port(&results[3]), elsewhere.text()));
    netns[4].ip(&format!("link set eth0 netns {}", elsewhere.text()));
    // Its container comes again in another namespace while nobody has told that the first one went.
    orphan(&world, "again", &conf);
    add("again", &netns[5]);
    // What another program has to be told of.
    let (program, delegated) = (ipam::Ipam::new(&world), ipam::conf("delegated"));
    let theirs = world.container();
    program.call(&world, Call::add("theirs", &theirs).conf(&delegated)).succeeded();
    drop(theirs);
    // What another plugin attaches has no link of ours.
    let only = with(&network("only", "", "10.105.0.0/24"), json!({ "type": "macvlan" }));
    let lent = |verb: &str, id: &str| {
        let call = Call::attachment(verb, id, &netns[0]).conf(&only);
        call.run(called_as(&world, "host-local"))
    };
    lent("ADD", "lent").succeeded();

    let so_far = count(&daemon); // 1 if "again" was released before it came again
    for id in ["witness", "another"] {
        orphan(&world, id, &conf);
        released(&daemon, id);
    }
    assert_eq!(count(&daemon), so_far + 2.0);
    assert_eq!(metric(&daemon, "cni_orphans"), 2.0, "the moved one, and the delegated one");
    assert_eq!(program.leases().len(), 1);
    lent("CHECK", "lent").succeeded();
    for id in ["living", "down", "again"] {
        let netns = &netns[ids.iter().position(|other| *other == id).expect("one of them")];
        world.call(Call::add(id, netns).conf(&conf)).failed_with(EXISTS);
    }
    let check = with(&conf, json!({ "prevResult": results[0] }));
    world.call(Call::check("living", &netns[0]).conf(&check)).succeeded();
    assert!(ping(&netns[0], "10.104.0.1", PATIENCE));
    let held = |network: &str| {
        let label = format!("network=\"{network}\"");
        sample(&daemon.get("/metrics").1, "cni_pool_addresses_held", &[&label])
    };
    assert_eq!((held("kept"), held("only")), (6.0, 1.0));
}

#[test]
fn until_then_a_check_and_a_del_find_what_they_would() {
    let world = world!();
    let daemon = world.daemon_with(patient(86_400));
    let container = world.container();
    let result = world.call(Call::add("lost", &container).conf(&published())).succeeded();
    drop(container);
    let next = world.container();
    let check = with(&conf(), json!({ "prevResult": result }));
    eventually("the kernel to take the link away", || {
        world.host.link(&port(&result)).is_none().then_some(())
    });
    world.call(Call::check("lost", &next).conf(&check)).failed_with(CHECK_FAILED);
    assert_eq!(metric(&daemon, "cni_published_ports"), 1.0);
    let again = world.container();
    world.call(Call::add("lost", &again).conf(&published())).succeeded();
    drop(again);
    world.call(Call::del("lost", &next).var("CNI_NETNS", "").conf(&conf())).succeeded();
    world.call(Call::add("next", &next).conf(&published())).succeeded();
    assert_eq!(count(&daemon), 0.0);
}

#[test]
fn with_0_nothing_is_released_that_no_add_wants() {
    let (world, witness) = (world!(), world!());
    let daemon = world.daemon_with(patient(0));
    orphan(&world, "lost", &published());
    // Another host, whose daemon does, and does so twice.
    let releasing = witness.daemon_with(patient(1));
    for id in ["one", "two"] {
        orphan(&witness, id, &published());
        released(&releasing, id);
    }
    assert_eq!(count(&daemon), 0.0);
    assert_eq!(metric(&daemon, "cni_published_ports"), 1.0);
    let next = world.container();
    world.call(Call::add("next", &next).conf(&published())).succeeded();
    assert_eq!(count(&daemon), 1.0);
}
