//! The bridge itself: taken over as it is, its address and hardware address, and who shares it.

use serde_json::{Value, json};

use crate::spec_add::address;
use crate::support::conf::{network, with};
use crate::support::inventory::Inventory;
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, udp_answers};
use crate::support::world::{OUTSIDE, World};

const INVALID_CONFIG: u64 = 7;

fn bridge(world: &World, name: &str) -> Value {
    world.host.link(name).unwrap_or_else(|| panic!("no bridge {name}"))
}

#[test]
fn a_bridge_that_is_there_is_taken_over() {
    let world = world!();
    let _daemon = world.daemon();
    world.host.ip("link add mine0 address 02:77:77:77:77:77 type bridge");
    world.host.ip("link set mine0 mtu 1450");
    let before = bridge(&world, "mine0");
    let container = world.container();
    let conf = network("mine", "mine0", "10.75.0.0/24");
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let after = bridge(&world, "mine0");
    for key in ["ifindex", "address", "mtu"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    assert_eq!(result["interfaces"][0]["mac"], "02:77:77:77:77:77");
    assert!(ping(&container, "10.75.0.1", PATIENCE));
}

#[test]
fn its_hardware_address_stays_whoever_comes_and_goes() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("constant", "constant0", "10.76.0.0/24");
    let container = world.container();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
        let mac = bridge(&world, "constant0")["address"].clone();
        assert_ne!(mac, result["interfaces"][1]["mac"], "not that of a port");
        seen.push(mac);
        world.call(Call::del("c1", &container).conf(&conf)).succeeded();
        seen.push(bridge(&world, "constant0")["address"].clone());
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[test]
fn another_address_is_an_error_or_is_replaced() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let ranges = json!([[{ "subnet": "10.0.0.0/8" }], [{ "subnet": "fd00:77::/64" }]]);
    let first = with(
        &network("first", "forced0", ""),
        json!({ "ipam": { "subnet": null, "ranges": ranges } }),
    );
    world.call(Call::add("c1", &container).conf(&first)).succeeded();
    let second = with(
        &network("second", "forced0", "10.1.0.0/16"),
        json!({ "ipam": { "gateway": "10.1.2.3" }, "forceAddress": false }),
    );
    let add = Call::add("c1", &container).ifname("eth1");
    let said = world.call(add.clone().conf(&second)).failed_with(INVALID_CONFIG);
    assert!(said.contains("already has an IP address different from 10.1.2.3/16"), "{said}");
    assert_eq!(world.host.addresses("forced0", 4), ["10.0.0.1/8"], "as it was");
    assert!(container.link("eth1").is_none());

    let second = with(&second, json!({ "forceAddress": true }));
    world.call(add.conf(&second)).succeeded();
    assert_eq!(world.host.addresses("forced0", 4), ["10.1.2.3/16"], "replaced");
    assert_eq!(world.host.addresses("forced0", 6), ["fd00:77::1/64"], "it was in nobody's way");
}

#[test]
fn one_container_may_be_in_a_network_twice() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("twice", "twice0", "10.78.0.0/24");
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let add = Call::add("c1", &container).ifname("eth1").conf(&conf);
    let second = world.call(add).succeeded();
    assert_ne!(address(&result), address(&second));
    let masqueraded = || world.host.output("nft", "list set inet quantum masq4");
    assert!(masqueraded().contains(&address(&second)));
    world.call(Call::del("c1", &container).ifname("eth1").conf(&conf)).succeeded();
    assert!(container.link("eth1").is_none());
    assert!(!masqueraded().contains(&address(&second)), "{}", masqueraded());
    let check = with(&conf, json!({ "prevResult": result }));
    world.call(Call::check("c1", &container).conf(&check)).succeeded();
    let _outside = Echo::serve(&world.outside, OUTSIDE);
    assert!(udp_answers(&container, OUTSIDE, PATIENCE), "masqueraded as before");
}

