//! What must hold of the records of packets, whatever they are.

use super::message::{self, PACKET, What};
use super::packet::Packet;
use super::{Losses, answer};
use crate::kernel::netfilter::{Message, messages};

/// An IPv6 header: with so much the ends of any packet are known.
const HEADER: usize = 40;

/// Reads a datagram of records.
pub fn read(datagram: &[u8]) {
    let (mut losses, mut lost) = (Losses::default(), 0_u64);
    let mut count = 0;
    for Message { kind, body, .. } in messages(datagram) {
        count += 1;
        let _ = answer(body);
        let record = message::record(body);
        if kind != PACKET {
            continue;
        }
        lost = lost.saturating_add(record.number.map_or(0, |number| losses.numbered(number)));
        if let What::Denied(denial) = record.what {
            assert!(!denial.spoken.to_string().is_empty());
        }
    }
    assert!(count <= datagram.len() / 16, "each has a header");
}

/// Reads a packet. However much of it there is, its ends are the same; and turned twice a packet with ports
/// is what it was.
pub fn packet(bytes: &[u8]) {
    let Some(whole) = Packet::read(bytes) else {
        return assert!(bytes.len() < HEADER || !matches!(bytes[0] >> 4, 4 | 6));
    };
    assert_eq!(whole.from.is_ipv4(), whole.to.is_ipv4());
    for length in (HEADER..bytes.len()).take(64) {
        let part = Packet::read(&bytes[..length]).map(|part| (part.from, part.to));
        assert_eq!(part, Some((whole.from, whole.to)));
    }
    let turned = whole.turned();
    if turned.from != whole.from && matches!(whole.spoken, crate::policy::Spoken::Port(..)) {
        assert_eq!(turned.turned(), whole);
    }
}
