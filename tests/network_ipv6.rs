//! IPv6 throughout: from the bridge's address to what a server outside sees.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::conf::{network, with};
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, udp_answers};
use crate::support::world::{UPLINK, World};

const CHECK_FAILED: u64 = 105;
const KERNEL_REFUSED: u64 = 104;

/// The host and the outside on their uplink, which has IPv4 only by itself.
const HOST6: &str = "2001:db8:ffff::1";
const OUTSIDE6: &str = "2001:db8:ffff::2";

/// A network of one IPv6 subnet.
fn network6(name: &str, subnet: &str) -> Value {
    let ipam = json!({ "subnet": subnet, "routes": [{ "dst": "::/0" }] });
    with(&network(name, &format!("{name}0"), ""), json!({ "ipam": ipam }))
}

/// The address ADD gave, without its prefix length.
fn address6(result: &Value) -> String {
    crate::spec_add::address(result)
}

/// The global IPv6 addresses of a link with their flags.
fn flags(container: &Netns) -> Vec<Value> {
    let found = container.ip_json("-6 address show dev eth0 scope global");
    let infos = found.iter().flat_map(|l| l["addr_info"].as_array().cloned()).flatten();
    // What does not match the scope is printed as an empty object.
    infos.filter(|info| info["local"].is_string()).collect()
}

fn setting(netns: &Netns, path: &str) -> String {
    netns.output("cat", &format!("/proc/sys/net/ipv6/conf/{path}")).trim().to_owned()
}

fn connect_outside(world: &World) {
    world.host.ip(&format!("address add {HOST6}/64 dev {UPLINK} nodad"));
    world.outside.ip(&format!("address add {OUTSIDE6}/64 dev {UPLINK} nodad"));
}

#[test]
fn an_address_is_usable_when_add_returns() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network6("six", "2001:db8:1::/64");
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!(result["ips"][0]["address"], "2001:db8:1::2/64");
    assert_eq!(result["ips"][0]["gateway"], "2001:db8:1::1");
    let [address] = &flags(&container)[..] else { panic!("one address") };
    assert_eq!(address.get("tentative"), None, "{address}");
    assert_eq!(world.host.addresses("six0", 6), ["2001:db8:1::1/64"]);
    assert_eq!(setting(&world.host, "all/forwarding"), "1");
    assert_eq!(setting(&world.host, "six0/accept_ra"), "0");
    let _echo = Echo::serve(&world.host, "2001:db8:1::1");
    assert!(udp_answers(&container, "2001:db8:1::1", PATIENCE), "the gateway");
}

#[test]
fn what_leaves_is_masqueraded() {
    let world = world!();
    let _daemon = world.daemon();
    connect_outside(&world);
    let conf = network6("masq6", "fd00:81::/64");
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let outside = Echo::serve(&world.outside, OUTSIDE6);
    assert!(udp_answers(&container, OUTSIDE6, PATIENCE));
    let host: std::net::IpAddr = HOST6.parse().expect("an address");
    assert!(outside.seen().iter().all(|peer| *peer == host), "{:?}", outside.seen());
}

#[test]
fn an_address_survives_its_link_going_down() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network6("keep", "fd00:82::/64");
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    container.ip_batch("link set eth0 down\nlink set eth0 up\n");
    assert_eq!(container.addresses("eth0", 6), [format!("{}/64", address6(&result))]);
    let _echo = Echo::serve(&world.host, "fd00:82::1");
    assert!(udp_answers(&container, "fd00:82::1", PATIENCE));
}

#[test]
fn a_namespace_without_ipv6_gets_it() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network6("on", "fd00:83::/64");
    let container = world.container();
    for link in ["all", "default", "lo"] {
        container.output("sysctl", &format!("-qw net.ipv6.conf.{link}.disable_ipv6=1"));
    }
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!(container.addresses("eth0", 6), [format!("{}/64", address6(&result))]);
    assert_eq!(setting(&container, "eth0/disable_ipv6"), "0");
    let _echo = Echo::serve(&world.host, "fd00:83::1");
    assert!(udp_answers(&container, "fd00:83::1", PATIENCE));
}

