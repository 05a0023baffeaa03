//! CHECK: passes while all is as ADD left it, and fails once anything of it was broken by hand.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::spec_add::address;
use crate::support::conf::{at, example, with};
use crate::support::netns::Netns;
use crate::support::plugin::{Call, Outcome};
use crate::support::world::World;

/// The daemon's code for a difference between its record and the kernel.
const CHECK_FAILED: u64 = 105;

/// An attached container.
struct Site {
    world: World,
    container: Netns,
    result: Value,
    _daemon: crate::support::daemon::Daemon,
}

impl Site {
    fn new(world: World) -> Self {
        let daemon = world.daemon_that_mends_nothing();
        let container = world.container();
        let result = world.call(Call::add("c1", &container).conf(&example())).succeeded();
        Self { world, container, result, _daemon: daemon }
    }

    fn check(&self) -> Outcome {
        let conf = with(&example(), json!({ "prevResult": self.result }));
        self.world.call(Call::check("c1", &self.container).conf(&conf))
    }

    /// The host's end of the pair.
    fn port(&self) -> &str {
        self.result["interfaces"][1]["name"].as_str().expect("a name")
    }
}

/// CHECK passes, then `harm` is done, then it fails and its text has `word` in it.
#[track_caller]
fn notices(world: World, word: impl Fn(&Site) -> String, harm: impl Fn(&Site)) {
    let site = Site::new(world);
    site.check().succeeded();
    site.check().succeeded();
    harm(&site);
    let said = site.check().failed_with(CHECK_FAILED);
    let word = word(&site);
    assert!(said.contains(&word), "{said:?} should speak of {word:?}");
}

#[test]
fn an_address_that_was_deleted() {
    notices(
        world!(),
        |site| address(&site.result),
        |site| site.container.ip(&format!("address del {}/16 dev eth0", address(&site.result))),
    );
}

#[test]
fn an_address_that_was_replaced() {
    notices(
        world!(),
        |site| address(&site.result),
        |site| {
            site.container.ip_batch(&format!(
                "address del {}/16 dev eth0\n\
                 address add 172.20.77.77/16 dev eth0\n\
                 route add default via 172.20.0.1\n",
                address(&site.result)
            ));
        },
    );
}

#[test]
fn an_interface_that_is_down() {
    notices(world!(), |_| "eth0".to_owned(), |site| site.container.ip("link set eth0 down"));
}

#[test]
fn an_interface_that_is_gone() {
    notices(world!(), |_| "eth0".to_owned(), |site| site.container.ip("link del eth0"));
}

#[test]
fn an_interface_that_is_another_one() {
    notices(
        world!(),
        |_| "eth0".to_owned(),
        |site| {
            site.container.ip("link del eth0");
            site.container.ip("link add eth0 type veth peer name other");
        },
    );
}

#[test]
fn a_route_that_was_deleted() {
    notices(world!(), |_| "route".to_owned(), |site| site.container.ip("route del default"));
}

#[test]
fn a_host_end_that_was_unplugged() {
    notices(
        world!(),
        |site| site.port().to_owned(),
        |site| site.world.host.ip(&format!("link set {} nomaster", site.port())),
    );
}

#[test]
fn a_host_end_that_is_down() {
    notices(
        world!(),
        |site| site.port().to_owned(),
        |site| site.world.host.ip(&format!("link set {} down", site.port())),
    );
}

#[test]
fn a_bridge_that_lost_the_gateways_address() {
    notices(
        world!(),
        |_| "quantum0".to_owned(),
        |site| site.world.host.ip("address del 172.20.0.1/16 dev quantum0"),
    );
}

#[test]
fn forwarding_that_is_off() {
    for setting in ["ipv4/ip_forward", "ipv4/conf/quantum0/forwarding"] {
        notices(
            world!(),
            |_| setting.to_owned(),
            |site| _ = site.world.host.output("sysctl", &format!("-qw net/{setting}=0")),
        );
    }
}

