//! Requests and records in nfnetlink_log's form.

use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, NLM_F_ACK};
use netlink_packet_netfilter::nflog::ULogMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use quantum_config::policy::Direction;

use super::packet::Packet;
use crate::kernel::netfilter::{NFNETLINK_V0, append, attribute, attributes};
use crate::policy::{Denial, Spoken};

// include/uapi/linux/netfilter/nfnetlink.h and nfnetlink_log.h
const NFNL_SUBSYS_ULOG: u16 = 4;
pub(super) const PACKET: u16 = NFNL_SUBSYS_ULOG << 8;
const CONFIG: u8 = 1;
const NFGENMSG: usize = 4;
const NFULA_CFG_CMD: u16 = 1;
const NFULNL_CFG_CMD_BIND: u8 = 1;
const NFULA_CFG_MODE: u16 = 2;
const NFULNL_COPY_PACKET: u8 = 2;
const NFULA_CFG_TIMEOUT: u16 = 4;
const NFULA_CFG_QTHRESH: u16 = 5;
const NFULA_CFG_FLAGS: u16 = 6;
pub(super) const NUMBERED: u16 = 1; // NFULNL_CFG_F_SEQ
pub(super) const CONNECTIONS: u16 = 4; // NFULNL_CFG_F_CONNTRACK
const NFULA_IFINDEX_INDEV: u16 = 4;
const NFULA_IFINDEX_OUTDEV: u16 = 5;
const NFULA_PAYLOAD: u16 = 9;
const NFULA_PREFIX: u16 = 10;
const NFULA_SEQ: u16 = 12;
const NFULA_CT: u16 = 18;
const NFULA_CT_INFO: u16 = 19;
// include/uapi/linux/netfilter/nfnetlink_conntrack.h
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_PROTO_SRC_PORT: u16 = 2;
// include/uapi/linux/netfilter/nf_conntrack_common.h
const IP_CT_RELATED: u32 = 1;
const IP_CT_ESTABLISHED_REPLY: u32 = 3;
const IP_CT_RELATED_REPLY: u32 = 4;

/// How much of a packet is wanted.
const SNAPSHOT: u32 = 128;
/// How many records the kernel gathers before it sends them, and for how long, in hundredths of a second.
const GATHERED: u32 = 16;
const PATIENCE: u32 = 5;

/// Asks for the records of a group.
pub(super) fn bind(group: u16, number: u32) -> Vec<u8> {
    let [a, b, c, d] = SNAPSHOT.to_be_bytes();
    request(
        group,
        number,
        vec![
            DefaultNla::new(NFULA_CFG_CMD, vec![NFULNL_CFG_CMD_BIND]),
            DefaultNla::new(NFULA_CFG_MODE, vec![a, b, c, d, NFULNL_COPY_PACKET, 0]),
            DefaultNla::new(NFULA_CFG_TIMEOUT, PATIENCE.to_be_bytes().into()),
            DefaultNla::new(NFULA_CFG_QTHRESH, GATHERED.to_be_bytes().into()),
        ],
    )
}

/// Asks for what more a record is to hold. It is a request of its own, because a kernel that has not all of
/// it refuses it whole.
pub(super) fn with(flags: u16, group: u16, number: u32) -> Vec<u8> {
    request(group, number, vec![DefaultNla::new(NFULA_CFG_FLAGS, flags.to_be_bytes().into())])
}

/// Asks for nothing. It fails, and how it fails tells whether there is anybody to ask.
pub(super) fn nothing(group: u16, number: u32) -> Vec<u8> {
    request(group, number, Vec::new())
}

fn request(group: u16, number: u32, nlas: Vec<DefaultNla>) -> Vec<u8> {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, NFNETLINK_V0, group);
    let message = ULogMessage::Other { message_type: CONFIG, nlas };
    let mut bytes = Vec::new();
    append(&mut bytes, NetfilterMessage::new(header, message), number, NLM_F_ACK);
    bytes
}

/// A record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Which one it is of its group. What is missing in between was lost.
    pub(super) number: Option<u32>,
    pub(super) what: What,
}

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A packet was denied.
    Denied(Denial),
    /// A packet was denied of which too little can be read.
    Unreadable,
    /// It is by a rule that is not one of ours.
    NotOurs,
}

/// What the rule that made a record says by its prefix.
#[derive(Debug, PartialEq, Eq)]
struct Prefix {
    direction: Direction,
    audit: bool,
    /// The packet is in the direction of replies.
    is_reply: bool,
}

