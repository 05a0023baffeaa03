//! How input is read: as Go's JSON reader and libcni do, since every runtime is written with them.
//! What they refuse is refused, what they let pass is let pass.

use serde_json::{Value, json};

use crate::support::conf::{at, example, network, with};
use crate::support::plugin::Call;

#[test]
fn a_byte_order_mark_or_garbage_behind_the_document_is_no_json() {
    let world = world!();
    let _daemon = world.daemon();
    let text = example().to_string();
    for bad in [format!("\u{feff}{text}"), format!("{text}x"), format!("{text}{text}")] {
        let container = world.container();
        for verb in ["ADD", "CHECK", "DEL"] {
            let call = Call::attachment(verb, "c1", &container).stdin(bad.as_str());
            world.call(call).failed_with(6);
        }
        assert!(container.link("eth0").is_none());
    }
    let container = world.container();
    world.call(Call::add("c1", &container).stdin(format!("\n {text}\n\n"))).succeeded();
}

#[test]
fn keys_match_without_case_and_the_last_one_wins() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    let text = r#"{"CNIVersion":"1.0.0","Name":"cased","TYPE":"quantum-cni","bridge":"first0",
        "bridge":"last0","ISGateway":true,"mtu":9000,"MTU":1400,
        "IPAM":{"Type":"host-local","SUBNET":"10.4.4.0/24"}}"#;
    let result = world.call(Call::add("c1", &container).stdin(text)).succeeded();
    assert_eq!(result["interfaces"][0]["name"], "last0");
    assert_eq!(result["ips"][0]["gateway"], "10.4.4.1");
    assert_eq!(container.link("eth0").expect("eth0")["mtu"], 1400);
    world.call(Call::del("c1", &container).stdin(text)).succeeded();
    assert!(container.link("eth0").is_none());
}

#[test]
fn what_is_for_the_runtime_or_unknown_is_let_pass() {
    let world = world!();
    let _daemon = world.daemon();
    let mut conf = with(
        &at(&example(), "1.1.0"),
        json!({
            "cniVersions": ["1.0.0", "1.1.0"],
            "disableCheck": true,
            "disableGC": "true",
            "loadOnlyInlinedPlugins": false,
            "capabilities": { "portMappings": true, "bandwidth": true },
            "args": { "cni": { "labels": [{ "key": "app", "value": "x" }] } },
            "cni.dev/something": [1, 2],
            "vendor.example/unknown": { "deep": [null] }
        }),
    );
    conf["runtimeConfig"] = Value::Null;
    conf["prevResult"] = Value::Null;
    conf["dns"] = Value::Null;
    conf["vlanTrunk"] = Value::Null;
    let container = world.container();
    let args = "IgnoreUnknown=1;K8S_POD_NAME=a;junk;;=";
    let add = Call::add("c1", &container).conf(&conf).var("CNI_ARGS", args);
    let result = world.call(add).succeeded();
    let check = with(&conf, json!({ "prevResult": result }));
    world.call(Call::check("c1", &container).conf(&check)).succeeded();
    world.call(Call::new("STATUS").conf(&conf)).succeeded();
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
}

#[test]
fn gc_reads_the_list_under_its_older_name() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = at(&network("older", "gco0", "10.4.5.0/24"), "1.1.0");
    let (kept, gone) = (world.container(), world.container());
    world.call(Call::add("kept", &kept).conf(&conf)).succeeded();
    world.call(Call::add("gone", &gone).conf(&conf)).succeeded();
    let list = json!([{ "containerID": "kept", "ifname": "eth0" }]);
    let gc = with(&conf, json!({ "cni.dev/attachments": list }));
    world.call(Call::new("GC").conf(&gc)).succeeded();
    assert!(kept.link("eth0").is_some() && gone.link("eth0").is_none());
    // The final name counts where both are there.
    let both = with(&gc, json!({ "cni.dev/valid-attachments": [] }));
    world.call(Call::new("GC").conf(&both)).succeeded();
    assert!(kept.link("eth0").is_none());
}

#[test]
fn everything_that_is_wrong_with_the_variables_is_said_at_once() {
    let world = world!();
    let call = Call::new("ADD").var("CNI_CONTAINERID", "a/b").var("CNI_IFNAME", "x:y");
    let said = world.call(call.var("CNI_NETNS", "/n").conf(&example())).failed_with(4);
    for part in ["CNI_CONTAINERID", "a/b", "CNI_IFNAME", "x:y"] {
        assert!(said.contains(part), "{said} should name {part}");
    }
}

#[test]
fn the_version_document_to_the_letter() {
    let world = world!();
    let outcome = world.call(Call::new("VERSION").stdin(r#"{"cniVersion":"0.3.1"}"#));
    outcome.succeeded();
    assert_eq!(
        outcome.stdout.trim(),
        r#"{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#
    );
}
