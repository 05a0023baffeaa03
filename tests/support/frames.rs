//! Frames made by hand, sent and seen by packet sockets.
//!
//! Each frame carries a mark: whoever sees the mark has been given the frame, whatever became of its
//! headers on the way (tags are taken off, fragments are put together).

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socket, sockopt,
};

use super::eventually::eventually;
use super::netns::Netns;

pub(crate) type Mac = [u8; 6];

pub(crate) const EVERYBODY: Mac = [0xff; 6];
/// Where a bridge passes nothing on: the next link only. It is that of 802.1X.
pub(crate) const NEXT_LINK: Mac = [0x01, 0x80, 0xc2, 0, 0, 3];

pub(crate) const IP4: u16 = 0x0800;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const IP6: u16 = 0x86dd;
pub(crate) const LLDP: u16 = 0x88cc;
pub(crate) const EAPOL: u16 = 0x888e;
const EVERYTHING: u16 = 0x0003;

const ICMP4: u8 = 1;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ICMP6: u8 = 58;

/// What a frame is known by.
pub(crate) type Mark = [u8; 6];

/// The mark of a number.
pub(crate) fn mark(number: u16) -> Mark {
    let [high, low] = number.to_be_bytes();
    [b'm', b'k', 0xa7, 0x5c, high, low]
}

pub(crate) fn mac(text: &str) -> Mac {
    let bytes: Vec<u8> =
        text.split(':').map(|b| u8::from_str_radix(b, 16).expect("a MAC")).collect();
    bytes.try_into().expect("six bytes")
}

/// The link-local address of an interface of this hardware address.
pub(crate) fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

pub(crate) fn frame(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// The same frame with a tag before its type.
pub(crate) fn tagged(frame: &[u8], kind: u16, vlan: u16) -> Vec<u8> {
    [&frame[..12], &kind.to_be_bytes(), &vlan.to_be_bytes(), &frame[12..]].concat()
}

/// Who says what in ARP; `operation` 1 asks, 2 answers.
pub(crate) fn arp(operation: u8, sender: (Mac, Ipv4Addr), target: Ipv4Addr, mark: Mark) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let (hardware, address) = (sender.0, sender.1.octets());
    [&head[..], &hardware, &address, &[0; 6], &target.octets(), &mark, &[0; 12]].concat()
}

/// A UDP datagram with this payload.
pub(crate) fn udp(from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("a length").to_be_bytes();
    let ports = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    let mut datagram = [&ports[..], &length, &[0, 0], payload].concat();
    let sum = checksum(&[&pseudo_header(from.0, to.0, UDP, datagram.len()), &datagram]);
    datagram[6..8].copy_from_slice(&sum);
    datagram
}

/// A segment of TCP with these flags and this payload.
pub(crate) fn tcp(from: (IpAddr, u16), to: (IpAddr, u16), flags: u8, payload: &[u8]) -> Vec<u8> {
    let ports = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    let rest = [0, 0, 0, 9, 0, 0, 0, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0];
    let mut segment = [&ports[..], &rest, payload].concat();
    let header = pseudo_header(from.0, to.0, protocol::TCP, segment.len());
    let sum = checksum(&[&header, &segment]);
    segment[16..18].copy_from_slice(&sum);
    segment
}

/// A packet of either family.
pub(crate) fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ip4(from, to, protocol, payload),
        (IpAddr::V6(from), IpAddr::V6(to)) => ip6(from, to, protocol, payload),
        _ => panic!("{from} and {to} are of different families"),
    }
}

/// An ICMP message of IPv4; the rest of its header is four bytes.
pub(crate) fn icmp4(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], &rest, body].concat();
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum);
    message
}

/// The same of IPv6, whose checksum covers the addresses.
pub(crate) fn icmp6(
    (from, to): (Ipv6Addr, Ipv6Addr),
    kind: u8,
    rest: [u8; 4],
    body: &[u8],
) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], &rest, body].concat();
    let header = pseudo_header(from.into(), to.into(), ICMP6, message.len());
    let sum = checksum(&[&header, &message]);
    message[2..4].copy_from_slice(&sum);
    message
}

/// A packet of IPv4; its protocol is UDP or ICMP.
pub(crate) fn ip4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ip4_part((from, to), protocol, payload, (0, false), 0)
}

