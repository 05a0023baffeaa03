//! Bad input: each piece of it gets a CNI error, and nothing is changed by it.

use serde_json::{Value, json};

use crate::support::conf::{at, example, network, with};
use crate::support::inventory::Inventory;
use crate::support::netns::Netns;
use crate::support::plugin::{Call, Failure};
use crate::support::world::{World, names_in};

/// What must be the same after bad input as before: host, container, and the spool.
struct Before {
    host: Inventory,
    container: Inventory,
    spool: Vec<String>,
}

impl Before {
    fn of(world: &World, container: &Netns) -> Self {
        Self {
            host: Inventory::of(&world.host),
            container: Inventory::of(container),
            spool: names_in(&world.paths().spool_dir),
        }
    }

    #[track_caller]
    fn assert_unchanged(&self, world: &World, container: &Netns, by: &str) {
        self.host.assert_same(&Inventory::of(&world.host), &format!("the host after {by}"));
        self.container.assert_same(&Inventory::of(container), &format!("the container after {by}"));
        assert_eq!(self.spool, names_in(&world.paths().spool_dir), "the spool after {by}");
    }
}

/// One call that must fail and change nothing.
#[track_caller]
fn refused(call: impl Fn(&World, &Netns) -> Call, world: &World, code: u64) -> Failure {
    let container = world.container();
    let before = Before::of(world, &container);
    let call = call(world, &container);
    let by = format!("{call:?}");
    let failure = world.call(call).failed();
    assert_eq!(failure.code, code, "{failure:?} after {by}");
    before.assert_unchanged(world, &container, &by);
    failure
}

#[test]
fn missing_variables_are_all_named() {
    let world = world!();
    let _daemon = world.daemon();
    let add = |_: &World, netns: &Netns| Call::add("c1", netns).conf(&example());
    for (name, command) in [
        ("CNI_CONTAINERID", "ADD"),
        ("CNI_CONTAINERID", "DEL"),
        ("CNI_CONTAINERID", "CHECK"),
        ("CNI_NETNS", "ADD"),
        ("CNI_NETNS", "CHECK"),
        ("CNI_IFNAME", "ADD"),
        ("CNI_IFNAME", "DEL"),
        ("CNI_IFNAME", "CHECK"),
    ] {
        let of = |w: &World, n: &Netns| add(w, n).var("CNI_COMMAND", command);
        for empty in [false, true] {
            let call = |w: &World, n: &Netns| {
                if empty { of(w, n).var(name, "") } else { of(w, n).without(name) }
            };
            let failure = refused(call, &world, 4);
            assert!(failure.msg.contains(name), "{failure:?}");
        }
    }
    let failure = refused(|_, _| Call::new("ADD").conf(&example()), &world, 4);
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
        assert!(failure.msg.contains(name), "{failure:?}");
    }
}

#[test]
fn labels_that_are_forged_or_cannot_be_read() {
    let world = world!();
    let _daemon = world.daemon();
    let args = |key: &str| {
        let labels = json!([{ "key": "app", "value": "web" }, { "key": key, "value": "x" }]);
        json!({ "args": { "cni": { "labels": labels } } })
    };
    let pod = |name: &str, text: &str| json!({ "runtimeConfig": { "io.kubernetes.cri.pod-annotations": { name: text } } });
    let (labels, ports) = ("policy.quantum/labels", "policy.quantum/named-ports");
    for (keys, named) in [
        (args("cni.quantum/network"), "cni.quantum/network"),
        (args("kubernetes.io/metadata.name"), "kubernetes.io/metadata.name"),
        (args("a b"), "a b"),
        (pod(labels, "app=web,policy.quantum/mode=audit"), "policy.quantum/mode"),
        (pod(labels, "{\"cni.quantum/network\":\"other\"}"), "cni.quantum/network"),
        (pod(labels, "app=db,web"), "\"web\""),
        (pod(ports, "http=eighty"), "eighty"),
    ] {
        let call = |_: &World, n: &Netns| Call::add("c1", n).conf(&with(&example(), keys.clone()));
        let failure = refused(call, &world, 7);
        assert!(failure.msg.contains(named), "{failure:?} should name {named}");
    }
}

#[test]
fn unknown_commands() {
    let world = world!();
    let _daemon = world.daemon();
    for command in ["add", "NOPE", " ADD", "ADD\n"] {
        let call = |_: &World, n: &Netns| Call::attachment(command, "c1", n).conf(&example());
        let failure = refused(call, &world, 4);
        assert!(failure.msg.contains("CNI_COMMAND"), "{failure:?}");
    }
}

