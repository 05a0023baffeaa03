//! The keys of the reference plugin `tuning`, each seen in the container's kernel and by CHECK.

use serde_json::{Value, json};

use crate::network_keys::check;
use crate::support::conf::{network, with};
use crate::support::daemon::Options;
use crate::support::netns::Netns;
use crate::support::ping::ping;
use crate::support::plugin::Call;
use crate::support::traffic::PATIENCE;
use crate::support::world::World;

const INVALID_CONFIG: u64 = 7;
const KERNEL_REFUSED: u64 = 104;
const CHECK_FAILED: u64 = 105;

/// The value of a setting inside.
fn sysctl(netns: &Netns, path: &str) -> String {
    netns.run(|| std::fs::read_to_string(format!("/proc/sys/{path}")).expect(path).trim().into())
}

/// Gives a setting another value, as somebody in the container would.
fn set(netns: &Netns, path: &str, value: &str) {
    netns.run(|| std::fs::write(format!("/proc/sys/{path}"), value).expect(path));
}

fn flags(netns: &Netns, link: &str) -> Vec<Value> {
    let link = netns.link(link).expect("an interface");
    link["flags"].as_array().expect("flags").clone()
}

/// The ADD is refused with this code, by name, and nothing was made.
#[track_caller]
fn refused(world: &World, conf: &Value, code: u64, named: &[&str]) {
    let container = world.container();
    let said = world.call(Call::add("c1", &container).conf(conf)).failed_with(code);
    for word in named {
        assert!(said.contains(word), "{said:?} should name {word:?}");
    }
    assert!(container.link("eth0").is_none(), "no interface after {said}");
}

const RP_FILTER: &str = "net/ipv4/conf/eth0/rp_filter";
const SOMAXCONN: &str = "net/core/somaxconn";
const RANGE: &str = "net/ipv4/ip_local_port_range";

#[test]
fn settings_are_those_of_the_container_and_check_knows_them() {
    let world = world!();
    let _daemon = world.daemon();
    let keys = json!({ "sysctl": {
        "net.ipv4.conf.IFNAME.rp_filter": "2",
        "net/core/somaxconn": "777",
        "net.ipv4.ip_local_port_range": "40000 41000"
    } });
    let conf = with(&network("settings", "tune0", "10.81.0.0/24"), keys);
    let before: Vec<String> =
        [SOMAXCONN, RANGE].iter().map(|path| sysctl(&world.host, path)).collect();
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!(sysctl(&container, RP_FILTER), "2");
    assert_eq!(sysctl(&container, SOMAXCONN), "777");
    assert_eq!(sysctl(&container, RANGE), "40000\t41000");
    let after: Vec<String> =
        [SOMAXCONN, RANGE].iter().map(|path| sysctl(&world.host, path)).collect();
    assert_eq!(before, after, "the host's own");
    assert!(ping(&container, "10.81.0.1", PATIENCE));
    for (path, other, own) in
        [(RP_FILTER, "1", "2"), (SOMAXCONN, "778", "777"), (RANGE, "40000 42000", "40000 41000")]
    {
        world.call(check(&conf, &container, &result)).succeeded();
        set(&container, path, other);
        let said = world.call(check(&conf, &container, &result)).failed_with(CHECK_FAILED);
        assert!(said.contains(path) && said.contains(own), "{said:?} should name {path}");
        set(&container, path, own);
    }
    world.call(check(&conf, &container, &result)).succeeded();

    // A second interface has its own.
    let second = Call::add("c1", &container).ifname("eth1");
    let keys = json!({
        "name": "second", "bridge": "tune1", "ipam": { "subnet": "10.82.0.0/24", "routes": null },
        "sysctl": { "net.ipv4.conf.IFNAME.rp_filter": "1" }
    });
    world.call(second.conf(&with(&conf, keys))).succeeded();
    assert_eq!(sysctl(&container, "net/ipv4/conf/eth1/rp_filter"), "1");
    assert_eq!(sysctl(&container, RP_FILTER), "2");
}

#[test]
fn settings_of_an_interface_hold_before_it_is_up() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("before", "tune2", "10.87.0.0/24");
    let link_local = |conf: &Value| {
        let container = world.container();
        world.call(Call::add("c1", &container).conf(conf)).succeeded();
        let shown = container.ip_json("-6 address show dev eth0 scope link");
        world.call(Call::del("c1", &container).conf(conf)).succeeded();
        !shown.is_empty()
    };
    // The kernel makes a link-local address of an interface that comes up, unless it is told before.
    assert!(link_local(&conf));
    let keys = json!({ "sysctl": { "net.ipv6.conf.IFNAME.addr_gen_mode": "1" } });
    assert!(!link_local(&with(&conf, keys)));
}

