//! Docker, with a daemon that is killed in the middle of its calls. dockerd sends such a call again, without its
//! body, or gives the container up; whatever it does, the next container comes up as soon as there is a daemon.

use serde_json::{Value, json};

use crate::crash_points::points;
use crate::support::daemon::Options;
use crate::support::docker::{Dockerd, create_endpoint, id, options};
use crate::support::eventually::eventually;
use crate::support::inventory::{Inventory, veths};
use crate::support::ping::ping;
use crate::support::traffic::PATIENCE;

const CREATE: &str = "NetworkDriver.CreateEndpoint";
const JOIN: &str = "NetworkDriver.Join";

fn join(network: &str, letter: char) -> Value {
    json!({"NetworkID": network, "EndpointID": id(letter), "SandboxKey": "/var/run/docker/netns/1",
        "Options": options(&json!([]))})
}

#[test]
fn an_address_of_an_endpoint_that_dockerd_never_heard_of_is_free_at_once() {
    let world = world!();
    let (daemon, dockerd) = Dockerd::start(&world);
    let net = dockerd.create_network('a', 90, json!({}));
    dockerd.ok(CREATE, create_endpoint(&net, &id('1'), "10.90.0.8/24", &json!([])));
    let lives = dockerd.run(&net, '2', "10.90.0.9/24", &json!([]));
    // The answer to the first was lost, and dockerd gave its address back.
    daemon.kill();
    let _daemon = dockerd.daemon();
    let third = dockerd.run(&net, '3', "10.90.0.8/24", &json!([]));
    assert!(ping(&third.netns, "10.90.0.9", PATIENCE) && ping(&lives.netns, "10.90.0.8", PATIENCE));
    assert_eq!(veths(&world.host).len(), 2, "the first is gone");
    // Who lives keeps its address.
    let taken = create_endpoint(&net, &id('4'), "10.90.0.9/24", &json!([]));
    assert!(dockerd.refused(CREATE, taken).contains("10.90.0.9"));
    assert!(ping(&lives.netns, "10.90.0.1", PATIENCE));
    dockerd.stop(third);
    dockerd.stop(lives);
    dockerd.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": net}));
}

#[test]
fn a_network_that_is_shared_gives_the_address_up_too() {
    let world = world!();
    let conf = crate::support::conf::network("shared", "shared0", "10.91.0.0/24");
    std::fs::write(world.paths().config_dir.join("10-shared.conf"), conf.to_string())
        .expect("written");
    let (daemon, dockerd) = Dockerd::start(&world);
    let pool = json!({"AddressSpace": "quantum", "Options": {"network": "shared"}});
    let pool = dockerd.ok("IpamDriver.RequestPool", pool)["PoolID"].clone();
    let net = id('b');
    dockerd.ok(
        "NetworkDriver.CreateNetwork",
        json!({"NetworkID": net, "Options": {"com.docker.network.generic": {"network": "shared"}},
            "IPv4Data": [{"AddressSpace": "quantum", "Pool": "10.91.0.0/24", "Gateway": "10.91.0.1/24"}]}),
    );
    let ask = |mac: &str| {
        json!({"PoolID": pool, "Address": "10.91.0.77",
            "Options": {"com.docker.network.endpoint.macaddress": mac}})
    };
    dockerd.ok("IpamDriver.RequestAddress", ask("02:00:00:00:00:01"));
    dockerd.ok(CREATE, create_endpoint(&net, &id('1'), "10.91.0.77/24", &json!([])));
    daemon.kill();
    let _daemon = dockerd.daemon();
    dockerd.ok("IpamDriver.RequestAddress", ask("02:00:00:00:00:02"));
    let two = dockerd.run(&net, '2', "10.91.0.77/24", &json!([]));
    assert!(ping(&two.netns, "10.91.0.1", PATIENCE));
}

