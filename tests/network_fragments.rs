//! Packets that are too long for somewhere: fragments are judged as what they are part of, and what
//! routers say of a path comes through.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::network_isolation::{OUTSIDE6, attach, connect, dual, reaches, v4, v6};
use crate::support::conf::with;
use crate::support::eventually::eventually;
use crate::support::frames::{
    IP4, IP6, Wire, frame, icmp4, icmp6, ip4, ip6, mac, mark, protocol, udp,
};
use crate::support::netns::Netns;
use crate::support::traffic::{SILENCE, bound};
use crate::support::world::{OUTSIDE, UPLINK, World};

/// How long it may take until all parts of one datagram have come: each try is lost as a whole when
/// one part is, and a busy machine loses some.
const LONG: Duration = Duration::from_secs(20);

/// Whether a datagram of 3000 bytes, which is three fragments, comes from one to the other.
fn carries(from: &Netns, netns: &Netns, to: &str, within: Duration) -> bool {
    let at = SocketAddr::new(to.parse().expect("an address"), 7200);
    let receiver = netns.run(|| bound("a socket", || UdpSocket::bind(at)));
    let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let sender = from.run(|| UdpSocket::bind(any).expect("a socket"));
    receiver.set_read_timeout(Some(Duration::from_millis(100))).expect("a bound");
    let mut buffer = [0; 4000];
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        let _ = sender.send_to(&mark(7).repeat(500), at);
        if receiver.recv(&mut buffer).is_ok_and(|n| n == 3000) {
            return true;
        }
    }
    false
}

/// That it comes, and where it was lost if it does not.
#[track_caller]
fn arrives(from: &Netns, netns: &Netns, to: &str, what: &str) {
    let lost = |of: &Netns| {
        let counted = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        of.run(|| {
            let all = counted("/proc/net/snmp") + &counted("/proc/net/snmp6");
            let lines = all.lines().filter(|l| l.starts_with("Ip") || l.starts_with("Udp"));
            let counters = lines.filter(|l| !l.ends_with("\t0")).collect::<Vec<_>>().join("\n");
            counters + "\n" + &counted("/proc/net/stat/nf_conntrack")
        })
    };
    if !carries(from, netns, to, LONG) {
        panic!("{what} ({to}); sender:\n{}\nreceiver:\n{}", lost(from), lost(netns));
    }
}

#[test]
fn fragments_are_judged_as_what_they_are_part_of() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[116, 117]);
    let conf = |name, number, keys| with(&dual(name, number, keys), json!({ "ipMasq": false }));
    let (first, second) = (conf("whole", 116, json!({})), conf("parts", 117, json!({})));
    let (c1, c2) = (attach(&world, "c1", &first), attach(&world, "c2", &first));
    let c3 = attach(&world, "c3", &second);
    let outside = [OUTSIDE, OUTSIDE6].map(str::to_owned);
    let mut there = Wire::on(&c3.netns, "eth0");
    for (family, far) in outside.iter().enumerate() {
        arrives(&c1.netns, &c2.netns, &c2.addresses[family], "to the neighbour");
        arrives(&c1.netns, &world.host, &c1.gateways[family], "to the host");
        arrives(&c1.netns, &world.outside, far, "to the world");
        arrives(&world.host, &c1.netns, &c1.addresses[family], "from the host");
        assert!(
            !carries(&c1.netns, &c3.netns, &c3.addresses[family], SILENCE),
            "to another network"
        );
        assert!(
            !carries(&world.outside, &c3.netns, &c3.addresses[family], SILENCE),
            "from the world"
        );
        assert!(!carries(&c1.netns, &world.host, &c3.gateways[family], SILENCE), "to its gateway");
    }
    assert_eq!(there.seen(7), 0, "no part of what is refused arrives");
    let alone = conf("lonely", 118, json!({ "ingressPolicy": "isolated" }));
    let (c4, c5) = (attach(&world, "c4", &alone), attach(&world, "c5", &alone));
    let mut there = Wire::on(&c5.netns, "eth0");
    for address in &c5.addresses {
        assert!(!carries(&c4.netns, &c5.netns, address, SILENCE), "on one bridge");
    }
    assert_eq!(there.seen(7), 0, "on one bridge");
}

