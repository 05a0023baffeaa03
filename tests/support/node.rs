//! Containers of a grid, with all they ask and answer by: `probe.rs` has them ask each other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use super::frames::{ARP, EVERYBODY, IP4, IP6, Mac, Wire, arp, frame, mac, mark};
use super::netns::Netns;
use super::plugin::Call;
use super::ports::Sctp;
use super::world::World;

/// The ports at which every container is asked.
pub(crate) const PORTS: [u16; 2] = [80, 81];
/// What is asked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// A container that asks and answers.
#[derive(Debug)]
pub(crate) struct Node {
    /// `namespace/name`.
    pub(crate) name: String,
    pub(crate) netns: Netns,
    mac: Mac,
    /// In the order of the network's ranges.
    pub(super) addresses: Vec<IpAddr>,
    gateway: Ipv4Addr,
    pub(super) taps: Vec<Wire>,
    pub(super) arp: Wire,
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    pub(super) sctp: Sctp,
}

impl Node {
    /// Attaches it, and answers from then on.
    pub(crate) fn attach(world: &World, name: &str, call: impl FnOnce(&Netns) -> Call) -> Self {
        let netns = world.container();
        let result = world.call(call(&netns)).succeeded();
        let ips = result["ips"].as_array().expect("addresses").iter();
        let part = |text: &str| text.split('/').next().expect("its front").parse().expect("one");
        let addresses: Vec<IpAddr> =
            ips.map(|ip| part(ip["address"].as_str().expect("an address"))).collect();
        let gateway = result["ips"][0]["gateway"].as_str().expect("a gateway");
        let kinds = [IP4, IP6];
        let taps = kinds.map(|kind| Wire::for_kind(&netns, "eth0", kind)).into();
        let every = || addresses.iter().flat_map(|ip| PORTS.map(|port| SocketAddr::new(*ip, port)));
        let udp = netns.run(|| every().map(|at| UdpSocket::bind(at).expect("a socket")).collect());
        let tcp =
            netns.run(|| every().map(|at| TcpListener::bind(at).expect("a listener")).collect());
        for socket in &udp {
            UdpSocket::set_nonblocking(socket, true).expect("non-blocking");
        }
        for listener in &tcp {
            TcpListener::set_nonblocking(listener, true).expect("non-blocking");
        }
        Self {
            name: name.to_owned(),
            mac: mac(result["interfaces"][2]["mac"].as_str().expect("a MAC")),
            gateway: gateway.parse().expect("an address"),
            arp: Wire::for_kind(&netns, "eth0", ARP),
            sctp: Sctp::open(&netns, "0.0.0.0"),
            addresses,
            taps,
            udp,
            tcp,
            netns,
        }
    }

    /// Answers what came by UDP and TCP.
    pub(super) fn serve(&self) {
        let mut buffer = [0; 64];
        for socket in &self.udp {
            while let Ok((n, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..n], peer);
            }
        }
        for listener in &self.tcp {
            while listener.accept().is_ok() {}
        }
    }

    pub(super) fn ask_for_the_gateway(&self) {
        let IpAddr::V4(own) = self.addresses[0] else { panic!("{:?}", self.addresses) };
        let question = arp(1, (self.mac, own), self.gateway, mark(0));
        self.arp.send(&frame(EVERYBODY, self.mac, ARP, &question));
    }

    /// Whether the gateway's answer has come; what came before is forgotten.
    pub(super) fn has_heard_the_gateway(&self) -> bool {
        let mut buffer = [0; 128];
        let mut heard = false;
        while let Some(frame) = self.arp.next(&mut buffer) {
            let says = frame.get(20..22) == Some(&[0, 2]);
            heard |= says && frame.get(28..32) == Some(&self.gateway.octets());
        }
        heard
    }
}
