//! Configurations that say nothing, or not yet: a network whose ranges each call brings (CRI-O's way), an `ipam`
//! that generators write empty, ports that are said twice.

use serde_json::{Value, json};

use crate::dropin_host_local::run;
use crate::ipam_requested::addresses;
use crate::network_ports::Server;
use crate::support::conf::{at, network, with};
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::ports;
use crate::support::traffic::{PATIENCE, PORT};
use crate::support::world::{HOST, UPLINK};

const INVALID_CONFIG: u64 = 7;

/// host-local without a subnet.
fn rangeless(name: &str) -> Value {
    let ipam = json!({ "type": "host-local", "routes": [{ "dst": "0.0.0.0/0" }] });
    let conf = with(&network(name, &format!("{name}0"), ""), json!({ "ipam": null }));
    at(&with(&conf, json!({ "ipam": ipam })), "1.1.0")
}

fn bringing(conf: &Value, subnets: &[&str]) -> Value {
    let sets: Vec<Value> = subnets.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
    with(conf, json!({ "runtimeConfig": { "ipRanges": sets } }))
}

#[test]
fn the_ranges_of_a_network_may_come_with_each_call() {
    let world = world!();
    let _daemon = world.daemon();
    let (one, two) = (world.container(), world.container());
    let conf = rangeless("podcidr");
    let status = || world.call(Call::new("STATUS").conf(&conf));
    status().succeeded();
    let asked = bringing(&conf, &["10.170.0.0/24", "fd00:170::/64"]);
    let result = world.call(Call::add("one", &one).conf(&asked)).succeeded();
    assert_eq!(addresses(&result), ["10.170.0.2/24", "fd00:170::2/64"]);
    let second = world.call(Call::add("two", &two).conf(&asked)).succeeded();
    assert_eq!(addresses(&second), ["10.170.0.3/24", "fd00:170::3/64"]);
    assert!(ping(&one, "10.170.0.3", PATIENCE) && ping(&one, "10.170.0.1", PATIENCE));
    // As CRI-O calls them: without a runtimeConfig.
    status().succeeded();
    let check = with(&conf, json!({ "prevResult": result }));
    world.call(Call::check("one", &one).conf(&check)).succeeded();
    let valid = json!([{ "containerID": "one", "ifname": "eth0" }]);
    let gc = with(&conf, json!({ "cni.dev/valid-attachments": valid }));
    world.call(Call::new("GC").conf(&gc)).succeeded();
    assert!(two.link("eth0").is_none(), "it was not valid");
    world.call(Call::del("one", &one).conf(&conf)).succeeded();
    assert!(one.link("eth0").is_none());
    let again = world.call(Call::add("two", &two).conf(&asked)).succeeded();
    assert_eq!(addresses(&again).len(), 2);

    // Nobody says any.
    let said = world.call(Call::add("three", &one).conf(&conf)).failed_with(INVALID_CONFIG);
    assert!(said.contains("ipRanges"), "{said}");
    assert!(one.link("eth0").is_none());
}

#[test]
fn what_keeps_such_a_network_closed_is_told_by_status() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let conf = with(&rangeless("barred"), json!({ "bridge": UPLINK }));
    let asked = bringing(&conf, &["10.171.0.0/24"]);
    world.call(Call::new("STATUS").conf(&conf)).succeeded();
    world.call(Call::add("c1", &container).conf(&asked)).failed_with(INVALID_CONFIG);
    let said = world.call(Call::new("STATUS").conf(&conf)).failed_with(50);
    assert!(said.contains(UPLINK), "{said}");
}

