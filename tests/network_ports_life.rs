//! Published ports over time: who may have one, when it is free again, and where flows go that outlive
//! their container.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};

use serde_json::{Value, json};

use crate::network_conntrack::connections;
use crate::network_ports::{EACH, HOST6, OUTSIDE6, PUBLISHED, Server, addresses, dual, with_ipv6};
use crate::support::conf::{at, network, with};
use crate::support::daemon::{Daemon, Options};
use crate::support::eventually::eventually;
use crate::support::inventory::{Inventory, nft_elements};
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::ports::{self, publishing, udp_client, udp_once};
use crate::support::traffic::{PATIENCE, PORT, SILENCE};
use crate::support::world::{HOST, OUTSIDE, World};

const EXISTS: u64 = 101;
const CHECK_FAILED: u64 = 105;
const TCP: [(&str, u16, u16, &str); 1] = [("tcp", PUBLISHED, PORT, "")];
const UDP: [(&str, u16, u16, &str); 1] = [("udp", PUBLISHED, PORT, "")];

fn conf() -> Value {
    network("life", "life0", "10.100.0.0/24")
}

/// The published ports that the kernel has.
fn published(world: &World) -> Vec<String> {
    let maps = ["port4", "port6", "addrport4", "addrport6", "loopport4"];
    let is_port = |line: &String| maps.iter().any(|map| line.contains(&format!("quantum {map}:")));
    nft_elements(&world.host).into_iter().filter(is_port).collect()
}

#[test]
fn a_port_that_somebody_has_is_refused_before_anything_is_made() {
    let world = world!();
    let _daemon = world.daemon();
    let (one, two) = (world.container(), world.container());
    let first = publishing(&conf(), &TCP);
    world.call(Call::add("one", &one).conf(&first)).succeeded();
    let other = network("second", "second0", "10.101.0.0/24");
    world.call(Call::add("two", &two).conf(&other)).succeeded();
    world.call(Call::del("two", &two).conf(&other)).succeeded();
    let before = Inventory::of(&world.host);
    for base in [&conf(), &other] {
        for ip in ["", HOST, "0.0.0.0", "127.0.0.1"] {
            // The others would be free.
            let wanted =
                [("udp", PUBLISHED, PORT, ""), ("tcp", 9000, 1, ""), ("tcp", PUBLISHED, PORT, ip)];
            let add = Call::add("two", &two).conf(&publishing(base, &wanted));
            let said = world.call(add).failed_with(EXISTS);
            for word in ["tcp/8080", "container one", "eth0", "network life"] {
                assert!(said.contains(word), "{word}: {said}");
            }
        }
    }
    before.assert_same(&Inventory::of(&world.host), "the host after refusals");
    assert!(two.link("eth0").is_none());
    // What was refused holds nothing, and what is held is free after a DEL without a namespace, a
    // mapping or anything else.
    let udp = publishing(&other, &[("udp", PUBLISHED, PORT, ""), ("tcp", 9000, 1, "")]);
    world.call(Call::add("two", &two).conf(&udp)).succeeded();
    world.call(Call::del("one", &one).var("CNI_NETNS", "").conf(&conf())).succeeded();
    let three = world.container();
    world.call(Call::add("three", &three).conf(&first)).succeeded();
    // A late DEL of the first one does not touch the next owner.
    world.call(Call::del("one", &one).conf(&first)).succeeded();
    let result = json!({ "ips": [{ "address": three.addresses("eth0", 4)[0] }] });
    let _server = Server::start(&three, &result);
    assert!(ports::tcp(&world.outside, HOST, PUBLISHED, PATIENCE));
}