/// Each step of an ADD at which the daemon can be made to die.
#[test]
fn a_kill_at_any_step_of_an_endpoint_costs_one_container_at_most() {
    let world = world!();
    let (daemon, dockerd) = Dockerd::start(&world);
    let net = dockerd.create_network('a', 90, json!({}));
    let before = Inventory::of(&world.host);
    daemon.kill();
    let steps =
        points().into_iter().filter(|point| point.starts_with("add-") && !point.contains("shaper"));
    let mut went_on = 0;
    for step in steps {
        let mut daemon = dockerd.daemon_with(Options::default().var("QUANTUM_CRASH_AT", &step));
        let create = create_endpoint(&net, &id('1'), "10.90.0.8/24", &json!([]));
        assert_eq!(dockerd.try_call(CREATE, &create), None, "{step}");
        daemon.wait();
        let daemon = dockerd.daemon();
        // dockerd's own second try, then what it does next.
        assert_eq!(dockerd.ok(CREATE, Value::Null), json!({}), "{step}");
        let (_, joined) = dockerd.call(JOIN, &join(&net, '1'));
        match joined["InterfaceName"]["SrcName"].as_str() {
            Some(link) => {
                assert!(world.host.link(link).is_some(), "{step}: {link}");
                went_on += 1;
            }
            None => assert!(
                joined["Err"].as_str().is_some_and(|e| e.contains("not known")),
                "{step}: {joined}"
            ),
        }
        // It gives up, and the next container has the address.
        let two = dockerd.run(&net, '2', "10.90.0.8/24", &json!([]));
        assert!(ping(&two.netns, "10.90.0.1", PATIENCE), "{step}");
        dockerd.stop(two);
        dockerd
            .ok("NetworkDriver.DeleteEndpoint", json!({"NetworkID": net, "EndpointID": id('1')}));
        eventually("nothing to be left", || veths(&world.host).is_empty().then_some(()));
        daemon.kill();
        before.assert_same(&Inventory::of(&world.host), &step);
    }
    assert!(went_on > 0, "what was finished before the kill is joined");
}

#[test]
fn a_join_whose_body_was_lost_is_of_the_one_that_waits() {
    let world = world!();
    let (daemon, dockerd) = Dockerd::start(&world);
    let net = dockerd.create_network('a', 90, json!({}));
    let _lives = dockerd.run(&net, '9', "10.90.0.9/24", &json!([]));
    dockerd.ok(CREATE, create_endpoint(&net, &id('1'), "10.90.0.8/24", &json!([])));
    let told = dockerd.ok(JOIN, join(&net, '1'));
    daemon.kill();
    let _daemon = dockerd.daemon();
    assert_eq!(dockerd.ok(JOIN, Value::Null), told);
    dockerd.ok(CREATE, create_endpoint(&net, &id('2'), "10.90.0.7/24", &json!([])));
    let said = dockerd.refused(JOIN, Value::Null);
    assert!(said.contains("no body"), "nobody knows which: {said}");
}

#[test]
fn what_takes_something_down_goes_on_without_a_body_and_what_makes_something_does_not() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    let net = dockerd.create_network('a', 90, json!({}));
    for method in [
        "NetworkDriver.RevokeExternalConnectivity",
        "NetworkDriver.Leave",
        "NetworkDriver.DeleteEndpoint",
        "IpamDriver.ReleaseAddress",
    ] {
        assert_eq!(dockerd.ok(method, Value::Null), json!({}), "{method}");
    }
    for method in [
        "NetworkDriver.CreateNetwork",
        "NetworkDriver.DeleteNetwork",
        "NetworkDriver.ProgramExternalConnectivity",
        "NetworkDriver.Join",
        "IpamDriver.RequestPool",
        "IpamDriver.RequestAddress",
    ] {
        assert!(dockerd.refused(method, Value::Null).contains("no body"), "{method}");
    }
    // A DeleteEndpoint that did not say of which leaves one that waits; its address is free all the same.
    dockerd.ok(CREATE, create_endpoint(&net, &id('1'), "10.90.0.8/24", &json!([])));
    dockerd.ok("NetworkDriver.DeleteEndpoint", Value::Null);
    let two = dockerd.run(&net, '2', "10.90.0.8/24", &json!([]));
    assert!(ping(&two.netns, "10.90.0.1", PATIENCE));
}