#[test]
fn a_plugin_of_others_is_lent_addresses_of_ranges_that_a_call_brings() {
    let world = world!();
    let _daemon = world.daemon();
    let netns = world.container();
    let conf = json!({ "cniVersion": "1.1.0", "name": "theirs", "type": "macvlan",
        "ipam": { "type": "host-local" } });
    run(&world, "STATUS", "", &netns, &conf).succeeded();
    run(&world, "ADD", "a", &netns, &conf).failed_with(INVALID_CONFIG);
    let asked = bringing(&conf, &["10.172.0.0/24"]);
    let result = run(&world, "ADD", "a", &netns, &asked).succeeded();
    assert_eq!(addresses(&result), ["10.172.0.2/24"]);
    let check = with(&conf, json!({ "prevResult": result }));
    run(&world, "CHECK", "a", &netns, &check).succeeded();
    run(&world, "DEL", "a", &netns, &conf).succeeded();
    run(&world, "CHECK", "a", &netns, &check).failed_with(105);
}

#[test]
fn an_empty_ipam_is_none() {
    let world = world!();
    let _daemon = world.daemon();
    let layer2 =
        json!({ "cniVersion": "1.1.0", "name": "vm", "type": "quantum-cni", "bridge": "vm0" });
    for (number, ipam) in [
        json!({}),
        json!({ "type": "" }),
        json!({ "type": "", "ranges": [], "dns": {} }),
        json!(null),
    ]
    .into_iter()
    .enumerate()
    {
        let mut conf = layer2.clone();
        conf["ipam"] = ipam;
        let (container, name) = (world.container(), format!("c{number}"));
        world.call(Call::new("STATUS").conf(&conf)).succeeded();
        let result = world.call(Call::add(&name, &container).conf(&conf)).succeeded();
        assert_eq!(result.get("ips").and_then(Value::as_array).map_or(0, Vec::len), 0, "{result}");
        assert!(container.link("eth0").is_some());
        let check = with(&conf, json!({ "prevResult": result }));
        world.call(Call::check(&name, &container).conf(&check)).succeeded();
        world.call(Call::del(&name, &container).conf(&conf)).succeeded();
        assert!(container.link("eth0").is_none());
    }
    // Something is said, and by nobody who could mean it.
    let container = world.container();
    let conf = with(&layer2, json!({ "ipam": { "type": "", "subnet": "10.173.0.0/24" } }));
    let said = world.call(Call::add("odd", &container).conf(&conf)).failed_with(INVALID_CONFIG);
    assert!(said.contains("ipam has members and no type"), "{said}");
}

#[test]
fn ports_that_are_said_twice_lead_where_both_say() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("twofold", "twofold0", "10.174.0.0/24");
    let hosts =
        [&["", "0.0.0.0"][..], &["0.0.0.0", ""], &["", HOST], &[HOST, "0.0.0.0", "127.0.0.1"]];
    for (number, hosts) in hosts.into_iter().enumerate() {
        let mappings: Vec<_> = hosts.iter().map(|host| ("tcp", 8080, PORT, *host)).collect();
        let wanted = ports::publishing(&conf, &mappings);
        let (container, name) = (world.container(), format!("c{number}"));
        let result = world.call(Call::add(&name, &container).conf(&wanted)).succeeded();
        let server = Server::start(&container, &result);
        assert!(ports::tcp(&world.outside, HOST, 8080, PATIENCE), "{hosts:?}");
        if hosts.contains(&"127.0.0.1") {
            assert!(ports::tcp(&world.host, "127.0.0.1", 8080, PATIENCE), "{hosts:?}");
        }
        let check = with(&wanted, json!({ "prevResult": result }));
        world.call(Call::check(&name, &container).conf(&check)).succeeded();
        drop(server);
        world.call(Call::del(&name, &container).conf(&wanted)).succeeded();
    }
    let container = world.container();
    let wanted = ports::publishing(&conf, &[("tcp", 8080, 80, "0.0.0.0"), ("tcp", 8080, 81, "")]);
    let said = world.call(Call::add("odd", &container).conf(&wanted)).failed_with(INVALID_CONFIG);
    assert!(said.contains("to ports 80 and 81"), "{said}");
}
