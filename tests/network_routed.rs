//! The way for kernels without br_netfilter: ports are isolated from each other, and the host routes
//! between them. It is asked for by name here, with the switch off that has all bridges filter packets.

use serde_json::{Value, json};

use crate::network_keys::port;
use crate::network_ports::addresses;
use crate::support::conf::{network, with};
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, SILENCE, tcp_answers, udp_answers};
use crate::support::world::World;

fn routed(name: &str, v4: &str, v6: &str) -> Value {
    let keys = json!({
        "policy": { "enforcement": "routed" },
        "ipam": { "subnet": null, "ranges": [[{ "subnet": v4 }], [{ "subnet": v6 }]],
                  "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] }
    });
    with(&network(name, &format!("{name}0"), ""), keys)
}

/// No bridge hands packets over by itself: as where br_netfilter is not loaded.
pub(crate) fn without_br_netfilter(world: &World) {
    for family in ["iptables", "ip6tables", "arptables"] {
        let file = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        world.host.run(|| {
            if std::path::Path::new(&file).exists() {
                std::fs::write(&file, "0").expect("written");
            }
        });
    }
}

/// Whom the container knows on its link, and where it thinks they are.
fn neighbours(container: &Netns) -> String {
    container.output("ip", "neigh show")
}

#[test]
fn containers_reach_each_other_by_the_host() {
    let world = world!();
    without_br_netfilter(&world);
    let _daemon = world.daemon_that_mends_nothing();
    let conf = routed("way", "10.120.0.0/24", "fd00:120::/64");
    let (one, two) = (world.container(), world.container());
    world.call(Call::add("c1", &one).conf(&conf)).succeeded();
    let result = world.call(Call::add("c2", &two).conf(&conf)).succeeded();
    let bridge = world.host.link("way0").expect("the bridge");
    for address in addresses(&result) {
        let echo = Echo::serve(&two, &address);
        assert!(udp_answers(&one, &address, PATIENCE), "{address}");
        assert!(tcp_answers(&one, &address, PATIENCE), "{address}");
        assert!(!echo.seen().is_empty());
        // The other one is where the host is.
        let known = neighbours(&one);
        let line = known.lines().find(|line| line.starts_with(&format!("{address} ")));
        let line = line.unwrap_or_else(|| panic!("{address} is not in {known}"));
        assert!(line.contains(bridge["address"].as_str().expect("a MAC")), "{line}");
    }
    let check = with(&conf, json!({ "prevResult": result }));
    world.call(Call::check("c2", &two).conf(&check)).succeeded();
    world.host.ip(&format!("link set {} type bridge_slave isolated off", port(&result)));
    world.call(Call::check("c2", &two).conf(&check)).failed();
    world.call(Call::del("c2", &two).conf(&conf)).succeeded();
    let answered = world.host.output("ip", "-6 neigh show proxy");
    assert!(!answered.contains(&addresses(&result)[1]), "{answered}");
}

#[test]
fn the_rules_see_what_passes_between_them() {
    let world = world!();
    without_br_netfilter(&world);
    let _daemon = world.daemon();
    let conf = with(
        &routed("apart", "10.121.0.0/24", "fd00:121::/64"),
        json!({ "ingressPolicy": "isolated" }),
    );
    let (one, two) = (world.container(), world.container());
    world.call(Call::add("c1", &one).conf(&conf)).succeeded();
    let result = world.call(Call::add("c2", &two).conf(&conf)).succeeded();
    for address in addresses(&result) {
        let echo = Echo::serve(&two, &address);
        assert!(udp_answers(&world.host, &address, PATIENCE), "{address} from the host");
        assert!(!udp_answers(&one, &address, SILENCE), "{address} from its neighbour");
        assert!(!tcp_answers(&one, &address, SILENCE), "{address} from its neighbour");
        drop(echo);
    }
}

#[test]
fn a_published_port_is_reached_by_everybody() {
    let world = world!();
    without_br_netfilter(&world);
    let _daemon = world.daemon();
    let conf = routed("open", "10.122.0.0/24", "fd00:122::/64");
    let ports = ["tcp", "udp"]
        .map(|protocol| json!({ "hostPort": 7007, "containerPort": 7007, "protocol": protocol }));
    let publishing = with(&conf, json!({ "runtimeConfig": { "portMappings": ports } }));
    let (one, two) = (world.container(), world.container());
    world.call(Call::add("c1", &one).conf(&conf)).succeeded();
    let result = world.call(Call::add("c2", &two).conf(&publishing)).succeeded();
    for (address, gateway) in addresses(&result).iter().zip(["10.122.0.1", "fd00:122::1"]) {
        let _echo = Echo::serve(&two, address);
        for (from, who) in [(&one, "its neighbour"), (&two, "itself"), (&world.host, "the host")] {
            assert!(udp_answers(from, gateway, PATIENCE), "{gateway} from {who}");
            assert!(tcp_answers(from, gateway, PATIENCE), "{gateway} from {who}");
        }
    }
}