impl Prefix {
    /// `quantum [audit] egress|ingress [reply]`, and whatever space.
    fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim_end_matches('\0');
        let mut words = text.split_ascii_whitespace().peekable();
        words.next().filter(|word| *word == "quantum")?;
        let audit = words.next_if_eq(&"audit").is_some();
        let direction = match words.next()? {
            "egress" => Direction::Egress,
            "ingress" => Direction::Ingress,
            _ => return None,
        };
        let is_reply = words.next_if_eq(&"reply").is_some();
        words.next().is_none().then_some(Self { direction, audit, is_reply })
    }
}

/// Reads the body of a message of the kind [`PACKET`].
pub(super) fn record(body: &[u8]) -> Record {
    let (mut prefix, mut payload, mut number) = (None, None, None);
    let (mut in_index, mut out_index) = (None, None);
    let (mut connection, mut state) = (None, None);
    for nla in attributes(body.get(NFGENMSG..).unwrap_or_default()) {
        match nla {
            (NFULA_PREFIX, value) => prefix = Prefix::read(value),
            (NFULA_PAYLOAD, value) => payload = Packet::read(value),
            (NFULA_SEQ, value) => number = be32(value),
            (NFULA_IFINDEX_INDEV, value) => in_index = be32(value),
            (NFULA_IFINDEX_OUTDEV, value) => out_index = be32(value),
            (NFULA_CT, value) => connection = Some(value),
            (NFULA_CT_INFO, value) => state = be32(value),
            _ => {}
        }
    }
    let what = match (prefix, payload) {
        (None, _) => What::NotOurs,
        (Some(_), None) => What::Unreadable,
        (Some(Prefix { direction, audit, is_reply }), Some(packet)) => {
            let is_reply = state.map_or(is_reply, |state| {
                matches!(state, IP_CT_ESTABLISHED_REPLY | IP_CT_RELATED_REPLY)
            });
            let packet = if is_reply { packet.turned() } else { packet };
            let is_related = matches!(state, Some(IP_CT_RELATED | IP_CT_RELATED_REPLY));
            // What is related to a connection is another packet than those of the connection.
            let connection = connection.filter(|_| !is_related).and_then(Connection::read);
            let Packet { from, to, spoken, .. } = packet;
            let (from, to, spoken) = match connection {
                Some(connection) => (connection.from, connection.to, connection.spoken(spoken)),
                None => (from, to, spoken),
            };
            What::Denied(Denial { direction, audit, from, to, spoken, in_index, out_index })
        }
    };
    Record { number, what }
}

/// A connection: who began it, and who answers, as conntrack remembers it.
struct Connection {
    from: IpAddr,
    to: IpAddr,
    to_port: Option<u16>,
}

impl Connection {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (original, reply) =
            (attribute(bytes, CTA_TUPLE_ORIG)?, attribute(bytes, CTA_TUPLE_REPLY)?);
        let to_port = attribute(reply, CTA_TUPLE_PROTO)
            .and_then(|protocol| attribute(protocol, CTA_PROTO_SRC_PORT))
            .and_then(|port| port.try_into().ok().map(u16::from_be_bytes));
        Some(Self { from: source(original)?, to: source(reply)?, to_port })
    }

    /// What was spoken, to the port that its destination was translated to.
    fn spoken(&self, spoken: Spoken) -> Spoken {
        match (spoken, self.to_port) {
            (Spoken::Port(transport, _), Some(port)) => Spoken::Port(transport, port),
            (other, _) => other,
        }
    }
}

/// Who sends, in a tuple.
fn source(tuple: &[u8]) -> Option<IpAddr> {
    let ip = attribute(tuple, CTA_TUPLE_IP)?;
    let v4 = || Some(<[u8; 4]>::try_from(attribute(ip, CTA_IP_V4_SRC)?).ok()?.into());
    let v6 = || Some(<[u8; 16]>::try_from(attribute(ip, CTA_IP_V6_SRC)?).ok()?.into());
    v4().or_else(v6)
}

