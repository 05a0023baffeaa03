//! The sets and maps of our two tables as data: where each is, and of which fields its keys and values
//! are made. `config/nft` says the same in the words of `nft`; a test compares the two.
//!
//! A key or value is its fields one after another, each padded to a multiple of 4 bytes, which is the
//! size of a register of nf_tables. One that is alone is not padded.
//!
//! ```text
//!   home4   | 4: address | 16: name of the bridge, padded with NUL (IFNAMSIZ) |
//!   bound4  | 16: name of the port | 8: hardware address | 4: address         |
//!   port4   | 4: transport | 4: port |  ──►  | 4: address | 4: port |
//! ```

use std::fmt;

use quantum_config::ids::Mac;

pub(super) use super::value::{Field, Value};
use crate::policy::{ChainName, SetName};

/// The name of both tables.
pub(super) const TABLE: &str = "quantum";

/// The two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Family {
    /// Packets.
    Inet,
    /// Frames.
    Bridge,
}

/// A set, or a map if it has values.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Set {
    pub(super) family: Family,
    pub(super) name: &'static str,
    pub(super) key: &'static [Field],
    pub(super) value: &'static [Field],
    /// What an earlier daemon left in it is kept at a start: networks are prepared when they are used.
    pub(super) is_networks: bool,
}

const fn set(family: Family, name: &'static str, key: &'static [Field]) -> Set {
    Set { family, name, key, value: &[], is_networks: false }
}

const fn map(name: &'static str, key: &'static [Field], value: &'static [Field]) -> Set {
    Set { family: Family::Inet, name, key, value, is_networks: false }
}

const fn of_networks(family: Family, name: &'static str, key: &'static [Field]) -> Set {
    Set { family, name, key, value: &[], is_networks: true }
}

pub(super) mod known {
    //! Every one of them.

    use super::Family::{Bridge, Inet};
    use super::Field::{Family, Goto, Hardware, Ip4, Ip6, Mark, Name, Port, Transport};
    use super::{Set, map, of_networks, set};

    pub(in super::super) static BRIDGES: Set = of_networks(Inet, "bridges", &[Name]);
    pub(in super::super) static CLOSED: Set = of_networks(Inet, "closed", &[Name]);
    pub(in super::super) static STRICT: Set = of_networks(Inet, "strict", &[Name]);
    pub(in super::super) static GUARDED: Set = of_networks(Inet, "guarded", &[Name]);
    pub(in super::super) static INWARD: Set = of_networks(Inet, "inward", &[Name, Name]);
    pub(in super::super) static DIRECT: Set = of_networks(Inet, "direct", &[Name]);
    pub(in super::super) static ZERO: Set = of_networks(Inet, "zero", &[Name]);
    pub(in super::super) static UNPROBED: Set = of_networks(Inet, "unprobed", &[Name]);
    pub(in super::super) static GATE4: Set = of_networks(Inet, "gate4", &[Ip4]);
    pub(in super::super) static GATE6: Set = of_networks(Inet, "gate6", &[Ip6]);
    pub(in super::super) static OWN4: Set = of_networks(Inet, "own4", &[Ip4, Name]);
    pub(in super::super) static OWN6: Set = of_networks(Inet, "own6", &[Ip6, Name]);
    pub(in super::super) static HOME4: Set = set(Inet, "home4", &[Ip4, Name]);
    pub(in super::super) static HOME6: Set = set(Inet, "home6", &[Ip6, Name]);
    pub(in super::super) static SELF4: Set = set(Inet, "self4", &[Ip4, Ip4]);
    pub(in super::super) static SELF6: Set = set(Inet, "self6", &[Ip6, Ip6]);
    pub(in super::super) static CROWDED4: Set = set(Inet, "crowded4", &[Ip4]);
    pub(in super::super) static CROWDED6: Set = set(Inet, "crowded6", &[Ip6]);
    pub(in super::super) static APART4: Set = of_networks(Inet, "apart4", &[Name]);
    pub(in super::super) static APART6: Set = of_networks(Inet, "apart6", &[Name]);
    pub(in super::super) static MASQ4: Set = set(Inet, "masq4", &[Ip4]);
    pub(in super::super) static MASQ6: Set = set(Inet, "masq6", &[Ip6]);
    pub(in super::super) static HAIR4: Set = set(Inet, "hair4", &[Ip4, Ip4]);
    pub(in super::super) static HAIR6: Set = set(Inet, "hair6", &[Ip6, Ip6]);
    pub(in super::super) static PORT4: Set = map("port4", &[Transport, Port], &[Ip4, Port]);
    pub(in super::super) static PORT6: Set = map("port6", &[Transport, Port], &[Ip6, Port]);
    pub(in super::super) static ADDRPORT4: Set =
        map("addrport4", &[Ip4, Transport, Port], &[Ip4, Port]);
    pub(in super::super) static ADDRPORT6: Set =
        map("addrport6", &[Ip6, Transport, Port], &[Ip6, Port]);
    pub(in super::super) static LOOPPORT4: Set = map("loopport4", &[Transport, Port], &[Ip4, Port]);
    pub(in super::super) static LOOSE: Set = set(Bridge, "loose", &[Name]);
    pub(in super::super) static FRAMED: Set = set(Bridge, "framed", &[Name]);
    pub(in super::super) static GENUINE: Set = set(Bridge, "genuine", &[Name, Hardware]);
    pub(in super::super) static BOUND4: Set = set(Bridge, "bound4", &[Name, Hardware, Ip4]);
    pub(in super::super) static BOUND6: Set = set(Bridge, "bound6", &[Name, Hardware, Ip6]);
    pub(in super::super) static TARGET6: Set = set(Bridge, "target6", &[Name, Ip6]);
    pub(in super::super) static OPTION6: Set = set(Bridge, "option6", &[Name, Hardware]);
    pub(in super::super) static BROADCAST4: Set = set(Bridge, "broadcast4", &[Name, Ip4]);
    pub(in super::super) static GATEMAC: Set = of_networks(Bridge, "gatemac", &[Hardware]);
    pub(in super::super) static ASKED4: Set = of_networks(Bridge, "gate4", &[Ip4]);
    pub(in super::super) static ASKED6: Set = of_networks(Bridge, "gate6", &[Ip6]);

