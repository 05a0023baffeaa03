//! Which entries are meant, and how the kernel is best asked for them. Pure.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::net::IpAddr;

use quantum_config::cni::{Family, PortMapping, Transport};

use super::message::Entry;

/// A port of the host that is published by UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The only address of the host on which it is published; without one it is on all that are the
    /// host's, of both families.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// Those of these mappings that are of UDP.
    pub fn of(ports: &[PortMapping]) -> Vec<Self> {
        let udp = ports.iter().filter(|port| port.transport == Transport::Udp);
        udp.map(|port| Self { address: port.host_ip, port: port.host_port }).collect()
    }
}

/// What makes an entry one of those that are meant. The kernel can look for one of these at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pattern {
    /// Who began the connection.
    OriginalSource(IpAddr),
    /// Who answers: whom the connection was made to, or whom address translation put in its place.
    ReplySource(IpAddr),
    /// To which port of the host a UDP flow was sent, before translation.
    UdpPort(HostPort),
}

/// One question to the kernel: the entries of a family, all of them or those of one pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) family: Family,
    pub(super) only: Option<Pattern>,
}

/// The entries that are meant.
#[derive(Debug)]
pub(super) struct Sought {
    addresses: HashSet<IpAddr>,
    ports: HashSet<HostPort>,
}

/// As many entries are copied to us in the time in which the kernel once goes through its table, which
/// takes each bucket's lock, whether or not there is anything in it. `measure_looks` has the figures:
/// 9 ms for 262144 buckets, and 2 us for an entry.
const ENTRIES_PER_WALK: u64 = 4000;

impl Sought {
    pub(super) fn of_addresses(addresses: &[IpAddr]) -> Self {
        Self { addresses: addresses.iter().copied().collect(), ports: HashSet::new() }
    }

    pub(super) fn of_ports(ports: &[HostPort]) -> Self {
        Self { addresses: HashSet::new(), ports: ports.iter().copied().collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.ports.is_empty()
    }

    /// May this entry be one of them? Also asked of what the kernel has chosen: older ones do not choose.
    pub(super) fn matches(&self, entry: &Entry) -> bool {
        self.names(entry) || self.has_port(entry, None)
    }

    /// It is one by an address. Another is one only if it was sent to an address of the host.
    pub(super) fn names(&self, entry: &Entry) -> bool {
        let is_ours =
            |address: Option<IpAddr>| address.is_some_and(|a| self.addresses.contains(&a));
        let to = entry.original.destination;
        is_ours(entry.original.source)
            || is_ours(entry.reply.source)
            || to.is_some() && self.has_port(entry, to)
    }

    fn has_port(&self, entry: &Entry, address: Option<IpAddr>) -> bool {
        let port = entry.original.udp_port();
        port.is_some_and(|port| self.ports.contains(&HostPort { address, port }))
    }

    /// Could one of them be in this list, as the kernel prints it? "No" is certain.
    pub(super) fn may_be_in(&self, list: &str) -> bool {
        list.split_ascii_whitespace().filter_map(|word| word.split_once('=')).any(|(key, value)| {
            match key {
                "src" => value.parse().is_ok_and(|address| self.addresses.contains(&address)),
                "dport" => value.parse().is_ok_and(|n: u16| self.ports.iter().any(|p| p.port == n)),
                _ => false,
            }
        })
    }

    /// How to ask for them where there are `entries` in all: in every family that they may be of, either
    /// for all entries at once or for those of each pattern.
    pub(super) fn looks(&self, entries: u64) -> Vec<Look> {
        let mut looks = Vec::new();
        for family in [Family::V4, Family::V6] {
            let patterns = self.patterns(family);
            let all_at_once = patterns.len() as u64 > 1 + entries / ENTRIES_PER_WALK;
            if all_at_once {
                looks.push(Look { family, only: None });
            } else {
                looks.extend(patterns.into_iter().map(|p| Look { family, only: Some(p) }));
            }
        }
        looks
    }

    fn patterns(&self, family: Family) -> BTreeSet<Pattern> {
        let addresses = self.addresses.iter().filter(|a| Family::of(**a) == family);
        let of_addresses =
            addresses.flat_map(|a| [Pattern::OriginalSource(*a), Pattern::ReplySource(*a)]);
        let is_in = |port: &&HostPort| port.address.is_none_or(|a| Family::of(a) == family);
        let of_ports = self.ports.iter().filter(is_in).map(|port| Pattern::UdpPort(*port));
        of_addresses.chain(of_ports).collect()
    }
}

impl fmt::Display for Sought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        names.extend(self.ports.iter().map(HostPort::to_string));
        names.sort();
        match names.as_slice() {
            few if few.len() <= 4 => f.write_str(&few.join(", ")),
            many => write!(f, "{} and {} others", many[0], many.len() - 1),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "UDP port {} of {address}", self.port),
            None => write!(f, "UDP port {}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::conntrack::message::Tuple;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn entry(source: &str, destination: &str, reply_source: &str, udp_port: Option<u16>) -> Entry {
        let original = Tuple {
            source: Some(ip(source)),
            destination: Some(ip(destination)),
            protocol: 17,
            port: udp_port,
            ..Tuple::default()
        };
        let (from, to) = (Some(ip(reply_source)), Some(ip(source)));
        let reply = Tuple { source: from, destination: to, ..Tuple::default() };
        Entry { family: 2, original, reply, mark: 0, name: Vec::new() }
    }

