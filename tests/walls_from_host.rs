//! What processes of the host send to everybody on a bridge: endpoints that are not to be sent to by the host
//! do not receive it, and those that are receive what they did.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::support::ctl::apply;
use crate::support::frames::mark;
use crate::support::world::World;
use crate::walls_probes::{Expect, Report, Volley, Watch};
use crate::walls_remembered::{all_groups, socket, to};
use crate::walls_town::{Place, Town, Way};

/// So often the same is sent.
const TIMES: usize = 3;
/// Who is on each of the bridges, and whether the host may send to everybody there. Mixed: one of the two may
/// not be sent to.
const NETWORKS: [(&str, [&str; 2], Expect); 5] = [
    ("free", ["free1", "free2"], Expect::Must),
    ("admin", ["admin1", "admin2"], Expect::Never),
    ("mixed", ["mixed1", "mixed2"], Expect::Never),
    ("quiet", ["quiet1", "quiet2"], Expect::Never),
    ("probed", ["probed1", "probed2"], Expect::Must),
];

fn town(world: World, way: Way, number: u8) -> Town {
    let mut town = Town::new(world, way, &[]);
    let zero = |host: &str| json!({ "policy": { "posture": "zero-trust", "host": { "toEndpoint": host } } });
    for ((network, names, _), number) in NETWORKS.into_iter().zip(number..) {
        let keys = match network {
            "quiet" => zero("deny"),
            "probed" => zero("probe"),
            _ => json!({}),
        };
        for name in names {
            town.add(name, (network, number), keys.clone());
        }
    }
    apply(&town.world, &denies("admin", &["admin1", "admin2"]));
    apply(&town.world, &denies("mixed", &["mixed1"]));
    town
}

/// A policy of the operator's: the host sends nothing to these.
fn denies(name: &str, apps: &[&str]) -> Value {
    let among = json!([{ "key": "app", "operator": "In", "values": apps }]);
    json!({ "apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy", "metadata": { "name": name },
        "spec": { "tier": "Admin", "priority": 1, "subject": { "endpoints": { "matchExpressions": among } },
            "ingress": [{ "action": "Deny", "from": [{ "entities": ["host"] }] }] } })
}

/// Sends the same to each group by each of the bridges in turn, from one address and port, so that what is
/// allowed on one is remembered when it is sent on the next.
fn sends(town: &Town, own: [IpAddr; 2], name: &str, report: &mut Report) {
    let host = &town.world.host;
    let mut places: Vec<Place<'_>> = Vec::new();
    for (_, names, _) in NETWORKS {
        places.extend(names.map(|name| town.place(name)));
    }
    let (mut volley, mut send) = (Volley::default(), Vec::new());
    for (group, which) in all_groups(town.broadcast("free1")).into_iter().zip(0..) {
        let own = own[usize::from(group.is_ipv6())];
        for _ in 0..TIMES {
            for (n, (network, names, allowed)) in NETWORKS.into_iter().enumerate() {
                let link = format!("{network}0");
                // The last of the groups is each network's own broadcast address.
                let last = which == all_groups(town.broadcast("free1")).len() - 1;
                let group = if last { town.broadcast(names[0]).into() } else { group };
                let expect = |at: usize| match (at / 2 == n, allowed) {
                    (false, _) => Expect::Never,
                    (true, Expect::Never) if at % 2 == 1 && network == "mixed" => Expect::May,
                    // The bridge itself passes other groups on only to those who listen to them.
                    (true, Expect::Must)
                        if group.to_string().starts_with("ff0")
                            && group.to_string() != "ff02::1" =>
                    {
                        Expect::May
                    }
                    (true, allowed) => allowed,
                };
                let expect = (0..places.len()).map(expect).collect();
                volley.add(format!("to {group} by {link}"), format!("from {own}"), vec![], expect);
                send.push((link, own, to(group, host, &format!("{network}0"))));
            }
        }
    }
    // One port for all of them; a socket is of one link.
    let mut watches: Vec<Watch> = places.iter().map(Watch::link).collect();
    let fences: Vec<&Place<'_>> = places.iter().collect();
    volley.fire_by(name, &fences, &mut watches, report, |n| {
        let (link, own, to) = &send[n];
        let socket = socket(host, *own, 7400, link);
        // What the rules drop is refused.
        let _ = socket.send_to(&mark(u16::try_from(n).expect("a number")), to);
    });
}

fn the_host_is_denied(town: &Town) {
    let mut report = Report::default();
    let free = town.place("free1").gateway;
    let uplink = town.place("outside").gateway;
    for (own, name) in [(free, "a gateway's address"), (uplink, "the address of the uplink")] {
        let wall = format!("the host from {name}, {:?}", town.way);
        sends(town, [own.v4.into(), own.v6.into()], &wall, &mut report);
    }
    report.is_clean();
}

#[test]
fn whom_the_host_may_not_send_to_receives_no_groups_of_the_host() {
    the_host_is_denied(&town(world!(), Way::Bridged, 60));
}

#[test]
fn whom_the_host_may_not_send_to_receives_no_groups_where_it_routes() {
    the_host_is_denied(&town(world!(), Way::Routed, 65));
}
