//! Entries of real packets, in a network namespace of the test's own. Every address is one of its `lo`:
//! what is tracked is the same as between containers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Instant;

use netlink_packet_core::{DefaultNla, Nla};
use nix::libc;
use quantum_config::cni::{Family, Transport};

use super::message::{self, Answered, CTA_ID, CTA_ZONE};
use super::sought::{Look, Pattern, Sought};
use super::{Conntrack, HostPort};
use crate::kernel::testing::{in_namespace, in_private_netns, ip_batch, run};
use crate::policy::{LiveFlow, Traffic};

const US: &str = "10.9.0.2";
const PEER: &str = "10.9.0.3";
const OTHER: &str = "10.9.0.4";
const HOST: &str = "10.9.0.9";

#[test]
fn an_error_may_have_any_number() {
    let header = [20, u32::from(libc::NLMSG_ERROR as u16), 7, 0].map(u32::to_ne_bytes).concat();
    let mut refused = None;
    let datagram = [&header[..], &i32::MIN.to_ne_bytes()].concat();
    let read = message::read(&datagram, |answered| refused = Some(answered));
    assert!(read.is_ok());
    assert!(matches!(refused, Some(Answered::Ended { number: 7, result: Err(_) })));
}

/// Runs a test where connections are tracked.
fn tracked(test: impl FnOnce() + Send) {
    in_namespace(&["nft", "ip"], || {
        let mut commands = "link set lo up\n".to_owned();
        for address in [US, PEER, OTHER, HOST] {
            commands += &format!("address add {address}/32 dev lo\n");
        }
        for address in ["fd00:9::2", "fd00:9::3", "fd00:9::4"] {
            commands += &format!("address add {address}/128 dev lo nodad\n");
        }
        ip_batch(&commands);
        run("nft add table inet t");
        run("nft add chain inet t out { type filter hook output priority 0 ; }");
        run("nft add rule inet t out ct state new counter");

        test();
    });
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// One datagram from one address and port to another.
fn send(from: &str, from_port: u16, to: &str, to_port: u16) {
    let socket = UdpSocket::bind(SocketAddr::new(ip(from), from_port)).expect("a socket");
    socket.send_to(b"hello", SocketAddr::new(ip(to), to_port)).expect("sent");
}

/// The entries as the kernel prints them, or as `conntrack` does.
fn entries() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap_or_else(|_| {
        let list = |family| run(&format!("conntrack -L -f {family}"));
        list("ipv4") + &list("ipv6")
    });
    text.lines().map(str::to_owned).collect()
}

/// How many entries name this address anywhere.
fn naming(address: &str) -> usize {
    // The kernel writes IPv6 in full.
    let full = match ip(address) {
        IpAddr::V4(a) => a.to_string(),
        IpAddr::V6(a) => a.segments().map(|s| format!("{s:04x}")).join(":"),
    };
    let has = |line: &String| line.split(['=', ' ']).any(|word| word == full || word == address);
    entries().iter().filter(|line| has(line)).count()
}

fn open() -> Conntrack {
    Conntrack::open().expect("a door")
}

#[test]
fn entries_of_an_address_go_and_others_stay() {
    tracked(|| {
        send(US, 1001, PEER, 53);
        send(PEER, 1002, US, 53);
        send(PEER, 1003, OTHER, 53);
        let listener = TcpListener::bind((US, 0)).expect("a listener");
        let to = listener.local_addr().expect("an address");
        let _stream = TcpStream::connect(to).expect("a connection");
        send("fd00:9::2", 1001, "fd00:9::3", 53);
        send("fd00:9::3", 1003, "fd00:9::4", 53);
        assert_eq!((naming(US), naming("fd00:9::2")), (3, 1), "{:?}", entries());

        let mut conntrack = open();
        assert_eq!(conntrack.purge(&[ip(US), ip("fd00:9::2")]), Ok(4));
        assert_eq!((naming(US), naming("fd00:9::2")), (0, 0), "{:?}", entries());
        assert_eq!((naming(OTHER), naming("fd00:9::4")), (1, 1), "{:?}", entries());
        assert_eq!(conntrack.purge(&[ip(US), ip("fd00:9::2")]), Ok(0), "a second time");
        assert_eq!(conntrack.purge(&[]), Ok(0));
    });
}

