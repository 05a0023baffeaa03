//! What others do to links and forwarding, in every posture and both families: who lived speaks again within
//! a second, who was added meanwhile speaks, what is denied stays denied all the time, it is counted, and
//! STATUS is well.

use std::net::IpAddr;
use std::time::Instant;

use serde_json::{Value, json};

use crate::daemon_http::sample;
use crate::network_isolation::{Attached, OUTSIDE6, attach, connect, dual};
use crate::network_routed::without_br_netfilter;
use crate::support::conf::at;
use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::knock::{Ear, Knocks};
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, udp_answers};
use crate::support::world::{OUTSIDE, World};

/// Where those are spoken to who must not be.
const DENIED: u16 = 7008;

/// What is done: its name, `ip` commands or settings (`/proc/sys/net` below), and how it is counted. `BRIDGE` and
/// `PORT` stand for those of the network.
const HARMS: [(&str, &str, &str); 16] = [
    ("bridge deleted", "link del BRIDGE", "link"),
    ("bridge down", "link set BRIDGE down", "link"),
    ("bridge renamed", "link set BRIDGE name elsewhere", "link"),
    ("bridge in another group", "link set BRIDGE group 7", "link"),
    ("bridge with another hardware address", "link set BRIDGE address 02:00:00:00:00:99", "link"),
    ("bridge promiscuous", "link set BRIDGE promisc on", "link"),
    ("port down", "link set PORT down", "link"),
    ("port unplugged", "link set PORT nomaster", "link"),
    ("port moved", "link set PORT master foreign0", "link"),
    ("port renamed", "link set PORT name elsewhere", "link"),
    ("port in another group", "link set PORT group 7", "link"),
    ("port hairpin", "link set PORT type bridge_slave hairpin on", "link"),
    ("port isolation", "link set PORT type bridge_slave isolated OTHER", "link"),
    ("ip_forward off", "ipv4/ip_forward", "forwarding"),
    ("forwarding of the bridge off", "ipv4/conf/BRIDGE/forwarding", "forwarding"),
    ("IPv6 forwarding off", "ipv6/conf/all/forwarding", "forwarding"),
];

fn counted(daemon: &Daemon, what: &str) -> f64 {
    sample(&daemon.get("/metrics").1, "cni_repairs_total", &[&format!("=\"{what}\"")])
}

fn host_end(attached: &Attached) -> String {
    attached.result["interfaces"][1]["name"].as_str().expect("a name").to_owned()
}

/// What the kernel shows of the bridge and the port, as far as we set it up.
fn state(world: &World, bridge: &str, port: &str) -> Value {
    let of = |name: &str| {
        let link = world.host.link(name).unwrap_or_default();
        let up = link["flags"].as_array().is_some_and(|flags| flags.contains(&json!("UP")));
        let slave = &link["linkinfo"]["info_slave_data"];
        let filters = &link["linkinfo"]["info_data"]["nf_call_iptables"];
        json!([
            up,
            link["group"],
            link["master"],
            link["address"],
            link["promiscuity"],
            filters,
            slave["hairpin"],
            slave["isolated"]
        ])
    };
    // Of all links: the bridge may be gone.
    let shown = world.host.ip_json("addr show scope global");
    let gateways: Vec<Value> = shown
        .iter()
        .filter(|link| link["ifname"] == bridge)
        .flat_map(|link| link["addr_info"].as_array().cloned().unwrap_or_default())
        .map(|address| address["local"].clone())
        .collect();
    json!([of(bridge), of(port), gateways])
}

fn speaks(world: &World, attached: &Attached, is_zero: bool) -> bool {
    if is_zero {
        // To nobody by itself; the host may speak to it.
        return attached.addresses.iter().all(|address| {
            let _echo = Echo::serve(&attached.netns, address);
            udp_answers(&world.host, address, PATIENCE)
        });
    }
    [OUTSIDE, OUTSIDE6].iter().all(|to| udp_answers(&attached.netns, to, PATIENCE))
}

fn matrix(posture: &str, number: u8, routes: bool) {
    let world = match World::new() {
        Ok(world) => world,
        Err(why) => return println!("skipped: {why}"),
    };
    if routes {
        without_br_netfilter(&world);
    }
    let daemon = world.daemon_without_own_tables();
    connect(&world, &[]);
    let enforcement = if routes { "routed" } else { "auto" };
    let stance = |posture| json!({ "policy": { "posture": posture, "enforcement": enforcement } });
    let conf = dual("own", number, stance(posture));
    let denied = dual("other", number + 1, stance("zero-trust"));
    world.host.ip("link add foreign0 type bridge");
    world.host.ip("link set foreign0 up");
    let (one, victim) = (attach(&world, "one", &conf), attach(&world, "victim", &denied));
    let (port, is_zero) = (host_end(&one), posture == "zero-trust");
    let _outside = [OUTSIDE, OUTSIDE6].map(|address| Echo::serve(&world.outside, address));
    assert!(speaks(&world, &one, is_zero), "before");
    let before = state(&world, "own0", &port);

    let ear = Ear::at(&victim.netns, DENIED);
    let knocks = Knocks::begin(&one.netns, &victim.addresses, DENIED);
    for (harm, command, what) in HARMS {
        let count = counted(&daemon, what);
        let other = if routes { "off" } else { "on" };
        let command =
            command.replace("BRIDGE", "own0").replace("PORT", &port).replace("OTHER", other);
        let harms = || match command.starts_with("ipv") {
            true => world.host.run(|| {
                std::fs::write(format!("/proc/sys/net/{command}"), "0").expect("written");
            }),
            false => world.host.ip(&command),
        };
        let is_right = || (state(&world, "own0", &port) == before).then_some(());
        let began = Instant::now();
        harms();
        eventually(&format!("{harm}: the count"), || {
            (counted(&daemon, what) > count).then_some(())
        });
        eventually(&format!("{harm}: all of it as it was"), is_right);
        println!("{posture}, {harm}: as it was after {:?}", began.elapsed());
        assert!(speaks(&world, &one, is_zero), "{harm}: who lived");
        harms();
        let added = attach(&world, "added", &conf);
        eventually(&format!("{harm}: all of it as it was after an ADD"), is_right);
        assert!(speaks(&world, &one, is_zero), "{harm}: who lived, after an ADD");
        assert!(speaks(&world, &added, is_zero), "{harm}: who was added meanwhile");
        eventually(&format!("{harm}: STATUS"), || {
            let status = world.call(Call::new("STATUS").conf(&at(&conf, "1.1.0")));
            (status.code == Some(0)).then_some(())
        });
        world.call(Call::del("added", &added.netns).conf(&conf)).succeeded();
    }
    knocks.more(1);
    assert_eq!(ear.heard(), [] as [IpAddr; 0], "what was denied");
}

#[test]
fn isolated_networks_are_put_back() {
    matrix("isolated", 121, false);
}

#[test]
fn isolated_networks_are_put_back_where_the_host_routes() {
    matrix("isolated", 123, true);
}

#[test]
fn open_networks_are_put_back() {
    matrix("open", 125, false);
}

#[test]
fn zero_trust_networks_are_put_back() {
    matrix("zero-trust", 127, false);
}

#[test]
fn zero_trust_networks_are_put_back_where_the_host_routes() {
    matrix("zero-trust", 129, true);
}