    #[test]
    fn an_entry_is_meant_by_either_end() {
        let sought = Sought::of_addresses(&[ip("10.0.0.2"), ip("fd00::2")]);
        assert!(sought.matches(&entry("10.0.0.2", "1.1.1.1", "1.1.1.1", None)), "who began");
        assert!(sought.matches(&entry("1.1.1.1", "10.0.0.2", "10.0.0.2", None)), "who answers");
        assert!(sought.matches(&entry("1.1.1.1", "9.9.9.9", "10.0.0.2", None)), "translated");
        assert!(sought.matches(&entry("fd00::2", "fd00::1", "fd00::1", None)));
        assert!(!sought.matches(&entry("10.0.0.20", "1.1.1.1", "1.1.1.1", Some(53))));
    }

    #[test]
    fn a_port_is_that_of_its_address_if_it_has_one() {
        let any = Sought::of_ports(&[HostPort { address: None, port: 53 }]);
        let one = Sought::of_ports(&[HostPort { address: Some(ip("9.9.9.9")), port: 53 }]);
        let there = entry("1.1.1.1", "9.9.9.9", "10.0.0.2", Some(53));
        let elsewhere = entry("1.1.1.1", "9.9.9.8", "10.0.0.2", Some(53));
        let other = entry("1.1.1.1", "9.9.9.9", "10.0.0.2", Some(54));
        let no_udp = entry("1.1.1.1", "9.9.9.9", "10.0.0.2", None);
        assert_eq!(
            [&there, &elsewhere, &other, &no_udp].map(|e| any.matches(e)),
            [true, true, false, false]
        );
        assert_eq!(
            [&there, &elsewhere, &other, &no_udp].map(|e| one.matches(e)),
            [true, false, false, false]
        );
        assert!(one.names(&there) && !any.names(&there), "whose address it is has to be seen");
    }

    #[test]
    fn a_list_without_the_addresses_has_none() {
        let list = "\
            ipv4     2 udp      17 29 src=9.9.9.9 dst=8.8.8.8 sport=42 dport=80 [UNREPLIED] \
            src=10.0.0.2 dst=9.9.9.9 sport=53 dport=42 mark=0 zone=0 use=2\n\
            ipv6     10 udp      17 29 src=fd00:0000:0000:0000:0000:0000:0000:0002 \
            dst=fd00:0000:0000:0000:0000:0000:0000:0001 sport=42 dport=80 [UNREPLIED] \
            src=fd00:0000:0000:0000:0000:0000:0000:0001 \
            dst=fd00:0000:0000:0000:0000:0000:0000:0002 sport=80 dport=42 mark=0 zone=0 use=2\n";
        for there in ["9.9.9.9", "10.0.0.2", "fd00::2", "fd00::1"] {
            assert!(Sought::of_addresses(&[ip(there)]).may_be_in(list), "{there}");
        }
        assert!(!Sought::of_addresses(&[ip("10.0.0.20"), ip("0.0.0.2")]).may_be_in(list));
        let port = |port| Sought::of_ports(&[HostPort { address: None, port }]);
        assert!(port(80).may_be_in(list) && !port(8).may_be_in(list));
    }

    #[test]
    fn few_are_chosen_by_the_kernel_where_there_are_many_entries() {
        let one = Sought::of_addresses(&[ip("10.0.0.2")]);
        let all = Look { family: Family::V4, only: None };
        assert_eq!(one.looks(10), [all], "one walk and ten copies, instead of two walks");
        let each = [Pattern::OriginalSource(ip("10.0.0.2")), Pattern::ReplySource(ip("10.0.0.2"))];
        let chosen = each.map(|p| Look { family: Family::V4, only: Some(p) });
        assert_eq!(one.looks(100_000), chosen);
        let many: Vec<IpAddr> = (0..250).map(|n| ip(&format!("10.0.0.{n}"))).collect();
        assert_eq!(Sought::of_addresses(&many).looks(100_000), [all]);
        assert_eq!(Sought::of_addresses(&[]).looks(100_000), []);
    }

    #[test]
    fn only_families_that_may_have_some_are_asked_for() {
        let families =
            |sought: Sought| sought.looks(1).iter().map(|l| l.family).collect::<Vec<_>>();
        assert_eq!(families(Sought::of_addresses(&[ip("fd00::2")])), [Family::V6]);
        let both = [ip("fd00::2"), ip("10.0.0.2")];
        assert_eq!(families(Sought::of_addresses(&both)), [Family::V4, Family::V6]);
        let any = HostPort { address: None, port: 53 };
        assert_eq!(families(Sought::of_ports(&[any])), [Family::V4, Family::V6]);
        let one = HostPort { address: Some(ip("9.9.9.9")), port: 53 };
        assert_eq!(families(Sought::of_ports(&[one])), [Family::V4]);
    }

    #[test]
    fn they_are_named_and_not_too_many() {
        let ports =
            [HostPort { address: None, port: 53 }, HostPort { address: Some(ip("::1")), port: 5 }];
        assert_eq!(Sought::of_ports(&ports).to_string(), "UDP port 5 of ::1, UDP port 53");
        let many: Vec<IpAddr> = (0..5).map(|n| ip(&format!("10.0.0.{n}"))).collect();
        assert_eq!(Sought::of_addresses(&many).to_string(), "10.0.0.0 and 4 others");
    }
}