/// The same in two fragments, the first of which has `first` bytes, a multiple of eight.
pub(crate) fn ip4_fragments(
    (from, to): (Ipv4Addr, Ipv4Addr),
    protocol: u8,
    payload: &[u8],
    first: usize,
    id: u16,
) -> [Vec<u8>; 2] {
    let (one, two) = payload.split_at(first);
    [
        ip4_part((from, to), protocol, one, (0, true), id),
        ip4_part((from, to), protocol, two, (first, false), id),
    ]
}

fn ip4_part(
    (from, to): (Ipv4Addr, Ipv4Addr),
    protocol: u8,
    payload: &[u8],
    (offset, more): (usize, bool),
    id: u16,
) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("a length").to_be_bytes();
    let place = u16::try_from(offset / 8).expect("an offset") | u16::from(more) << 13;
    let [id, place] = [id, place].map(u16::to_be_bytes);
    let (from, to) = (from.octets(), to.octets());
    let head = [0x45, 0, length[0], length[1], id[0], id[1], place[0], place[1], 64, protocol];
    let mut header = [&head[..], &[0, 0], &from, &to].concat();
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    [&header[..], payload].concat()
}

/// A packet of IPv6.
pub(crate) fn ip6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a length").to_be_bytes();
    let head = [0x60, 0, 0, 0, length[0], length[1], next, 255];
    [&head[..], &from.octets(), &to.octets(), payload].concat()
}

/// The same packet, of either family, with so many routers to go.
pub(crate) fn hops(mut packet: Vec<u8>, left: u8) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        packet[7] = left;
        return packet;
    }
    packet[8] = left;
    packet[10..12].fill(0);
    let length = usize::from(packet[0] & 15) * 4;
    let sum = checksum(&[&packet[..length]]);
    packet[10..12].copy_from_slice(&sum);
    packet
}

/// The same in fragments that end where `ends` says, which are multiples of eight, and at its end.
pub(crate) fn ip6_fragments(
    (from, to): (Ipv6Addr, Ipv6Addr),
    next: u8,
    payload: &[u8],
    ends: &[usize],
    id: u32,
) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for end in ends.iter().copied().chain([payload.len()]) {
        let place = u16::try_from(begin).expect("an offset") | u16::from(end < payload.len());
        let head = [&[next, 0][..], &place.to_be_bytes(), &id.to_be_bytes()].concat();
        parts.push(ip6(from, to, FRAGMENT, &[&head, &payload[begin..end]].concat()));
        begin = end;
    }
    parts
}

/// A message behind a header of hop-by-hop options that has nothing but padding.
pub(crate) fn behind_options(next: u8, payload: &[u8]) -> Vec<u8> {
    [&[next, 0, 1, 4, 0, 0, 0, 0][..], payload].concat()
}

/// The option of neighbour discovery that any number may stand in (a nonce, RFC 3971), with the mark in it.
pub(crate) fn option(mark: Mark) -> Vec<u8> {
    [&[14, 1][..], &mark].concat()
}

fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let length = u16::try_from(length).expect("a length").to_be_bytes();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            [&from.octets()[..], &to.octets(), &[0, protocol], &length].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let (from, to) = (from.octets(), to.octets());
            [&from[..], &to, &[0, 0], &length, &[0, 0, 0, protocol]].concat()
        }
        _ => panic!("{from} and {to} are of different families"),
    }
}

