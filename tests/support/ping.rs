//! ICMP echo, by a raw socket made inside a namespace.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::netns::Netns;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;

/// Pings an IPv4 address until it answers; true if it did within the time.
pub(crate) fn ping(from: &Netns, to: &str, within: Duration) -> bool {
    let to: Ipv4Addr = to.parse().expect("an IPv4 address");
    let raw = from.run(|| {
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)
            .expect("a raw socket")
    });
    // The same system calls send and receive on a raw socket; the port is not looked at.
    let socket = UdpSocket::from(raw);
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a bound");
    let deadline = Instant::now() + within;
    let mut number = 0_u16;
    while Instant::now() < deadline {
        number += 1;
        if socket.send_to(&request(number), (to, 0)).is_err() {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        }
        let mut buffer = [0; 2048];
        while let Ok((n, peer)) = socket.recv_from(&mut buffer) {
            let header = usize::from(buffer[0] & 0x0f) * 4;
            let icmp = &buffer[header.min(n)..n];
            if peer.ip() == IpAddr::V4(to) && icmp.first() == Some(&ECHO_REPLY) {
                return true;
            }
        }
    }
    false
}

fn request(number: u16) -> [u8; 8] {
    let [high, low] = number.to_be_bytes();
    let mut packet = [ECHO_REQUEST, 0, 0, 0, 0x51, 0x43, high, low];
    let mut sum: u32 =
        packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).expect("folded");
    packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    packet
}
