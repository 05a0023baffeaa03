//! Docker's containers, by what they reach and what reaches them, while dockerd says things twice, is
//! killed, or our daemon is.

use serde_json::json;

use crate::support::ctl::{apply, told};
use crate::support::docker::{Dockerd, create_endpoint, id, published};
use crate::support::eventually::{eventually, eventually_within};
use crate::support::inventory::{Inventory, nft_elements, veths};
use crate::support::ping::ping;
use crate::support::ports::tcp;
use crate::support::traffic::{Echo, PATIENCE, PORT, SILENCE};
use crate::support::world::{HOST, OUTSIDE};

/// Somewhere to start a server in.
const ANY: &str = "0.0.0.0";

fn echo_at(netns: &crate::support::netns::Netns) -> Echo {
    Echo::serve(netns, ANY)
}

#[test]
fn a_container_lives_in_its_network_and_leaves_nothing() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    let net = dockerd.create_network('a', 90, json!({}));
    let before = Inventory::of(&world.host);
    let ports = published(8080, PORT);
    let one = dockerd.run(&net, '1', "10.90.0.2/24", &ports);
    assert_eq!(one.joined["Gateway"], "10.90.0.1");
    let two = dockerd.run(&net, '2', "10.90.0.3/24", &json!([]));
    assert!(ping(&one.netns, "10.90.0.3", PATIENCE), "each other");
    let outside = Echo::serve(&world.outside, ANY);
    assert!(tcp(&one.netns, OUTSIDE, PORT, PATIENCE), "the outside");
    assert!(outside.seen().iter().all(|who| who.to_string() == HOST), "masqueraded");

    let _server = echo_at(&one.netns);
    assert!(!tcp(&world.outside, HOST, 8080, SILENCE), "not published before it is said");
    for _ in 0..2 {
        assert_eq!(dockerd.program(&one, &ports), (200, json!({})));
    }
    assert!(tcp(&world.outside, HOST, 8080, PATIENCE), "from the outside");
    assert!(tcp(&world.host, "127.0.0.1", 8080, PATIENCE), "from the host");
    assert!(tcp(&one.netns, HOST, 8080, PATIENCE), "from itself");
    let (status, said) = dockerd.program(&two, &ports);
    let why = said["Err"].as_str().unwrap_or_default();
    assert!(status == 200 && why.contains("8080"), "one port has one container: {said}");
    dockerd.of("RevokeExternalConnectivity", &one);
    assert!(!tcp(&world.outside, HOST, 8080, SILENCE), "no more");
    assert_eq!(dockerd.program(&two, &ports), (200, json!({})), "it is free again");
    dockerd.stop(one);
    dockerd.stop(two);
    before.assert_same(&Inventory::of(&world.host), "after both were stopped");
}

#[test]
fn each_call_may_come_twice_and_after_a_restart() {
    let world = world!();
    let (mut daemon, dockerd) = Dockerd::start(&world);
    let net = dockerd.create_network('a', 90, json!({}));
    let before = Inventory::of(&world.host);
    let ports = published(8080, PORT);
    let create = create_endpoint(&net, &id('1'), "10.90.0.2/24", &ports);
    let first = dockerd.ok("NetworkDriver.CreateEndpoint", create.clone());
    daemon.kill();
    daemon = dockerd.daemon();
    assert_eq!(dockerd.ok("NetworkDriver.CreateEndpoint", create), first, "told again");
    let other = create_endpoint(&net, &id('1'), "10.90.0.9/24", &ports);
    let said = dockerd.refused("NetworkDriver.CreateEndpoint", other);
    assert!(said.contains("exists already"), "{said}");
    let container = dockerd.run(&net, '1', "10.90.0.2/24", &ports);
    let _server = echo_at(&container.netns);
    daemon.kill();
    assert!(ping(&container.netns, "10.90.0.1", PATIENCE), "nobody notices");
    daemon = dockerd.daemon();
    assert_eq!(dockerd.program(&container, &ports), (200, json!({})));
    daemon.kill();
    assert!(tcp(&world.outside, HOST, 8080, PATIENCE));
    daemon = dockerd.daemon();
    assert!(tcp(&world.outside, HOST, 8080, PATIENCE), "kept across the restart");
    for _ in 0..2 {
        dockerd.of("RevokeExternalConnectivity", &container);
        dockerd.of("Leave", &container);
    }
    assert!(!tcp(&world.outside, HOST, 8080, SILENCE));
    daemon.kill();
    let _daemon = dockerd.daemon();
    for _ in 0..2 {
        dockerd.of("DeleteEndpoint", &container);
    }
    before.assert_same(&Inventory::of(&world.host), "after the container was removed");
}

