//! The IPAM `static`: addresses that the configuration or the call gives as they are.

use serde_json::{Value, json};

use crate::ipam_requested::{add, addresses};
use crate::support::conf::{network, with};
use crate::support::inventory::veths;
use crate::support::plugin::Call;
use crate::support::world::World;

fn fixed(name: &str, addresses: &Value) -> Value {
    with(
        &network(name, &format!("{name}0"), ""),
        json!({ "ipam": {
            "type": "static",
            "subnet": null,
            "addresses": addresses,
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "192.168.9.0/24", "gw": "10.80.0.9" }],
            "dns": { "nameservers": ["192.0.2.53"] }
        } }),
    )
}

#[test]
fn s1_what_the_configuration_says_is_what_the_container_has() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = fixed(
        "s1",
        &json!([{ "address": "10.80.0.5/24", "gateway": "10.80.0.254" }, { "address": "fd80::5/64" }]),
    );
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!(
        result["ips"],
        json!([
            { "interface": 2, "address": "10.80.0.5/24", "gateway": "10.80.0.254" },
            { "interface": 2, "address": "fd80::5/64", "gateway": "fd80::1" }
        ])
    );
    assert_eq!(result["routes"], conf["ipam"]["routes"]);
    assert_eq!(result["dns"], json!({ "nameservers": ["192.0.2.53"] }));
    assert_eq!(container.addresses("eth0", 4), ["10.80.0.5/24"]);
    let [default] = &container.ip_json("-4 route show default")[..] else { panic!("one route") };
    assert_eq!(default["gateway"], "10.80.0.254");
    assert_eq!(world.host.addresses("s10", 4), ["10.80.0.254/24"], "the bridge is the gateway");
    let check = with(&conf, json!({ "prevResult": result }));
    world.call(Call::check("c1", &container).conf(&check)).succeeded();
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    assert_eq!(veths(&world.host), Vec::<String>::new());
}

#[test]
fn s2_s3_what_a_call_gives_adds_or_replaces() {
    let world = world!();
    let _daemon = world.daemon();
    // A switch only: a bridge that is a gateway would have to be that of every subnet.
    let conf = with(
        &fixed("s2", &json!([{ "address": "10.81.0.5/24" }])),
        json!({ "isGateway": false, "ipMasq": false, "ipam": { "routes": null } }),
    );
    let args = "IP=10.82.0.5/24,fd82::5/64;GATEWAY=10.82.0.9";
    let result = add(&world, "c1", &conf, args).succeeded();
    assert_eq!(addresses(&result), ["10.81.0.5/24", "10.82.0.5/24", "fd82::5/64"]);
    assert_eq!(result["ips"][1]["gateway"], "10.82.0.9");
    let replaced = with(&conf, json!({ "args": { "cni": { "ips": ["10.83.0.5/24"] } } }));
    assert_eq!(addresses(&add(&world, "c2", &replaced, args).succeeded()), ["10.83.0.5/24"]);
    let both = with(&replaced, json!({ "runtimeConfig": { "ips": ["10.84.0.5/24"] } }));
    assert_eq!(addresses(&add(&world, "c3", &both, args).succeeded()), ["10.84.0.5/24"]);
}

#[test]
fn s4_an_address_needs_its_prefix_length() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = fixed("s4", &json!([{ "address": "10.85.0.5/24" }]));
    let changed = |change| with(&conf, change);
    for (conf, args, words) in [
        (
            changed(json!({ "ipam": { "addresses": [{ "address": "10.85.0.5" }] } })),
            "",
            "10.85.0.5",
        ),
        (changed(json!({ "ipam": { "addresses": [{ "address": "x/24" }] } })), "", "x/24"),
        (
            changed(
                json!({ "ipam": { "addresses": [{ "address": "10.85.0.5/24", "gateway": "fd::1" }] } }),
            ),
            "",
            "family",
        ),
        (conf.clone(), "IP=10.85.0.6", "10.85.0.6"),
        (conf.clone(), "GATEWAY=nowhere", "nowhere"),
        (changed(json!({ "args": { "cni": { "ips": ["10.85.0.7"] } } })), "", "10.85.0.7"),
        (changed(json!({ "runtimeConfig": { "ips": ["10.85.0.8"] } })), "", "10.85.0.8"),
    ] {
        let said = add(&world, "c1", &conf, args).failed_with(7);
        assert!(said.contains(words), "{said} should say {words}");
    }
    assert_eq!(veths(&world.host), Vec::<String>::new());
}

#[test]
fn two_that_live_do_not_share_an_address() {
    let world: World = world!();
    let daemon = world.daemon();
    let conf = fixed("twice", &json!([{ "address": "10.86.0.5/24" }]));
    let conf = with(&conf, json!({ "ipam": { "routes": null } }));
    let first = world.container();
    world.call(Call::add("first", &first).conf(&conf)).succeeded();
    let said = add(&world, "second", &conf, "").failed_with(7);
    assert!(said.contains("twice/first/eth0"), "{said}");
    daemon.kill();
    let _daemon = world.daemon();
    let said = add(&world, "second", &conf, "").failed_with(7);
    assert!(said.contains("twice/first/eth0"), "also after a restart: {said}");
    world.call(Call::del("first", &first).conf(&conf)).succeeded();
    world.call(Call::del("unknown", &first).conf(&conf)).succeeded();
    add(&world, "second", &conf, "").succeeded();
}
