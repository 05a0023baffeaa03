//! Who says that it is a container is one only on the bridge of that container: a machine of the LAN, or a
//! container of a network where nothing is looked at, that sends from another's address reaches neither
//! containers nor the host, whatever policies allow to that address and whatever connections it has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::json;

use crate::network_isolation::{HOST6, v4, v6};
use crate::policy_live::network_policy;
use crate::support::ctl::apply;
use crate::support::forged::Side;
use crate::support::frames::{
    IP4, IP6, frame, icmp4, icmp6, ip, ip4_fragments, ip6_fragments, link_local, mark, protocol,
    tcp, udp,
};
use crate::support::world::{HOST, World};
use crate::walls_probes::{Expect, Report, Volley, Watch};
use crate::walls_town::{Place, Town, Way};

const AT: u16 = 7600;
const PORT: u16 = 7601;
const SYN: u8 = 2;
/// What is sent.
#[derive(Debug, Clone, Copy)]
enum Load {
    Udp,
    Syn,
    Echo,
    Fragments,
}

const LOADS: [Load; 4] = [Load::Udp, Load::Syn, Load::Echo, Load::Fragments];
/// Each network with the one whom its `db` takes from, db, and one who takes from everybody its posture lets in.
const NETWORKS: [(&str, [&str; 3]); 3] = [
    ("direct", ["web1", "db1", "free1"]),
    ("zero", ["web2", "db2", "free2"]),
    ("open", ["web3", "db3", "free3"]),
];

fn town(world: World, way: Way, number: u8) -> Town {
    let mut town = Town::new(world, way, &[number, number + 1, number + 2, number + 3]);
    for ((network, names), number) in NETWORKS.into_iter().zip(number..) {
        let policy = match network {
            "direct" => json!({ "directAccess": true }),
            "zero" => json!({ "posture": "zero-trust" }),
            _ => json!({ "posture": "open" }),
        };
        for name in names {
            town.add(name, (network, number), json!({ "ipMasq": false, "policy": policy }));
        }
        let who = |app: &str| json!({ "matchLabels": { "app": app } });
        let [web, db, _] = names;
        let takes = json!({ "podSelector": who(db), "policyTypes": ["Ingress"],
            "ingress": [{ "from": [{ "podSelector": who(web) }] }] });
        let sends = json!({ "podSelector": who(web), "policyTypes": ["Egress"],
            "egress": [{ "to": [{ "podSelector": who(db) }] }] });
        apply(&town.world, &network_policy(db, takes));
        apply(&town.world, &network_policy(web, sends));
    }
    let naive = json!({ "ipMasq": false, "policy": { "posture": "open", "antiSpoof": false } });
    for name in ["naive", "guest"] {
        town.add(name, ("naive", number + 3), naive.clone());
    }
    // What the kernel itself looks at is not what is tested here.
    town.world.host.run(|| {
        for link in ["all", "uplink", "direct0", "zero0", "open0", "naive0"] {
            let file = format!("/proc/sys/net/ipv4/conf/{link}/rp_filter");
            std::fs::write(file, "0").expect("written");
        }
    });
    town
}

/// A packet of each kind, whole or in fragments.
fn packet(load: Load, (from, port): (IpAddr, u16), to: IpAddr, number: u16) -> Vec<Vec<u8>> {
    let mark = mark(number);
    let [high, low] = port.to_be_bytes();
    let data = udp((from, port), (to, AT), &mark);
    // The mark is in both fragments, so that neither arrives unseen.
    let long = udp((from, port), (to, AT), &[&[0; 8][..], &mark, &[0; 18], &mark].concat());
    let syn = tcp((from, port), (to, AT), SYN, &mark);
    let (echo, fragments) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (
            ip(from.into(), to.into(), protocol::ICMP4, &icmp4(8, 0, [high, low, 0, 1], &mark)),
            ip4_fragments((from, to), protocol::UDP, &long, 24, number).to_vec(),
        ),
        (IpAddr::V6(from), IpAddr::V6(to)) => (
            ip(
                from.into(),
                to.into(),
                protocol::ICMP6,
                &icmp6((from, to), 128, [high, low, 0, 1], &mark),
            ),
            ip6_fragments((from, to), protocol::UDP, &long, &[24], number.into()),
        ),
        _ => panic!("{from} and {to} are of different families"),
    };
    match load {
        Load::Udp => vec![ip(from, to, protocol::UDP, &data)],
        Load::Syn => vec![ip(from, to, protocol::TCP, &syn)],
        Load::Echo => vec![echo],
        Load::Fragments => fragments,
    }
}

/// What an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Claim {
    Own,
    /// A container's, which is on this bridge.
    Container(&'static str),
    Other,
}

