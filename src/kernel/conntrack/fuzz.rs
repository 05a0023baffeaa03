//! What must hold of conntrack's answers, whatever they are.

use std::collections::HashSet;

use super::flows::flow;
use super::message::{self, Answered};
use super::sought::{HostPort, Sought};

const CTA_TUPLE_ORIG: u16 = 1;
const NLA_TYPE: u16 = 0x3fff;

/// Reads a datagram. An entry that would be deleted is named by its tuple: a deletion without one is taken by
/// some kernels as that of everything.
pub fn read(datagram: &[u8]) {
    let mut entries = Vec::new();
    let mut answers = 0;
    let read = message::read(datagram, |answered| {
        answers += 1;
        if let Answered::Entry(entry) = answered {
            entries.push(entry);
        }
    });
    assert!(answers <= datagram.len() / 16, "each has a header");
    for entry in &entries {
        let names = entry
            .name
            .iter()
            .filter(|nla| netlink_packet_core::Nla::kind(*nla) & NLA_TYPE == CTA_TUPLE_ORIG);
        assert!(names.count() >= 1, "{entry:?}");
        if let Some(source) = entry.original.source {
            assert!(Sought::of_addresses(&[source]).names(entry), "who began it is sought");
        }
        if let Some(port) = entry.original.udp_port() {
            let sought = Sought::of_ports(&[HostPort { address: None, port }]);
            assert!(sought.matches(entry), "its port is sought");
        }
        if let Some(flow) = flow(entry, &HashSet::new()) {
            assert_eq!(Some(flow.from), entry.original.source);
            assert_eq!(Some(flow.to), entry.reply.source);
        }
    }
    if read.is_ok() && !entries.is_empty() {
        let request = message::delete(&entries, 1);
        assert!(request.len() >= 16 * entries.len(), "one message for each");
    }
}
