//! Frames by chance: headers that are mostly right, in every combination, from a seed.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::forged::Side;
use super::frames::{ARP, EAPOL, EVERYBODY, IP4, IP6, LLDP, Mac, Mark, arp, link_local};

/// The same numbers for the same seed (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).expect("a number")).expect("below")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// In so many of a hundred times.
    fn in_hundred(&mut self, times: usize) -> bool {
        self.below(100) < times
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Who is there: the sender, and whom it could send to or say that it is.
#[derive(Debug, Clone)]
pub(crate) struct Cast {
    pub(crate) me: Side,
    pub(crate) others: Vec<Side>,
    pub(crate) broadcast: Ipv4Addr,
}

/// A frame with a mark, of which the most is as it should be.
pub(crate) fn frame(chance: &mut Chance, cast: &Cast, mark: Mark) -> Vec<u8> {
    let me = cast.me;
    let other = chance.of(&cast.others);
    let from = if chance.in_hundred(90) { me.mac } else { mac(chance, cast) };
    let (kind, payload) = match chance.below(100) {
        0..40 => (IP4, four(chance, cast, mark)),
        40..80 => (IP6, six(chance, cast, mark)),
        80..90 => {
            let says = if chance.in_hundred(70) { me } else { other };
            let operation = chance.of(&[1, 1, 2, 2, 0, 3, 4, 9]);
            let mut says = arp(operation, (says.mac, says.v4), other.v4, mark);
            if chance.in_hundred(30) {
                let at = chance.below(18);
                says[at] = chance.byte();
            }
            (ARP, says)
        }
        _ => {
            let kind = chance.of(&[LLDP, EAPOL, 0x8864, 0x8847, 0x8035, 0x88f7, 0x0842, 60, 1500]);
            let kind =
                if chance.in_hundred(50) { kind } else { chance.next().to_le_bytes()[0].into() };
            let before = chance.below(60);
            (kind, [&chance.bytes(before)[..], &mark, &[0; 20]].concat())
        }
    };
    let to = mac(chance, cast);
    let mut head = [&to[..], &from].concat();
    while chance.in_hundred(8) && head.len() < 24 {
        let tag = chance.of(&[0x8100_u16, 0x88a8, 0x9100]);
        head.extend(tag.to_be_bytes());
        let vlan = chance.of(&[0_u16, 1, 5, 4095, 0xe000]);
        head.extend(vlan.to_be_bytes());
    }
    let mut frame = [&head[..], &kind.to_be_bytes(), &payload].concat();
    if chance.in_hundred(5) {
        let at = chance.below(frame.len() - 14) + 14;
        let bit = 1 << chance.below(8);
        frame[at] ^= bit;
        // Its mark stays: another's would say that the other one came.
        if frame.windows(6).all(|window| window != mark) {
            frame[at] ^= bit;
        }
    }
    if chance.in_hundred(3) {
        frame.truncate(14 + chance.below(frame.len() - 14));
    }
    frame.truncate(1500);
    frame
}

fn mac(chance: &mut Chance, cast: &Cast) -> Mac {
    match chance.below(100) {
        0..70 => chance.of(&cast.others).mac,
        70..80 => EVERYBODY,
        80..85 => [1, 0, 0x5e, 0, 0, chance.byte()],
        85..92 => [0x33, 0x33, 0, 0, 0, chance.of(&[1, 2, 0x16, 0xfb])],
        92..95 => [1, 0x80, 0xc2, 0, 0, chance.byte() & 0x3f],
        _ => chance.bytes(6).try_into().expect("six bytes"),
    }
}

fn sum(bytes: &[u8]) -> [u8; 2] {
    let pairs = bytes.chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(*p.get(1).unwrap_or(&0)));
    let sum = pairs.fold(0, |sum, pair| (sum + pair) % 0xffff);
    (!u16::try_from(sum).expect("folded")).to_be_bytes()
}

/// What is behind the header: of this protocol, and with the mark.
fn load(chance: &mut Chance, protocol: u8, mark: Mark) -> Vec<u8> {
    let port = |chance: &mut Chance| chance.of(&[53_u16, 67, 68, 546, 547, 5353, 80, 7000, 9000]);
    let [from, to] = [port(chance), port(chance)].map(u16::to_be_bytes);
    let mut all = match protocol {
        6 => {
            let flags = chance.of(&[2, 0x10, 0x12, 0x18, 1, 4, 0, 0x3f]);
            [&from[..], &to, &[0; 8], &[0x50, flags, 0x20, 0], &[0; 4], &mark].concat()
        }
        17 => [&from[..], &to, &[0, 34, 0, 0], &mark, &[0; 20]].concat(),
        1 => {
            let kind = chance.of(&[8, 0, 3, 5, 11, 12, 13, 17, 9, 10]);
            // An answer has its time behind the first of the three times of a question for the time.
            [&[kind, chance.byte() & 3, 0, 0][..], &chance.bytes(4), &[0; 12], &mark, &[0; 8]]
                .concat()
        }
        58 => {
            let kind = chance
                .of(&[128, 129, 1, 2, 3, 4, 130, 131, 132, 133, 134, 135, 136, 137, 143, 139, 151]);
            [&[kind, 0, 0, 0][..], &chance.bytes(4), &[0; 16], &[253, 1], &mark].concat()
        }
        _ => [&chance.bytes(12)[..], &mark, &[0; 12]].concat(),
    };
    if protocol == 1 {
        let sum = sum(&all);
        all[2..4].copy_from_slice(&sum);
    }
    all
}