#[test]
fn what_cannot_be_published_is_refused_and_none_is_nothing() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    for (mappings, named) in [
        (json!([{ "hostPort": 0, "containerPort": 80 }]), "hostPort 0"),
        (json!([{ "hostPort": -1, "containerPort": 80 }]), "hostPort -1"),
        (json!([{ "hostPort": 80, "containerPort": 0 }]), "containerPort 0"),
        (json!([{ "hostPort": 80, "containerPort": 80, "protocol": "gre" }]), "gre"),
    ] {
        let wanted = with(&conf(), json!({ "runtimeConfig": { "portMappings": mappings } }));
        let said = world.call(Call::add("c1", &container).conf(&wanted)).failed_with(7);
        assert!(said.contains(named), "{said}");
    }
    for none in [json!([]), json!(null)] {
        let mut wanted = conf();
        wanted["runtimeConfig"] = json!({ "portMappings": none });
        world.call(Call::add("c1", &container).conf(&wanted)).succeeded();
        assert_eq!(published(&world), Vec::<String>::new());
        world.call(Call::del("c1", &container).conf(&wanted)).succeeded();
    }
    // As containerd 1.6 writes it.
    let capitals =
        json!([{ "HostPort": 8080, "ContainerPort": PORT, "Protocol": "tcp", "HostIP": "" }]);
    let wanted = with(&conf(), json!({ "runtimeConfig": { "portMappings": capitals } }));
    let result = world.call(Call::add("c1", &container).conf(&wanted)).succeeded();
    let _server = Server::start(&container, &result);
    assert!(ports::tcp(&world.outside, HOST, PUBLISHED, PATIENCE));
}

/// A client that never changes its port: each of its datagrams is of the same flow.
struct Flow(UdpSocket);

impl Flow {
    fn open(world: &World, to: &str) -> Self {
        Self(udp_client(&world.outside, to, PUBLISHED).expect("a route"))
    }

    /// One datagram, and no second.
    fn asks_once(&self) -> bool {
        udp_once(&self.0, PATIENCE)
    }

    fn hears_nothing(&self) -> bool {
        !udp_once(&self.0, SILENCE)
    }
}

#[test]
fn a_udp_flow_goes_to_whoever_has_the_port_now() {
    let world = with_ipv6(world!());
    let _daemon = world.daemon_that_mends_nothing();
    let conf = publishing(&dual("moves", 103), &UDP);
    let flows = [HOST, HOST6].map(|to| Flow::open(&world, to));
    // Before anybody is there; the kernel remembers that it was sent to the host. The host's rules
    // track connections from the first network on.
    let before = world.container();
    world.call(Call::add("before", &before).conf(&dual("moves", 103))).succeeded();
    assert!(flows.iter().all(Flow::hears_nothing));
    for name in ["first", "second", "third"] {
        let container = world.container();
        let result = world.call(Call::add(name, &container).conf(&conf)).succeeded();
        let server = Server::start(&container, &result);
        for flow in &flows {
            assert!(flow.asks_once(), "the first datagram after the ADD of {name}");
        }
        for outside in [OUTSIDE, OUTSIDE6] {
            let outside: IpAddr = outside.parse().expect("an address");
            assert!(server.seen().contains(&outside), "{name}: {:?}", server.seen());
        }
        // Somebody takes the rule away, and what is sent now is for the host.
        let map = format!("{{ udp . {PUBLISHED} }}");
        world.host.output("nft", &format!("delete element inet quantum port4 {map}"));
        let stray = Flow::open(&world, HOST);
        stray.0.send(b"a question").expect("sent");
        world.call(Call::del(name, &container).conf(&conf)).succeeded();
        if let Some(lines) = connections(&world.host) {
            let port = format!("dport={PUBLISHED}");
            let left: Vec<_> = lines.iter().filter(|l| l.contains(&port)).collect();
            assert!(left.is_empty(), "{left:?}");
        }
        if name != "first" {
            assert!(flows.iter().all(Flow::hears_nothing), "between two owners");
        }
    }
    // Then a process of the host takes it.
    let socket = world.host.run(|| UdpSocket::bind((HOST, PUBLISHED)).expect("a free port"));
    socket.set_read_timeout(Some(PATIENCE)).expect("a bound");
    flows[0].0.send(b"a question").expect("sent");
    let (_, peer) = socket.recv_from(&mut [0; 16]).expect("the datagram");
    assert_eq!(peer.ip().to_string(), OUTSIDE);
}

