//! Published ports at which a process of the host has a socket already: the runtime's own helper, a client that
//! happens to have the number, a service at 127.0.0.1. None of them is a conflict; who listens where the port is
//! published is named in the log, and refused only where an operator wants it.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Child;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::{Value, json};

use crate::network_ports::{HOST6, Server, dual, with_ipv6};
use crate::support::chain::Chain;
use crate::support::conf::with;
use crate::support::daemon::{Daemon, Options};
use crate::support::docker::{Dockerd, published};
use crate::support::eventually::eventually;
use crate::support::plugin::Call;
use crate::support::ports::{self, publishing};
use crate::support::traffic::{Echo, PATIENCE, PORT};
use crate::support::world::{HOST, OUTSIDE, World};

const EXISTS: u64 = 101;
const BOTH: [(&str, u16, u16, &str); 2] = [("tcp", PORT, PORT, ""), ("udp", PORT, PORT, "")];
const STRICT: &str = "--refuse-ports-in-use true";

/// What the log says of who listens where a port of this container is published.
fn named(daemon: &Daemon, container: &str) -> Vec<Value> {
    let mut log = daemon.log();
    log.retain(|record| {
        record["msg"].as_str().is_some_and(|msg| msg.contains("listens at a port"))
            && record["container_id"] == container
    });
    log
}

/// Waits for it, and gives the ports and the process.
#[track_caller]
fn warned(daemon: &Daemon, container: &str) -> (String, String) {
    let found = eventually("the log to name who listens", || named(daemon, container).pop());
    let text = |key: &str| found[key].as_str().expect("text").to_owned();
    (text("ports"), text("process"))
}

/// Asks from outside by TCP and UDP; whoever listens answers.
#[track_caller]
fn asked(world: &World, to: &str) {
    assert!(ports::tcp(&world.outside, to, PORT, PATIENCE), "TCP to {to}");
    assert!(ports::udp(&world.outside, to, PORT, PATIENCE), "UDP to {to}");
}

#[test]
fn who_listens_on_the_host_is_no_conflict_and_is_named() {
    let world = with_ipv6(world!());
    let daemon = world.daemon();
    let container = world.container();
    let conf = publishing(&dual("held", 112), &BOTH);
    for (number, held) in ["0.0.0.0", "::", HOST, HOST6].into_iter().enumerate() {
        let process = Echo::serve(&world.host, held);
        let name = format!("c{number}");
        let result = world.call(Call::add(&name, &container).conf(&conf)).succeeded();
        let server = Server::start(&container, &result);
        for to in [HOST, HOST6] {
            let before = server.seen().len();
            asked(&world, to);
            assert!(server.seen().len() > before, "{held}: the container is asked at {to}");
        }
        assert_eq!(process.seen(), Vec::<IpAddr>::new(), "{held}: the rules come first");
        let (ports, by) = warned(&daemon, &name);
        for port in ["tcp/7007", "udp/7007"] {
            assert!(ports.contains(port), "{held}: {ports}");
        }
        assert!(by.contains(&format!("pid {}", std::process::id())), "{held}: {by}");
        world.call(Call::del(&name, &container).conf(&conf)).succeeded();
        drop(server);
        asked(&world, if held.contains(':') { HOST6 } else { HOST });
        assert!(!process.seen().is_empty(), "{held}: then it is asked again");
    }
}

#[test]
fn a_service_at_the_loopback_keeps_it_and_is_not_spoken_of() {
    let world = with_ipv6(world!());
    let daemon = world.daemon_with(Options::default().args(STRICT));
    let container = world.container();
    let conf = publishing(&dual("inner", 113), &BOTH);
    let services = ["127.0.0.1", "::1"].map(|at| Echo::serve(&world.host, at));
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let server = Server::start(&container, &result);
    asked(&world, HOST);
    assert!(!server.seen().is_empty());
    for (at, service) in ["127.0.0.1", "::1"].iter().zip(&services) {
        assert!(ports::tcp(&world.host, at, PORT, PATIENCE), "{at}");
        assert!(!service.seen().is_empty(), "{at}");
    }
    assert_eq!(named(&daemon, "c1"), Vec::<Value>::new());
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    // Where the port is published there, too, it is one that listens where we publish.
    drop(server);
    let shown = with(&conf, json!({ "policy": { "publishLoopback": true } }));
    let said = world.call(Call::add("c2", &container).conf(&shown)).failed_with(EXISTS);
    assert!(said.contains("process of the host"), "{said}");
}

/// What a client of the host has: sockets with a peer, whose own port is the number that is published.
fn clients(world: &World) -> (TcpStream, UdpSocket, u16) {
    let peer = Echo::serve(&world.outside, OUTSIDE);
    let to = SocketAddr::new(OUTSIDE.parse().expect("an address"), PORT);
    let tcp = world.host.run(|| TcpStream::connect(to)).expect("connected");
    let own = tcp.local_addr().expect("an address").port();
    let udp = world.host.run(|| UdpSocket::bind((HOST, own))).expect("the same number");
    world.host.run(|| udp.connect(to)).expect("connected");
    drop(peer);
    (tcp, udp, own)
}

