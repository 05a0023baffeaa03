//! Requests and answers in ctnetlink's form. Of the crate's types only the frame is used. What is sent
//! needs the mark for nested attributes, which its enum of attributes takes away; and of an entry we read
//! a few attributes only: there may be hundreds of thousands, and one of a protocol that the crate does
//! not know must not make the others unreadable.

use std::net::IpAddr;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NetlinkBuffer,
    NlaBuffer, NlasIterator, parse_i32, parse_ip, parse_u8, parse_u16_be, parse_u32_be,
};
use netlink_packet_netfilter::conntrack::ConntrackMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use nix::errno::Errno;
use nix::libc;
use quantum_config::cni::Family;

use super::sought::{HostPort, Look, Pattern};
use crate::kernel::netfilter::{NFNETLINK_V0, append};

// include/uapi/linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h
const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const NEW: u16 = NFNL_SUBSYS_CTNETLINK << 8;
const GET: u8 = 1;
const DELETE: u8 = 2;
const NFGENMSG: usize = 4;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_MARK: u16 = 8;
pub(super) const CTA_ID: u16 = 12;
pub(super) const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_TYPE: u16 = 5;
const CTA_PROTO_ICMP_CODE: u16 = 6;
const CTA_PROTO_ICMPV6_TYPE: u16 = 8;
const CTA_PROTO_ICMPV6_CODE: u16 = 9;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
// Which parts of a tuple must be the same; bits that the kernel keeps in net/netfilter/nf_internals.h.
const IP_SRC: u32 = 1 << 0;
const IP_DST: u32 = 1 << 1;
const PROTO_NUM: u32 = 1 << 3;
const PROTO_DST_PORT: u32 = 1 << 5;

// include/uapi/linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// An entry of the table, as far as it matters here. There is no other way to one than to read it from
/// the kernel, so none is without the tuple that names it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) family: u8,
    pub(super) original: Tuple,
    pub(super) reply: Tuple,
    /// What rules have written on it; 0 where the kernel has no marks.
    pub(super) mark: u32,
    /// The attributes that name it and no other, as they were read.
    pub(super) name: Vec<DefaultNla>,
}

/// Who speaks to whom, in one direction.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tuple {
    pub(super) source: Option<IpAddr>,
    pub(super) destination: Option<IpAddr>,
    pub(super) protocol: u8,
    /// The ports, if the protocol has such.
    pub(super) source_port: Option<u16>,
    pub(super) port: Option<u16>,
    /// Type and code, if the protocol is ICMP.
    pub(super) icmp: Option<(u8, u8)>,
}

impl Tuple {
    /// The destination's port, if the protocol is UDP.
    pub(super) fn udp_port(&self) -> Option<u16> {
        self.port.filter(|_| i32::from(self.protocol) == libc::IPPROTO_UDP)
    }
}

/// Asks for entries. A kernel that does not know the filter (before 5.8) gives all of the family.
pub(super) fn dump(look: Look, number: u32) -> Vec<u8> {
    let filter = look.only.map(filter).unwrap_or_default();
    let mut bytes = Vec::new();
    append(&mut bytes, of(number_of(look.family), GET, filter), number, NLM_F_DUMP);
    bytes
}

/// Asks to delete entries, each by its tuple, zone and number, so that one which came into being since is
/// taken for another, as far as the kernel has given it another number. Only the last is acknowledged; refusals come without being asked for.
///
/// A deletion without a tuple is taken as one of everything, with the filter of a dump or without it,
/// by kernels before 6.12. So there is none here.
pub(super) fn delete(entries: &[Entry], number: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128 * entries.len());
    for (at, (number, entry)) in (number..).zip(entries).enumerate() {
        let name = entry.name.clone();
        let ack = if at + 1 == entries.len() { NLM_F_ACK } else { 0 };
        append(&mut bytes, of(entry.family, DELETE, name), number, ack);
    }
    bytes
}

fn of(family: u8, message_type: u8, attributes: Vec<DefaultNla>) -> NetfilterMessage {
    let header = NetfilterHeader::new(NetfilterProtoFamily::from(family), NFNETLINK_V0, 0);
    NetfilterMessage::new(header, ConntrackMessage::Other { message_type, attributes })
}

fn number_of(family: Family) -> u8 {
    match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    }
}

fn filter(pattern: Pattern) -> Vec<DefaultNla> {
    let (tuple, parts, flags, same) = match pattern {
        Pattern::OriginalSource(address) => {
            (CTA_TUPLE_ORIG, vec![address_part(address, true)], CTA_FILTER_ORIG_FLAGS, IP_SRC)
        }
        Pattern::ReplySource(address) => {
            (CTA_TUPLE_REPLY, vec![address_part(address, true)], CTA_FILTER_REPLY_FLAGS, IP_SRC)
        }
        Pattern::UdpPort(HostPort { address, port }) => {
            let protocol = DefaultNla::new(CTA_PROTO_NUM, vec![libc::IPPROTO_UDP as u8]);
            let port = DefaultNla::new(CTA_PROTO_DST_PORT, port.to_be_bytes().into());
            let ports = nested(CTA_TUPLE_PROTO, &[protocol, port]);
            let to = address.map(|address| address_part(address, false));
            let same = PROTO_NUM | PROTO_DST_PORT | if to.is_some() { IP_DST } else { 0 };
            (CTA_TUPLE_ORIG, to.into_iter().chain([ports]).collect(), CTA_FILTER_ORIG_FLAGS, same)
        }
    };
    let same = DefaultNla::new(flags, same.to_ne_bytes().into());
    vec![nested(tuple, &parts), nested(CTA_FILTER, &[same])]
}