#[test]
fn flags_queue_and_mtu_are_set_and_check_knows_them() {
    let world = world!();
    let _daemon = world.daemon();
    let keys = json!({ "promisc": true, "allmulti": true, "txQLen": 333, "mtu": 1400 });
    let conf = with(&network("flags", "tune3", "10.83.0.0/24"), keys);
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let now = flags(&container, "eth0");
    assert!(["PROMISC", "ALLMULTI"].iter().all(|flag| now.contains(&json!(flag))), "{now:?}");
    let eth0 = container.link("eth0").expect("eth0");
    assert_eq!((&eth0["txqlen"], &eth0["mtu"]), (&json!(333), &json!(1400)));
    for (harm, cure, word) in [
        ("promisc off", "promisc on", "promiscuous"),
        ("allmulticast off", "allmulticast on", "multicast"),
        ("txqueuelen 1000", "txqueuelen 333", "txQLen"),
        ("mtu 1300", "mtu 1400", "mtu"),
    ] {
        world.call(check(&conf, &container, &result)).succeeded();
        container.ip(&format!("link set eth0 {harm}"));
        let said = world.call(check(&conf, &container, &result)).failed_with(CHECK_FAILED);
        assert!(said.contains("eth0") && said.contains(word), "{said:?} should speak of {word}");
        container.ip(&format!("link set eth0 {cure}"));
    }
    world.call(check(&conf, &container, &result)).succeeded();
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();

    // What nobody speaks of is nobody's business, also for CHECK.
    let conf = network("flags", "tune3", "10.83.0.0/24");
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let plain = flags(&container, "eth0");
    assert!(!["PROMISC", "ALLMULTI"].iter().any(|flag| plain.contains(&json!(flag))));
    container.ip("link set eth0 promisc on allmulticast on txqueuelen 5");
    world.call(check(&conf, &container, &result)).succeeded();
}

#[test]
fn a_network_may_have_one_hardware_address_and_a_call_another() {
    let world = world!();
    let _daemon = world.daemon();
    let own = json!({ "mac": "02:11:22:33:44:00" });
    let base = with(&network("address", "tune4", "10.84.0.0/24"), own);
    let runtime = json!({ "runtimeConfig": { "mac": "02:11:22:33:44:03" } });
    for (conf, args, last) in [
        (base.clone(), "", "00"),
        (base.clone(), "MAC=02:11:22:33:44:01", "01"),
        (with(&base, runtime), "MAC=02:11:22:33:44:01", "03"),
    ] {
        let container = world.container();
        let add = Call::add("c1", &container).conf(&conf).var("CNI_ARGS", args);
        let result = world.call(add).succeeded();
        let wanted = format!("02:11:22:33:44:{last}");
        assert_eq!(result["interfaces"][2]["mac"], wanted.as_str());
        assert_eq!(container.link("eth0").expect("eth0")["address"], wanted.as_str());
        world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    }
    let conf = with(&base, json!({ "mac": "ff:ff:ff:ff:ff:ff" }));
    refused(&world, &conf, INVALID_CONFIG, &["ff:ff:ff:ff:ff:ff"]);
}

#[test]
fn what_leads_elsewhere_or_is_not_allowed_is_refused_by_name() {
    let world = world!();
    let _daemon = world.daemon();
    let base = network("elsewhere", "tune5", "10.85.0.0/24");
    let conf = |name: &str| with(&base, json!({ "sysctl": { name: "1" } }));
    for name in [
        "kernel.hostname",
        "net/../kernel/hostname",
        "net.//.kernel.hostname",
        "/net/ipv4/ip_forward",
        "/proc/sys/net/ipv4/ip_forward",
        "../net/ipv4/ip_forward",
        "net.ipv4.ip_forward\0x",
        "net",
        "",
    ] {
        refused(&world, &conf(name), INVALID_CONFIG, &["sysctl", "elsewhere"]);
    }
    let twice = json!({ "sysctl": { "net.ipv4.ip_forward": "1", "net/ipv4/ip_forward": "0" } });
    refused(&world, &with(&base, twice), INVALID_CONFIG, &["net/ipv4/ip_forward", "twice"]);
    let named = ["net/netfilter/nf_conntrack_max", "sysctl_allowlist"];
    refused(&world, &conf("net.netfilter.nf_conntrack_max"), INVALID_CONFIG, &named);
    let named = ["/proc/sys/net/ipv4/no_such_thing", "ENOENT"];
    refused(&world, &conf("net.ipv4.no_such_thing"), KERNEL_REFUSED, &named);
}

#[test]
fn the_operator_says_what_is_allowed() {
    let world = world!();
    let allowed = "--sysctl-allowlist net.ipv4.conf.*.rp_filter,net.core.*";
    let daemon = world.daemon_with(Options::default().args(allowed));
    let base = network("allowed", "tune6", "10.86.0.0/24");
    let conf = |name: &str| with(&base, json!({ "sysctl": { name: "1" } }));
    for name in ["net.ipv4.conf.IFNAME.rp_filter", "net.core.somaxconn"] {
        let container = world.container();
        world.call(Call::add("c1", &container).conf(&conf(name))).succeeded();
        world.call(Call::del("c1", &container).conf(&conf(name))).succeeded();
    }
    for name in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        let path = name.replace('.', "/");
        refused(&world, &conf(name), INVALID_CONFIG, &[&path, "sysctl_allowlist"]);
    }
    // Also for networks of config_dir, of which the operator is the same.
    let file = world.paths().config_dir.join("10-own.conf");
    let own = with(&conf("net.ipv4.ip_forward"), json!({ "name": "own" }));
    std::fs::write(file, own.to_string()).expect("written");
    daemon.reload();
    let thin = json!({ "cniVersion": "1.0.0", "name": "own", "type": "quantum-cni" });
    crate::support::eventually::eventually("the file to be read", || {
        let container = world.container();
        let said = world.call(Call::add("c1", &container).conf(&thin)).failed_with(INVALID_CONFIG);
        said.contains("sysctl_allowlist").then_some(())
    });
}
