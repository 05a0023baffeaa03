//! Our plugin in the places of the reference plugins, by links with their names: the conflists that
//! nerdctl, podman, flannel and containerd write work as they are, and what each entry asks for is
//! seen in the kernel.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::spec_add::address;
use crate::support::chain::{Chain, called_as};
use crate::support::eventually::eventually;
use crate::support::inventory::Inventory;
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::ports;
use crate::support::traffic::{Echo, PATIENCE, PORT, SILENCE, tcp_answers};
use crate::support::world::{HOST, OUTSIDE, World};

const NERDCTL: &str = include_str!("data/conflists/nerdctl.json");
const PODMAN: &str = include_str!("data/conflists/podman.json");
const FLANNEL: &str = include_str!("data/conflists/flannel.json");
const NOMAD: &str = include_str!("data/conflists/nomad.json");
const CONTAINERD: &str = include_str!("data/conflists/containerd.json");
const INVALID_CONFIG: u64 = 7;
const UNSUPPORTED: u64 = 2;
const UNKNOWN_CONTAINER: u64 = 3;
const PUBLISHED: u16 = 8080;

fn mappings(host: u16) -> Value {
    json!({ "portMappings": [{ "hostPort": host, "containerPort": PORT, "protocol": "tcp" }] })
}

fn answers(from: &Netns, to: &str, within: Duration) -> bool {
    ports::tcp(from, to, PUBLISHED, within)
}

/// One conflist with one container: its port is there after ADD, CHECK agrees, and after DEL nothing is
/// left but the bridge.
fn lives(world: &World, text: &str, bridge: &str) -> Value {
    let chain = Chain::new(text).told(mappings(PUBLISHED));
    // A first one makes the bridge, which stays.
    let first = world.container();
    let result = Chain::new(text).add(world, "first", &first);
    Chain::new(text).del(world, "first", &first, Some(&result));
    assert!(world.host.link(bridge).is_some(), "{bridge}");
    let before = Inventory::of(&world.host);

    let container = world.container();
    let result = chain.add(world, "c1", &container);
    let _echo = Echo::serve(&container, "0.0.0.0");
    for (from, to) in [(&world.outside, HOST), (&world.host, HOST), (&world.host, "127.0.0.1")] {
        assert!(answers(from, to, PATIENCE), "{bridge}: the port at {to}");
    }
    assert!(answers(&container, HOST, PATIENCE), "{bridge}: the container comes to itself");
    chain.del(world, "c1", &container, Some(&result));
    assert!(!answers(&world.outside, HOST, SILENCE), "{bridge}: after DEL");
    chain.del(world, "c1", &container, None); // runtimes do it twice
    before.assert_same(&Inventory::of(&world.host), bridge);
    result
}

#[test]
fn the_conflists_of_four_runtimes_work_as_they_are() {
    let world = world!();
    let _daemon = world.daemon();
    for (text, bridge) in [(NERDCTL, "nerdctl0"), (PODMAN, "cni-podman1"), (FLANNEL, "cni0")] {
        let result = lives(&world, text, bridge);
        let names: Vec<&str> = result["interfaces"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|i| i["name"].as_str().expect("a name"))
            .collect();
        assert_eq!((names[0], names[2]), (bridge, "eth0"));
    }
}

/// Nomad names a chain of its own in each conflist. It is not consulted, which is said and not refused.
#[test]
fn nomads_conflist_works_and_its_chain_is_spoken_of_once() {
    let world = world!();
    let daemon = world.daemon();
    let chain = Chain::new(NOMAD).told(mappings(PUBLISHED));
    for name in ["alloc-1", "alloc-2"] {
        let container = world.container();
        let result = chain.add(&world, name, &container);
        let _echo = Echo::serve(&container, "0.0.0.0");
        for (from, to) in [(&world.outside, HOST), (&world.host, "127.0.0.1")] {
            assert!(answers(from, to, PATIENCE), "{name}: the port at {to}");
        }
        for checked in chain.check(&world, name, &container, &result) {
            checked.succeeded();
        }
        chain.del(&world, name, &container, Some(&result));
    }
    let told = || {
        let mut log = daemon.log();
        log.retain(|record| record["chain"] == "NOMAD-ADMIN");
        log
    };
    eventually("the log to speak of the chain", || (!told().is_empty()).then_some(()));
    let log = told();
    assert_eq!(
        (log.len(), &log[0]["level"], &log[0]["network_name"]),
        (1, &"warning".into(), &"nomad".into())
    );
    assert!(log[0]["msg"].as_str().is_some_and(|msg| msg.contains("not consulted")), "{log:?}");
}