#[test]
fn flows_of_others_to_the_same_port_go_on() {
    let world = world!();
    let _daemon = world.daemon();
    let (client, server) = (world.container(), world.container());
    world.call(Call::add("client", &client).conf(&conf())).succeeded();
    // Masqueraded, so that an answer without its entry would be lost.
    let resolver = world.outside.run(|| UdpSocket::bind((OUTSIDE, PUBLISHED)).expect("a socket"));
    resolver.set_read_timeout(Some(PATIENCE)).expect("a bound");
    let asker = udp_client(&client, OUTSIDE, PUBLISHED).expect("a route");
    asker.set_read_timeout(Some(PATIENCE)).expect("a bound");
    asker.send(b"a question").expect("sent");
    let (_, peer) = resolver.recv_from(&mut [0; 16]).expect("the question");
    let wanted = publishing(&conf(), &UDP);
    world.call(Call::add("server", &server).conf(&wanted)).succeeded();
    resolver.send_to(b"first", peer).expect("sent");
    assert_eq!(asker.recv(&mut [0; 16]).expect("an answer after the ADD"), 5);
    world.call(Call::del("server", &server).conf(&wanted)).succeeded();
    resolver.send_to(b"second", peer).expect("sent");
    assert_eq!(asker.recv(&mut [0; 16]).expect("an answer after the DEL"), 6);
}

#[test]
fn a_stream_to_the_last_owner_does_not_reach_the_next() {
    let world = world!();
    let _daemon = world.daemon();
    // There is room for one.
    let conf = publishing(&network("stream", "stream0", "10.104.0.0/30"), &TCP);
    let (old, new) = (world.container(), world.container());
    let result = world.call(Call::add("old", &old).conf(&conf)).succeeded();
    let first = Server::start(&old, &result);
    let to = format!("{HOST}:{PUBLISHED}");
    let mut stream = world.outside.run(|| TcpStream::connect(to).expect("connected"));
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    stream.write_all(b"hello").expect("sent");
    stream.read_exact(&mut [0; 5]).expect("an echo");
    world.call(Call::del("old", &old).conf(&conf)).succeeded();
    let again = world.call(Call::add("new", &new).conf(&conf)).succeeded();
    assert_eq!(addresses(&again), addresses(&result), "the same address");
    let second = Server::start(&new, &again);
    let _ = stream.write_all(b"still there?");
    assert!(ports::tcp(&world.outside, HOST, PUBLISHED, PATIENCE), "the new one serves");
    stream.set_read_timeout(Some(SILENCE)).expect("a bound");
    assert!(!matches!(stream.read(&mut [0; 16]), Ok(n) if n > 0), "an answer");
    assert_eq!(second.seen().len(), 1, "{:?}", second.seen());
    drop(first);
}

#[test]
fn an_add_that_fails_gives_its_ports_back() {
    let world = world!();
    let _daemon =
        world.daemon_with(Options::default().var("QUANTUM_FAIL_AT", "add-applied,add-filtered"));
    let wanted = publishing(&conf(), &EACH);
    let (one, two) = (world.container(), world.container());
    for _ in 0..2 {
        world.call(Call::add("one", &one).conf(&wanted)).failed_with(106);
        assert_eq!(published(&world), Vec::<String>::new());
    }
    world.call(Call::add("two", &two).conf(&wanted)).succeeded();
    assert_eq!(published(&world).len(), 3);
}

#[test]
fn who_is_not_gone_yet_keeps_its_ports() {
    let world = world!();
    let fails = "del-purging,del-purging";
    let _daemon = world.daemon_with(Options::default().var("QUANTUM_FAIL_AT", fails));
    let wanted = publishing(&conf(), &TCP);
    let (one, two) = (world.container(), world.container());
    world.call(Call::add("one", &one).conf(&wanted)).succeeded();
    world.call(Call::del("one", &one).conf(&wanted)).succeeded();
    let said = world.call(Call::add("two", &two).conf(&wanted)).failed_with(EXISTS);
    assert!(said.contains("container one"), "{said}");
    eventually("the port to be free", || {
        (world.call(Call::add("two", &two).conf(&wanted)).code == Some(0)).then_some(())
    });
}

