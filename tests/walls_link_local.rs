//! Link-local addresses are of one link, and the kernel's tracking of connections knows of no links: two
//! containers on one bridge that have the hardware addresses of two on another have the same connections there.
//! What the ones may say to each other the others may not.

use serde_json::{Value, json};

use crate::support::frames::{IP6, frame, icmp6, ip6, link_local, mark, protocol, tcp, udp};
use crate::support::world::World;
use crate::walls_probes::{Expect, Report, Volley, Watch};
use crate::walls_town::{Place, Town, Way};

const AT: u16 = 7900;
const SYN: u8 = 2;
/// Of who sends and who receives, in each of the networks.
const HARDWARE: [&str; 2] = ["02:00:5e:10:00:01", "02:00:5e:10:00:02"];

fn town(world: World, way: Way, number: u8) -> Town {
    let mut town = Town::new(world, way, &[]);
    let zero = json!({ "policy": { "posture": "zero-trust" } });
    for (network, names, number, keys) in [
        ("open", ["one", "other"], number, json!({})),
        ("zero", ["zero", "zest"], number + 1, zero),
    ] {
        for (name, mac) in names.into_iter().zip(HARDWARE) {
            let mut keys: Value = keys.clone();
            keys["args"] = json!({ "cni": { "mac": mac } });
            town.add(name, (network, number), keys);
        }
    }
    town
}

/// Packets between the link-local addresses.
fn words(from: &Place<'_>, to: &Place<'_>, way: Way, expect: Expect) -> Volley {
    let mut volley = Volley::default();
    let (own, there) = (link_local(from.me.mac), link_local(to.me.mac));
    let whom = if way == Way::Bridged { to.me.mac } else { from.gateway.mac };
    let port = 7901;
    for n in 0..3 {
        let mark = mark(volley.next());
        let ends = ((own.into(), port), (there.into(), AT));
        let (name, protocol, payload) = match n {
            0 => ("UDP", protocol::UDP, udp(ends.0, ends.1, &mark)),
            1 => ("SYN", protocol::TCP, tcp(ends.0, ends.1, SYN, &mark)),
            _ => ("echo", protocol::ICMP6, icmp6((own, there), 128, [9, 9, 0, 1], &mark)),
        };
        let packet = ip6(own, there, protocol, &payload);
        let frames = vec![frame(whom, from.me.mac, IP6, &packet)];
        volley.add(name, format!("{own} to {there}"), frames, vec![expect]);
    }
    volley
}

/// The same frames on both links: first where it is allowed, then where it is not.
fn what_one_link_allows_the_other_does_not(world: World, way: Way, number: u8) {
    let town = town(world, way, number);
    let mut report = Report::default();
    let allowed = if way == Way::Bridged { Expect::Must } else { Expect::May };
    for (from, to, expect) in [
        ("one", "other", allowed),
        ("zero", "zest", Expect::Never),
        ("other", "one", allowed),
        ("zest", "zero", Expect::Never),
    ] {
        let (one, other) = (town.place(from), town.place(to));
        let volley = words(&one, &other, way, expect);
        let wall = format!("{from} to {to}, {way:?}");
        volley.fire(&wall, &one, &mut [Watch::link(&other)], &mut report);
    }
    report.is_clean();
}

#[test]
fn what_one_link_allows_between_link_local_addresses_another_does_not() {
    what_one_link_allows_the_other_does_not(world!(), Way::Bridged, 155);
}
