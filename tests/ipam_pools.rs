//! The reference plugin's own cases for `host-local`, through the real plugin: interfaces, cool-down,
//! exhaustion, ranges that cannot be, and many at once. The finer ones are in `src/ipam/cases.rs`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::ipam_requested::add;
use crate::network_burst::together;
use crate::spec_add::address;
use crate::support::conf::{at, network, with};
use crate::support::inventory::veths;
use crate::support::netns::Netns;
use crate::support::plugin::Call;

#[test]
fn h4_h5_h7_interfaces_repetitions_and_strangers() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("h4", "h40", "10.90.0.0/24");
    let container = world.container();
    let call = |command: &str, ifname: &str| {
        world.call(Call::attachment(command, "c1", &container).ifname(ifname).conf(&conf))
    };
    let without_routes = with(&conf, json!({ "ipam": { "routes": null } }));
    assert_eq!(address(&call("ADD", "eth0").succeeded()), "10.90.0.2");
    let second = Call::add("c1", &container).ifname("eth1").conf(&without_routes);
    assert_eq!(address(&world.call(second).succeeded()), "10.90.0.3");
    call("ADD", "eth0").failed_with(101);
    world.call(Call::del("stranger", &container).conf(&conf)).succeeded();
    call("DEL", "eth0").succeeded();
    assert_eq!(container.addresses("eth1", 4), ["10.90.0.3/24"]);
    assert_eq!(address(&add(&world, "c2", &conf, "").succeeded()), "10.90.0.4");
}

#[test]
fn h11_addresses_go_round() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("h11", "h110", "10.91.0.0/29");
    let container = world.container();
    let mut got = Vec::new();
    for _ in 0..7 {
        let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
        got.push(address(&result).rsplit('.').next().expect("a number").to_owned());
        world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    }
    assert_eq!(got, ["2", "3", "4", "5", "6", "2", "3"]);
}

#[test]
fn h14_an_exhausted_set_is_named_among_several() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = with(
        &at(&network("h14", "h140", ""), "1.1.0"),
        json!({ "ipam": { "subnet": null, "ranges": [
            [{ "subnet": "10.92.0.0/24" }],
            [{ "subnet": "10.93.0.0/30" }, { "subnet": "10.93.1.0/30" }]
        ] } }),
    );
    let status = Call::new("STATUS").conf(&conf);
    for n in 0..2 {
        world.call(status.clone()).succeeded();
        add(&world, &format!("c{n}"), &conf, "").succeeded();
    }
    let said = add(&world, "late", &conf, "").failed_with(7);
    assert!(said.contains("10.93.0.0/30, 10.93.1.0/30") && !said.contains("10.92"), "{said}");
    let said = world.call(status).failed_with(50);
    assert!(said.contains("10.93.0.0/30"), "{said}");
    assert_eq!(veths(&world.host).len(), 2);
}

#[test]
fn h16_ranges_that_cannot_be_are_named() {
    let world = world!();
    let _daemon = world.daemon();
    let v4 = |subnet: &str| json!({ "subnet": subnet });
    let cases: [(Value, &str); 9] = [
        (json!([[v4("10.94.0.1/24")]]), "10.94.0.0/24"),
        (json!([[v4("10.94.0.0/31")]]), "10.94.0.0/31"),
        (json!([[v4("10.94.0.0/32")]]), "10.94.0.0/32"),
        (json!([[{ "subnet": "10.94.0.0/24", "rangeStart": "10.95.0.1" }]]), "10.95.0.1"),
        (json!([[{ "subnet": "10.94.0.0/24", "rangeEnd": "10.95.0.2" }]]), "10.95.0.2"),
        (
            json!([[{ "subnet": "10.94.0.0/24", "rangeStart": "10.94.0.9", "rangeEnd": "10.94.0.8" }]]),
            "10.94.0.9",
        ),
        (json!([[v4("10.94.0.0/24"), v4("fd94::/64")]]), "fd94::/64"),
        (json!([[v4("10.94.0.0/24")], [v4("10.94.0.128/25")]]), "overlap"),
        (json!([[]]), "empty"),
    ];
    for (ranges, words) in cases {
        let conf = with(
            &network("h16", "h160", ""),
            json!({ "ipam": { "subnet": null, "ranges": ranges } }),
        );
        let said = add(&world, "c1", &conf, "").failed_with(7);
        assert!(said.contains(words), "{said} should say {words}");
    }
}

#[test]
fn h17_a_subnet_alone_gives_its_usable_addresses() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("h17", "h170", "198.51.100.0/25");
    for (args, is_given) in
        [("IP=198.51.100.126", true), ("IP=198.51.100.127", false), ("IP=198.51.100.0", false)]
    {
        assert_eq!(
            add(&world, args.trim_start_matches("IP="), &conf, args).code == Some(0),
            is_given,
            "{args}"
        );
    }
    assert_eq!(address(&add(&world, "c1", &conf, "").succeeded()), "198.51.100.2");
}

/// Nine of ten addresses of the pool are taken at the end, and nobody waits longer for it.
#[test]
fn h20_two_hundred_at_once_are_all_different() {
    const MANY: usize = 200;
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("h20", "h200", "10.96.0.0/24");
    let containers: Vec<Netns> = (0..MANY).map(|_| world.container()).collect();
    let adds = containers.iter().enumerate();
    let adds = adds.map(|(n, c)| Call::add(&format!("c{n}"), c).conf(&conf)).collect();
    let given: BTreeSet<String> =
        together(&world, adds).iter().map(|o| address(&o.succeeded())).collect();
    assert_eq!(given.len(), MANY);
    let dels = containers.iter().enumerate();
    let dels = dels.map(|(n, c)| Call::del(&format!("c{n}"), c).conf(&conf)).collect();
    for outcome in together(&world, dels) {
        outcome.succeeded();
    }
    assert_eq!(veths(&world.host), Vec::<String>::new());
}