#[test]
fn what_was_translated_to_an_address_goes() {
    tracked(|| {
        run("nft add chain inet t nat { type nat hook output priority -100 ; }");
        run(&format!("nft add rule inet t nat ip daddr {HOST} udp dport 80 dnat ip to {US}:53"));
        send(OTHER, 1001, HOST, 80);
        send(OTHER, 1002, HOST, 81);
        assert_eq!(naming(US), 1, "{:?}", entries());
        assert_eq!(open().purge(&[ip(US)]), Ok(1));
        assert_eq!((naming(US), naming(HOST)), (0, 1), "{:?}", entries());
    });
}

#[test]
fn each_zone_has_entries_of_its_own() {
    tracked(|| {
        run("nft add chain inet t raw { type filter hook output priority -300 ; }");
        run("nft add rule inet t raw udp sport 1001 ct zone set 7");
        run("nft add rule inet t raw udp sport 1002 ct original zone set 8");
        run("nft add rule inet t raw udp sport 1003 ct reply zone set 9");
        for port in 1001..=1004 {
            send(US, port, PEER, 53);
            send(OTHER, port, PEER, 53);
        }
        let mut conntrack = open();
        let before = entries().len();
        let ours = naming(US);
        assert!(ours >= 4, "{:?}", entries());
        assert_eq!(conntrack.purge(&[ip(US)]), Ok(ours));
        assert_eq!((naming(US), entries().len()), (0, before - ours), "{:?}", entries());
    });
}

#[test]
fn of_many_entries_only_those_of_the_addresses_go() {
    tracked(|| {
        for port in 2000..6500 {
            send(OTHER, port, PEER, 53);
        }
        for port in 2000..2300 {
            send(US, port, PEER, 53);
        }
        // One address of so many entries is looked for by the kernel, many by us.
        let mut conntrack = open();
        assert_eq!(conntrack.purge(&[ip(US)]), Ok(300), "several datagrams of deletions");
        send(US, 2000, PEER, 53);
        let many: Vec<IpAddr> = (0..250).map(|n| ip(&format!("10.9.1.{n}"))).collect();
        assert_eq!(conntrack.purge(&many), Ok(0));
        assert_eq!(conntrack.purge(&[many, vec![ip(US)]].concat()), Ok(1));
        assert_eq!(naming(OTHER), 4500);
    });
}

#[test]
fn flows_to_a_port_of_the_host_go() {
    tracked(|| {
        let listener = TcpListener::bind((HOST, 80)).expect("a listener");
        let _stream = TcpStream::connect((HOST, 80)).expect("a connection");
        send(OTHER, 1001, HOST, 80);
        send(OTHER, 1002, PEER, 80);
        send(OTHER, 80, HOST, 81);
        send("fd00:9::3", 1001, "fd00:9::4", 80);
        let mut conntrack = open();
        let on_host = HostPort { address: Some(ip(HOST)), port: 80 };
        assert_eq!(conntrack.flush_udp_ports(&[on_host]), Ok(1));
        assert_eq!(conntrack.flush_udp_ports(&[on_host]), Ok(0));
        let anywhere = HostPort { address: None, port: 80 };
        let before = entries();
        let flushed = conntrack.flush_udp_ports(&[anywhere]);
        assert_eq!(flushed, Ok(2), "the peer's, and by IPv6: {before:?}");
        assert_eq!(entries().len(), 2, "TCP to it, and UDP from it: {:?}", entries());
        drop(listener);
    });
}