#[test]
fn a_full_bridge_is_named_and_nothing_is_left() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("full", "full0", "10.79.0.0/16");
    let (first, last) = (world.container(), world.container());
    world.call(Call::add("c1", &first).conf(&conf)).succeeded();
    // With the container's port as many as a bridge can have: 1023.
    plug_in_pairs(&world, "full0", 511);
    let add = Call::add("c2", &last).conf(&conf);
    let said = world.call(add.clone()).failed_with(11);
    assert!(said.contains("full0") && said.contains("1023 ports"), "{said}");
    assert!(last.link("eth0").is_none());
    let masqueraded = world.host.output("nft", "list set inet quantum masq4");
    assert!(!masqueraded.contains("10.79.0.3"), "{masqueraded}");
    world.host.ip("link del left0");
    world.call(add).succeeded();
    assert!(ping(&last, "10.79.0.1", PATIENCE));
}

#[test]
fn a_bridge_that_is_known_to_be_full_costs_no_address() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("brim", "brim0", "10.80.0.0/16");
    world.host.ip("link add brim0 type bridge");
    plug_in_pairs(&world, "brim0", 510); // 1020: three are left
    let containers: Vec<_> = (2..8).map(|_| world.container()).collect();
    let add = |n: usize| {
        let container = containers.get(n - 2).expect("a container");
        world.call(Call::add(&format!("c{n}"), container).conf(&conf))
    };
    let has = |n: usize| assert_eq!(address(&add(n).succeeded()), format!("10.80.0.{n}"));
    (2..5).for_each(has);
    let before = Inventory::of(&world.host);
    for _ in 0..2 {
        let said = add(5).failed_with(11);
        assert!(said.contains("brim0 has 1023 ports"), "{said}");
    }
    assert!(containers[3].link("eth0").is_none());
    before.assert_same(&Inventory::of(&world.host), "the host after the refused ADDs");
    // Addresses that were used come after those that never were: a lease that was taken and given
    // back would be missing from the order.
    world.host.ip("link del left0");
    (5..7).for_each(has);
    add(7).failed_with(11);
    // A DEL makes room as well, and is seen.
    world.call(Call::del("c2", &containers[0]).conf(&conf)).succeeded();
    has(7);
}

/// Makes twice as many foreign ports: both ends of each pair are plugged in.
fn plug_in_pairs(world: &World, bridge: &str, pairs: usize) {
    let lines = (0..pairs).map(|n| {
        format!(
            "link add left{n} master {bridge} type veth peer name right{n}\n\
             link set right{n} master {bridge}\n"
        )
    });
    world.host.ip_batch(&lines.collect::<String>());
}

#[test]
fn the_host_forgets_who_had_an_address() {
    let world = world!();
    let _daemon = world.daemon();
    let ranges = json!([[{ "subnet": "10.81.0.0/24" }], [{ "subnet": "fd00:81::/64" }]]);
    let conf = with(
        &network("reuse", "reuse0", ""),
        json!({ "ipam": { "subnet": null, "ranges": ranges } }),
    );
    let asks = with(&conf, json!({ "runtimeConfig": { "ips": ["10.81.0.7", "fd00:81::7"] } }));
    // Held to the end: with its last port the bridge would lose its carrier and its neighbours.
    let (stays, one, two) = (world.container(), world.container(), world.container());
    let stayed = world.call(Call::add("stays", &stays).conf(&conf)).succeeded();
    let entry =
        |address: &str| world.host.output("ip", &format!("neigh show {address} dev reuse0"));

    let first = world.call(Call::add("c1", &one).conf(&asks)).succeeded();
    for address in ["10.81.0.7", "fd00:81::7"] {
        world.host.ip(&format!("neigh replace {address} lladdr {} dev reuse0", mac(&first)));
    }
    assert!(ping(&world.host, &address(&stayed), PATIENCE));
    world.call(Call::del("c1", &one).conf(&conf)).succeeded();
    assert_eq!((entry("10.81.0.7"), entry("fd00:81::7")), (String::new(), String::new()));
    assert_ne!(entry(&address(&stayed)), "", "nobody else's");

    let second = world.call(Call::add("c2", &two).conf(&asks)).succeeded();
    assert_ne!(mac(&first), mac(&second));
    assert!(ping(&world.host, "10.81.0.7", PATIENCE));
    assert!(entry("10.81.0.7").contains(mac(&second)), "{}", entry("10.81.0.7"));
}

pub(crate) fn mac(result: &Value) -> &str {
    result["interfaces"][2]["mac"].as_str().expect("a hardware address")
}
