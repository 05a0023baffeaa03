//! Addresses from an IPAM plugin that is not built in: our plugin runs it, the daemon attaches with what
//! it says, and whatever happens it is told to release what it leased.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::ipam_requested::addresses;
use crate::support::binaries;
use crate::support::conf::{at, with};
use crate::support::daemon::Options;
use crate::support::inventory::{Inventory, veths};
use crate::support::ipam::{Ipam, conf, result};
use crate::support::plugin::Call;
use crate::support::skip;
use crate::support::world::names_in;

/// The reference's address manager, where it is installed.
const REFERENCE: &str = "/usr/lib/cni/host-local";

#[test]
fn the_container_has_what_it_says_until_its_del() {
    let world = world!();
    let _daemon = world.daemon();
    let (ipam, conf) = (Ipam::new(&world), conf("whole"));
    let container = world.container();
    let add = Call::add("c1", &container).conf(&conf).var("CNI_ARGS", "IP=10.90.0.77/24;X=y");
    let added = ipam.call(&world, add.var("OTHER_VARIABLE", "of the runtime"));
    let told = added.succeeded();
    assert_eq!(
        told["ips"],
        json!([
            { "interface": 2, "address": "10.90.0.5/24", "gateway": "10.90.0.254" },
            { "interface": 2, "address": "fd90::5/64", "gateway": "fd90::1" }
        ])
    );
    let said = result("1.0.0", "10.90.0.5");
    assert_eq!((&told["routes"], &told["dns"]), (&said["routes"], &said["dns"]));
    assert_eq!(container.addresses("eth0", 4), ["10.90.0.5/24"]);
    assert_eq!(container.addresses("eth0", 6), ["fd90::5/64"]);
    let routes = container.ip_json("-4 route show");
    let via = |dst: &str| routes.iter().find(|r| r["dst"] == dst).map(|r| r["gateway"].clone());
    assert_eq!(via("default"), Some("10.90.0.254".into()));
    assert_eq!(via("192.168.9.0/24"), Some("10.90.0.9".into()));
    assert_eq!(world.host.addresses("whole0", 4), ["10.90.0.254/24"], "the bridge is the gateway");

    assert_eq!(ipam.calls(), ["ADD c1 eth0"], "it was run once");
    assert_eq!(ipam.text("ADD.stdin"), conf.to_string(), "with our input");
    let env = ipam.text("ADD.env");
    for line in ["CNI_ARGS=IP=10.90.0.77/24;X=y", "OTHER_VARIABLE=of the runtime"] {
        assert!(env.lines().any(|l| l == line), "{line} in {env}");
    }
    assert!(added.stderr.contains("my-ipam was here"), "its standard error is ours: {added:?}");

    let check = with(&conf, json!({ "prevResult": told }));
    ipam.call(&world, Call::check("c1", &container).conf(&check)).succeeded();
    for _ in 0..2 {
        ipam.call(&world, Call::del("c1", &container).conf(&conf)).succeeded();
    }
    assert_eq!(ipam.calls(), ["CHECK c1 eth0", "DEL c1 eth0", "DEL c1 eth0"]);
    assert_eq!((veths(&world.host), ipam.leases()), (vec![], vec![]));
    assert!(container.link("eth0").is_none());
}

#[test]
fn every_version_is_served_whatever_version_it_prints() {
    let world = world!();
    let _daemon = world.daemon();
    let ipam = Ipam::new(&world);
    let old = json!({ "cniVersion": "0.2.0", "ip4": {
        "ip": "10.90.0.5/24", "gateway": "10.90.0.254", "routes": [{ "dst": "0.0.0.0/0" }] } });
    let of_each =
        |version| if version < "0.3.0" { old.clone() } else { result(version, "10.90.0.5") };
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let conf = at(&conf("each"), version);
        for printed in [of_each(version), old.clone()] {
            ipam.says(&printed);
            let container = world.container();
            let call = Call::add("c1", &container).conf(&conf);
            let told = ipam.call(&world, call).succeeded();
            assert_eq!(told["cniVersion"], version);
            assert_eq!(container.addresses("eth0", 4), ["10.90.0.5/24"], "{version}");
            if version >= "0.4.0" {
                let check = with(&conf, json!({ "prevResult": told }));
                ipam.call(&world, Call::check("c1", &container).conf(&check)).succeeded();
            }
            ipam.call(&world, Call::del("c1", &container).conf(&conf)).succeeded();
        }
    }
    assert_eq!(ipam.leases(), Vec::<String>::new());
}