    pub(in super::super) static POLICED: Set = set(Inet, "policed", &[Name]);
    pub(in super::super) static SELECTIVE: Set = set(Inet, "selective", &[Name]);
    pub(in super::super) static HOSTSELECTIVE: Set = set(Inet, "hostselective", &[Name]);
    pub(in super::super) static EGRESS4: Set = map("egress4", &[Ip4, Name], &[Goto]);
    pub(in super::super) static EGRESS6: Set = map("egress6", &[Ip6, Name], &[Goto]);
    pub(in super::super) static INGRESS4: Set = map("ingress4", &[Ip4, Name], &[Goto]);
    pub(in super::super) static INGRESS6: Set = map("ingress6", &[Ip6, Name], &[Goto]);
    pub(in super::super) static HOST4: Set = map("host4", &[Ip4, Name], &[Goto]);
    pub(in super::super) static HOST6: Set = map("host6", &[Ip6, Name], &[Goto]);
    pub(in super::super) static AUDIT4: Set = set(Inet, "audit4", &[Ip4]);
    pub(in super::super) static AUDIT6: Set = set(Inet, "audit6", &[Ip6]);
    pub(in super::super) static EPOCH: Set = set(Inet, "epoch", &[Mark]);
    pub(in super::super) static STAMP: Set = map("stamp", &[Family], &[Mark]);

    // Of these there are as many as policy needs, each with a name of its own.
    pub(in super::super) static MEMBERS4: Set = set(Inet, "members4", &[Ip4]);
    pub(in super::super) static MEMBERS6: Set = set(Inet, "members6", &[Ip6]);
    pub(in super::super) static NAMED4: Set = set(Inet, "named4", &[Ip4, Port]);
    pub(in super::super) static NAMED6: Set = set(Inet, "named6", &[Ip6, Port]);