#[test]
fn check_passes_for_every_entry_and_finds_what_is_gone() {
    let world = world!();
    let _daemon = world.daemon();
    let chain = Chain::new(NERDCTL).told(mappings(PUBLISHED));
    let container = world.container();
    let result = chain.add(&world, "c1", &container);
    // As CRI-O does: without what the runtime said at ADD.
    for checked in Chain::new(NERDCTL).check(&world, "c1", &container, &result) {
        checked.succeeded();
    }
    container.ip("link set eth0 down");
    for checked in chain.check(&world, "c1", &container, &result) {
        assert!(checked.failed_with(105).contains("eth0"));
    }
}

#[test]
fn containerds_bandwidth_holds_the_attachment_and_goes_with_it() {
    let world = world!();
    let _daemon = world.daemon();
    let rates = json!({ "bandwidth": { "IngressRate": 8_000_000, "IngressBurst": 800_000,
                                       "EgressRate": 8_000_000, "EgressBurst": 800_000 } });
    let chain = Chain::new(CONTAINERD).told(rates);
    let first = world.container();
    let result = Chain::new(CONTAINERD).add(&world, "first", &first);
    Chain::new(CONTAINERD).del(&world, "first", &first, Some(&result));
    let before = Inventory::of(&world.host);

    let container = world.container();
    let result = chain.add(&world, "c1", &container);
    let port = result["interfaces"][1]["name"].as_str().expect("a name").to_owned();
    let shaper = port.replacen("qc", "qs", 1);
    for link in [&port, &shaper] {
        let shown = world.host.output("tc", &format!("qdisc show dev {link}"));
        assert!(shown.contains("tbf") && shown.contains("8Mbit"), "{link}: {shown}");
    }
    for checked in chain.check(&world, "c1", &container, &result) {
        checked.succeeded();
    }
    assert!(ports_open(&world, &container, address(&result)), "limited, not cut off");
    world.host.output("tc", &format!("qdisc del dev {port} root"));
    let found = chain.check(&world, "c1", &container, &result);
    assert!(found.iter().all(|c| c.failed_with(105).contains("limit")), "{found:?}");
    chain.del(&world, "c1", &container, Some(&result));
    before.assert_same(&Inventory::of(&world.host), "after DEL");
}

fn ports_open(world: &World, container: &Netns, address: String) -> bool {
    let _echo = Echo::serve(container, "0.0.0.0");
    tcp_answers(&world.host, &address, PATIENCE)
}

/// A list of `bridge` and one more entry.
fn with_entry(entry: Value) -> Chain {
    let list = json!({
        "cniVersion": "1.0.0",
        "name": "one",
        "plugins": [
            { "type": "bridge", "bridge": "one0", "isGateway": true,
              "ipam": { "type": "host-local", "subnet": "10.77.0.0/24" } },
            entry
        ]
    });
    Chain::new(&list.to_string())
}

#[test]
fn tuning_sets_the_containers_end_up() {
    let world = world!();
    let _daemon = world.daemon();
    let chain = with_entry(json!({
        "type": "tuning", "mtu": 1400, "promisc": true, "txQLen": 77,
        "sysctl": { "net.ipv4.conf.IFNAME.arp_filter": "1" }
    }));
    let container = world.container();
    let mac = "02:00:00:00:be:ef";
    // The reference's bridge reads it, too; here only tuning is told.
    let result = chain.add(&world, "c1", &container);
    let eth0 = container.link("eth0").expect("an interface");
    assert_eq!((&eth0["mtu"], &eth0["txqlen"]), (&json!(1400), &json!(77)));
    assert!(eth0["flags"].as_array().expect("flags").contains(&json!("PROMISC")));
    let setting = "/proc/sys/net/ipv4/conf/eth0/arp_filter";
    assert_eq!(container.output("cat", setting).trim(), "1");
    for checked in chain.check(&world, "c1", &container, &result) {
        checked.succeeded();
    }
    chain.del(&world, "c1", &container, Some(&result));

    let chain = with_entry(json!({ "type": "tuning", "mac": mac }));
    let container = world.container();
    let result = chain.add(&world, "c2", &container);
    assert_eq!(result["interfaces"][2]["mac"], mac);
    assert_eq!(container.link("eth0").expect("an interface")["address"], mac);
    assert!(ports_open(&world, &container, address(&result)), "the new address is let through");
    for checked in chain.check(&world, "c2", &container, &result) {
        checked.succeeded();
    }
    chain.del(&world, "c2", &container, Some(&result));
}