#[test]
fn addresses_that_dockerd_never_heard_of_do_not_fill_the_pool() {
    let world = world!();
    let (daemon, dockerd) = Dockerd::start(&world);
    let pool = json!({"AddressSpace": "quantum", "Pool": "10.92.0.0/29"});
    let pool = dockerd.ok("IpamDriver.RequestPool", pool)["PoolID"].clone();
    let gateway =
        json!({"PoolID": pool, "Options": {"RequestAddressType": "com.docker.network.gateway"}});
    dockerd.ok("IpamDriver.RequestAddress", gateway);
    let ask = |number: usize| {
        let mac = format!("02:00:00:00:00:{number:02x}");
        json!({"PoolID": pool, "Options": {"com.docker.network.endpoint.macaddress": mac}})
    };
    let net = id('b');
    dockerd.ok(
        "NetworkDriver.CreateNetwork",
        json!({"NetworkID": net, "Options": {}, "IPv4Data": [{"AddressSpace": "quantum",
            "Pool": "10.92.0.0/29", "Gateway": "10.92.0.1/29"}]}),
    );
    let first = dockerd.ok("IpamDriver.RequestAddress", ask(0))["Address"].clone();
    let lives = dockerd.run(&net, '1', first.as_str().expect("an address"), &json!([]));
    daemon.kill();
    // As many kills as the pool has addresses.
    for number in 1..=5 {
        let crash = Options::default().var("QUANTUM_CRASH_AT", "docker-address-kept");
        let mut daemon = dockerd.daemon_with(crash);
        assert_eq!(dockerd.try_call("IpamDriver.RequestAddress", &ask(number)), None);
        daemon.wait();
    }
    let _daemon = dockerd.daemon();
    let next = dockerd.ok("IpamDriver.RequestAddress", ask(6))["Address"].clone();
    assert_ne!(next, first);
    let two = dockerd.run(&net, '2', next.as_str().expect("an address"), &json!([]));
    assert!(ping(&two.netns, "10.92.0.1", PATIENCE) && ping(&lives.netns, "10.92.0.1", PATIENCE));
}

#[test]
fn a_network_that_dockerd_never_heard_of_is_in_nobodys_way() {
    let world = world!();
    let dockerd = Dockerd::beside(&world);
    let crash = Options::default().var("QUANTUM_CRASH_AT", "docker-network-made");
    let mut daemon = dockerd.daemon_with(crash);
    let made = crate::support::docker::network(&id('a'), 90, json!({"name": "shop"}));
    assert_eq!(dockerd.try_call("NetworkDriver.CreateNetwork", &made), None);
    daemon.wait();
    assert!(world.host.link("qd-aaaaaaaaaaaa").is_some(), "its bridge was made");
    let _daemon = dockerd.daemon();
    assert!(dockerd.refused("NetworkDriver.CreateNetwork", Value::Null).contains("no body"));
    // The user says it again, which is another network to dockerd.
    let net = dockerd.create_network('b', 90, json!({"name": "shop"}));
    assert!(world.host.link("qd-aaaaaaaaaaaa").is_none());
    let one = dockerd.run(&net, '1', "10.90.0.2/24", &json!([]));
    assert!(ping(&one.netns, "10.90.0.1", PATIENCE));
    dockerd.stop(one);
    dockerd.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": net}));
    assert!(world.host.link("qd-bbbbbbbbbbbb").is_none(), "nothing is left");
}

#[test]
fn an_interface_is_called_as_its_user_chose() {
    let world = world!();
    let (daemon, dockerd) = Dockerd::start(&world);
    let net = dockerd.create_network('a', 90, json!({}));
    let named = |name: Value| {
        let mut create = create_endpoint(&net, &id('1'), "10.90.0.8/24", &json!([]));
        create["Options"]["com.docker.network.endpoint.ifname"] = name;
        create
    };
    for bad in [json!("a/b"), json!("sixteen-letters-"), json!(7)] {
        let said = dockerd.refused(CREATE, named(bad));
        assert!(said.contains("com.docker.network.endpoint.ifname"), "{said}");
    }
    dockerd.ok(CREATE, named(json!("uplink1")));
    assert_eq!(dockerd.ok(JOIN, join(&net, '1'))["InterfaceName"]["DstName"], "uplink1");
    daemon.kill();
    let _daemon = dockerd.daemon();
    assert_eq!(dockerd.ok(JOIN, join(&net, '1'))["InterfaceName"]["DstName"], "uplink1");
    dockerd.ok("NetworkDriver.DeleteEndpoint", json!({"NetworkID": net, "EndpointID": id('1')}));
    dockerd.ok(CREATE, create_endpoint(&net, &id('1'), "10.90.0.8/24", &json!([])));
    assert!(dockerd.ok(JOIN, join(&net, '1'))["InterfaceName"]["DstName"].is_null());
}
