//! Docker's networks and addresses: what dockerd asks before there is a container, asked twice, asked after
//! a restart, and asked wrongly.

use serde_json::{Value, json};

use crate::support::conf;
use crate::support::docker::{Dockerd, create_endpoint, id, network};
use crate::support::inventory::Inventory;
use crate::support::plugin::Call;

fn pool(subnet: &str) -> Value {
    json!({"AddressSpace": "quantum", "Pool": subnet, "SubPool": "", "Options": {}, "V6": false})
}

fn address(pool: &Value, mac: &str) -> Value {
    let key = "com.docker.network.endpoint.macaddress";
    json!({"PoolID": pool, "Address": "", "Options": {key: mac}})
}

fn gateway(pool: &Value) -> Value {
    let options = json!({"RequestAddressType": "com.docker.network.gateway"});
    json!({"PoolID": pool, "Address": "", "Options": options})
}

#[test]
fn a_network_comes_and_goes() {
    let world = world!();
    let (daemon, dockerd) = Dockerd::start(&world);
    let before = Inventory::of(&world.host);
    let id = dockerd.create_network('a', 90, json!({"com.example.opt": "v1"}));
    assert_eq!(world.host.addresses("qd-aaaaaaaaaaaa", 4), ["10.90.0.1/24"]);
    dockerd.create_network('a', 90, json!({"com.example.opt": "v1"}));
    // Whoever asks again, and whoever was restarted meanwhile.
    daemon.kill();
    let _daemon = dockerd.daemon();
    dockerd.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": id}));
    dockerd.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": id}));
    before.assert_same(&Inventory::of(&world.host), "after the network was removed");
}

#[test]
fn a_bridge_that_others_made_or_use_stays() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    world.host.ip("link add br-own type bridge");
    let own = dockerd.create_network('a', 90, json!({"com.docker.network.bridge.name": "br-own"}));
    let used = dockerd.create_network('b', 91, json!({}));
    world.host.ip("link add other master qd-bbbbbbbbbbbb type veth peer name other2");
    for id in [own, used] {
        dockerd.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": id}));
    }
    assert!(world.host.link("br-own").is_some(), "it was there before");
    assert!(world.host.link("qd-bbbbbbbbbbbb").is_some(), "somebody is on it");
}

#[test]
fn what_cannot_be_is_refused_when_it_is_asked_for() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    for (options, words) in [
        (json!({"colour": "red"}), "colour"),
        (json!({"mtu": "10"}), "mtu 10"),
        (json!({"network": "nowhere"}), "nowhere"),
    ] {
        let said = dockerd.refused("NetworkDriver.CreateNetwork", network(&id('a'), 90, options));
        assert!(said.contains(words), "{said}");
    }
    let ghost = create_endpoint(&id('f'), &id('1'), "10.90.0.2/24", &json!([]));
    let said = dockerd.refused("NetworkDriver.CreateEndpoint", ghost);
    assert!(said.contains("ffffffffffff is not known"), "{said}");
    // What dockerd sends again may have lost its body.
    dockerd.refused("NetworkDriver.DeleteNetwork", Value::Null);
    dockerd.refused("IpamDriver.RequestPool", Value::Null);
    assert_eq!(dockerd.call("NetworkDriver.NewThing", &json!({})).0, 404);
    // What is in the way is said now, and not with the first container.
    world.host.ip("link add qd-aaaaaaaaaaaa type veth peer name other");
    let said = dockerd.refused("NetworkDriver.CreateNetwork", network(&id('a'), 90, json!({})));
    assert!(said.contains("qd-aaaaaaaaaaaa exists and is not a bridge"), "{said}");
    world.host.ip("link del qd-aaaaaaaaaaaa");
    // A name is one network's.
    dockerd.create_network('a', 90, json!({"name": "shop"}));
    let again = network(&id('b'), 91, json!({"name": "shop"}));
    let said = dockerd.refused("NetworkDriver.CreateNetwork", again);
    assert!(said.contains("shop") && said.contains("aaaaaaaaaaaa"), "{said}");
}

