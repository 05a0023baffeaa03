//! ARP and neighbour discovery field by field: only what is well-formed and says that its sender is its sender
//! arrives, at a neighbour and at the host.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::json;

use crate::support::forged::{ALL_NODES, ANSWERS, ASKS, Side};
use crate::support::frames::{
    ARP, EVERYBODY, IP6, Mac, arp, frame, icmp6, ip6, link_local, mark, protocol,
};
use crate::support::world::World;
use crate::walls_probes::{Expect, Report, Volley, Watch};
use crate::walls_town::{Place, Town, Way};

const ROUTERS: u8 = 133;
/// Types of options: whose hardware address it is that sends, and whose that is asked for; a number that is used
/// once (RFC 3971), as Linux has it in questions whether an address is free; and one that nobody knows.
const SOURCE: u8 = 1;
const TARGET: u8 = 2;
const NONCE: u8 = 14;
const UNKNOWN: u8 = 253;

fn town(world: World, way: Way, number: u8) -> Town {
    let mut town = Town::new(world, way, &[]);
    for name in ["x", "db"] {
        town.add(name, ("shop", number), json!({}));
    }
    town
}

/// Sends it all from x; it is looked for at db, and at the host.
fn fire(town: &Town, wall: &str, volley: &Volley, report: &mut Report) {
    let (x, db) = (town.place("x"), town.place("db"));
    let watches = &mut [Watch::link(&db), Watch::bridge(&town.world.host, "shop0", &x)];
    volley.fire(&format!("{wall}, {:?}", town.way), &x, watches, report);
}

/// Where a frame may come, if it may come at all: to db, and to the host.
fn at((way, x, db): (Way, &Place<'_>, &Place<'_>), whom: Mac, allowed: Expect) -> Vec<Expect> {
    let all = whom[0] & 1 == 1;
    let to_db = (all || whom == db.me.mac) && way == Way::Bridged;
    let to_host = all || whom == x.gateway.mac;
    [to_db, to_host].map(|there| if there { allowed } else { Expect::Never }).into()
}

/// Each of the fields of ARP with what it should be and what it should not.
fn all_arp(town: &Town) -> Volley {
    let mut volley = Volley::default();
    let (x, db) = (town.place("x"), town.place("db"));
    let of = (town.way, &x, &db);
    let senders4 = [x.me.v4, db.me.v4, x.gateway.v4, Ipv4Addr::UNSPECIFIED];
    let operations = [0, 1, 2, 3, 9, 0x0101_u16];
    for whom in [db.me.mac, EVERYBODY, x.gateway.mac] {
        for (hardware, kind) in product(&[1, 0, 6_u16], &[0x0800, 0x86dd, 0_u16]) {
            for (hlen, plen) in product(&[6, 0, 8, 255_u8], &[4, 0, 8, 16_u8]) {
                for (operation, sender4) in product(&operations, &senders4) {
                    for sender in [x.me.mac, db.me.mac] {
                        let mut says = arp(0, (sender, sender4), db.me.v4, mark(volley.next()));
                        says[0..2].copy_from_slice(&hardware.to_be_bytes());
                        says[2..4].copy_from_slice(&kind.to_be_bytes());
                        says[4..6].copy_from_slice(&[hlen, plen]);
                        says[6..8].copy_from_slice(&operation.to_be_bytes());
                        let form = (hardware, kind, hlen, plen) == (1, 0x0800, 6, 4);
                        let probe = operation == 1 && sender4.is_unspecified();
                        let own = sender == x.me.mac && (sender4 == x.me.v4 || probe);
                        let allowed = Expect::exactly(form && own && [1, 2].contains(&operation));
                        let what = format!(
                            "hardware {hardware}, protocol {kind:#x}, lengths {hlen} and {plen}, \
                            operation {operation}, of {sender4} at {sender:02x?}, to {whom:02x?}"
                        );
                        let kind = match (form, own) {
                            (true, true) => "ARP, of other operations",
                            (true, false) => "ARP, of another",
                            (false, true) => "ARP, of another form",
                            (false, false) => "ARP, of another form and of another",
                        };
                        volley.add(
                            kind,
                            what,
                            vec![frame(whom, x.me.mac, ARP, &says)],
                            at(of, whom, allowed),
                        );
                    }
                }
            }
        }
        for length in 0..28 {
            let says = arp(1, (x.me.mac, x.me.v4), db.me.v4, mark(0));
            let what = format!("{length} bytes, to {whom:02x?}");
            let frames = vec![frame(whom, x.me.mac, ARP, &says[..length])];
            volley.add("ARP, too short", what, frames, at(of, whom, Expect::Never));
        }
    }
    volley
}

fn product<A: Copy, B: Copy>(all: &[A], others: &[B]) -> Vec<(A, B)> {
    all.iter().flat_map(|a| others.iter().map(|b| (*a, *b))).collect()
}

fn address_option(kind: u8, of: Mac) -> Vec<u8> {
    [&[kind, 1][..], &of].concat()
}