    pub(in super::super) static ALL: [&Set; 53] = [
        &POLICED,
        &SELECTIVE,
        &EGRESS4,
        &EGRESS6,
        &INGRESS4,
        &INGRESS6,
        &HOST4,
        &HOST6,
        &AUDIT4,
        &AUDIT6,
        &EPOCH,
        &STAMP,
        &BRIDGES,
        &CLOSED,
        &STRICT,
        &INWARD,
        &DIRECT,
        &ZERO,
        &UNPROBED,
        &GATE4,
        &GATE6,
        &OWN4,
        &OWN6,
        &HOME4,
        &HOME6,
        &MASQ4,
        &MASQ6,
        &HAIR4,
        &HAIR6,
        &PORT4,
        &PORT6,
        &ADDRPORT4,
        &ADDRPORT6,
        &LOOPPORT4,
        &LOOSE,
        &FRAMED,
        &GENUINE,
        &BOUND4,
        &BOUND6,
        &TARGET6,
        &GATEMAC,
        &ASKED4,
        &ASKED6,
        &SELF4,
        &SELF6,
        &CROWDED4,
        &CROWDED6,
        &APART4,
        &APART6,
        &BROADCAST4,
        &HOSTSELECTIVE,
        &OPTION6,
        &GUARDED,
    ];
}

/// An element of a set, in the kernel's form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SetElement {
    pub(super) set: &'static Set,
    /// Which set, where there are many of the kind.
    pub(super) instance: Option<SetName>,
    pub(super) key: Vec<u8>,
    /// Empty where the set is no map. Where it leads to chains, the name of one.
    pub(super) value: Vec<u8>,
}

impl SetElement {
    /// An element of a set.
    pub(super) fn new(set: &'static Set, key: &[Value]) -> Self {
        Self::mapping(set, key, &[])
    }

    /// An element of a map.
    pub(super) fn mapping(set: &'static Set, key: &[Value], value: &[Value]) -> Self {
        let value = if value.is_empty() { Vec::new() } else { write(set.value, value) };
        Self { set, instance: None, key: write(set.key, key), value }
    }

    /// An element of a map that leads to chains.
    pub(super) fn going(set: &'static Set, key: &[Value], chain: &ChainName) -> Self {
        Self { value: chain.as_str().as_bytes().to_vec(), ..Self::new(set, key) }
    }

    /// An element of one of many sets of a kind.
    pub(super) fn of_one(set: &'static Set, instance: &SetName, key: &[Value]) -> Self {
        Self { instance: Some(instance.clone()), ..Self::new(set, key) }
    }

    /// One that the kernel has: it may give it back without the last padding.
    pub(super) fn found(set: &'static Set, mut key: Vec<u8>, mut value: Vec<u8>) -> Self {
        key.resize(length(set.key), 0);
        if set.value != [Field::Goto] {
            value.resize(length(set.value), 0);
        }
        Self { set, instance: None, key, value }
    }

    /// Another one of the same set that the kernel has.
    pub(super) fn found_beside(&self, key: Vec<u8>, value: Vec<u8>) -> Self {
        Self { instance: self.instance.clone(), ..Self::found(self.set, key, value) }
    }

    /// The name of its set.
    pub(super) fn set_name(&self) -> &str {
        self.instance.as_ref().map_or(self.set.name, SetName::as_str)
    }

    /// Its key and value; none if we would not have written them.
    pub(super) fn read(&self) -> Option<(Vec<Value>, Vec<Value>)> {
        let value = match self.set.value {
            [Field::Goto] => Vec::new(),
            fields => read(fields, &self.value)?,
        };
        Some((read(self.set.key, &self.key)?, value))
    }
}

impl fmt::Display for SetElement {
    /// As an operator would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |values: &[Value]| {
            values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ")
        };
        let name = self.set_name();
        let Some((key, value)) = self.read() else {
            return write!(f, "{:02x?} in set {name}", self.key);
        };
        match (self.set.value, value.is_empty()) {
            ([Field::Goto], _) => {
                let chain = String::from_utf8_lossy(&self.value);
                write!(f, "{} : goto {chain} in map {name}", text(&key))
            }
            (_, true) => write!(f, "{} in set {name}", text(&key)),
            (_, false) => write!(f, "{} : {} in map {name}", text(&key), text(&value)),
        }
    }
}

fn length(fields: &[Field]) -> usize {
    match fields {
        [Field::Hardware] => size_of::<Mac>(),
        [Field::Family] => 1,
        _ => fields.iter().map(|field| field.length()).sum(),
    }
}

fn write(fields: &[Field], values: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length(fields));
    for (field, value) in fields.iter().zip(values) {
        value.write(*field, &mut bytes);
    }
    bytes.truncate(length(fields));
    bytes
}

