//! Published ports: what asks for them, and clients of any transport that ask by them.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use serde_json::{Value, json};

use super::conf::with;
use super::netns::Netns;

/// How long the answer to one datagram is waited for before it is sent again.
const TICK: Duration = Duration::from_millis(50);
/// Types of SCTP chunks.
pub(crate) const INIT: u8 = 1;
pub(crate) const INIT_ACK: u8 = 2;

/// `conf` with these mappings: protocol, host's port, container's port, hostIP (may be empty).
pub(crate) fn publishing(conf: &Value, mappings: &[(&str, u16, u16, &str)]) -> Value {
    let entries: Vec<Value> = mappings
        .iter()
        .map(|(protocol, host, container, ip)| {
            json!({ "protocol": protocol, "hostPort": host, "containerPort": container, "hostIP": ip })
        })
        .collect();
    with(conf, json!({ "runtimeConfig": { "portMappings": entries } }))
}

fn at(to: &str, port: u16) -> SocketAddr {
    SocketAddr::new(to.parse().expect("an address"), port)
}

fn any(to: &SocketAddr) -> SocketAddr {
    at(if to.is_ipv4() { "0.0.0.0" } else { "::" }, 0)
}

/// Asks an echo server by TCP, as who it is asked; true if it answers within the time.
pub(crate) fn tcp(from: &Netns, to: &str, port: u16, within: Duration) -> bool {
    let to = at(to, port);
    let Ok(mut stream) = from.run(|| TcpStream::connect_timeout(&to, within)) else {
        return false;
    };
    stream.set_read_timeout(Some(within)).expect("a bound");
    let mut buffer = [0; 10];
    stream.write_all(b"a question").is_ok()
        && stream.read_exact(&mut buffer).is_ok()
        && buffer == *b"a question"
}

/// Asks by UDP, as often as there is time for, from one port.
pub(crate) fn udp(from: &Netns, to: &str, port: u16, within: Duration) -> bool {
    udp_client(from, to, port).is_some_and(|socket| {
        let deadline = Instant::now() + within;
        std::iter::from_fn(|| (Instant::now() < deadline).then_some(()))
            .any(|()| udp_once(&socket, TICK))
    })
}

/// A socket that only hears from there; nothing without a route.
pub(crate) fn udp_client(from: &Netns, to: &str, port: u16) -> Option<UdpSocket> {
    let to = at(to, port);
    from.run(|| {
        let socket = UdpSocket::bind(any(&to)).expect("a socket");
        socket.connect(to).ok().map(|()| socket)
    })
}

/// One question; true if it is answered in time.
pub(crate) fn udp_once(socket: &UdpSocket, within: Duration) -> bool {
    socket.set_read_timeout(Some(within)).expect("a bound");
    if socket.send(b"a question").is_err() {
        std::thread::sleep(within / 10);
        return false;
    }
    socket.recv(&mut [0; 16]).is_ok_and(|n| n == 10)
}

/// A raw socket for SCTP, of which kernels may know nothing. Its packets are built here.
#[derive(Debug)]
pub(crate) struct Sctp {
    socket: UdpSocket,
    is_v4: bool,
}

/// What came: who sent it, the ports, the type of its first chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) peer: IpAddr,
    pub(crate) from: u16,
    pub(crate) to: u16,
    kind: u8,
}

impl Sctp {
    /// One in `netns`, for the family of `of`.
    pub(crate) fn open(netns: &Netns, of: &str) -> Self {
        let is_v4 = at(of, 0).is_ipv4();
        let family = if is_v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let raw = netns.run(|| {
            socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp)
                .expect("a raw socket")
        });
        // The same system calls send and receive on a raw socket; the port is not looked at.
        Self { socket: UdpSocket::from(raw), is_v4 }
    }

    /// One packet between these ports, of the chunk of this type.
    pub(crate) fn send(&self, to: IpAddr, ports: (u16, u16), kind: u8) -> bool {
        self.socket.send_to(&packet(ports, kind), SocketAddr::new(to, 0)).is_ok()
    }

    /// The next packet of this kind for this port whose checksum is right.
    fn hear(&self, port: u16, kind: u8, within: Duration) -> Option<Heard> {
        let deadline = Instant::now() + within;
        let mut buffer = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.socket.set_read_timeout(Some(left)).expect("a bound");
            let Ok((n, peer)) = self.socket.recv_from(&mut buffer) else { continue };
            let header = if self.is_v4 { usize::from(buffer[0] & 0x0f) * 4 } else { 0 };
            let found = read(&buffer[header.min(n)..n], peer.ip());
            if let Some(heard) = found.filter(|heard| (heard.to, heard.kind) == (port, kind)) {
                return Some(heard);
            }
        }
    }
}

/// Begins an association from outside of the container: an INIT to `to`, which must come to the socket
/// `server` at `port`, and whose answer must come back from where the INIT was sent. Gives who the server
/// saw; nothing if either did not come.
pub(crate) fn sctp(
    from: &Netns,
    to: (&str, u16),
    server: &Sctp,
    port: u16,
    within: Duration,
) -> Option<IpAddr> {
    static TURN: AtomicU16 = AtomicU16::new(0);
    let client = Sctp::open(from, to.0);
    let address = at(to.0, 0).ip();
    // Another one each time: the kernel remembers the last.
    let own = 20_000 + TURN.fetch_add(1, Ordering::Relaxed) % 10_000;
    if !client.send(address, (own, to.1), INIT) {
        return None;
    }
    let heard = server.hear(port, INIT, within)?;
    assert!(server.send(heard.peer, (port, heard.from), INIT_ACK), "the answer is sent");
    let answer = client.hear(own, INIT_ACK, within)?;
    assert_eq!((answer.peer, answer.from), (address, to.1), "answered by another");
    Some(heard.peer)
}

fn packet((from, to): (u16, u16), kind: u8) -> Vec<u8> {
    let mut packet = [from.to_be_bytes(), to.to_be_bytes()].concat();
    // An INIT has no tag yet; its answer has that of the INIT.
    let tag: u32 = if kind == INIT { 0 } else { 0x5143 };
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([kind, 0, 0, 20]);
    packet.extend(0x5143_u32.to_be_bytes());
    packet.extend(65_536_u32.to_be_bytes());
    packet.extend([0, 1, 0, 1]);
    packet.extend(1_u32.to_be_bytes());
    let sum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&sum);
    packet
}

/// Nothing if the checksum is wrong.
fn read(packet: &[u8], peer: IpAddr) -> Option<Heard> {
    let sum: [u8; 4] = packet.get(8..12)?.try_into().ok()?;
    let mut blank = packet.to_vec();
    blank[8..12].fill(0);
    let port = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let heard = Heard { peer, from: port(0)?, to: port(2)?, kind: *packet.get(12)? };
    (crc32c(&blank).to_le_bytes() == sum).then_some(heard)
}

/// RFC 9260, appendix A: the reflected Castagnoli polynomial.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(u32::MAX, byte)
}

#[test]
fn the_checksum_is_the_one_of_sctp() {
    // RFC 3720, B.4.
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