/// The Internet checksum of all parts; each but the last has an even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let pairs = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 =
        pairs.map(|p| u32::from(u16::from_be_bytes([p[0], p.get(1).copied().unwrap_or(0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).expect("folded")).to_be_bytes()
}

/// Protocol, sender and receiver of a packet.
pub(crate) type Ends = (u8, SocketAddr, SocketAddr);

/// The ends of a packet, which has no extension headers, and the flags of TCP or the type of SCTP's first
/// chunk.
pub(crate) fn ends(bytes: &[u8]) -> Option<(Ends, u8)> {
    let (protocol, from, to, rest): (u8, IpAddr, IpAddr, &[u8]) = match bytes.first()? >> 4 {
        4 => {
            let [from, to] = [12, 16].map(|at| bytes.get(at..at + 4)?.try_into().ok());
            let [from, to]: [[u8; 4]; 2] = [from?, to?];
            let rest = bytes.get(usize::from(bytes[0] & 15) * 4..)?;
            (*bytes.get(9)?, Ipv4Addr::from(from).into(), Ipv4Addr::from(to).into(), rest)
        }
        _ => {
            let [from, to] = [8, 24].map(|at| bytes.get(at..at + 16)?.try_into().ok());
            let [from, to]: [[u8; 16]; 2] = [from?, to?];
            let rest = bytes.get(40..)?;
            (*bytes.get(6)?, Ipv6Addr::from(from).into(), Ipv6Addr::from(to).into(), rest)
        }
    };
    let kind = *rest.get(if protocol == 6 { 13 } else { 12 }).unwrap_or(&0);
    let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    let ends = (protocol, SocketAddr::new(from, port(0)?), SocketAddr::new(to, port(2)?));
    Some((ends, kind))
}

/// A packet socket on one link: what is sent goes out there, and what is seen was given to that link.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: OwnedFd,
    seen: HashMap<u16, u32>,
    heard: HashSet<Mac>,
}

impl Wire {
    /// On a link of a namespace, for every frame.
    pub(crate) fn on(netns: &Netns, link: &str) -> Self {
        Self::for_kind(netns, link, EVERYTHING)
    }

    /// The same for one type of frames. Of a bridge's port it sees what the bridge leaves to the host.
    pub(crate) fn for_kind(netns: &Netns, link: &str, kind: u16) -> Self {
        let socket = netns.run(|| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None);
            let socket = socket.expect("a packet socket");
            let index = nix::net::if_::if_nametoindex(link).expect(link);
            bind(&socket, index, kind);
            socket
        });
        Self { socket, seen: HashMap::new(), heard: HashSet::new() }
    }

    /// On a link, for what comes in by it and not for what goes out.
    pub(crate) fn arriving(netns: &Netns, link: &str) -> Self {
        const IGNORE_OUTGOING: libc::c_int = 23;
        let wire = Self::on(netns, link);
        let (one, length) = (1 as libc::c_int, size_of::<libc::c_int>() as libc::socklen_t);
        let (socket, value) = (wire.socket.as_raw_fd(), (&raw const one).cast());
        // SAFETY: the value lives until the call returns, and its length is given with it.
        let done =
            unsafe { libc::setsockopt(socket, libc::SOL_PACKET, IGNORE_OUTGOING, value, length) };
        assert_eq!(done, 0, "PACKET_IGNORE_OUTGOING: {}", std::io::Error::last_os_error());
        // As much as is sent between two looks; where that is refused, it holds less.
        let _ = setsockopt(&wire.socket, sockopt::RcvBufForce, &(8 << 20));
        wire
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty());
        assert_eq!(sent, Ok(frame.len()), "a frame of {} bytes", frame.len());
    }

    /// The next frame that came, if there is one. Its marks are not counted.
    pub(crate) fn next<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let n = recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty()).ok()?;
        Some(&buffer[..n])
    }

    /// What can be polled for frames.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// How often a mark was seen so far.
    pub(crate) fn seen(&mut self, number: u16) -> u32 {
        let mut buffer = [0; 65536];
        while let Ok(n) = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            if let Some(from) = buffer[..n].get(6..12) {
                self.heard.insert(from.try_into().expect("six bytes"));
            }
            let begin = &mark(0)[..4];
            for window in buffer[..n].windows(6).filter(|w| &w[..4] == begin) {
                *self.seen.entry(u16::from_be_bytes([window[4], window[5]])).or_default() += 1;
            }
        }
        self.seen.get(&number).copied().unwrap_or(0)
    }

    /// Whether anything was seen that this hardware address sent.
    pub(crate) fn has_heard(&mut self, from: Mac) -> bool {
        self.seen(0);
        self.heard.contains(&from)
    }

    /// Waits until a mark is seen. What was sent before it by the same link has come by then, if it
    /// does.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, number: u16, what: &str) {
        eventually(what, || (self.seen(number) > 0).then_some(()));
    }
}

fn bind(socket: &OwnedFd, index: u32, kind: u16) {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: kind.to_be(),
        sll_ifindex: i32::try_from(index).expect("an index"),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address lives until the call returns, and its length is given with it.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    assert_eq!(done, 0, "bind: {}", std::io::Error::last_os_error());
}

pub(crate) mod protocol {
    //! Numbers of what IP carries.

    pub(crate) const ICMP4: u8 = super::ICMP4;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = super::UDP;
    pub(crate) const ICMP6: u8 = super::ICMP6;
    /// Options for every router on the way come first.
    pub(crate) const HOP_BY_HOP: u8 = 0;
    /// Options for the receiver come first.
    pub(crate) const OPTIONS: u8 = 60;
}
