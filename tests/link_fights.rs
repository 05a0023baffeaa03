//! What cannot be put right, or is undone again and again, is reported; what nobody depends on is left alone; and a
//! daemon that starts puts right what happened while there was none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon_http::sample;
use crate::network_isolation::{OUTSIDE6, attach, connect, dual};
use crate::support::conf::at;
use crate::support::daemon::Daemon;
use crate::support::eventually::{eventually, eventually_within};
use crate::support::plugin::{Call, Outcome};
use crate::support::traffic::{Echo, PATIENCE, udp_answers};
use crate::support::world::{OUTSIDE, UPLINK, World};

fn status(world: &World, conf: &Value) -> Outcome {
    world.call(Call::new("STATUS").conf(&at(conf, "1.1.0")))
}

fn counted(daemon: &Daemon, what: &str) -> f64 {
    sample(&daemon.get("/metrics").1, "cni_repairs_total", &[&format!("=\"{what}\"")])
}

/// Waits until STATUS says so.
#[track_caller]
fn says(world: &World, conf: &Value, words: &str) -> String {
    eventually(&format!("STATUS to say {words}"), || {
        let status = status(world, conf);
        (status.code != Some(0) && status.stdout.contains(words)).then_some(status.stdout)
    })
}

#[track_caller]
fn is_well(world: &World, conf: &Value) {
    eventually("STATUS to be well", || (status(world, conf).code == Some(0)).then_some(()));
}

#[test]
fn who_fights_is_not_fought_without_end_and_is_reported() {
    let world = world!();
    let daemon = world.daemon();
    connect(&world, &[]);
    let conf = dual("own", 131, json!({}));
    let one = attach(&world, "one", &conf);
    let _outside = Echo::serve(&world.outside, OUTSIDE);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                world.host.ip("link set own0 down");
            }
        });
        // A repair rests for 0.2 s at least, and so many of them take six seconds.
        let bound = Duration::from_secs(60);
        let said = eventually_within(bound, "STATUS to say who fights", || {
            let status = status(&world, &conf);
            status.stdout.contains("again and again").then_some(status.stdout)
        });
        assert!(said.contains("51") && said.contains("own0"), "{said}");
        let page = daemon.get("/readyz");
        assert!(page.0 == 503 && page.1.contains("again and again"), "{page:?}");
        // Of another bridge nothing is said.
        status(&world, &dual("other", 132, json!({}))).succeeded();
        done.store(true, Ordering::Relaxed);
    });
    let repairs = counted(&daemon, "link") + counted(&daemon, "address");
    println!("{repairs} repairs");
    let bound = Duration::from_secs(30);
    eventually_within(bound, "the container to speak when there is peace", || {
        udp_answers(&one.netns, OUTSIDE, PATIENCE).then_some(())
    });
}

#[test]
fn a_name_that_another_link_has_is_reported_and_given_back_when_it_is_free() {
    let world = world!();
    let daemon = world.daemon();
    connect(&world, &[]);
    let conf = dual("own", 133, json!({}));
    let one = attach(&world, "one", &conf);
    let _outside = [OUTSIDE, OUTSIDE6].map(|address| Echo::serve(&world.outside, address));
    let port = one.result["interfaces"][1]["name"].as_str().expect("a name");
    for (link, kind) in [("own0", "bridge"), (port, "port")] {
        world
            .host
            .ip_batch(&format!("link set {link} name elsewhere\nlink add {link} type bridge\n"));
        let said = says(&world, &conf, "elsewhere");
        assert!(said.contains("51") && said.contains(link), "{kind}: {said}");
        assert_eq!(daemon.get("/readyz").0, 503, "{kind}");
        assert!(world.host.link("elsewhere").is_some(), "{kind}");
        world.host.ip(&format!("link del {link}"));
        is_well(&world, &conf);
        for to in [OUTSIDE, OUTSIDE6] {
            assert!(udp_answers(&one.netns, to, PATIENCE), "{kind}: {to}");
        }
        assert_eq!(daemon.get("/readyz").0, 200, "{kind}");
    }
}

#[test]
fn somebody_elses_link_in_our_group_is_reported() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[]);
    let conf = dual("own", 134, json!({}));
    let one = attach(&world, "one", &conf);
    world.host.ip("link add vx0 type vxlan id 7 dstport 4789 dev uplink");
    world.host.ip("link set vx0 group 1902341737");
    // Looked for with the links of ours.
    let port = one.result["interfaces"][1]["name"].as_str().expect("a name");
    world.host.ip(&format!("link set {port} down"));
    let said = says(&world, &conf, "vx0");
    assert!(said.contains("51") && said.contains("ip link set vx0 group default"), "{said}");
    world.host.ip("link set vx0 group default");
    is_well(&world, &conf);
}

