//! Addresses that a call asks for, ranges it brings along, and what its resolver is told.

use serde_json::{Value, json};

use crate::spec_add::address;
use crate::support::conf::{at, network, with};
use crate::support::eventually::eventually;
use crate::support::inventory::veths;
use crate::support::plugin::{Call, Outcome};
use crate::support::world::World;

/// A network of both families.
fn dual(name: &str, subnet: &str, subnet6: &str) -> Value {
    with(
        &network(name, &format!("{name}0"), subnet),
        json!({ "ipam": { "subnet": null, "ranges": [[{ "subnet": subnet }], [{ "subnet": subnet6 }]] } }),
    )
}

/// Every address of a result, with its prefix length.
pub(crate) fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().expect("a list");
    ips.iter().map(|ip| ip["address"].as_str().expect("an address").to_owned()).collect()
}

/// ADD of a fresh container; it stays.
pub(crate) fn add(world: &World, name: &str, conf: &Value, args: &str) -> Outcome {
    let container = world.container();
    let outcome = world.call(Call::add(name, &container).conf(conf).var("CNI_ARGS", args));
    std::mem::forget(container); // the world removes it
    outcome
}

#[test]
fn an_address_is_asked_for_in_three_places() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = dual("ask", "10.70.0.0/24", "fd70::/64");
    let runtime = with(&conf, json!({ "runtimeConfig": { "ips": ["10.70.0.71/16"] } }));
    let args = with(&conf, json!({ "args": { "cni": { "ips": ["10.70.0.72", "fd70::72"] } } }));
    let all = with(&args, json!({ "args": { "cni": { "ips": ["fd70::74"] } } }));
    for (name, conf, env, wanted) in [
        ("c1", &runtime, "", ["10.70.0.71/24", "fd70::2/64"]),
        ("c2", &args, "", ["10.70.0.72/24", "fd70::72/64"]),
        ("c3", &conf, "IgnoreUnknown=1;IP=10.70.0.73/24", ["10.70.0.73/24", "fd70::3/64"]),
        ("c4", &all, "IP=10.70.0.74", ["10.70.0.74/24", "fd70::74/64"]),
        ("c5", &conf, "", ["10.70.0.2/24", "fd70::4/64"]),
    ] {
        let container = world.container();
        let call = Call::add(name, &container).conf(conf).var("CNI_ARGS", env);
        let result = world.call(call).succeeded();
        assert_eq!(addresses(&result), wanted, "{name}");
        assert_eq!(container.addresses("eth0", 4), [wanted[0]]);
    }
}

#[test]
fn what_cannot_be_given_is_named_and_nothing_is_kept() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = with(
        &dual("no", "10.71.0.0/24", "fd71::/64"),
        json!({ "ipam": { "ranges": [
            [{ "subnet": "10.71.0.0/24", "rangeStart": "10.71.0.10", "rangeEnd": "10.71.0.20" }],
            [{ "subnet": "fd71::/64" }]
        ] } }),
    );
    add(&world, "holder", &conf, "IP=10.71.0.15").succeeded();
    for (args, words) in [
        ("IP=10.99.0.1", "10.99.0.1"),
        ("IP=10.71.0.9", "10.71.0.10-10.71.0.20"),
        ("IP=10.71.0.21", "10.71.0.21"),
        ("IP=10.71.0.1", "gateway"),
        ("IP=10.71.0.15", "no/holder/eth0"),
        ("IP=10.71.0.11,10.71.0.12", "10.71.0.12"),
        ("IP=fd71::7,10.71.0.15", "10.71.0.15"),
        ("IP=nonsense", "nonsense"),
    ] {
        let said = add(&world, "c1", &conf, args).failed_with(7);
        assert!(said.contains(words), "{args}: {said}");
    }
    assert_eq!(veths(&world.host).len(), 1);
    let result = add(&world, "c1", &conf, "IP=fd71::7").succeeded();
    assert_eq!(addresses(&result), ["10.71.0.10/24", "fd71::7/64"], "nothing was kept");
}