#[test]
fn a_clients_own_port_is_no_conflict() {
    let world = with_ipv6(world!());
    let daemon = world.daemon_with(Options::default().args(STRICT));
    let container = world.container();
    let (tcp, udp, own) = clients(&world);
    let wanted = [("tcp", own, PORT, ""), ("udp", own, PORT, "")];
    let conf = publishing(&dual("client", 114), &wanted);
    let result = world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let _server = Server::start(&container, &result);
    assert!(ports::tcp(&world.outside, HOST, own, PATIENCE));
    assert!(ports::tcp(&world.outside, HOST6, own, PATIENCE));
    assert_eq!(named(&daemon, "c1"), Vec::<Value>::new());
    drop((tcp, udp));
}

#[test]
fn an_operator_can_have_listeners_refused() {
    let world = with_ipv6(world!());
    let _daemon = world.daemon_with(Options::default().args(STRICT));
    let container = world.container();
    let conf = dual("strict", 115);
    for (held, free) in [("0.0.0.0", "::"), ("::", ""), (HOST, HOST6), (HOST6, "0.0.0.0")] {
        let process = Echo::serve(&world.host, held);
        for protocol in ["tcp", "udp"] {
            let wanted = publishing(&conf, &[(protocol, PORT, PORT, "")]);
            let said = world.call(Call::add("c1", &container).conf(&wanted)).failed_with(EXISTS);
            let pid = format!("pid {}", std::process::id());
            for word in [&format!("{protocol}/{PORT}"), "process of the host", &pid] {
                assert!(said.contains(word), "{held} {word}: {said}");
            }
            if free.is_empty() {
                continue;
            }
            let wanted = publishing(&conf, &[(protocol, PORT, PORT, free)]);
            world.call(Call::add("c1", &container).conf(&wanted)).succeeded();
            world.call(Call::del("c1", &container).conf(&wanted)).succeeded();
        }
        assert!(container.link("eth0").is_none());
        drop(process);
    }
}

/// A process that never looks at the sockets that it inherited, as nerdctl's helper.
struct Helper(Child);

impl Helper {
    fn start(world: &World, port: u16) -> Self {
        let at = ("0.0.0.0", port);
        let (tcp, udp) = world.host.run(|| {
            (TcpListener::bind(at).expect("a listener"), UdpSocket::bind(at).expect("a socket"))
        });
        let sockets: [OwnedFd; 2] = [tcp.into(), udp.into()];
        let inherited = sockets.each_ref().map(AsRawFd::as_raw_fd);
        let mut command = world.host.command("sleep");
        command.arg("infinity");
        // SAFETY: one system call for each, between fork and exec.
        unsafe {
            command.pre_exec(move || {
                for fd in inherited {
                    fcntl(
                        std::os::fd::BorrowedFd::borrow_raw(fd),
                        FcntlArg::F_SETFD(FdFlag::empty()),
                    )?;
                }
                Ok(())
            });
        }
        Self(command.spawn().expect("sleep"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What nerdctl does since 2.2, and podman's `network reload` beside its conmon.
#[test]
fn a_runtimes_helper_that_holds_the_ports_is_no_conflict() {
    let world = world!();
    let daemon = world.daemon();
    let container = world.container();
    let _helper = Helper::start(&world, PORT);
    let mapping =
        |protocol| json!({ "hostPort": PORT, "containerPort": PORT, "protocol": protocol });
    let chain = Chain::new(include_str!("data/conflists/nerdctl.json"))
        .told(json!({ "portMappings": [mapping("tcp"), mapping("udp")] }));
    for round in 0..2 {
        let result = chain.add(&world, "c1", &container);
        let server = Server::start(&container, &result);
        asked(&world, HOST);
        assert!(!server.seen().is_empty(), "round {round}");
        drop(server);
        chain.del(&world, "c1", &container, Some(&result));
    }
    let (ports, by) = warned(&daemon, "c1");
    assert!(ports.contains("tcp/7007") && ports.contains("udp/7007"), "{ports}");
    assert!(by.contains("\"sleep\", pid "), "{by}");
}

/// dockerd holds no ports of our networks, and refuses a port that is in use in its own.
#[test]
fn docker_is_refused_a_port_at_which_a_process_listens() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    let net = dockerd.create_network('a', 90, json!({}));
    let one = dockerd.run(&net, '1', "10.90.0.2/24", &json!([]));
    let service = Echo::serve(&world.host, "0.0.0.0");
    let (_, said) = dockerd.program(&one, &published(PORT, PORT));
    assert!(said["Err"].as_str().is_some_and(|err| err.contains("process of the host")), "{said}");
    let mut range = published(PORT, PORT);
    range[0]["HostPortEnd"] = json!(PORT + 1);
    assert_eq!(dockerd.program(&one, &range).1, json!({}), "the next one is free");
    drop(service);
    let two = dockerd.run(&net, '2', "10.90.0.3/24", &json!([]));
    assert_eq!(dockerd.program(&two, &published(PORT, PORT)).1, json!({}));
}