#[test]
fn container_ids_that_could_be_paths() {
    let world = world!();
    let _daemon = world.daemon();
    for id in ["some-%%container-id", "../c1", "a/b", "-a", ".a", "a b", "ä", "a\nb"] {
        for command in ["ADD", "DEL", "CHECK"] {
            let call = |_: &World, n: &Netns| Call::attachment(command, id, n).conf(&example());
            let failure = refused(call, &world, 4);
            assert_eq!(failure.details, id, "{failure:?}");
        }
    }
}

#[test]
fn interface_names_the_kernel_would_not_take() {
    let world = world!();
    let _daemon = world.daemon();
    for name in ["sixteen-bytes-xx", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\u{a0}b"] {
        for command in ["ADD", "DEL", "CHECK"] {
            let call = |_: &World, n: &Netns| {
                Call::attachment(command, "c1", n).ifname(name).conf(&example())
            };
            refused(call, &world, 4);
        }
    }
}

#[test]
fn a_configuration_that_is_no_json_object() {
    let world = world!();
    let _daemon = world.daemon();
    let whole = example().to_string();
    for text in ["", "{", "[]", "null", "3", "\"text\"", &whole[..whole.len() - 1], &whole[..60]] {
        for command in ["ADD", "CHECK"] {
            let call = |_: &World, n: &Netns| Call::attachment(command, "c1", n).stdin(text);
            refused(call, &world, 6);
        }
    }
    let call = |_: &World, n: &Netns| Call::add("c1", n).stdin(b"\xff\xfe{}".as_slice());
    refused(call, &world, 6);
}

#[test]
fn a_configuration_that_is_too_long() {
    let world = world!();
    let _daemon = world.daemon();
    let long = with(&example(), json!({ "padding": "x".repeat(2 << 20) }));
    let container = world.container();
    let before = Before::of(&world, &container);
    let failure = world.call(Call::add("c1", &container).conf(&long)).failed();
    assert!([5, 6, 7].contains(&failure.code), "{failure:?}");
    before.assert_unchanged(&world, &container, "two megabytes of configuration");
}

#[test]
fn networks_without_a_good_name() {
    let world = world!();
    let _daemon = world.daemon();
    for name in [Value::Null, json!(""), json!("../x"), json!("a/b"), json!("a b"), json!("-a")] {
        let conf = with(&example(), json!({ "name": name }));
        let failure = refused(|_, n| Call::add("c1", n).conf(&conf), &world, 7);
        assert!(failure.msg.contains("name"), "{failure:?}");
    }
}

#[test]
fn versions_that_are_not_spoken() {
    let world = world!();
    let _daemon = world.daemon();
    for version in ["4.3.2", "1.0", "1.2.0", "v1.0.0"] {
        let conf = at(&example(), version);
        let failure = refused(|_, n| Call::add("c1", n).conf(&conf), &world, 1);
        assert!(failure.details.contains(version), "{failure:?}");
        assert!(failure.details.contains("0.4.0, 1.0.0, 1.1.0"), "{failure:?}");
    }
}

#[test]
fn errors_have_the_version_of_the_configuration() {
    let world = world!();
    let _daemon = world.daemon();
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let conf = with(&at(&example(), version), json!({ "vlanTrunk": [{ "id": 7 }] }));
        let failure = refused(|_, n| Call::add("c1", n).conf(&conf), &world, 2);
        assert_eq!(failure.cni_version, version);
        let call = |_: &World, n: &Netns| Call::add("a/b", n).conf(&at(&example(), version));
        refused(call, &world, 4);
    }
}

#[test]
fn keys_that_are_not_served_yet_are_named_with_their_values() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = with(&example(), json!({ "vlanTrunk": [{ "id": 7 }] }));
    let failure = refused(|_, n| Call::add("c1", n).conf(&conf), &world, 2);
    assert!(
        failure.msg.contains("vlanTrunk") && failure.msg.contains("isGateway=true"),
        "{failure:?}"
    );
    // The same keys with the values that mean nothing are no reason to refuse.
    let idle = json!({ "vlan": 0, "promiscMode": false, "vlanTrunk": [], "enabledad": false });
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&with(&example(), idle))).succeeded();
}

#[test]
fn values_that_are_not_valid() {
    let world = world!();
    let _daemon = world.daemon();
    for change in [
        json!({ "bridge": "a/b" }),
        json!({ "bridge": "sixteen-bytes-xx" }),
        json!({ "mtu": 10 }),
        json!({ "ipam": { "type": null } }),
        json!({ "ipam": { "subnet": null } }),
        json!({ "ipam": { "subnet": "172.20.0.0" } }),
        json!({ "ipam": { "subnet": "172.20.0.0/31" } }),
        json!({ "ipam": { "subnet": "172.20.0.0/32" } }),
        json!({ "ipam": { "subnet": "172.20.0.9/16" } }),
        json!({ "ipam": { "subnet": "300.0.0.0/16" } }),
        json!({ "ipam": { "rangeStart": "10.0.0.1" } }),
        json!({ "ipam": { "rangeStart": "172.20.0.9", "rangeEnd": "172.20.0.5" } }),
        json!({ "ipam": { "routes": [{ "dst": "x" }] } }),
        json!({ "ipam": { "routes": [{ "dst": "0.0.0.0/0", "gw": "x" }] } }),
    ] {
        let conf = with(&example(), change);
        refused(|_, n| Call::add("c1", n).conf(&conf), &world, 7);
    }
    let conf = with(&example(), json!({ "mtu": "many" }));
    refused(|_, n| Call::add("c1", n).conf(&conf), &world, 6);
}