#[test]
fn ranges_of_a_call_come_first_and_concern_no_other() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("extra", "extra0", "10.72.0.0/24");
    let more =
        with(&conf, json!({ "runtimeConfig": { "ipRanges": [[{ "subnet": "10.73.0.0/24" }]] } }));
    for (name, conf, wanted) in [
        ("c1", &conf, vec!["10.72.0.2/24"]),
        ("c2", &more, vec!["10.73.0.2/24", "10.72.0.3/24"]),
        ("c3", &conf, vec!["10.72.0.4/24"]),
        ("c4", &more, vec!["10.73.0.3/24", "10.72.0.5/24"]),
    ] {
        assert_eq!(addresses(&add(&world, name, conf, "").succeeded()), wanted, "{name}");
    }
    let gateways = world.host.addresses("extra0", 4);
    assert!(gateways.contains(&"10.73.0.1/24".to_owned()), "{gateways:?}");
    let overlap =
        with(&conf, json!({ "runtimeConfig": { "ipRanges": [[{ "subnet": "10.72.0.0/16" }]] } }));
    let said = add(&world, "c5", &overlap, "").failed_with(7);
    assert!(said.contains("10.72.0.1-10.72.0.254"), "{said}");
}

#[test]
fn calls_with_and_without_ranges_of_their_own_mix() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("mixed", "mixed0", "10.74.0.0/24");
    let more =
        with(&conf, json!({ "runtimeConfig": { "ipRanges": [[{ "subnet": "10.75.0.0/24" }]] } }));
    std::thread::scope(|scope| {
        for n in 0..16 {
            let (world, conf, more) = (&world, &conf, &more);
            scope.spawn(move || {
                let (conf, sets) = if n % 2 == 0 { (conf, 1) } else { (more, 2) };
                let result = add(world, &format!("c{n}"), conf, "").succeeded();
                let given = addresses(&result);
                assert_eq!(given.len(), sets, "each gets what it asked for: {given:?}");
                assert!(given[sets - 1].starts_with("10.74.0."), "{given:?}");
            });
        }
    });
}

#[test]
fn the_runtime_can_say_what_the_resolver_is() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = with(
        &network("names", "names0", "10.76.0.0/24"),
        json!({
            "dns": { "nameservers": ["192.0.2.53"], "domain": "example.com" },
            "runtimeConfig": { "dns": { "Servers": ["192.0.2.54"], "Searches": ["a.example"], "Options": null } }
        }),
    );
    let result = add(&world, "c1", &conf, "").succeeded();
    assert_eq!(
        result["dns"],
        json!({ "nameservers": ["192.0.2.54"], "domain": "example.com", "search": ["a.example"] })
    );
}