fn four(chance: &mut Chance, cast: &Cast, mark: Mark) -> Vec<u8> {
    let protocol = chance.of(&[17, 17, 6, 6, 1, 1, 2, 4, 41, 47, 50, 51, 89, 112, 132, 0, 255]);
    let from = match chance.below(100) {
        0..85 => cast.me.v4,
        85..95 => chance.of(&cast.others).v4,
        _ => chance.of(&[Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 9)]),
    };
    let to = match chance.below(100) {
        0..70 => chance.of(&cast.others).v4,
        70..80 => cast.broadcast,
        80..85 => Ipv4Addr::BROADCAST,
        85..92 => Ipv4Addr::new(224, 0, 0, chance.of(&[1, 2, 22, 251])),
        _ => chance.of(&[
            Ipv4Addr::new(203, 0, 113, 9),
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::new(239, 1, 2, 3),
        ]),
    };
    let options = if chance.in_hundred(15) { 4 * chance.below(11) } else { 0 };
    let payload = load(chance, protocol, mark);
    let length = u16::try_from(20 + options + payload.len()).expect("a length");
    let length =
        if chance.in_hundred(95) { length } else { length.wrapping_add(u16::from(chance.byte())) };
    let place = match chance.below(100) {
        0..80 => 0,
        80..90 => 0x4000,
        90..95 => 0x2000,
        _ => chance.of(&[1, 2, 0x2001, 0x1fff, 0x8000]),
    };
    let words = u8::try_from(5 + options / 4).expect("a length");
    let mut head = vec![0x40 | words, chance.of(&[0, 0, 0xff])];
    head.extend(length.to_be_bytes());
    head.extend(chance.bytes(2));
    head.extend(u16::to_be_bytes(place));
    head.extend([chance.of(&[64, 64, 255, 1, 0]), protocol, 0, 0]);
    head.extend(from.octets());
    head.extend(to.octets());
    let kind = chance.of(&[0, 1, 7, 131, 137, 148]);
    head.extend(std::iter::repeat_n(kind, options));
    if options > 1 && kind > 1 {
        head[21] = u8::try_from(options).expect("a length");
    }
    let right = sum(&head);
    head[10..12].copy_from_slice(&right);
    [head, payload].concat()
}

fn six(chance: &mut Chance, cast: &Cast, mark: Mark) -> Vec<u8> {
    let protocol = chance.of(&[17, 17, 6, 58, 58, 58, 58, 58, 47, 50, 59, 89, 132, 255]);
    let from = match chance.below(100) {
        0..50 => cast.me.v6,
        50..75 => link_local(cast.me.mac),
        75..85 => Ipv6Addr::UNSPECIFIED,
        85..95 => chance.of(&cast.others).v6,
        _ => link_local(chance.of(&cast.others).mac),
    };
    let to = match chance.below(100) {
        0..50 => chance.of(&cast.others).v6,
        50..65 => link_local(chance.of(&cast.others).mac),
        65..90 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, chance.of(&[1, 2, 0x16, 0xfb])),
        90..95 => Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 1),
        _ => chance.of(&["2001:db8:77::7", "::1", "ff01::1", "ff0e::1"]).parse().expect("one"),
    };
    let mut payload = load(chance, protocol, mark);
    let mut next = protocol;
    if protocol == 58 {
        let header = [
            &from.octets()[..],
            &to.octets(),
            &[0, 0, 0],
            &[u8::try_from(payload.len()).expect("short")],
            &[0, 0, 0, 58],
            &payload,
        ]
        .concat();
        let right = sum(&header);
        payload[2..4].copy_from_slice(&right);
    }
    while chance.in_hundred(25) && payload.len() < 200 {
        let (kind, head) = match chance.below(6) {
            0 => (0, vec![next, 0, 5, 2, 0, 0, 1, 0]),
            1 => (60, vec![next, 0, 1, 4, 0, 0, 0, 0]),
            2 => (43, vec![next, 0, 0, 0, 0, 0, 0, 0]),
            3 => (44, [&[next, 0, 0, chance.of(&[0, 1, 8, 9])][..], &chance.bytes(4)].concat()),
            4 => (51, [&[next, 1, 0, 0][..], &chance.bytes(8)].concat()),
            _ => (135, vec![next, 0, 0, 0, 0, 0, 0, 0]),
        };
        payload = [head, payload].concat();
        next = kind;
    }
    let length = u16::try_from(payload.len()).expect("a length");
    let length = if chance.in_hundred(95) { length } else { u16::from(chance.byte()) };
    let mut head = vec![0x60, chance.of(&[0, 0, 0x0f]), 0, 0];
    head.extend(length.to_be_bytes());
    head.extend([next, chance.of(&[255, 255, 255, 64, 1, 1, 0])]);
    head.extend(from.octets());
    head.extend(to.octets());
    [head, payload].concat()
}