#[test]
fn the_networks_own_resolver_comes_before_its() {
    let world = world!();
    let _daemon = world.daemon();
    let ipam = Ipam::new(&world);
    let conf = with(&conf("own"), json!({ "dns": { "nameservers": ["192.0.2.53"] } }));
    let container = world.container();
    let told = ipam.call(&world, Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!(told["dns"], json!({ "nameservers": ["192.0.2.53"] }));
}

#[test]
fn what_it_refuses_or_says_wrongly_is_told_and_released() {
    let world = world!();
    let _daemon = world.daemon();
    let (ipam, conf) = (Ipam::new(&world), conf("wrong"));
    let before = Inventory::of(&world.host);
    let container = world.container();
    let fails = |code: u64, words: &str, case: &str| {
        let said = ipam.call(&world, Call::add("c1", &container).conf(&conf)).failed_with(code);
        assert!(said.contains(words), "{case}: {said} should say {words}");
        assert_eq!(ipam.calls(), ["ADD c1 eth0", "DEL c1 eth0"], "{case}");
        assert_eq!(ipam.leases(), Vec::<String>::new(), "{case}");
        before.assert_same(&Inventory::of(&world.host), case);
        assert!(container.link("eth0").is_none(), "{case}");
    };
    for (printed, code, words) in [
        (json!({ "ips": [] }).to_string(), 6, "no address"),
        ("no JSON".to_owned(), 6, "my-ipam"),
        (String::new(), 6, "my-ipam"),
        (json!({ "ips": [{ "address": "10.90.0.5" }] }).to_string(), 6, "10.90.0.5"),
        (" ".repeat(300_000), 106, "more than"),
    ] {
        ipam.put("result", &printed);
        fails(code, words, &format!("it prints {}", &printed[..printed.len().min(60)]));
    }
    for (printed, code, words) in [
        (r#"{"code": 423, "msg": "all gone", "details": "of 7"}"#, 423, "all gone; of 7"),
        ("panic: oh", 106, "panic: oh"),
        ("", 106, "status 1"),
    ] {
        ipam.put("ADD.fails", printed);
        fails(code, words, &format!("it fails with {printed}"));
    }
    // What the runtime hears is why the ADD failed, also if the release does.
    ipam.put("DEL.fails", r#"{"code": 5, "msg": "no release"}"#);
    let outcome = ipam.call(&world, Call::add("c1", &container).conf(&conf));
    outcome.failed_with(106);
    assert!(outcome.stderr.contains("no release"), "{outcome:?}");
}

#[test]
fn what_cannot_be_run_is_named_and_nothing_happens() {
    let world = world!();
    let _daemon = world.daemon();
    let (ipam, named) = (Ipam::new(&world), conf("none"));
    let before = Inventory::of(&world.host);
    let container = world.container();
    let add = |conf: &Value, path: &str| {
        world.call(Call::add("c1", &container).conf(conf).var("CNI_PATH", path))
    };
    let here = ipam.0.to_str().expect("UTF-8");
    let said = add(&named, "/nowhere:/tmp/nor-there").failed_with(7);
    assert!(said.contains("my-ipam") && said.contains("/nowhere:/tmp/nor-there"), "{said}");
    assert!(add(&named, "").failed_with(4).contains("CNI_PATH"));
    for bad in [format!("{here}/my-ipam"), "../ipam/my-ipam".to_owned(), "..".to_owned()] {
        let conf = with(&named, json!({ "ipam": { "type": bad } }));
        let said = add(&conf, here).failed_with(7);
        assert!(said.contains("ipam.type"), "{said}");
        world.call(Call::del("c1", &container).conf(&conf).var("CNI_PATH", here)).succeeded();
    }
    // A folder is no program, and what is refused anyway never gets an address.
    fs::create_dir(ipam.0.join("folder")).expect("a folder");
    add(&with(&named, json!({ "ipam": { "type": "folder" } })), here).failed_with(7);
    add(&with(&named, json!({ "mtu": 1 })), here).failed_with(7);
    symlink(binaries::plugin(), ipam.0.join("again")).expect("a link");
    let itself = with(&named, json!({ "ipam": { "type": "again" } }));
    assert!(add(&itself, here).failed_with(7).contains("itself"));
    ipam.put("plain", "no program");
    add(&with(&named, json!({ "ipam": { "type": "plain" } })), here).failed_with(5);
    assert_eq!(ipam.calls(), Vec::<String>::new());
    before.assert_same(&Inventory::of(&world.host), "the host after what could not be run");
}

#[test]
fn whatever_fails_after_it_releases_its_address() {
    let world = world!();
    let (ipam, conf) = (Ipam::new(&world), conf("later"));
    let container = world.container();
    let both = ["ADD c1 eth0", "DEL c1 eth0"];
    for (variable, code) in [("QUANTUM_FAIL_AT", 106), ("QUANTUM_CRASH_AT", 11)] {
        for point in ["add-leased", "add-applied", "add-remembered"] {
            let _daemon = world.daemon_with(Options::default().var(variable, point));
            let outcome = ipam.call(&world, Call::add("c1", &container).conf(&conf));
            let failure = outcome.failed();
            assert_eq!(failure.code, code, "{variable}={point}: {failure:?}");
            assert_eq!(ipam.calls(), both, "{variable}={point}");
            assert_eq!(ipam.leases(), Vec::<String>::new(), "{variable}={point}");
        }
    }
    // A result that the caller's version cannot have.
    let _daemon = world.daemon();
    ipam.call(&world, Call::del("c1", &container).conf(&conf)).succeeded();
    ipam.calls();
    let two = json!([{ "address": "10.90.0.5/24" }, { "address": "10.90.0.6/24" }]);
    ipam.says(&json!({ "ips": two }));
    let call = Call::add("c1", &container).conf(&at(&conf, "0.2.0"));
    ipam.call(&world, call).failed_with(7);
    assert_eq!((ipam.calls(), ipam.leases()), (both.map(str::to_owned).to_vec(), vec![]));
    assert_eq!(veths(&world.host), Vec::<String>::new());
}

#[test]
fn a_second_add_does_not_take_the_address_of_the_first() {
    let world = world!();
    let daemon = world.daemon();
    let (ipam, conf) = (Ipam::new(&world), conf("again"));
    let container = world.container();
    let told = ipam.call(&world, Call::add("c1", &container).conf(&conf)).succeeded();
    for daemon in [Some(daemon), None] {
        ipam.calls();
        let _daemon = match daemon {
            Some(daemon) => daemon,
            None => world.daemon(),
        };
        ipam.call(&world, Call::add("c1", &container).conf(&conf)).failed_with(101);
        assert_eq!(ipam.calls(), Vec::<String>::new(), "it was not even asked");
        assert_eq!(ipam.leases(), ["lease.c1.eth0"]);
        let check = with(&conf, json!({ "prevResult": told }));
        ipam.call(&world, Call::check("c1", &container).conf(&check)).succeeded();
    }
}

#[test]
fn a_lease_that_nobody_released_gives_way() {
    let world = world!();
    let _daemon = world.daemon();
    let (ipam, conf) = (Ipam::new(&world), conf("lost"));
    let old = world.container();
    ipam.call(&world, Call::add("c1", &old).conf(&conf)).succeeded();
    // The container is made anew under its name, and the DEL never came.
    let new = world.container();
    let add = || ipam.call(&world, Call::add("c1", &new).conf(&conf));
    assert!(add().failed_with(999).contains("it has a lease"));
    assert!(old.link("eth0").is_some(), "a failed ADD is no DEL");
    add().succeeded();
    assert!(old.link("eth0").is_none() && new.link("eth0").is_some());
    assert_eq!(ipam.leases(), ["lease.c1.eth0"]);
}

#[test]
fn two_that_live_do_not_share_an_address() {
    let world = world!();
    let daemon = world.daemon();
    let (ipam, conf) = (Ipam::new(&world), conf("share"));
    let (first, second) = (world.container(), world.container());
    ipam.call(&world, Call::add("first", &first).conf(&conf)).succeeded();
    let twice = || {
        ipam.calls();
        let call = Call::add("second", &second).conf(&conf);
        let said = ipam.call(&world, call).failed_with(7);
        assert!(said.contains("10.90.0.5") && said.contains("share/first/eth0"), "{said}");
        assert_eq!(ipam.calls(), ["ADD second eth0", "DEL second eth0"]);
        assert_eq!(ipam.leases(), ["lease.first.eth0"]);
    };
    twice();
    daemon.kill();
    // Without its store a daemon knows the address by the link's alias.
    world.forget();
    let _daemon = world.daemon_that_serves();
    twice();
    ipam.call(&world, Call::del("first", &first).conf(&conf)).succeeded();
    ipam.call(&world, Call::add("second", &second).conf(&conf)).succeeded();
}

#[test]
fn it_need_not_read_before_it_prints() {
    let world = world!();
    let _daemon = world.daemon();
    let ipam = Ipam::new(&world);
    let conf = with(&conf("deaf"), json!({ "args": { "padding": "x".repeat(400_000) } }));
    let container = world.container();
    // Both ends would wait for each other, if one did not read while it writes.
    ipam.put("result", &format!("{}{}", " ".repeat(100_000), result("1.0.0", "10.90.0.5")));
    ipam.put("deaf", "");
    ipam.call(&world, Call::add("c1", &container).conf(&conf)).succeeded();
    ipam.remove("deaf");
    ipam.call(&world, Call::del("c1", &container).conf(&conf)).succeeded();
    assert_eq!(ipam.text("DEL.stdin"), conf.to_string());
}

#[test]
fn the_references_address_manager_can_be_it() {
    let world = world!();
    if !Path::new(REFERENCE).is_file() {
        return skip(&format!("{REFERENCE} is not installed"));
    }
    let daemon = world.daemon();
    let ipam = Ipam::of(&world, Path::new(REFERENCE));
    let resolver = world.paths().root.join("resolv.conf");
    fs::write(&resolver, "nameserver 192.0.2.9\n").expect("written");
    let conf = with(
        &conf("real"),
        json!({ "ipam": {
            "ranges": [[{ "subnet": "10.91.0.0/29" }], [{ "subnet": "fd91::/64" }]],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
            "resolvConf": resolver, "dataDir": world.paths().root.join("leases")
        } }),
    );
    let leases = || {
        let names = names_in(&world.paths().root.join("leases/real"));
        names.into_iter().filter(|n| n.starts_with("10.") || n.starts_with("fd")).count()
    };
    let containers: Vec<_> = (0..6).map(|_| world.container()).collect();
    let name = |n: usize| format!("c{n}");
    let told: Vec<Value> = (0..5)
        .map(|n| ipam.call(&world, Call::add(&name(n), &containers[n]).conf(&conf)).succeeded())
        .collect();
    assert_eq!(addresses(&told[0]), ["10.91.0.2/29", "fd91::2/64"]);
    assert_eq!(told[0]["dns"], json!({ "nameservers": ["192.0.2.9"] }));
    assert_eq!(world.host.addresses("real0", 4), ["10.91.0.1/29"]);
    let full = Call::add("c5", &containers[5]).conf(&conf);
    let failure = ipam.call(&world, full).failed();
    assert!(format!("{failure:?}").contains("10.91.0."), "it is exhausted: {failure:?}");
    assert_eq!(leases(), 10);
    daemon.kill();
    let _daemon = world.daemon();
    for (n, told) in told.iter().enumerate() {
        let check = with(&conf, json!({ "prevResult": told }));
        ipam.call(&world, Call::check(&name(n), &containers[n]).conf(&check)).succeeded();
        ipam.call(&world, Call::del(&name(n), &containers[n]).conf(&conf)).succeeded();
    }
    assert_eq!((leases(), veths(&world.host)), (0, vec![]));
}