/// Addresses that a sender may say it has.
fn claims(town: &Town, me: &Place<'_>) -> Vec<(String, Claim, IpAddr)> {
    let both = |name: &str, claim: Claim, four: Ipv4Addr, six: Ipv6Addr| {
        [(name.to_owned(), claim.clone(), four.into()), (name.to_owned(), claim, six.into())]
    };
    let mut all: Vec<_> = both("its own address", Claim::Own, me.me.v4, me.me.v6).into();
    for (network, names) in NETWORKS.into_iter().chain([("naive", ["guest"; 3])]) {
        for name in names.iter().take(if network == "naive" { 1 } else { 3 }) {
            let it = town.place(name);
            all.extend(both(name, Claim::Container(network), it.me.v4, it.me.v6));
            let local = link_local(it.me.mac).into();
            all.push((format!("{name}'s link-local address"), Claim::Other, local));
            if *name == names[0] {
                let [mut four, mut six] = [it.me.v4.octets().to_vec(), it.me.v6.octets().to_vec()];
                four[3] = 200;
                six[15] = 200;
                let free = |bytes: Vec<u8>| <[u8; 4]>::try_from(bytes).expect("four bytes");
                let free6 = |bytes: Vec<u8>| <[u8; 16]>::try_from(bytes).expect("sixteen bytes");
                let nobody = format!("nobody's address of {network}");
                all.extend(both(&nobody, Claim::Other, free(four).into(), free6(six).into()));
                let gateway = format!("the gateway of {network}");
                all.extend(both(&gateway, Claim::Other, it.gateway.v4, it.gateway.v6));
            }
        }
    }
    all.extend(both("the host's address", Claim::Other, v4(HOST), v6(HOST6)));
    all.extend(both("a loopback address", Claim::Other, Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST));
    all.extend(both("no address", Claim::Other, Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED));
    all.push(("its link-local address".to_owned(), Claim::Other, link_local(me.me.mac).into()));
    all
}

/// Whether what a sender sends from there may come to a receiver.
fn expect(sender: &str, claim: &Claim, receiver: &str) -> Expect {
    let own = *claim == Claim::Own;
    match (claim, receiver) {
        // On its own bridge, where nothing is looked at, anybody is anybody.
        (Claim::Container("naive"), "host" | "free3" | "guest") if sender == "naive" => Expect::May,
        (Claim::Container(_), _) => Expect::Never,
        // It takes from one container only, or from nobody.
        (_, "db1" | "db2" | "db3" | "free2" | "web2") => Expect::Never,
        (_, "host" | "guest" | "free3") if own => Expect::Must,
        // The world reaches it, other networks do not.
        (_, "free1") if own && sender == "outside" => Expect::Must,
        (_, "free1") if sender == "naive" => Expect::Never,
        _ => Expect::May,
    }
}

/// Everything that one sender can say it is, to everybody.
fn claimed(town: &Town, sender: &'static str, round: &str, report: &mut Report) {
    let me = town.place(sender);
    let names = ["db1", "db2", "db3", "free1", "free2", "free3", "guest"];
    let places: Vec<Place<'_>> = names.iter().map(|name| town.place(name)).collect();
    let mut to: Vec<(&str, Side)> = places.iter().map(|place| (place.name, place.me)).collect();
    to.push(("host", me.gateway));
    let mut volley = Volley::default();
    for (receiver, side) in &to {
        for (name, claim, from) in claims(town, &me) {
            let of = match claim {
                Claim::Container(network) => format!("a container of {network}"),
                _ => name.clone(),
            };
            let there = if from.is_ipv4() { side.v4.into() } else { side.v6.into() };
            let kind = if from.is_ipv4() { IP4 } else { IP6 };
            // What one sender was allowed is not remembered for the other one.
            let port = match claim {
                Claim::Container(_) => PORT,
                _ if sender == "outside" => PORT + 1,
                _ => PORT + 2,
            };
            for load in LOADS {
                let packets = packet(load, (from, port), there, volley.next());
                let frames =
                    packets.iter().map(|p| frame(me.gateway.mac, me.me.mac, kind, p)).collect();
                let expected = expect(sender, &claim, receiver);
                // Elsewhere it comes as what somebody answers.
                let at = |it: &(&str, Side)| if it.0 == *receiver { expected } else { Expect::May };
                volley.add(
                    format!("from {of} to {receiver}"),
                    format!("{load:?} from {name}, {from}"),
                    frames,
                    to.iter().map(at).collect(),
                );
            }
        }
    }
    let mut watches: Vec<Watch> = places.iter().map(Watch::link).collect();
    watches.push(Watch::sockets(&town.world.host, "the host's sockets", &[1, 6, 17, 58]));
    volley.fire(&format!("{sender} in {:?}, {round}", town.way), &me, &mut watches, report);
}

/// Those who may send do, from the same ports: connections that are remembered.
fn control(town: &Town, report: &mut Report) {
    for (network, [web, db, _]) in NETWORKS {
        let (web, db) = (town.place(web), town.place(db));
        let mut volley = Volley::default();
        let whom = if town.way == Way::Bridged { db.me.mac } else { web.gateway.mac };
        for (from, to) in
            [(web.me.v4.into(), db.me.v4.into()), (web.me.v6.into(), IpAddr::from(db.me.v6))]
        {
            let kind = if to.is_ipv4() { IP4 } else { IP6 };
            for load in LOADS {
                let packets = packet(load, (from, PORT), to, volley.next());
                let frames = packets.iter().map(|p| frame(whom, web.me.mac, kind, p)).collect();
                volley.add(
                    format!("{load:?}"),
                    format!("{from} to {to}"),
                    frames,
                    vec![Expect::Must],
                );
            }
        }
        volley.fire(&format!("web to db in {network}"), &web, &mut [Watch::link(&db)], report);
    }
}

fn nobody_is_a_container_elsewhere(town: &Town) {
    let mut report = Report::default();
    for round in ["before there are connections", "with connections"] {
        for sender in ["outside", "naive"] {
            claimed(town, sender, round, &mut report);
        }
        control(town, &mut report);
    }
    report.is_clean();
}

#[test]
fn nobody_is_a_container_but_on_its_bridge() {
    nobody_is_a_container_elsewhere(&town(world!(), Way::Bridged, 70));
}

#[test]
fn nobody_is_a_container_but_on_its_bridge_where_the_host_routes() {
    nobody_is_a_container_elsewhere(&town(world!(), Way::Routed, 75));
}