#[test]
fn a_second_network_is_connected_and_takes_the_ports_over() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    let (a, b) =
        (dockerd.create_network('a', 90, json!({})), dockerd.create_network('b', 91, json!({})));
    let ports = published(8080, PORT);
    let one = dockerd.run(&a, '1', "10.90.0.2/24", &ports);
    let _server = echo_at(&one.netns);
    assert_eq!(dockerd.program(&one, &ports).1, json!({}));
    let other = dockerd.run(&b, '3', "10.91.0.3/24", &json!([]));
    assert!(!ping(&one.netns, "10.91.0.3", SILENCE), "networks are apart");
    let file = one.netns.path().with_file_name("second");
    std::fs::write(&file, "").expect("a file");
    let same = crate::support::netns::Netns::again(&one.netns, file);
    let second = dockerd.connect(&b, '2', "10.91.0.2/24", &ports, same, "eth1");
    assert!(ping(&one.netns, "10.91.0.3", PATIENCE), "it is in both now");
    // dockerd lets another network be the way out.
    dockerd.of("RevokeExternalConnectivity", &one);
    assert_eq!(dockerd.program(&second, &ports).1, json!({}));
    assert!(tcp(&world.host, "127.0.0.1", 8080, PATIENCE), "by the other");
    dockerd.stop(second);
    assert!(one.netns.link("eth0").is_some() && one.netns.link("eth1").is_none());
    assert!(!tcp(&world.host, "127.0.0.1", 8080, SILENCE));
    dockerd.stop(one);
    dockerd.stop(other);
}

#[test]
fn ports_of_a_range_are_tried_and_none_in_particular_is_refused() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    let net = dockerd.create_network('a', 90, json!({}));
    let one = dockerd.run(&net, '1', "10.90.0.2/24", &json!([]));
    let two = dockerd.run(&net, '2', "10.90.0.3/24", &json!([]));
    let _server = echo_at(&two.netns);
    let range = json!([{"Proto": 6, "Port": PORT, "HostPort": 8080, "HostPortEnd": 8081}]);
    assert_eq!(dockerd.program(&one, &range).1, json!({}));
    assert_eq!(dockerd.program(&two, &range).1, json!({}));
    assert!(tcp(&world.outside, HOST, 8081, PATIENCE), "the second of the range");
    let three = dockerd.run(&net, '3', "10.90.0.4/24", &json!([]));
    assert!(dockerd.program(&three, &range).1["Err"].is_string(), "both are taken");
    let any = json!([{"Proto": 6, "Port": 80, "HostPort": 0, "HostPortEnd": 0}]);
    let said = dockerd.program(&three, &any).1;
    assert!(said["Err"].as_str().unwrap_or_default().contains("-p 8080:80"), "{said}");
}