#[test]
fn flows_to_the_same_port_of_others_stay() {
    tracked(|| {
        ip_batch("link add away type veth peer name gone\nlink set gone up\nlink set away up\n");
        ip_batch("route add default dev away\n");
        send(US, 1001, HOST, 53);
        send(US, 1002, "192.0.2.53", 53);
        let port = |address: Option<&str>| HostPort { address: address.map(ip), port: 53 };
        assert_eq!(open().flush_udp_ports(&[port(None)]), Ok(1));
        assert_eq!((naming(HOST), naming("192.0.2.53")), (0, 1), "{:?}", entries());
        assert_eq!(open().flush_udp_ports(&[port(Some("192.0.2.53"))]), Ok(1), "if it is named");
    });
}

/// What a dump gives before our own code looks at it.
fn dumped(conntrack: &mut Conntrack, pattern: Option<Pattern>) -> BTreeSet<String> {
    let look = Look { family: Family::V4, only: pattern };
    let socket = conntrack.socket.as_mut().expect("a socket");
    let number = socket.numbers(1);
    let mut found = BTreeSet::new();
    let taken = socket.ask(&message::dump(look, number), |datagram| {
        let read = message::read(datagram, |answered| match answered {
            Answered::Entry(entry) => {
                found.insert(format!("{:?}", (entry.original, entry.reply)));
            }
            Answered::Ended { result, .. } => assert_eq!(result, Ok(())),
        });
        read.expect("read");
        Ok::<_, super::SocketError>(())
    });
    taken.expect("an answer");
    found
}

#[test]
fn the_kernel_chooses_as_we_would() {
    tracked(|| {
        send(US, 1001, PEER, 53);
        send(PEER, 1002, US, 53);
        send(PEER, 1003, OTHER, 53);
        send(PEER, 1003, HOST, 53);
        let mut conntrack = open();
        assert_eq!(dumped(&mut conntrack, None).len(), 4);
        let port = |address: Option<&str>| {
            Pattern::UdpPort(HostPort { address: address.map(ip), port: 53 })
        };
        let expected = [
            (Pattern::OriginalSource(ip(US)), 1),
            (Pattern::ReplySource(ip(US)), 1),
            (Pattern::OriginalSource(ip(PEER)), 3),
            (Pattern::OriginalSource(ip(HOST)), 0),
            (port(None), 4),
            (port(Some(HOST)), 1),
        ];
        for (pattern, count) in expected {
            let found = dumped(&mut conntrack, Some(pattern));
            assert_eq!(found.len(), count, "{pattern:?}: {found:?}");
        }
    });
}

#[test]
fn an_entry_of_another_number_or_zone_is_another_one() {
    tracked(|| {
        send(US, 1001, PEER, 53);
        let mut conntrack = open();
        let sought = Sought::of_addresses(&[ip(US)]);
        let look = sought.looks(1)[0];
        let mut found = || conntrack.find(look, &sought).expect("a list");
        let (mut renumbered, mut elsewhere) = (found(), found());
        let id = renumbered[0].name.iter_mut().find(|a| a.kind() == CTA_ID).expect("a number");
        *id = DefaultNla::new(CTA_ID, 1_u32.to_be_bytes().into());
        elsewhere[0].name.push(DefaultNla::new(CTA_ZONE, 7_u16.to_be_bytes().into()));
        assert_eq!(conntrack.delete(&renumbered, &sought), Ok(0));
        assert_eq!(conntrack.delete(&elsewhere, &sought), Ok(0));
        assert_eq!(naming(US), 1, "{:?}", entries());
        assert_eq!(conntrack.purge(&[ip(US)]), Ok(1));
    });
}

#[test]
fn where_nothing_is_tracked_nothing_is_asked() {
    in_private_netns(|| {
        let mut conntrack = open();
        if conntrack.count().is_none() {
            return eprintln!("skipped: the kernel has no conntrack");
        }
        // A door that cannot be used shows whether it was.
        conntrack.socket = None;
        assert_eq!(conntrack.count(), Some(0));
        assert_eq!(conntrack.purge(&[ip(US)]), Ok(0));
    });
}