#[test]
fn namespaces_that_are_none() {
    let world = world!();
    let _daemon = world.daemon();
    let file = world.paths().root.join("plain");
    std::fs::write(&file, "").expect("a plain file");
    let fifo = world.paths().root.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let folder = world.paths().root.clone();
    let other_kind = "/proc/self/ns/mnt".into();
    for path in [file, fifo, folder, other_kind, "/run/netns/long-gone".into(), "/dev/null".into()]
    {
        let path = path.to_str().expect("UTF-8");
        for command in ["ADD", "CHECK"] {
            let conf = with(&example(), json!({ "prevResult": { "cniVersion": "1.0.0" } }));
            let call = |_: &World, n: &Netns| {
                Call::attachment(command, "c1", n).var("CNI_NETNS", path).conf(&conf)
            };
            refused(call, &world, 8);
        }
    }
}

#[test]
fn the_hosts_own_namespace() {
    let world = world!();
    let _daemon = world.daemon();
    for path in [world.host.text(), "/proc/self/ns/net", "/proc/thread-self/ns/net"] {
        let call = |_: &World, n: &Netns| Call::add("c1", n).var("CNI_NETNS", path);
        refused(|w, n| call(w, n).conf(&example()), &world, 8);
        for no in ["", "0", "false", "yes"] {
            let unwanted = |w: &World, n: &Netns| call(w, n).var("CNI_NETNS_OVERRIDE", no);
            let failure = refused(|w, n| unwanted(w, n).conf(&example()), &world, 8);
            assert!(failure.details.contains("CNI_NETNS_OVERRIDE"), "{failure:?}");
        }
    }
}

#[test]
fn a_plugin_in_another_host_namespace() {
    let world = world!();
    let _daemon = world.daemon();
    let (container, elsewhere) = (world.container(), world.container());
    let before = Before::of(&world, &container);
    let there = Inventory::of(&elsewhere);
    let conf = with(&example(), json!({ "prevResult": { "cniVersion": "1.0.0" } }));
    for command in ["ADD", "CHECK"] {
        let call = Call::attachment(command, "c1", &container).conf(&conf);
        world.call_in(&elsewhere, call).failed_with(100);
        before.assert_unchanged(&world, &container, command);
        there.assert_same(&Inventory::of(&elsewhere), "the plugin's own namespace");
    }
}

#[test]
fn the_module_documents_error() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("full", "full0", "10.2.2.0/30");
    let (first, second) = (world.container(), world.container());
    world.call(Call::add("c1", &first).conf(&conf)).succeeded();
    let before = Before::of(&world, &second);
    let failure = world.call(Call::add("c2", &second).conf(&conf)).failed();
    let expected = Failure {
        code: 7,
        msg: "Failed to allocate IP address".to_owned(),
        details: "No IP addresses available in pool 10.2.2.0/30".to_owned(),
        cni_version: "1.0.0".to_owned(),
    };
    assert_eq!(failure, expected);
    before.assert_unchanged(&world, &second, "an ADD without an address");
}

#[test]
fn where_there_was_no_daemon_since_the_boot_an_add_is_soon_to_be_tried_again() {
    let world = world!();
    let socket = world.paths().root.join("nobody/cni.sock");
    std::thread::scope(|scope| {
        for command in ["ADD", "CHECK", "GC"] {
            let (world, socket) = (&world, &socket);
            scope.spawn(move || {
                let container = world.container();
                let keys = json!({ "cni.dev/valid-attachments": [], "prevResult": {} });
                let conf = with(&at(&example(), "1.1.0"), keys);
                let mut plugin = world.plugin_command(&world.host);
                plugin.env(quantum_config::wire::SOCKET_VARIABLE, socket);
                let call = Call::attachment(command, "c1", &container).conf(&conf);
                let outcome = call.run(plugin);
                let said = outcome.failed_with(11);
                assert!(said.contains("nobody/cni.sock"), "{said}");
                // One that is about to start at boot is waited for.
                let soon = std::time::Duration::from_secs(4)..std::time::Duration::from_secs(30);
                assert!(soon.contains(&outcome.took), "{outcome:?}");
            });
        }
    });
    assert_eq!(world.tombstones(), Vec::<String>::new(), "only a DEL is written down");
}
