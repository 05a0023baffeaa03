//! Addresses that are kept for a container or a pod.

use serde_json::json;

use crate::ipam_requested::add;
use crate::spec_add::address;
use crate::support::conf::{at, network, with};
use crate::support::plugin::Call;

#[test]
fn whoever_it_is_kept_for_gets_it_and_nobody_else() {
    let world = world!();
    let daemon = world.daemon();
    let conf = with(
        &at(&network("kept", "kept0", "10.100.0.0/29"), "1.1.0"),
        json!({ "ipam": { "reservations": [
            { "address": "10.100.0.2", "pod": "shop/db-0" },
            { "address": "10.100.0.4", "container": "vip" }
        ] } }),
    );
    let pod = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db-0";
    for name in ["first", "second"] {
        let container = world.container();
        let call = Call::add(name, &container).conf(&conf).var("CNI_ARGS", pod);
        assert_eq!(address(&world.call(call).succeeded()), "10.100.0.2", "in whatever container");
        world.call(Call::del(name, &container).conf(&conf)).succeeded();
    }
    for (name, wanted) in [("a", "10.100.0.3"), ("b", "10.100.0.5"), ("vip", "10.100.0.4")] {
        assert_eq!(address(&add(&world, name, &conf, "").succeeded()), wanted);
    }
    let said = add(&world, "thief", &conf, "IP=10.100.0.2").failed_with(7);
    assert!(said.contains("pod shop/db-0"), "{said}");
    add(&world, "c", &conf, "").succeeded();
    add(&world, "late", &conf, "").failed_with(7);
    let said = world.call(Call::new("STATUS").conf(&conf)).failed_with(50);
    assert!(said.contains("10.100.0.0/29"), "{said}");
    daemon.kill();
    let _daemon = world.daemon();
    add(&world, "late", &conf, "").failed_with(7);
    assert_eq!(address(&add(&world, "third", &conf, pod).succeeded()), "10.100.0.2");
}

#[test]
fn one_that_cannot_be_kept_is_refused() {
    let world = world!();
    let _daemon = world.daemon();
    for (reservation, words) in [
        (json!({ "address": "10.102.0.9", "container": "c" }), "10.102.0.9"),
        (json!({ "address": "10.101.0.1", "container": "c" }), "gateway"),
        (json!({ "address": "10.101.0.9", "pod": "no-namespace" }), "no-namespace"),
    ] {
        let conf = with(
            &network("bad", "bad0", "10.101.0.0/24"),
            json!({ "ipam": { "reservations": [reservation] } }),
        );
        let said = add(&world, "c1", &conf, "").failed_with(7);
        assert!(said.contains(words), "{said} should say {words}");
    }
}