#[test]
fn addresses_are_kept_across_restarts_and_told_again() {
    let world = world!();
    let (daemon, dockerd) = Dockerd::start(&world);
    let given = dockerd.ok("IpamDriver.RequestPool", pool("10.92.0.0/24"));
    assert_eq!(given["Pool"], "10.92.0.0/24");
    let pool_id = &given["PoolID"];
    let ask =
        |body: &Value| dockerd.ok("IpamDriver.RequestAddress", body.clone())["Address"].clone();
    assert_eq!(ask(&gateway(pool_id)), "10.92.0.1/24");
    let first = ask(&address(pool_id, "02:42:00:00:00:01"));
    assert_eq!(first, "10.92.0.2/24");
    assert_eq!(ask(&address(pool_id, "02:42:00:00:00:01")), first, "the answer was lost");
    daemon.kill();
    let _daemon = dockerd.daemon();
    assert_eq!(ask(&address(pool_id, "02:42:00:00:00:01")), first);
    assert_eq!(ask(&address(pool_id, "02:42:00:00:00:02")), "10.92.0.3/24");
    let named = |ip: &str| json!({"PoolID": pool_id, "Address": ip, "Options": null});
    // dockerd starts, and says what is in use.
    dockerd.activate();
    let mut network = network(&id('a'), 92, json!({}));
    network["IPv4Data"][0]["AddressSpace"] = "quantum".into();
    dockerd.ok("NetworkDriver.CreateNetwork", network);
    assert_eq!(dockerd.ok("IpamDriver.RequestPool", pool("10.92.0.0/24"))["PoolID"], *pool_id);
    assert_eq!(ask(&named("10.92.0.2")), "10.92.0.2/24");
    let said = dockerd.refused("IpamDriver.RequestAddress", named("10.92.0.2"));
    assert!(said.contains("10.92.0.2 is in use"), "{said}");
    let said = dockerd.refused("IpamDriver.RequestPool", pool("10.92.0.0/16"));
    assert!(said.contains("overlaps"), "{said}");
    for _ in 0..2 {
        let release = json!({"PoolID": pool_id, "Address": "10.92.0.2"});
        dockerd.ok("IpamDriver.ReleaseAddress", release);
    }
    assert_eq!(ask(&named("10.92.0.2")), "10.92.0.2/24");
    for _ in 0..2 {
        dockerd.ok("IpamDriver.ReleasePool", json!({"PoolID": pool_id}));
    }
}

#[test]
fn a_subnet_is_chosen_where_none_is_named() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    // dockerd holds what it was given and asks on, until one is not in the host's way.
    let first = dockerd.ok("IpamDriver.RequestPool", pool(""));
    let second = dockerd.ok("IpamDriver.RequestPool", pool(""));
    assert_ne!(first["Pool"], second["Pool"]);
}

#[test]
fn a_network_of_config_dir_has_one_pool_for_docker_and_cni() {
    let world = world!();
    let shop = conf::network("shop", "shop0", "10.50.0.0/24");
    let file = world.paths().config_dir.join("shop.conf");
    std::fs::write(file, shop.to_string()).expect("written");
    let (_daemon, dockerd) = Dockerd::start(&world);
    let mut asked = pool("");
    asked["Options"] = json!({"network": "shop"});
    let given = dockerd.ok("IpamDriver.RequestPool", asked);
    assert_eq!(given["Pool"], "10.50.0.0/24");
    assert_eq!(given["Data"]["com.docker.network.gateway"], "10.50.0.1/24");
    let mut net = network(&id('a'), 50, json!({"network": "shop"}));
    net["IPv4Data"][0]["AddressSpace"] = "quantum".into();
    dockerd.ok("NetworkDriver.CreateNetwork", net);
    let taken = dockerd
        .ok("IpamDriver.RequestAddress", address(&given["PoolID"], "02:42:00:00:00:01"))["Address"]
        .as_str()
        .expect("an address")
        .to_owned();
    let netns = world.container();
    let thin = json!({"cniVersion": "1.0.0", "name": "shop", "type": "quantum-cni"});
    let cni = world.call(Call::add("c1", &netns).conf(&thin)).succeeded();
    let theirs = cni["ips"][0]["address"].as_str().expect("an address");
    assert_ne!(theirs, taken, "it is kept for Docker's container");
    let container = dockerd.run(&id('a'), '1', &taken, &json!([]));
    assert_eq!(container.joined["Gateway"], "10.50.0.1");
    let ip = theirs.split('/').next().expect("an address");
    let bound = crate::support::traffic::PATIENCE;
    assert!(crate::support::ping::ping(&container.netns, ip, bound), "they are one network");
    // Who says which of CNI's containers are valid does not speak of Docker's.
    let gc = conf::with(&thin, json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}));
    world.call(Call::new("GC").conf(&gc)).succeeded();
    assert!(!crate::support::ping::ping(&container.netns, ip, crate::support::traffic::SILENCE));
    assert!(crate::support::ping::ping(&container.netns, "10.50.0.1", bound), "it is there");
    let own = network(&id('b'), 51, json!({"name": "shop"}));
    let said = dockerd.refused("NetworkDriver.CreateNetwork", own);
    assert!(said.contains("-o network=shop"), "{said}");
    dockerd.stop(container);
    let release = json!({"PoolID": given["PoolID"], "Address": taken.split('/').next()});
    dockerd.ok("IpamDriver.ReleaseAddress", release);
    dockerd.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": id('a')}));
    assert!(world.host.link("shop0").is_some(), "it is not Docker's");
    world.call(Call::del("c1", &netns).conf(&thin)).succeeded();
}
