//! The beginning of an IP packet, read as far as it goes: who sent it to whom, and what is spoken. Pure.
//! Whoever sends it may have made it up, so nothing here believes a length.

use std::net::IpAddr;

use quantum_config::cni::{Family, Transport};

use crate::policy::Spoken;

// The numbers of protocols and extension headers (IANA).
const HOP_BY_HOP: u8 = 0;
const ICMP: u8 = 1;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const ICMPV6: u8 = 58;
const DESTINATION: u8 = 60;

/// The length of an IPv4 header without options, and that of an IPv6 header.
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

/// ICMP's answers, and to what.
const ANSWERS: [(u8, u8); 4] = [(0, 8), (14, 13), (16, 15), (18, 17)];
const V6_ANSWERS: [(u8, u8); 2] = [(129, 128), (140, 139)];

/// What could be read of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) spoken: Spoken,
    /// The port that it comes from.
    from_port: Option<u16>,
}

impl Packet {
    /// Reads a packet that begins with its IP header. None without both addresses.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::v4(bytes),
            6 => Self::v6(bytes),
            _ => None,
        }
    }

    fn v4(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<V4_HEADER>()?;
        let from = <[u8; 4]>::try_from(&header[12..16]).ok()?;
        let to = <[u8; 4]>::try_from(&header[16..20]).ok()?;
        // With its options.
        let length = usize::from(header[0] & 0x0f) * 4;
        let is_later = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
        let body = bytes.get(length.max(V4_HEADER)..).unwrap_or_default();
        let body = if is_later { &[] } else { body };
        let (spoken, from_port) = speech(Family::V4, header[9], body);
        Some(Self { from: from.into(), to: to.into(), spoken, from_port })
    }

    fn v6(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<V6_HEADER>()?;
        let from = <[u8; 16]>::try_from(&header[8..24]).ok()?;
        let to = <[u8; 16]>::try_from(&header[24..40]).ok()?;
        let (protocol, body) = behind_extensions(header[6], &bytes[V6_HEADER..]);
        let (spoken, from_port) = speech(Family::V6, protocol, body);
        Some(Self { from: from.into(), to: to.into(), spoken, from_port })
    }

    /// The same as whom it answers began it. An ICMP error answers nobody, and stays what it is.
    pub(super) fn turned(self) -> Self {
        let answers: &[(u8, u8)] = if self.from.is_ipv4() { &ANSWERS } else { &V6_ANSWERS };
        let (spoken, from_port) = match (self.spoken, self.from_port) {
            (Spoken::Port(transport, port), Some(from)) => {
                (Spoken::Port(transport, from), Some(port))
            }
            (Spoken::Icmp { kind, code }, _) => match answers.iter().find(|(a, _)| *a == kind) {
                Some((_, asked)) => (Spoken::Icmp { kind: *asked, code }, None),
                None => return self,
            },
            (other, port) => (other, port),
        };
        Self { from: self.to, to: self.from, spoken, from_port }
    }
}