/// A container that serves while the daemon is killed and `harm` is done; the next daemon knows its port.
fn survives(conf: &Value, harm: impl Fn(&World)) {
    let world = world!();
    let daemon = world.daemon();
    let (one, two) = (world.container(), world.container());
    let wanted = publishing(conf, &EACH);
    let result = world.call(Call::add("one", &one).conf(&wanted)).succeeded();
    let server = Server::start(&one, &result);
    let before = published(&world);
    let reached = || {
        let seen = server.seen().len();
        let by_both = ports::tcp(&world.outside, HOST, PUBLISHED, PATIENCE)
            && ports::udp(&world.outside, HOST, PUBLISHED, PATIENCE);
        by_both && server.seen().len() > seen
    };
    assert!(reached());
    daemon.kill();
    harm(&world);
    assert!(reached(), "without a daemon");
    let mut daemon = Daemon::start(&world.host, world.paths(), Options::default());
    assert!(daemon.serves_or_ended(), "it does not start");
    assert_eq!(published(&world), before);
    assert!(reached(), "with the next daemon");
    let said = world.call(Call::add("two", &two).conf(&wanted)).failed_with(EXISTS);
    assert!(said.contains("container one"), "{said}");
    world.call(Call::del("one", &one).var("CNI_NETNS", "").conf(conf)).succeeded();
    assert_eq!(published(&world), Vec::<String>::new());
    let result = world.call(Call::add("two", &two).conf(&wanted)).succeeded();
    let _server = Server::start(&two, &result);
    assert!(ports::tcp(&world.outside, HOST, PUBLISHED, PATIENCE));
}

#[test]
fn a_port_survives_the_daemon() {
    survives(&dual("killed", 105), |_| {});
}

#[test]
fn a_port_survives_the_loss_of_the_store() {
    survives(&dual("lost", 106), |world| {
        std::fs::remove_dir_all(&world.paths().state_dir).expect("removed");
    });
    survives(&dual("forgot", 106), World::forget);
}

#[test]
fn check_names_a_port_that_is_gone() {
    let world = world!();
    let _daemon = world.daemon_that_mends_nothing();
    let container = world.container();
    let wanted = publishing(&conf(), &EACH);
    let result = world.call(Call::add("c1", &container).conf(&wanted)).succeeded();
    let check = with(&wanted, json!({ "prevResult": result }));
    world.call(Call::check("c1", &container).conf(&check)).succeeded();
    world.host.output("nft", &format!("delete element inet quantum port4 {{ udp . {PUBLISHED} }}"));
    let said = world.call(Call::check("c1", &container).conf(&check)).failed_with(CHECK_FAILED);
    assert!(said.contains("udp/8080") && !said.contains("tcp/8080"), "{said}");
    world.call(Call::del("c1", &container).conf(&wanted)).succeeded();
    world.call(Call::check("c1", &container).conf(&check)).failed();
}

#[test]
fn gc_frees_ports_of_containers_that_are_gone() {
    let world = world!();
    let _daemon = world.daemon();
    let wanted = at(&publishing(&conf(), &TCP), "1.1.0");
    let gone = world.container();
    world.call(Call::add("gone", &gone).conf(&wanted)).succeeded();
    drop::<Netns>(gone);
    let gc = with(&at(&conf(), "1.1.0"), json!({ "cni.dev/valid-attachments": [] }));
    world.call(Call::new("GC").conf(&gc)).succeeded();
    assert_eq!(published(&world), Vec::<String>::new());
    let next = world.container();
    world.call(Call::add("next", &next).conf(&wanted)).succeeded();
    // An interface of its own has ports of its own.
    let bare =
        with(&network("twice", "twice0", "10.107.0.0/24"), json!({ "ipam": { "routes": null } }));
    let second = publishing(&bare, &[("tcp", PUBLISHED + 1, PORT, "")]);
    world.call(Call::add("next", &next).ifname("eth1").conf(&second)).succeeded();
    world.call(Call::del("next", &next).ifname("eth1").conf(&second)).succeeded();
    assert_eq!(published(&world).len(), 1, "{:?}", published(&world));
}