#[test]
fn ptp_goes_by_way_of_the_host() {
    let world = world!();
    let _daemon = world.daemon();
    let list = json!({ "cniVersion": "1.0.0", "name": "pairs", "plugins": [
        { "type": "ptp", "ipMasq": true,
          "ipam": { "type": "host-local", "subnet": "10.78.0.0/24", "routes": [{ "dst": "0.0.0.0/0" }] } },
        { "type": "portmap", "capabilities": { "portMappings": true } } ] });
    let chain = Chain::new(&list.to_string());
    let (one, two) = (world.container(), world.container());
    let told = chain.clone().told(mappings(PUBLISHED));
    let result = told.add(&world, "one", &one);
    chain.add(&world, "two", &two);
    let (_echo, _outside) = (Echo::serve(&one, "0.0.0.0"), Echo::serve(&world.outside, OUTSIDE));
    assert!(tcp_answers(&two, &address(&result), PATIENCE), "from one to the other");
    assert!(tcp_answers(&two, OUTSIDE, PATIENCE), "to the world, masqueraded");
    assert!(answers(&world.outside, HOST, PATIENCE), "the port");
    // The neighbour is the host, whoever the address belongs to.
    let bridge = result["interfaces"][0]["mac"].as_str().expect("an address").to_owned();
    let neighbours = two.output("ip", &format!("neighbour show {}", address(&result)));
    assert!(neighbours.is_empty() || neighbours.contains(&bridge), "{neighbours}");
    for checked in told.check(&world, "one", &one, &result) {
        checked.succeeded();
    }
    told.del(&world, "one", &one, Some(&result));
    chain.del(&world, "two", &two, None);
}

#[test]
fn podmans_own_mac_and_address_go_through_the_whole_chain() {
    let world = world!();
    let _daemon = world.daemon();
    let args = "IgnoreUnknown=1;K8S_POD_NAME=b;MAC=02:11:22:33:44:55;IP=10.89.0.77";
    let chain = Chain::new(PODMAN).args(args);
    let container = world.container();
    let result = chain.add(&world, "c1", &container);
    assert_eq!(result["cniVersion"], "0.4.0");
    assert_eq!(address(&result), "10.89.0.77");
    assert_eq!(container.link("eth0").expect("an interface")["address"], "02:11:22:33:44:55");
    chain.del(&world, "c1", &container, Some(&result));
}

#[test]
fn a_port_that_another_has_is_refused_and_the_del_leaves_nothing() {
    let world = world!();
    let _daemon = world.daemon();
    let chain = Chain::new(NERDCTL).told(mappings(PUBLISHED));
    let (one, two) = (world.container(), world.container());
    let first = chain.add(&world, "one", &one);
    let before = Inventory::of(&world.host);
    let answers = chain.try_add(&world, "two", &two);
    assert_eq!(answers.len(), 2, "portmap stops the chain");
    assert!(answers[1].failed_with(101).contains("8080"));
    chain.del(&world, "two", &two, None);
    before.assert_same(&Inventory::of(&world.host), "the first is as it was");
    let _echo = Echo::serve(&one, "0.0.0.0");
    assert!(self::answers(&world.outside, HOST, PATIENCE));
    chain.del(&world, "one", &one, Some(&first));
}

