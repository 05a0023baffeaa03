//! Isolation does not hang on a bridge's name: what is denied stays denied while a bridge has another one,
//! also to and from a container that is added meanwhile.

use std::net::IpAddr;

use serde_json::json;

use crate::network_isolation::{Attached, HOST6, OUTSIDE6, attach, connect, dual, reaches};
use crate::network_routed::without_br_netfilter;
use crate::support::knock::{Ear, Knocks};
use crate::support::traffic::{Echo, PATIENCE, PORT, udp_answers};
use crate::support::world::{HOST, OUTSIDE, World};

/// Where those are spoken to who must not be.
const DENIED: u16 = 7008;
/// How many datagrams to each address are enough to find an open way.
const MANY: u32 = 60;

/// Whoever listens in `to` hears nothing of what these send to its addresses.
#[track_caller]
fn unheard(senders: &[&Attached], to: &Attached) {
    let ear = Ear::at(&to.netns, DENIED);
    for from in senders {
        Knocks::begin(&from.netns, &to.addresses, DENIED).more(MANY);
    }
    assert_eq!(ear.heard(), [] as [IpAddr; 0], "{:?} was spoken to", to.addresses);
}

fn rename(world: &World, from: &str, to: &str) {
    world.host.ip(&format!("link set {from} name {to}"));
}

#[test]
fn what_is_denied_stays_denied_on_a_bridge_of_another_name() {
    for routes in [false, true] {
        let world = world!();
        if routes {
            without_br_netfilter(&world);
        }
        // What is renamed stays so: this is about the rules.
        let _daemon = world.daemon_that_mends_nothing();
        connect(&world, &[111, 112, 113, 114]);
        let enforcement = if routes { "routed" } else { "auto" };
        let stance =
            |posture: &str| json!({ "policy": { "posture": posture, "enforcement": enforcement } });
        let zero = dual("zero", 111, stance("zero-trust"));
        let one = dual("one", 112, stance("isolated"));
        let two = dual("two", 113, stance("isolated"));
        let open = dual("open", 114, stance("open"));
        let (z1, z2) = (attach(&world, "z1", &zero), attach(&world, "z2", &zero));
        let (o1, o2) = (attach(&world, "o1", &one), attach(&world, "o2", &one));
        let (t1, x1) = (attach(&world, "t1", &two), attach(&world, "x1", &open));
        // That these ways are there at all, and what is denied before.
        reaches(&o1.netns, &o2.netns, &o2.addresses);
        reaches(&world.outside, &x1.netns, &x1.addresses);
        unheard(&[&z1, &o1, &x1], &z2);

        for renamed in ["zero0", "one0", "open0"] {
            rename(&world, renamed, "other");
            let of = match renamed {
                "zero0" => &zero,
                "one0" => &one,
                _ => &open,
            };
            let added = attach(&world, "added", of);
            unheard(&[&z1, &o1, &t1, &x1, &added], &z2);
            unheard(&[&z1, &t1], &o1);
            unheard(&[&z1, &o1], &t1);
            if renamed != "open0" {
                unheard(&[&z1, &t1], &added);
            }
            // Nor from and to elsewhere.
            if renamed == "zero0" {
                let ears = [&world.outside, &world.host].map(|netns| Ear::at(netns, DENIED));
                let there = [OUTSIDE, OUTSIDE6, HOST, HOST6].map(str::to_owned);
                for from in [&z1, &added] {
                    Knocks::begin(&from.netns, &there, DENIED).more(MANY);
                    Knocks::begin(&from.netns, &from.gateways, DENIED).more(MANY);
                }
                assert!(ears.iter().all(|ear| ear.heard().is_empty()), "the host or the world");
                let ear = Ear::at(&added.netns, DENIED);
                Knocks::begin(&world.outside, &added.addresses, DENIED).more(MANY);
                assert_eq!(ear.heard(), [] as [IpAddr; 0], "the world");
            }
            rename(&world, "other", renamed);
        }
        for address in &o2.addresses {
            let _echo = Echo::serve(&o2.netns, address);
            assert!(udp_answers(&o1.netns, address, PATIENCE), "{address}:{PORT} afterwards");
        }
    }
}