/// What may follow a message of neighbour discovery, and whether it may arrive: what is needed does, and what is
/// not does not.
fn tails(kind: u8, x: &Place<'_>, db: Side) -> Vec<(&'static str, Vec<u8>, Expect)> {
    let (right, other) = if kind == ANSWERS { (TARGET, SOURCE) } else { (SOURCE, TARGET) };
    let own = address_option(right, x.me.mac);
    let of_db = address_option(right, db.mac);
    let nonce = [&[NONCE, 1][..], &[7; 6]].concat();
    let unknown = [&[UNKNOWN, 1][..], &[7; 6]].concat();
    let both = |one: &[u8], another: &[u8]| [one, another].concat();
    let long = |of: Mac| [&[right, 2][..], &of, &[0; 8]].concat();
    let payload = [&[UNKNOWN, 100][..], &[7; 798]].concat();
    vec![
        ("no option", vec![], Expect::Must),
        ("its own hardware address", own.clone(), Expect::Must),
        ("another's hardware address", of_db.clone(), Expect::Never),
        ("the gateway's hardware address", address_option(right, x.gateway.mac), Expect::Never),
        ("everybody's hardware address", address_option(right, EVERYBODY), Expect::Never),
        (
            "another's hardware address, as the other option",
            address_option(other, db.mac),
            Expect::Never,
        ),
        ("its own and then another's", both(&own, &of_db), Expect::Never),
        ("a nonce", nonce.clone(), if kind == ASKS { Expect::Must } else { Expect::May }),
        ("a nonce and then another's", both(&nonce, &of_db), Expect::Never),
        ("something and then another's", both(&unknown, &of_db), Expect::Never),
        ("its own and then a nonce", both(&own, &nonce), Expect::May),
        ("something", unknown, Expect::Never),
        ("an option of no length", [&[right, 0][..], &x.me.mac].concat(), Expect::Never),
        (
            "an option of no length, and another's",
            [&[right, 0][..], &db.mac, &of_db].concat(),
            Expect::Never,
        ),
        ("a long option of its own", long(x.me.mac), Expect::Never),
        ("a long option of another's", long(db.mac), Expect::Never),
        ("half an option", own[..4].to_vec(), Expect::Never),
        (
            "an option that is longer than the rest",
            [&[right, 9][..], &x.me.mac].concat(),
            Expect::Never,
        ),
        // Those who may not speak would have a way to; what stays are the six bytes of a nonce.
        ("800 bytes of payload", payload, Expect::Never),
    ]
}

/// Each message with everything that may follow it, from each address.
fn all_discovery(town: &Town) -> Volley {
    let mut volley = Volley::default();
    let (x, db) = (town.place("x"), town.place("db"));
    let of = (town.way, &x, &db);
    let local = link_local(x.me.mac);
    for (kind, name) in [(ROUTERS, "RS"), (ASKS, "NS"), (ANSWERS, "NA")] {
        for (tail, bytes, allowed) in tails(kind, &x, db.me) {
            for from in [x.me.v6, local, Ipv6Addr::UNSPECIFIED] {
                for (to, whom) in [
                    (db.me.v6, db.me.mac),
                    (ALL_NODES, [0x33, 0x33, 0, 0, 0, 1]),
                    (x.gateway.v6, x.gateway.mac),
                ] {
                    let unspecified = from.is_unspecified();
                    let mut body = match kind {
                        ROUTERS => vec![],
                        ASKS if unspecified => x.me.v6.octets().to_vec(),
                        ASKS => db.me.v6.octets().to_vec(),
                        _ if unspecified => x.me.v6.octets().to_vec(),
                        _ => from.octets().to_vec(),
                    };
                    body.extend(&bytes);
                    let flags = if kind == ANSWERS { [0x20, 0, 0, 0] } else { [0; 4] };
                    let message = icmp6((from, to), kind, flags, &body);
                    let mut packet = ip6(from, to, protocol::ICMP6, &message);
                    // There is no room for a mark: each has a label of its own.
                    packet[2..4].copy_from_slice(&volley.next().to_be_bytes());
                    let allowed = match allowed {
                        // Nobody is answered, nor asks for routers, from no address.
                        Expect::Must
                            if unspecified
                                && !(kind == ASKS
                                    && whom[0] & 1 == 1
                                    && tail != "its own hardware address") =>
                        {
                            Expect::May
                        }
                        Expect::Must if kind == ROUTERS => Expect::May,
                        allowed => allowed,
                    };
                    let what = format!("{from} to {to}");
                    let frames = vec![frame(whom, x.me.mac, IP6, &packet)];
                    volley.add(format!("{name} with {tail}"), what, frames, at(of, whom, allowed));
                }
            }
        }
    }
    volley
}

fn only_well_formed_words_arrive(town: &Town) {
    let mut report = Report::default();
    fire(town, "x", &all_arp(town), &mut report);
    fire(town, "x", &all_discovery(town), &mut report);
    report.is_clean();
}

#[test]
fn only_what_is_well_formed_and_of_its_sender_says_who_is_where() {
    only_well_formed_words_arrive(&town(world!(), Way::Bridged, 88));
}

#[test]
fn only_what_is_well_formed_says_who_is_where_to_a_host_that_routes() {
    only_well_formed_words_arrive(&town(world!(), Way::Routed, 89));
}