fn address_part(address: IpAddr, source: bool) -> DefaultNla {
    let (kind, bytes) = match (address, source) {
        (IpAddr::V4(a), true) => (CTA_IP_V4_SRC, a.octets().to_vec()),
        (IpAddr::V4(a), false) => (CTA_IP_V4_DST, a.octets().to_vec()),
        (IpAddr::V6(a), true) => (CTA_IP_V6_SRC, a.octets().to_vec()),
        (IpAddr::V6(a), false) => (CTA_IP_V6_DST, a.octets().to_vec()),
    };
    nested(CTA_TUPLE_IP, &[DefaultNla::new(kind, bytes)])
}

fn nested(kind: u16, parts: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; parts.buffer_len()];
    parts.emit(&mut value);
    // The kernel refuses a filter without the mark.
    DefaultNla::new(kind | libc::NLA_F_NESTED as u16, value)
}

/// One message of an answer.
#[derive(Debug)]
pub(super) enum Answered {
    Entry(Entry),
    /// The request of this number was carried out, or refused.
    Ended {
        number: u32,
        result: Result<(), Errno>,
    },
}

/// Reads a datagram. Tells also whether the table changed under the dump that it is a part of.
pub(super) fn read(
    mut datagram: &[u8],
    mut take: impl FnMut(Answered),
) -> Result<bool, DecodeError> {
    let mut torn = false;
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(&datagram)?;
        let number = message.sequence_number();
        torn |= message.flags() & NLM_F_DUMP_INTR != 0;
        match message.message_type() {
            NLMSG_ERROR | NLMSG_DONE => {
                let code = parse_i32(message.payload().get(..4).unwrap_or(&[0; 4]))?;
                let result =
                    if code == 0 { Ok(()) } else { Err(Errno::from_raw(code.saturating_neg())) };
                take(Answered::Ended { number, result });
            }
            NEW => {
                if let Some(entry) = entry(message.payload())? {
                    take(Answered::Entry(entry));
                }
            }
            _ => {}
        }
        let length = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
    }
    Ok(torn)
}

/// The entry of a message; none without a tuple, which no kernel sends.
fn entry(payload: &[u8]) -> Result<Option<Entry>, DecodeError> {
    let (Some(family), Some(attributes)) = (payload.first(), payload.get(NFGENMSG..)) else {
        return Err("a message without its header".into());
    };
    let (mut original, mut reply, mut name) = (None, Tuple::default(), Vec::with_capacity(3));
    let mut mark = 0;
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            CTA_TUPLE_ORIG => original = Some(tuple(value)?),
            CTA_TUPLE_REPLY => reply = tuple(value)?,
            CTA_MARK => mark = parse_u32_be(value)?,
            _ => {}
        }
        if let kind @ (CTA_TUPLE_ORIG | CTA_ID | CTA_ZONE) = attribute.kind() {
            let mark = if kind == CTA_TUPLE_ORIG { libc::NLA_F_NESTED as u16 } else { 0 };
            name.push(DefaultNla::new(kind | mark, value.to_vec()));
        }
    }
    Ok(original.map(|original| Entry { family: *family, original, reply, mark, name }))
}

fn tuple(bytes: &[u8]) -> Result<Tuple, DecodeError> {
    let mut tuple = Tuple::default();
    let (mut kind, mut code) = (None, 0);
    for group in NlasIterator::new(bytes) {
        let group = group?;
        if !matches!(group.kind(), CTA_TUPLE_IP | CTA_TUPLE_PROTO) {
            continue;
        }
        for part in NlasIterator::new(group.value()) {
            let part: NlaBuffer<&[u8]> = part?;
            match (group.kind(), part.kind()) {
                (CTA_TUPLE_IP, CTA_IP_V4_SRC | CTA_IP_V6_SRC) => {
                    tuple.source = Some(parse_ip(part.value())?);
                }
                (CTA_TUPLE_IP, CTA_IP_V4_DST | CTA_IP_V6_DST) => {
                    tuple.destination = Some(parse_ip(part.value())?);
                }
                (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => tuple.protocol = parse_u8(part.value())?,
                (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) => {
                    tuple.source_port = Some(parse_u16_be(part.value())?);
                }
                (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => {
                    tuple.port = Some(parse_u16_be(part.value())?);
                }
                (CTA_TUPLE_PROTO, CTA_PROTO_ICMP_TYPE | CTA_PROTO_ICMPV6_TYPE) => {
                    kind = Some(parse_u8(part.value())?);
                }
                (CTA_TUPLE_PROTO, CTA_PROTO_ICMP_CODE | CTA_PROTO_ICMPV6_CODE) => {
                    code = parse_u8(part.value())?;
                }
                _ => {}
            }
        }
    }
    tuple.icmp = kind.map(|kind| (kind, code));
    Ok(tuple)
}