fn be32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;
    use quantum_config::cni::Transport;

    use super::*;

    /// 10.0.0.3:53 to 10.0.0.2:49153, UDP.
    const ANSWER: [u8; 28] = [
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 3, 10, 0, 0, 2, 0, 53, 0xc0, 1, 0, 8,
        0, 0,
    ];

    fn nla(kind: u16, value: &[u8]) -> DefaultNla {
        DefaultNla::new(kind, value.to_vec())
    }

    fn bytes(nlas: &[DefaultNla]) -> Vec<u8> {
        let mut bytes = vec![0; nlas.buffer_len()];
        nlas.emit(&mut bytes);
        bytes
    }

    fn nested(kind: u16, nlas: &[DefaultNla]) -> DefaultNla {
        nla(kind | 0x8000, &bytes(nlas))
    }

    fn body(prefix: &str, payload: &[u8], more: &[DefaultNla]) -> Vec<u8> {
        let mut nlas = vec![nla(NFULA_PREFIX, prefix.as_bytes()), nla(NFULA_PAYLOAD, payload)];
        nlas.extend_from_slice(more);
        [vec![2, 0, 0, 0], bytes(&nlas)].concat()
    }

    #[track_caller]
    fn denial(body: &[u8]) -> Denial {
        match record(body).what {
            What::Denied(denial) => denial,
            other => panic!("{other:?}"),
        }
    }

    fn flow(denial: &Denial) -> String {
        format!("{} {} {}", denial.from, denial.to, denial.spoken)
    }

    #[test]
    fn the_prefix_tells_the_side_the_mode_and_the_turn() {
        let read = |text: &str| {
            let read = Prefix::read(text.as_bytes())?;
            Some((read.direction, read.audit, read.is_reply))
        };
        assert_eq!(read("quantum egress \0"), Some((Direction::Egress, false, false)));
        assert_eq!(read("quantum ingress "), Some((Direction::Ingress, false, false)));
        assert_eq!(read("quantum audit egress"), Some((Direction::Egress, true, false)));
        assert_eq!(read("quantum audit ingress reply "), Some((Direction::Ingress, true, true)));
        for other in
            ["", "quantum", "quantum audit", "egress", "quantum egress what", "ulog egress"]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_record_has_its_number_and_its_links() {
        let links = [nla(NFULA_IFINDEX_INDEV, &[0, 0, 0, 7]), nla(NFULA_SEQ, &[0, 0, 1, 0])];
        let record = record(&body("quantum egress ", &ANSWER, &links));
        assert_eq!(record.number, Some(256));
        let What::Denied(denial) = record.what else { panic!("{record:?}") };
        assert_eq!((denial.in_index, denial.out_index), (Some(7), None));
        assert_eq!(flow(&denial), "10.0.0.3 10.0.0.2 udp 49153");
    }

    #[test]
    fn a_reply_is_turned_by_the_prefix_where_conntrack_says_nothing() {
        let turned = denial(&body("quantum egress reply ", &ANSWER, &[]));
        assert_eq!(flow(&turned), "10.0.0.2 10.0.0.3 udp 53");
    }

    #[test]
    fn conntrack_tells_who_began_and_whom_it_reached() {
        let tuple = |kind, source: [u8; 4], port: [u8; 2]| {
            let ip = nested(CTA_TUPLE_IP, &[nla(CTA_IP_V4_SRC, &source), nla(2, &[9, 9, 9, 9])]);
            let ports = [nla(1, &[17]), nla(CTA_PROTO_SRC_PORT, &port)];
            nested(kind, &[ip, nested(CTA_TUPLE_PROTO, &ports)])
        };
        // 10.0.0.1 asked a published port that leads to port 5353 of 10.0.0.8.
        let original = tuple(CTA_TUPLE_ORIG, [10, 0, 0, 1], [0xc0, 1]);
        let reply = tuple(CTA_TUPLE_REPLY, [10, 0, 0, 8], 5353_u16.to_be_bytes());
        let connection = nested(NFULA_CT, &[original, reply]);
        for state in [0, 2, IP_CT_ESTABLISHED_REPLY] {
            let more = [connection.clone(), nla(NFULA_CT_INFO, &state.to_be_bytes())];
            let found = denial(&body("quantum egress ", &ANSWER, &more));
            assert_eq!(flow(&found), "10.0.0.1 10.0.0.8 udp 5353", "state {state}");
        }
        // An error about it is not of it.
        let mut error = ANSWER;
        (error[9], error[20], error[21]) = (1, 3, 1);
        let more = [connection, nla(NFULA_CT_INFO, &IP_CT_RELATED_REPLY.to_be_bytes())];
        let found = denial(&body("quantum egress ", &error, &more));
        assert_eq!(flow(&found), "10.0.0.3 10.0.0.2 icmp type 3 code 1");
        assert_eq!(found.spoken, Spoken::Icmp { kind: 3, code: 1 });
        // A tuple that cannot be read is as none.
        let half = [nested(NFULA_CT, &[nla(CTA_TUPLE_ORIG, &[1, 2])])];
        let found = denial(&body("quantum egress ", &ANSWER, &half));
        assert_eq!(found.spoken, Spoken::Port(Transport::Udp, 49153));
    }

    #[test]
    fn odd_records_are_no_denials() {
        assert_eq!(record(&body("ulogd ", &ANSWER, &[])).what, What::NotOurs);
        assert_eq!(record(&body("quantum egress ", &ANSWER[..12], &[])).what, What::Unreadable);
        assert_eq!(record(&body("quantum egress ", &[], &[])).what, What::Unreadable);
        let whole = body("quantum egress ", &ANSWER, &[]);
        for length in 0..whole.len() {
            record(&whole[..length]);
        }
    }
}