#[test]
fn neighbours_hear_of_an_addresss_next_owner() {
    let world = world!();
    let _daemon = world.daemon();
    // One address only: whoever comes next gets it.
    let conf = network6("next", "fd00:84::/126");
    let conf =
        with(&conf, json!({ "ipam": { "rangeStart": "fd00:84::2", "rangeEnd": "fd00:84::2" } }));
    let _echo;
    let neighbour = || world.host.ip_json("-6 neigh show fd00:84::2 dev next0");
    let first = world.container();
    world.call(Call::add("c0", &first).conf(&conf)).succeeded();
    _echo = Echo::serve(&world.host, "fd00:84::1");
    assert!(udp_answers(&first, "fd00:84::1", PATIENCE));
    let mut known = neighbour()[0]["lladdr"].clone();
    // A frame may be lost, and then the neighbour finds out by itself, seconds later. Three in a row
    // are not lost.
    let heard = (1..4).any(|n| {
        world
            .call(
                Call::new("DEL")
                    .var("CNI_CONTAINERID", &format!("c{}", n - 1))
                    .var("CNI_IFNAME", "eth0")
                    .conf(&conf),
            )
            .succeeded();
        assert!(neighbour().iter().all(|entry| entry["lladdr"] != known), "forgotten with the DEL");
        // Others on the link do not forget: the host is put into their place.
        let stale = known.as_str().expect("an address");
        world.host.ip(&format!("neigh replace fd00:84::2 lladdr {stale} dev next0 nud stale"));
        let next = world.container();
        let result = world.call(Call::add(&format!("c{n}"), &next).conf(&conf)).succeeded();
        let mac = result["interfaces"][2]["mac"].clone();
        assert_ne!(mac, known, "another container, another hardware address");
        known = mac;
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            if neighbour().iter().any(|entry| entry["lladdr"] == known) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    });
    assert!(heard, "none of three announcements changed the neighbour's entry");
}

#[test]
fn check_notices_what_ipv6_lost() {
    let world = world!();
    let _daemon = world.daemon_that_mends_nothing();
    let conf = network6("check6", "fd00:85::/64");
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let check = with(&conf, json!({ "prevResult": result }));
    let check = Call::check("c1", &container).conf(&check);
    world.call(check.clone()).succeeded();
    world.host.ip("-6 address del fd00:85::1/64 dev check60");
    let said = world.call(check.clone()).failed_with(CHECK_FAILED);
    assert!(said.contains("fd00:85::1"), "{said}");
    container.ip("-6 route del default");
    let said = world.call(check.clone()).failed_with(CHECK_FAILED);
    assert!(said.contains("::/0"), "{said}");
    container.ip(&format!("-6 address del {}/64 dev eth0", address6(&result)));
    let said = world.call(check).failed_with(CHECK_FAILED);
    assert!(said.contains(&address6(&result)), "{said}");
}

#[test]
fn duplicates_are_looked_for_where_that_is_asked_for() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = with(
        &network6("dad", "fd00:86::/64"),
        json!({ "enabledad": true, "policy": { "antiSpoof": false } }),
    );
    let (one, two) = (world.container(), world.container());
    let outcome = world.call(Call::add("c1", &one).conf(&conf));
    let result = outcome.succeeded();
    assert!(outcome.took > Duration::from_millis(500), "nobody looked: {:?}", outcome.took);
    let [address] = &flags(&one)[..] else { panic!("one address") };
    assert_eq!((address.get("tentative"), address.get("nodad")), (None, None), "{address}");

    // Somebody on the link has what comes next.
    let next = address6(&result).replace("::2", "::3");
    one.ip(&format!("-6 address add {next}/64 dev eth0 nodad"));
    let said = world.call(Call::add("c2", &two).conf(&conf)).failed_with(KERNEL_REFUSED);
    assert!(said.contains(&next) && said.contains("somebody else"), "{said}");
    assert!(two.link("eth0").is_none(), "nothing is left");
    one.ip(&format!("-6 address del {next}/64 dev eth0"));
    world.call(Call::add("c2", &two).conf(&conf)).succeeded();
}