#[test]
fn flows_are_told_as_policy_sees_them() {
    tracked(|| {
        run("nft add chain inet t nat { type nat hook output priority -100 ; }");
        run(&format!("nft add rule inet t nat ip daddr {HOST} udp dport 80 dnat ip to {US}:53"));
        run(&format!("nft add rule inet t nat ip daddr {HOST} udp dport 81 dnat ip to {HOST}:82"));
        run("nft add rule inet t out udp dport 53 ct mark set 0x5a000001");
        ip_batch("link add away type veth peer name gone\nlink set gone up\nlink set away up\n");
        ip_batch("route add default dev away\n");
        send(OTHER, 1001, HOST, 80);
        send(OTHER, 1002, HOST, 81);
        send(OTHER, 1003, "192.0.2.53", 54);
        send("fd00:9::3", 1004, "fd00:9::4", 80);
        let _listener = TcpListener::bind((HOST, 8080)).expect("a listener");
        let _stream = TcpStream::connect((HOST, 8080)).expect("a connection");

        let flows = open().flows().expect("flows");
        let find = |transport, port| {
            let traffic = Traffic::Port(transport, port);
            let mut found = flows.iter().filter(|flow| flow.traffic == traffic);
            *found.next().unwrap_or_else(|| panic!("no {traffic:?} in {flows:?}"))
        };
        assert_eq!(flows.len(), 5, "{flows:?}");
        let translated = find(Transport::Udp, 53);
        let expected = LiveFlow {
            from: ip(OTHER),
            from_host: true,
            sent_to: ip(HOST),
            to: ip(US),
            to_host: true,
            traffic: Traffic::Port(Transport::Udp, 53),
            icmp: None,
            mark: 0x5a00_0001,
            translated: true,
        };
        assert_eq!(translated, expected);
        let port_only = find(Transport::Udp, 82);
        assert!(port_only.translated && port_only.to == port_only.sent_to && port_only.mark == 0);
        let out = find(Transport::Udp, 54);
        assert!(!out.translated && out.from_host && !out.to_host && out.to == ip("192.0.2.53"));
        assert_eq!(find(Transport::Udp, 80).to, ip("fd00:9::4"));
        assert_eq!(find(Transport::Tcp, 8080).to, ip(HOST));
    });
}

#[test]
fn a_ping_is_told_by_its_type() {
    tracked(|| {
        run(&format!("ping -c 1 -I {US} {PEER}"));
        run("ping -c 1 -I fd00:9::2 fd00:9::3");
        let flows = open().flows().expect("flows");
        let pings: BTreeSet<_> =
            flows.iter().map(|f| (format!("{:?}", f.traffic), f.icmp)).collect();
        let expected =
            [("Other(1)".to_owned(), Some((8, 0))), ("Other(58)".to_owned(), Some((128, 0)))];
        assert_eq!(pings, BTreeSet::from(expected), "{flows:?}");
    });
}

/// `cargo test --release -p quantum-cni --lib conntrack -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn measure_looks() {
    tracked(|| {
        let mut conntrack = open();
        let mut time = |what: &str, f: &mut dyn FnMut(&mut Conntrack)| {
            let mut took = [(); 40].map(|()| {
                let start = Instant::now();
                f(&mut conntrack);
                start.elapsed()
            });
            took.sort();
            println!("  {what}: p50 {:?}, best {:?}", took[20], took[0]);
        };
        let sought = Sought::of_addresses(&[ip(US)]);
        let all = Look { family: Family::V4, only: None };
        let one = Look { family: Family::V4, only: Some(Pattern::OriginalSource(ip(US))) };
        let mut made = 0;
        for count in [0, 1, 1000, 10_000] {
            while made < count {
                send(OTHER, 1000, PEER, 10_000 + made);
                made += 1;
            }
            println!("{count} entries");
            time("all of a family", &mut |c| drop(c.find(all, &sought).expect("a list")));
            time("one pattern", &mut |c| drop(c.find(one, &sought).expect("a list")));
            time("purge of one address", &mut |c| assert_eq!(c.purge(&[ip(US)]), Ok(0)));
        }
    });
}