/// The outside as a router, with a narrow link behind it.
pub(crate) fn narrow(world: &World) -> [&'static str; 2] {
    let far = ["198.51.100.9", "2001:db8:fa::9"];
    world.outside.ip_batch(
        "link add far type veth peer name far0\n\
         address add 198.51.100.1/24 dev far\n\
         address add 2001:db8:fa::1/64 dev far nodad\n\
         link set far mtu 1280 up\nlink set far0 up\n",
    );
    world.outside.run(|| {
        for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{file}"), "1").expect("forwarding");
        }
    });
    far
}

/// Waits until a container knows how narrow the way to each of these is.
#[track_caller]
pub(crate) fn hears_of_it(netns: &Netns, name: &str, far: [&str; 2]) {
    for to in far {
        let at = SocketAddr::new(to.parse().expect("an address"), 9);
        let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = netns.run(|| UdpSocket::bind(any).expect("a socket"));
        socket.connect(at).expect("a route");
        // By default a datagram is as long as the path lets it be.
        eventually(&format!("the path's MTU in {name} to {to}"), || {
            // Refused once the path is known to be narrow.
            let _ = socket.send(&[0; 1400]);
            let route = netns.output("ip", &format!("route get {to}"));
            route.contains("mtu 1280").then_some(())
        });
    }
}

#[test]
fn what_a_router_says_of_a_narrow_path_is_heard() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[122]);
    let far = narrow(&world);
    for (name, number, keys) in
        [("masq", 121, json!({})), ("bare", 122, json!({ "ipMasq": false }))]
    {
        let c = attach(&world, name, &dual(name, number, keys));
        hears_of_it(&c.netns, name, far);
    }
}

#[test]
fn it_is_heard_also_of_a_flow_that_nobody_tracks() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[123]);
    let c = attach(&world, "c1", &dual("known", 123, json!({ "ipMasq": false })));
    reaches(&c.netns, &world.outside, &[OUTSIDE, OUTSIDE6].map(str::to_owned));
    let wire = Wire::on(&world.outside, UPLINK);
    let mut there = Wire::on(&c.netns, "eth0");
    let hardware =
        |netns: &Netns| mac(netns.link(UPLINK).expect(UPLINK)["address"].as_str().expect("a MAC"));
    let (to, from) = (hardware(&world.host), hardware(&world.outside));
    let (own4, own6) = (v4(&c.addresses[0]), v6(&c.addresses[1]));
    let (far4, far6) = (v4("198.51.100.77"), v6("2001:db8:fa::77"));
    let error4 = |kind, code, number| {
        let lost = udp((own4.into(), 5), (far4.into(), 6), &mark(number));
        let lost = ip4(own4, far4, protocol::UDP, &lost);
        let message = icmp4(kind, code, [0, 0, 5, 0], &lost);
        frame(to, from, IP4, &ip4(v4(OUTSIDE), own4, protocol::ICMP4, &message))
    };
    let error6 = |kind, number| {
        let lost = udp((own6.into(), 5), (far6.into(), 6), &mark(number));
        let lost = ip6(own6, far6, protocol::UDP, &lost);
        let ends = (v6(OUTSIDE6), own6);
        let message = icmp6(ends, kind, [0, 0, 5, 0], &lost);
        frame(to, from, IP6, &ip6(v6(OUTSIDE6), own6, protocol::ICMP6, &message))
    };
    let question = udp((v4(OUTSIDE).into(), 5), (own4.into(), 6), &mark(1));
    wire.send(&frame(to, from, IP4, &ip4(v4(OUTSIDE), own4, protocol::UDP, &question)));
    wire.send(&error4(3, 1, 2)); // "host unreachable"
    wire.send(&error6(1, 3)); // the same of IPv6
    wire.send(&error4(3, 4, 4));
    wire.send(&error6(2, 5));
    there.wait_for(4, "fragmentation needed");
    there.wait_for(5, "packet too big");
    for number in 1..4 {
        assert_eq!(there.seen(number), 0, "{number}: what else nobody has asked for");
    }
}