#[test]
fn an_internal_network_leads_nowhere() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    let mut asked = crate::support::docker::network(&id('a'), 90, json!({}));
    asked["Options"]["com.docker.network.internal"] = true.into();
    dockerd.ok("NetworkDriver.CreateNetwork", asked);
    let one = dockerd.run(&id('a'), '1', "10.90.0.2/24", &json!([]));
    let two = dockerd.run(&id('a'), '2', "10.90.0.3/24", &json!([]));
    assert_eq!(
        (&one.joined["Gateway"], &one.joined["DisableGatewayService"]),
        (&json!(null), &json!(true))
    );
    assert!(ping(&one.netns, "10.90.0.3", PATIENCE));
    one.netns.ip("route add default via 10.90.0.1");
    assert!(!ping(&one.netns, OUTSIDE, SILENCE));
    drop(two);
}

#[test]
fn both_families_have_their_addresses_and_gateways() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    let mut asked = crate::support::docker::network(&id('a'), 90, json!({}));
    asked["Options"]["com.docker.network.enable_ipv6"] = true.into();
    asked["IPv6Data"] =
        json!([{"AddressSpace": "LocalDefault", "Gateway": "fd90::1/64", "Pool": "fd90::/64"}]);
    dockerd.ok("NetworkDriver.CreateNetwork", asked);
    let mut create = create_endpoint(&id('a'), &id('1'), "10.90.0.2/24", &json!([]));
    create["Interface"]["AddressIPv6"] = "fd90::2/64".into();
    dockerd.ok("NetworkDriver.CreateEndpoint", create);
    let one = dockerd.run(&id('a'), '1', "10.90.0.2/24", &json!([]));
    assert_eq!(one.joined["GatewayIPv6"], "fd90::1");
    one.netns.ip("address add fd90::2/64 dev eth0 nodad");
    let _gateway = Echo::serve(&world.host, "fd90::1");
    assert!(tcp(&one.netns, "fd90::1", PORT, PATIENCE));
    assert!(ping(&one.netns, "10.90.0.1", PATIENCE));
    one.netns.ip("address add fd90::77/64 dev eth0 nodad");
    one.netns.ip("address del fd90::2/64 dev eth0");
    assert!(!tcp(&one.netns, "fd90::1", PORT, SILENCE), "an address that is not its own");
}

#[test]
fn a_hardware_address_that_is_asked_for_is_the_containers_and_no_other() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    let net = dockerd.create_network('a', 90, json!({}));
    let mut asked = create_endpoint(&net, &id('1'), "10.90.0.2/24", &json!([]));
    asked["Interface"]["MacAddress"] = "02:11:22:33:44:55".into();
    let made = dockerd.ok("NetworkDriver.CreateEndpoint", asked);
    assert_eq!(made, json!({}), "only what was left open is said");
    let joined = dockerd.ok(
        "NetworkDriver.Join",
        json!({"NetworkID": net, "EndpointID": id('1'), "SandboxKey": "/x"}),
    );
    let waiting = joined["InterfaceName"]["SrcName"].as_str().expect("a link");
    let link = world.host.link(waiting).expect("it waits on the host");
    assert_eq!(link["address"], "02:11:22:33:44:55");
    // One that sends as somebody else is not heard.
    let two = dockerd.run(&net, '2', "10.90.0.3/24", &json!([]));
    assert!(ping(&two.netns, "10.90.0.1", PATIENCE));
    two.netns.ip("address add 10.90.0.77/24 dev eth0");
    two.netns.ip("address del 10.90.0.3/24 dev eth0");
    assert!(!ping(&two.netns, "10.90.0.1", SILENCE));
}