#[test]
fn what_nobody_depends_on_is_left_alone() {
    let world = world!();
    let daemon = world.daemon();
    let (conf, used) = (dual("own", 135, json!({})), dual("used", 136, json!({})));
    let (one, other) = (attach(&world, "one", &conf), attach(&world, "other", &used));
    world.call(Call::del("one", &one.netns).conf(&conf)).succeeded();
    world.host.ip("link set own0 down");
    world.host.ip("link del own0");
    // Whatever is done about it is done before this.
    let before = counted(&daemon, "link");
    world.host.ip("link set used0 down");
    eventually("the other one", || (counted(&daemon, "link") > before).then_some(()));
    assert!(world.host.link("own0").is_none(), "it was made again");
    world.call(Call::del("other", &other.netns).conf(&used)).succeeded();
    // And the next ADD makes it.
    let again = attach(&world, "again", &conf);
    let _echo = Echo::serve(&world.host, &again.gateways[0]);
    assert!(udp_answers(&again.netns, &again.gateways[0], PATIENCE));
}

#[test]
fn a_start_puts_right_what_happened_before_it() {
    let world = world!();
    connect(&world, &[]);
    let mut daemon = world.daemon();
    let conf = dual("own", 137, json!({}));
    let one = attach(&world, "one", &conf);
    let port = one.result["interfaces"][1]["name"].as_str().expect("a name");
    let _outside = [OUTSIDE, OUTSIDE6].map(|address| Echo::serve(&world.outside, address));
    for harm in [
        "link del own0",
        "link set own0 name elsewhere",
        "link set own0 down",
        &format!("link set {port} nomaster"),
        &format!("link set {port} down"),
        &format!("link set {port} name elsewhere"),
    ] {
        daemon.kill();
        world.host.ip(harm);
        daemon = world.daemon();
        for to in [OUTSIDE, OUTSIDE6] {
            assert!(udp_answers(&one.netns, to, PATIENCE), "{harm}: {to}");
        }
        assert!(world.host.link("elsewhere").is_none(), "{harm}");
        is_well(&world, &conf);
    }
}

#[test]
fn settings_of_a_bridge_are_looked_at_now_and_then() {
    let world = world!();
    let daemon = world.daemon();
    let routed = json!({ "policy": { "enforcement": "routed" } });
    let (one, two) = (dual("own", 139, routed), dual("other", 140, json!({})));
    let _containers = [attach(&world, "one", &one), attach(&world, "two", &two)];
    let settings = [
        "ipv4/conf/own0/proxy_arp_pvlan=1",
        "ipv6/conf/own0/proxy_ndp=1",
        "ipv6/conf/other0/accept_ra=0",
    ];
    let split = |setting: &'static str| setting.split_once('=').expect("a value");
    for (path, value) in settings.map(split) {
        let other = if value == "1" { "0" } else { "1" };
        world.host.output("sysctl", &format!("-qw net/{path}={other}"));
    }
    for (path, value) in settings.map(split) {
        // Every 30 seconds.
        eventually_within(Duration::from_secs(60), path, || {
            let is = world.host.output("cat", &format!("/proc/sys/net/{path}"));
            (is.trim() == value).then_some(())
        });
    }
    assert!(counted(&daemon, "link") > 0.0);
}

#[test]
fn who_turns_forwarding_off_and_on_again_has_it_as_they_want_it() {
    let world = world!();
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        world.host.output("sysctl", &format!("-qw net/{setting}=0"));
    }
    let _daemon = world.daemon();
    connect(&world, &[]);
    let conf = dual("own", 138, json!({}));
    attach(&world, "one", &conf);
    let apart = || world.host.output("nft", "list set inet quantum apart4").contains(UPLINK);
    assert!(apart(), "the host was no router");
    // As by files that are read one after the other.
    world.host.output("sysctl", "-qw net.ipv4.ip_forward=0 net.ipv4.ip_forward=1");
    eventually("the host to be a router", || (!apart()).then_some(()));
    let still = world.host.output("nft", "list set inet quantum apart6");
    assert!(still.contains(UPLINK), "of the other family nothing was said");
}