#[test]
fn what_cannot_be_served_is_refused_by_name() {
    let world = world!();
    let _daemon = world.daemon();
    for (entry, code, named) in [
        (json!({ "type": "portmap", "masqAll": true }), UNSUPPORTED, "masqAll"),
        (json!({ "type": "firewall", "ingressPolicy": "isolated" }), UNSUPPORTED, "isolated"),
        (json!({ "type": "bandwidth", "ingressRate": 8000 }), INVALID_CONFIG, "ingressRate"),
        (json!({ "type": "tuning", "sysctl": { "kernel.x": "1" } }), INVALID_CONFIG, "kernel.x"),
    ] {
        let chain = with_entry(entry);
        let container = world.container();
        let answers = chain.try_add(&world, "c1", &container);
        assert!(answers[1].failed_with(code).contains(named), "{answers:?}");
        chain.del(&world, "c1", &container, None);
    }
    let container = world.container();
    let alone = json!({ "cniVersion": "1.0.0", "name": "one", "type": "portmap" });
    let said = Call::add("c1", &container).conf(&alone).run(called_as(&world, "portmap"));
    assert!(said.failed_with(INVALID_CONFIG).contains("prevResult"));
    let others = json!({ "cniVersion": "1.0.0", "name": "theirs", "type": "portmap",
        "runtimeConfig": mappings(PUBLISHED),
        "prevResult": { "cniVersion": "1.0.0", "ips": [{ "address": "10.1.0.2/24" }] } });
    let said = Call::add("c1", &container).conf(&others).run(called_as(&world, "portmap"));
    assert!(said.failed_with(UNKNOWN_CONTAINER).contains("reference plugins"));
    let check = Call::check("c1", &container).conf(&others).run(called_as(&world, "portmap"));
    check.succeeded();
}

#[test]
fn what_was_asked_for_survives_the_daemon() {
    let world = world!();
    let daemon = world.daemon();
    let chain = Chain::new(NERDCTL).told(mappings(PUBLISHED));
    let container = world.container();
    let result = chain.add(&world, "c1", &container);
    daemon.kill();
    // The rest of the chain needs nobody; bridge's DEL is written down.
    let _echo = Echo::serve(&container, "0.0.0.0");
    assert!(answers(&world.outside, HOST, PATIENCE), "without a daemon");
    let daemon = world.daemon();
    assert!(answers(&world.outside, HOST, PATIENCE), "with the next");
    for checked in chain.check(&world, "c1", &container, &result) {
        checked.succeeded();
    }
    daemon.kill();
    chain.del(&world, "c1", &container, Some(&result));
    assert_eq!(world.tombstones().len(), 1, "that of bridge");
    let _daemon = world.daemon();
    assert!(!answers(&world.outside, HOST, SILENCE), "the tombstone took the port along");
}

#[test]
fn a_daemon_that_dies_while_it_changes_an_attachment_leaves_what_a_del_can_remove() {
    let world = world!();
    let chain = Chain::new(NERDCTL).told(mappings(PUBLISHED));
    for point in ["amend-remembered", "amend-filtered"] {
        let options = crate::support::daemon::Options::default().var("QUANTUM_CRASH_AT", point);
        let mut dying = world.daemon_with(options);
        let container = world.container();
        let answers = chain.try_add(&world, "c1", &container);
        assert_eq!((answers.len(), answers[1].code), (2, Some(1)), "{point}");
        assert_eq!(dying.wait().signal(), Some(9), "it was to die at {point}");
        let daemon = world.daemon();
        chain.del(&world, "c1", &container, None);
        let result = chain.add(&world, "c1", &container);
        let _echo = Echo::serve(&container, "0.0.0.0");
        assert!(self::answers(&world.outside, HOST, PATIENCE), "after {point}");
        chain.del(&world, "c1", &container, Some(&result));
        daemon.kill();
    }
}

#[test]
fn loopback_comes_up_and_every_name_says_what_it_is() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let conf = json!({ "cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback" });
    let call = |verb| Call::attachment(verb, "c1", &container).ifname("lo").conf(&conf);
    let result = call("ADD").run(called_as(&world, "loopback")).succeeded();
    assert_eq!(result["interfaces"][0]["name"], "lo");
    assert_eq!(result["ips"][0]["address"], "127.0.0.1/8");
    let lo = container.link("lo").expect("lo");
    assert!(lo["flags"].as_array().expect("flags").contains(&json!("UP")), "{lo}");
    call("DEL").run(called_as(&world, "loopback")).succeeded();

    for name in ["bridge", "ptp", "host-local", "portmap", "firewall", "tuning", "bandwidth"] {
        let version = Call::new("VERSION").run(called_as(&world, name)).succeeded();
        let spoken = version["supportedVersions"].as_array().expect("a list");
        assert!(spoken.contains(&json!("1.0.0")), "{name}");
        // nerdctl runs `firewall` without a verb and reads the line on stderr.
        let shown = called_as(&world, name).output().expect("its output");
        let text = String::from_utf8(shown.stderr).expect("UTF-8");
        let line = text.lines().next().unwrap_or_default();
        let version = line.strip_prefix(&format!("CNI {name} plugin v"));
        assert!(version.is_some_and(|v| v.starts_with("1.1.0")), "{line}");
    }
}