/// The protocol behind the extension headers that the kernel's rules look behind too, and what follows. In
/// a later fragment, and where the packet was cut off, nothing does.
fn behind_extensions(mut next: u8, mut rest: &[u8]) -> (u8, &[u8]) {
    loop {
        let length = match (next, rest.get(1)) {
            (HOP_BY_HOP | ROUTING | DESTINATION, Some(length)) => (usize::from(*length) + 1) * 8,
            (AUTHENTICATION, Some(length)) => (usize::from(*length) + 2) * 4,
            (FRAGMENT, Some(_)) => 8,
            _ => return (next, rest),
        };
        let is_later = next == FRAGMENT
            && rest.get(2..4).is_none_or(|o| u16::from_be_bytes([o[0], o[1]]) >> 3 != 0);
        next = rest[0];
        if is_later {
            return (next, &[]);
        }
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// What is spoken, and the port it comes from.
fn speech(family: Family, protocol: u8, body: &[u8]) -> (Spoken, Option<u16>) {
    let is_icmp = match family {
        Family::V4 => protocol == ICMP,
        Family::V6 => protocol == ICMPV6,
    };
    match (Transport::from_number(protocol), body) {
        (Some(transport), [a, b, c, d, ..]) => {
            let port = Spoken::Port(transport, u16::from_be_bytes([*c, *d]));
            (port, Some(u16::from_be_bytes([*a, *b])))
        }
        (None, [kind, code, ..]) if is_icmp => (Spoken::Icmp { kind: *kind, code: *code }, None),
        _ => (Spoken::Protocol(protocol), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: [u8; 8] = [0xc0, 0x01, 0x01, 0xbb, 0, 0, 0, 0];

    fn v4(words: u8, fragment: u16, protocol: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x40 | words, 0, 0, 0, 0, 0];
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, protocol, 0, 0, 10, 0, 0, 2, 10, 0, 0, 3]);
        bytes.extend(rest);
        bytes
    }

    fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        for last in [2, 3] {
            let address: std::net::Ipv6Addr = format!("fd00::{last}").parse().expect("an address");
            bytes.extend(address.octets());
        }
        bytes.extend(rest);
        bytes
    }

    #[track_caller]
    fn spoken(bytes: &[u8]) -> Spoken {
        let packet = Packet::read(bytes).expect("a packet");
        let ends = (packet.from.to_string(), packet.to.to_string());
        let v4 = ("10.0.0.2".to_owned(), "10.0.0.3".to_owned());
        let v6 = ("fd00::2".to_owned(), "fd00::3".to_owned());
        assert_eq!(ends, if packet.from.is_ipv4() { v4 } else { v6 });
        packet.spoken
    }

    const HTTPS: Spoken = Spoken::Port(Transport::Tcp, 443);

    #[test]
    fn options_are_no_ports() {
        assert_eq!(spoken(&v4(5, 0, 6, &TCP)), HTTPS);
        let mut with_options = vec![7; 8];
        with_options.extend(TCP);
        assert_eq!(spoken(&v4(7, 0, 6, &with_options)), HTTPS);
        assert_eq!(spoken(&v4(0, 0, 6, &TCP)), HTTPS, "a length that no header has");
        assert_eq!(spoken(&v4(15, 0, 6, &TCP)), Spoken::Protocol(6), "options cut off");
    }

    #[test]
    fn only_the_first_fragment_has_ports() {
        assert_eq!(spoken(&v4(5, 0x2000, 6, &TCP)), HTTPS);
        assert_eq!(spoken(&v4(5, 0x2001, 6, &TCP)), Spoken::Protocol(6));
        assert_eq!(spoken(&v4(5, 0x4000, 6, &TCP)), HTTPS, "do not fragment");
        for (offset, expected) in [(1, HTTPS), (8 | 1, Spoken::Protocol(6))] {
            let mut rest = vec![6, 0, 0, offset, 0, 0, 0, 1];
            rest.extend(TCP);
            assert_eq!(spoken(&v6(FRAGMENT, &rest)), expected);
        }
    }

    #[test]
    fn extension_headers_are_walked() {
        // Hop-by-hop of 8 bytes, destination of 16, routing of 24, authentication of 12, fragment.
        let mut rest = vec![DESTINATION, 0, 9, 9, 9, 9, 9, 9];
        rest.extend([ROUTING, 1]);
        rest.extend([9; 14]);
        rest.extend([AUTHENTICATION, 2]);
        rest.extend([9; 22]);
        rest.extend([FRAGMENT, 1]);
        rest.extend([9; 10]);
        rest.extend([6, 0, 0, 0, 9, 9, 9, 9]);
        rest.extend(TCP);
        let whole = v6(HOP_BY_HOP, &rest);
        assert_eq!(spoken(&whole), HTTPS);
        // Cut off anywhere, it tells what came until then.
        let known = [HOP_BY_HOP, DESTINATION, ROUTING, AUTHENTICATION, FRAGMENT, 6];
        for length in V6_HEADER..whole.len() - 4 {
            let Spoken::Protocol(number) = spoken(&whole[..length]) else {
                assert!(length >= whole.len() - TCP.len() + 4, "ports out of nothing at {length}");
                continue;
            };
            assert!(known.contains(&number), "{number} at {length}");
        }
        assert_eq!(spoken(&v6(59, &TCP)), Spoken::Protocol(59), "nothing follows");
        assert_eq!(spoken(&v6(50, &TCP)), Spoken::Protocol(50), "what is encrypted has no ports");
    }

    #[test]
    fn icmp_is_that_of_its_family() {
        let echo = [8, 0, 1, 1];
        assert_eq!(spoken(&v4(5, 0, ICMP, &echo)), Spoken::Icmp { kind: 8, code: 0 });
        assert_eq!(spoken(&v4(5, 0, ICMPV6, &echo)), Spoken::Protocol(58));
        assert_eq!(spoken(&v6(ICMPV6, &[1, 4])), Spoken::Icmp { kind: 1, code: 4 });
        assert_eq!(spoken(&v6(ICMP, &echo)), Spoken::Protocol(1));
        assert_eq!(spoken(&v6(ICMPV6, &[1])), Spoken::Protocol(58));
    }

    #[test]
    fn without_addresses_there_is_nothing() {
        for bytes in [&v4(5, 0, 6, &TCP)[..19], &v6(6, &TCP)[..39], &[], &[0x50; 64]] {
            assert_eq!(Packet::read(bytes), None);
        }
        assert_eq!(spoken(&v4(5, 0, 6, &TCP[..3])), Spoken::Protocol(6));
    }

    #[test]
    fn an_answer_is_turned_to_what_it_answers() {
        let answer = Packet::read(&v4(5, 0, 17, &[0, 53, 0xc0, 1])).expect("a packet");
        let asked = answer.turned();
        assert_eq!((asked.from, asked.to), (answer.to, answer.from));
        assert_eq!(asked.spoken, Spoken::Port(Transport::Udp, 53));
        let turned = |bytes: &[u8]| Packet::read(bytes).expect("a packet").turned();
        let pong = turned(&v6(ICMPV6, &[129, 0]));
        assert_eq!(pong.spoken, Spoken::Icmp { kind: 128, code: 0 });
        assert_eq!(pong.from.to_string(), "fd00::3");
        let error = turned(&v4(5, 0, ICMP, &[3, 4]));
        assert_eq!(error.spoken, Spoken::Icmp { kind: 3, code: 4 });
        assert_eq!(error.from.to_string(), "10.0.0.2");
        let tunnel = turned(&v4(5, 0, 47, &[]));
        assert_eq!(
            (tunnel.from.to_string(), tunnel.spoken),
            ("10.0.0.3".to_owned(), Spoken::Protocol(47))
        );
    }
}
