//! Destinations that see containers' own addresses although their network is masqueraded, as the
//! daemon's `non_masquerade_cidrs` says: where the addresses of containers are routed between hosts.
//!
//! ```text
//!   container ── host ── outside, which has every address here, and a route to the containers
//! ```

use std::net::IpAddr;

use crate::network_isolation::{Attached, OUTSIDE6, attach, dual};
use crate::support::daemon::{Daemon, Options};
use crate::support::eventually::eventually;
use crate::support::traffic::{Echo, PATIENCE, tcp_answers};
use crate::support::world::{HOST, OUTSIDE, UPLINK, World};

const HOST6: &str = "2001:db8:ffff::1";
/// Two places beyond the host, each in both families.
const NEAR: [&str; 2] = ["198.51.100.7", "2001:db8:a::7"];
const FAR: [&str; 2] = ["203.0.113.7", "2001:db8:b::7"];

fn cluster(world: &World, number: u8) {
    world.host.ip(&format!("address add {HOST6}/64 dev {UPLINK} nodad"));
    world.outside.ip(&format!("address add {OUTSIDE6}/64 dev {UPLINK} nodad"));
    world.host.ip(&format!("-6 route add default via {OUTSIDE6}"));
    for address in [NEAR, FAR].concat() {
        world.outside.ip(&format!("address add {address} dev lo"));
    }
    world.outside.ip(&format!("route add 10.{number}.0.0/24 via {HOST}"));
    world.outside.ip(&format!("-6 route add fd00:{number}::/64 via {HOST6}"));
}

fn daemon(world: &World, cidrs: &str) -> Daemon {
    world.daemon_with(Options::default().args(&format!("--non-masquerade-cidrs={cidrs}")))
}

/// As whom a new connection of the container comes to this address of the outside.
#[track_caller]
fn comes_as(world: &World, container: &Attached, to: &str) -> IpAddr {
    let outside = Echo::serve(&world.outside, to);
    assert!(tcp_answers(&container.netns, to, PATIENCE), "{to} does not answer");
    *outside.seen().last().expect("somebody")
}

/// It comes to the one place as itself, and to the other as the host.
#[track_caller]
fn is_itself(world: &World, container: &Attached, at: [&str; 2], not_at: [&str; 2]) {
    for (family, host) in [HOST, HOST6].into_iter().enumerate() {
        let (own, host): (IpAddr, IpAddr) =
            (container.addresses[family].parse().expect("its own"), host.parse().expect("another"));
        assert_eq!(comes_as(world, container, at[family]), own, "at {}", at[family]);
        assert_eq!(comes_as(world, container, not_at[family]), host, "at {}", not_at[family]);
    }
}

#[test]
fn what_is_routed_keeps_its_address_and_the_next_daemon_has_a_list_of_its_own() {
    let world = world!();
    cluster(&world, 131);
    let first = daemon(&world, "198.51.100.0/24,2001:db8:a::/48,198.51.100.0/25");
    let container = attach(&world, "c1", &dual("node", 131, serde_json::json!({})));
    is_itself(&world, &container, NEAR, FAR);
    is_itself(&world, &container, NEAR, [OUTSIDE, OUTSIDE6]);

    assert!(first.terminate().success());
    is_itself(&world, &container, NEAR, FAR);
    let second = daemon(&world, "203.0.113.0/24,2001:db8:b::/48");
    is_itself(&world, &container, FAR, NEAR);

    second.kill();
    let third = daemon(&world, "0.0.0.0/0");
    assert_eq!(comes_as(&world, &container, NEAR[0]).to_string(), container.addresses[0]);
    assert_eq!(comes_as(&world, &container, FAR[0]).to_string(), container.addresses[0]);
    assert_eq!(comes_as(&world, &container, NEAR[1]).to_string(), HOST6);

    assert!(third.terminate().success());
    let _none = daemon(&world, "");
    for (to, host) in [NEAR, FAR].iter().flat_map(|place| place.iter().zip([HOST, HOST6])) {
        assert_eq!(comes_as(&world, &container, to).to_string(), host, "at {to}");
    }
}

#[test]
fn what_somebody_takes_out_of_the_list_comes_back() {
    let world = world!();
    cluster(&world, 132);
    let blocks = "--non-masquerade-cidrs 198.51.100.0/24,2001:db8:a::/48";
    let _daemon = world.daemon_with(Options::without_own_tables().args(blocks));
    let container = attach(&world, "c1", &dual("healed", 132, serde_json::json!({})));
    let lists = || {
        ["unmasq4", "unmasq6"]
            .map(|set| world.host.output("nft", &format!("list set inet quantum {set}")))
    };
    let before = lists();
    for harm in [
        "flush set inet quantum unmasq4",
        "delete element inet quantum unmasq6 { 2001:db8:a::/48 }",
        "add element inet quantum unmasq4 { 203.0.113.0/24 }",
        "flush ruleset",
    ] {
        world.host.output("nft", harm);
        eventually(&format!("the repair of: {harm}"), || {
            let text = world.host.output("nft", "list ruleset");
            (text.contains("set unmasq4") && lists() == before).then_some(())
        });
        eventually(&format!("all to be as before: {harm}"), || {
            let own = comes_as(&world, &container, NEAR[0]).to_string() == container.addresses[0];
            own.then_some(())
        });
        is_itself(&world, &container, NEAR, FAR);
    }
}