fn read(fields: &[Field], mut bytes: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::with_capacity(fields.len());
    for field in fields {
        let (value, rest) = bytes.split_at_checked(field.length().min(length(fields)))?;
        values.push(Value::read(*field, value)?);
        bytes = rest;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use quantum_config::cni::Transport;
    use quantum_config::ids::IfName;

    use super::super::skeleton;
    use super::*;

    fn words(fields: &[Field]) -> String {
        let word = |field: &Field| match field {
            Field::Ip4 => "ipv4_addr",
            Field::Ip6 => "ipv6_addr",
            Field::Name => "ifname",
            Field::Hardware => "ether_addr",
            Field::Transport => "inet_proto",
            Field::Port => "inet_service",
            Field::Mark => "mark",
            Field::Family => "nf_proto",
            Field::Goto => "verdict",
        };
        fields.iter().map(word).collect::<Vec<_>>().join(" . ")
    }

    #[test]
    fn the_text_of_the_tables_says_the_same() {
        let mut declared = 0;
        for set in known::ALL {
            let text = match set.family {
                Family::Inet => skeleton::TEXT,
                Family::Bridge => skeleton::GUARD,
            };
            let line = if set.value.is_empty() {
                format!("\tset {} {{ type {}; }}", set.name, words(set.key))
            } else {
                let (key, value) = (words(set.key), words(set.value));
                format!("\tmap {} {{ type {key} : {value}; }}", set.name)
            };
            // Where nft has no name for what neighbour discovery speaks of, it is bytes.
            let bytes = line
                .replace("type ifname . ipv6_addr", "typeof iifname . @th,64,128")
                .replace(
                    "option6 { type ifname . ether_addr",
                    "option6 { typeof iifname . @th,208,48",
                )
                .replace("type ipv6_addr", "typeof @th,64,128");
            assert!(text.contains(&line) || text.contains(&bytes), "{line}");
            declared += 1;
        }
        let text = format!("{}{}", skeleton::TEXT, skeleton::GUARD);
        let is_declared = |line: &&str| line.starts_with("\tset ") || line.starts_with("\tmap ");
        declared += skeleton::OF_SETTINGS.len();
        assert_eq!(text.lines().filter(is_declared).count(), declared);
    }

    #[test]
    fn fields_are_padded_and_read_again() {
        let name = IfName::new("fifteen-bytes-x").expect("a name");
        let ip: IpAddr = "10.0.0.2".parse().expect("an address");
        let home = SetElement::new(&known::HOME4, &[Value::Ip(ip), Value::Name(name.clone())]);
        assert_eq!(home.key, b"\x0a\0\0\x02fifteen-bytes-x\0");
        assert_eq!(home.to_string(), "10.0.0.2 . fifteen-bytes-x in set home4");
        let mac = Mac([2, 0, 0, 0, 0, 7]);
        let key = [Value::Name(name), Value::Hardware(mac)];
        let genuine = SetElement::new(&known::GENUINE, &key);
        assert_eq!(genuine.key[16..], [2, 0, 0, 0, 0, 7, 0, 0]);
        let shortened = SetElement::found(&known::GENUINE, genuine.key[..22].to_vec(), vec![]);
        assert_eq!(shortened, genuine);
        assert_eq!(genuine.read().expect("readable").0, key);
        let alone = SetElement::new(&known::GATEMAC, &[Value::Hardware(mac)]);
        assert_eq!(alone.key, mac.0);
        assert_eq!(alone.to_string(), "02:00:00:00:00:07 in set gatemac");
        let port = SetElement::mapping(
            &known::PORT4,
            &[Value::Transport(Transport::Tcp), Value::Port(8080)],
            &[Value::Ip(ip), Value::Port(80)],
        );
        assert_eq!(
            (&port.key[..], &port.value[..]),
            (&[6, 0, 0, 0, 0x1f, 0x90, 0, 0][..], &[10, 0, 0, 2, 0, 80, 0, 0][..])
        );
        assert_eq!(port.to_string(), "tcp . 8080 : 10.0.0.2 . 80 in map port4");
    }

    #[test]
    fn what_we_would_not_have_written_is_not_read() {
        for key in [vec![0; 24], vec![1; 24]] {
            assert!(SetElement::found(&known::GENUINE, key, vec![]).read().is_none());
        }
        let strange = SetElement::found(&known::PORT4, vec![1, 0, 0, 0, 0, 1, 0, 0], vec![]);
        assert!(strange.read().is_none());
        assert!(strange.to_string().contains("port4"));
    }
}