/// Whoever names them: a link-local address with a zone of the host's, and what is no address.
#[test]
fn name_servers_that_no_container_can_ask_are_left_out_and_named() {
    let world = world!();
    let file = world.paths().root.join("resolv.conf");
    let of_host =
        "nameserver fe80::1%uplink\nnameserver 192.0.2.55\nnameserver resolver\nsearch a.example\n";
    std::fs::write(&file, of_host).expect("a file");
    let read = network("read", "read0", "10.78.0.0/24");
    let defined = with(&read, json!({ "ipam": { "resolvConf": file.to_str() } }));
    std::fs::write(world.paths().config_dir.join("10-read.conf"), defined.to_string())
        .expect("a definition");
    let daemon = world.daemon();
    let own = network("said", "said0", "10.79.0.0/24");
    let servers = json!({ "nameservers": ["fe80::1%eth0", "192.0.2.55"], "search": ["a.example"] });
    let runtime =
        json!({ "dns": { "servers": ["fe80::1%eth0", "192.0.2.55"], "searches": ["a.example"] } });
    for (name, conf) in [
        ("c1", json!({ "cniVersion": "1.0.0", "name": "read", "type": "quantum-cni" })),
        ("c2", with(&own, json!({ "dns": servers }))),
        ("c3", with(&own, json!({ "ipam": { "dns": servers } }))),
        ("c4", with(&own, json!({ "runtimeConfig": runtime }))),
    ] {
        let result = add(&world, name, &conf, "").succeeded();
        let wanted = json!({ "nameservers": ["192.0.2.55"], "search": ["a.example"] });
        assert_eq!(result["dns"], wanted, "{name}");
        let is_told =
            |record: &Value| record["container_id"] == name && record["level"] == "warning";
        let told = eventually("the log to name them", || daemon.log().into_iter().find(is_told));
        let named = told["nameservers"].as_str().expect("text");
        assert!(named.starts_with("fe80::1%"), "{named}");
    }
    let alone = with(&own, json!({ "dns": { "nameservers": ["fe80::1%eth0"] } }));
    let result = add(&world, "c5", &alone, "").succeeded();
    assert!(result["dns"]["nameservers"].is_null(), "{result}");
}

#[test]
fn only_the_operator_names_a_file_for_the_resolver() {
    let world = world!();
    let file = world.paths().root.join("resolv.conf");
    std::fs::write(&file, "nameserver 192.0.2.55\nsearch op.example\noptions ndots:2\n")
        .expect("a file");
    let conf = with(
        &network("file", "file0", "10.77.0.0/24"),
        json!({ "ipam": { "resolvConf": file.to_str() } }),
    );
    let write = |name: &str, conf: &Value| {
        std::fs::write(world.paths().config_dir.join(name), conf.to_string())
            .expect("a definition");
    };
    write("10-file.conf", &conf);
    let own = json!({
        "name": "own", "bridge": "own0", "dns": { "nameservers": ["192.0.2.56"] },
        "ipam": { "subnet": "10.77.1.0/24" },
    });
    write("20-own.conf", &with(&conf, own));
    write(
        "30-lost.conf",
        &with(&conf, json!({ "name": "lost", "ipam": { "resolvConf": "/nonexistent" } })),
    );
    let daemon = world.daemon();
    let thin = |name: &str| json!({ "cniVersion": "1.0.0", "name": name, "type": "quantum-cni" });
    let result = add(&world, "c1", &thin("file"), "").succeeded();
    let wanted =
        json!({ "nameservers": ["192.0.2.55"], "search": ["op.example"], "options": ["ndots:2"] });
    assert_eq!(result["dns"], wanted);
    let result = add(&world, "c2", &with(&thin("own"), json!({})), "").succeeded();
    assert_eq!(result["dns"], json!({ "nameservers": ["192.0.2.56"] }), "any dns replaces it");
    assert!(
        daemon.get("/readyz").1.contains("/nonexistent"),
        "a file that is not there is reported"
    );

    let said = add(&world, "c3", &conf, "").failed_with(2);
    assert!(said.contains("ipam.resolvConf=") && said.contains("resolv.conf"), "{said}");
}

#[test]
fn a_thin_call_asks_its_operators_network() {
    let world = world!();
    let conf = network("thin", "thin0", "10.78.0.0/24");
    std::fs::write(world.paths().config_dir.join("10.conf"), conf.to_string())
        .expect("a definition");
    let _daemon = world.daemon();
    let thin = json!({ "cniVersion": "1.0.0", "name": "thin", "type": "quantum-cni" });
    let result = add(&world, "c1", &thin, "IP=10.78.0.99").succeeded();
    assert_eq!(address(&result), "10.78.0.99");
    let old = at(&thin, "0.2.0");
    let result = add(&world, "c2", &old, "IP=10.78.0.98").succeeded();
    assert_eq!(result["ip4"]["ip"], "10.78.0.98/24");
}