#[test]
fn a_bridge_that_is_gone() {
    notices(world!(), |_| "quantum0".to_owned(), |site| site.world.host.ip("link del quantum0"));
}

#[test]
fn an_nft_element_that_was_deleted() {
    notices(
        world!(),
        |site| address(&site.result),
        |site| {
            let gone = delete_elements(&site.world.host, &address(&site.result));
            assert!(gone > 0, "no nft element speaks of {}", address(&site.result));
        },
    );
}

#[test]
fn rules_that_were_changed() {
    for (harm, named) in [
        ("flush chain inet quantum across", "chain inet quantum across"),
        ("insert rule bridge quantum port accept", "chain bridge quantum port"),
        ("delete table inet quantum", "table inet quantum"),
    ] {
        notices(world!(), |_| named.to_owned(), |site| _ = site.world.host.output("nft", harm));
    }
}

#[test]
fn what_was_mended_passes_again() {
    let site = Site::new(world!());
    site.container.ip("link set eth0 down");
    site.check().failed_with(CHECK_FAILED);
    site.container.ip("link set eth0 up");
    site.check().failed_with(CHECK_FAILED); // the kernel took the route when the link went down
    site.container.ip("route add default via 172.20.0.1");
    site.check().succeeded();
}

#[test]
fn a_change_by_a_later_plugin_is_no_difference() {
    let site = Site::new(world!());
    site.container.ip_batch(
        "link set eth0 mtu 1300\n\
         address add 10.99.0.1/32 dev eth0\n\
         route add 10.98.0.0/16 via 172.20.0.1\n",
    );
    site.check().succeeded();
}

#[test]
fn it_needs_the_result_of_add() {
    let site = Site::new(world!());
    let check = |conf: &Value| site.world.call(Call::check("c1", &site.container).conf(conf));
    check(&example()).failed_with(7);
    check(&with(&example(), json!({ "prevResult": "no result" }))).failed_with(7);
}

#[test]
fn it_exists_since_0_4_0() {
    let site = Site::new(world!());
    for (version, known) in [("0.3.1", false), ("0.4.0", true), ("1.1.0", true)] {
        let container = site.world.container();
        let conf = at(&example(), version);
        let name = format!("v{version}");
        let result = site.world.call(Call::add(&name, &container).conf(&conf)).succeeded();
        let conf = with(&conf, json!({ "prevResult": result }));
        let outcome = site.world.call(Call::check(&name, &container).conf(&conf));
        if known {
            outcome.succeeded();
        } else {
            outcome.failed_with(1);
        }
    }
}

#[test]
fn an_unknown_container_does_not_pass() {
    let site = Site::new(world!());
    let conf = with(&example(), json!({ "prevResult": site.result }));
    site.world.call(Call::check("unknown", &site.container).conf(&conf)).failed();
    site.world.call(Call::del("c1", &site.container).conf(&example())).succeeded();
    site.check().failed();
}

/// Deletes every nft element that holds `address`; gives how many those were.
fn delete_elements(host: &Netns, address: &str) -> usize {
    let ruleset: Value =
        serde_json::from_str(&host.output("nft", "-j list ruleset")).expect("JSON from nft");
    let mut commands = Vec::new();
    for object in ruleset["nftables"].as_array().into_iter().flatten() {
        let set = if object["set"].is_object() { &object["set"] } else { &object["map"] };
        for element in set["elem"].as_array().into_iter().flatten() {
            if element.to_string().contains(&format!("\"{address}\"")) {
                commands.push(json!({ "delete": { "element": {
                    "family": set["family"],
                    "table": set["table"],
                    "name": set["name"],
                    "elem": [element],
                }}}));
            }
        }
    }
    let count = commands.len();
    let mut nft = host.command("nft");
    let mut child = nft.args(["-j", "-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
    let text = json!({ "nftables": commands }).to_string();
    child.stdin.take().expect("stdin").write_all(text.as_bytes()).expect("written");
    assert!(child.wait().expect("nft").success(), "nft: {text}");
    count
}