#[test]
fn what_dockerd_forgets_is_removed() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    let net = dockerd.create_network('a', 90, json!({}));
    let one = dockerd.run(&net, '1', "10.90.0.2/24", &json!([]));
    let ports = published(8080, PORT);
    assert_eq!(dockerd.program(&one, &ports).1, json!({}));
    let two = dockerd.run(&net, '2', "10.90.0.3/24", &json!([]));
    let lives = dockerd.run(&net, '3', "10.90.0.4/24", &json!([]));
    // dockerd is killed, and containers with it: nobody deletes their endpoints. One goes by itself.
    drop(two);
    let left = || nft_elements(&world.host).iter().any(|element| element.contains("10.90.0.3"));
    assert!(left());
    let bound = std::time::Duration::from_secs(30);
    eventually_within(bound, "nothing to be left of it", || (!left()).then_some(()));
    // The other at once, as its address and its port are asked for.
    drop(one);
    let is_gone = || (veths(&world.host).len() == 1).then_some(());
    eventually("the link to go with its namespace", is_gone);
    let again = dockerd.run(&net, '4', "10.90.0.2/24", &ports);
    assert_eq!(dockerd.program(&again, &ports).1, json!({}));
    let _server = echo_at(&again.netns);
    assert!(tcp(&world.outside, HOST, 8080, PATIENCE));
    assert!(ping(&lives.netns, "10.90.0.1", PATIENCE), "who lives is left alone");
}

#[test]
fn what_dockerd_gives_up_in_the_middle_holds_nothing_up() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    let net = dockerd.create_network('a', 90, json!({}));
    let before = Inventory::of(&world.host);
    // An endpoint that is never joined, and one that was given back and not deleted.
    let create = create_endpoint(&net, &id('1'), "10.90.0.2/24", &json!([]));
    dockerd.ok("NetworkDriver.CreateEndpoint", create);
    let two = dockerd.run(&net, '2', "10.90.0.3/24", &published(8080, PORT));
    assert_eq!(dockerd.program(&two, &published(8080, PORT)).1, json!({}));
    dockerd.of("Leave", &two);
    drop(two);
    dockerd.ok("NetworkDriver.DeleteNetwork", json!({"NetworkID": net}));
    let net = dockerd.create_network('a', 90, json!({}));
    before.assert_same(&Inventory::of(&world.host), "after the network was made anew");
    let again = dockerd.run(&net, '3', "10.90.0.2/24", &json!([]));
    assert!(ping(&again.netns, "10.90.0.1", PATIENCE));
}

#[test]
fn policy_knows_them_by_their_network_and_by_an_operators_labels() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    let net = dockerd.create_network('a', 90, json!({"name": "shop"}));
    let one = dockerd.run(&net, '1', "10.90.0.2/24", &json!([]));
    let two = dockerd.run(&net, '2', "10.90.0.3/24", &json!([]));
    let _server = echo_at(&one.netns);
    assert!(tcp(&two.netns, "10.90.0.2", PORT, PATIENCE));
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": {"podSelector": {"matchLabels": {"cni.quantum/network": "shop"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]}});
    apply(&world, &policy);
    assert!(!tcp(&two.netns, "10.90.0.2", PORT, SILENCE), "it is not web");
    told(&world, &format!("policy label default/{} app=web", two.endpoint), "");
    assert!(tcp(&two.netns, "10.90.0.2", PORT, PATIENCE), "now it is");
}

#[test]
fn containers_are_counted_and_known_like_others() {
    let world = world!();
    let (daemon, dockerd) = Dockerd::start(&world);
    let net = dockerd.create_network('a', 90, json!({"name": "shop"}));
    let one = dockerd.run(&net, '1', "10.90.0.2/24", &json!([]));
    let (_, page) = daemon.get("/metrics");
    let adds = page.lines().find(|line| line.contains("operations") && line.contains("ADD"));
    assert!(adds.is_some_and(|line| line.ends_with(" 1")), "{adds:?}");
    let mut status = std::process::Command::new(crate::support::binaries::quantumctl());
    status.arg("status").env(quantum_config::wire::SOCKET_VARIABLE, &world.paths().socket);
    let text = String::from_utf8(status.output().expect("quantumctl").stdout).expect("UTF-8");
    assert!(text.contains("shop"), "{text}");
    dockerd.stop(one);
    let (_, page) = daemon.get("/metrics");
    let dels = page.lines().find(|line| line.contains("operations") && line.contains("DEL"));
    assert!(dels.is_some_and(|line| line.ends_with(" 1")), "{dels:?}");
}
