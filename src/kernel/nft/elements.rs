//! Which elements of which sets an endpoint has, and how their keys are laid out in bytes.
//!
//! A concatenated key is its fields one after another, each padded to 4 bytes (the size of a register
//! of nf_tables):
//!
//! ```text
//!   home4    | 4: address | 16: name of the bridge, padded with NUL (IFNAMSIZ) |
//!   home6    | 16: address             | 16: name of the bridge                |
//!   genuine  | 16: name of the port    | 8: hardware address, padded with NUL  |
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use quantum_config::ids::{IFNAME_MAX, IfName, Mac};

use crate::attach::Element;

/// `IFNAMSIZ`
const NAME: usize = IFNAME_MAX + 1;
/// `ETH_ALEN`, padded.
const HARDWARE: usize = 8;

/// The sets that say at which bridge an address is at home.
pub(super) const HOMES: [&str; 2] = ["home4", "home6"];

/// The set that says which hardware address is at home at which port.
pub(super) const GENUINE: &str = "genuine";

/// The two tables, which have the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Packets.
    Inet,
    /// Frames.
    Bridge,
}

/// One element of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetElement {
    pub(super) family: Family,
    pub(super) set: &'static str,
    pub(super) key: Vec<u8>,
    /// The key as an operator would write it.
    text: String,
}

impl SetElement {
    /// An element of a set that does not exist.
    pub(super) fn nowhere() -> Self {
        Self { family: Family::Inet, set: "nowhere", key: vec![0; 4], text: "0.0.0.0".into() }
    }
}

impl fmt::Display for SetElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in set {}", self.text, self.set)
    }
}

/// The set elements that an element of a plan is made of.
pub(super) fn expand(element: &Element) -> [SetElement; 2] {
    match element {
        Element::Masquerade { address, bridge } => masquerade(*address, bridge),
        Element::Guard { port, mac } => guard(port, *mac),
    }
}

fn masquerade(address: IpAddr, bridge: &IfName) -> [SetElement; 2] {
    let (masq, home) = match address {
        IpAddr::V4(_) => ("masq4", "home4"),
        IpAddr::V6(_) => ("masq6", "home6"),
    };
    let (family, mut key) = (Family::Inet, octets(address));
    let masq = SetElement { family, set: masq, key: key.clone(), text: address.to_string() };
    key.extend(padded(bridge));
    [masq, SetElement { family, set: home, key, text: format!("{address} . {bridge}") }]
}

/// What is genuine first: in no order of two transactions is a port guarded that has nobody at home.
fn guard(port: &IfName, mac: Mac) -> [SetElement; 2] {
    let (family, mut key) = (Family::Bridge, padded(port));
    let guarded = SetElement { family, set: "guarded", key: key.clone(), text: port.to_string() };
    key.extend(mac.0);
    key.resize(NAME + HARDWARE, 0);
    [SetElement { family, set: GENUINE, key, text: format!("{port} . {mac}") }, guarded]
}

fn padded(name: &IfName) -> Vec<u8> {
    let mut bytes = name.as_str().as_bytes().to_vec();
    bytes.resize(NAME, 0);
    bytes
}

fn unpadded(bytes: &[u8]) -> Option<IfName> {
    let end = bytes.iter().position(|b| *b == 0)?;
    IfName::new(std::str::from_utf8(&bytes[..end]).ok()?).ok()
}

/// The element that a key of the set [`GENUINE`] belongs to; none if we would not have written it.
pub(super) fn from_genuine(key: &[u8]) -> Option<Element> {
    let (port, mac) = key.split_at_checked(NAME)?;
    // The kernel may give the key back without its last padding.
    let mac = Mac(*mac.first_chunk::<6>().filter(|_| mac.len() <= HARDWARE)?);
    Some(Element::Guard { port: unpadded(port)?, mac })
}

/// The element that a key of one of the sets [`HOMES`] belongs to; none if we would not have written it.
pub(super) fn from_home(key: &[u8]) -> Option<Element> {
    let (address, name) = key.split_at_checked(key.len().checked_sub(NAME)?)?;
    let address = match address.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
        _ => return None,
    };
    Some(Element::Masquerade { address, bridge: unpadded(name)? })
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masquerade(address: &str, bridge: &str) -> Element {
        Element::Masquerade {
            address: address.parse().expect("an address"),
            bridge: IfName::new(bridge).expect("a name"),
        }
    }

    #[test]
    fn fields_of_a_key_are_padded() {
        let [masq, home] = expand(&masquerade("10.0.0.2", "quantum0"));
        assert_eq!((masq.set, &masq.key[..]), ("masq4", &[10, 0, 0, 2][..]));
        assert_eq!(
            (home.set, &home.key[..]),
            ("home4", &b"\x0a\0\0\x02quantum0\0\0\0\0\0\0\0\0"[..])
        );
        assert_eq!(home.to_string(), "10.0.0.2 . quantum0 in set home4");
        let [masq, home] = expand(&masquerade("fd00::2", "fifteen-bytes-x"));
        assert_eq!((masq.set, masq.key.len()), ("masq6", 16));
        assert_eq!((home.set, home.key.len(), home.key[31]), ("home6", 32, 0));
    }

    #[test]
    fn a_guard_is_a_port_and_its_hardware_address() {
        let port = IfName::new("qc0123456789abc").expect("a name");
        let element = Element::Guard { port, mac: Mac([2, 0, 0, 0, 0, 7]) };
        let [genuine, guarded] = expand(&element);
        assert_eq!((guarded.set, &guarded.key[..]), ("guarded", &b"qc0123456789abc\0"[..]));
        assert_eq!(&genuine.key[..16], &guarded.key[..]);
        assert_eq!(&genuine.key[16..], [2, 0, 0, 0, 0, 7, 0, 0]);
        assert_eq!(genuine.to_string(), "qc0123456789abc . 02:00:00:00:00:07 in set genuine");
        assert_eq!(from_genuine(&genuine.key), Some(element));
        for foreign in [&b""[..], &[0; 24], &[1; 24], &[1; 16]] {
            assert_eq!(from_genuine(foreign), None);
        }
    }

    #[test]
    fn a_key_can_be_read_again() {
        for element in [masquerade("10.0.0.2", "q"), masquerade("fd00::2", "fifteen-bytes-x")] {
            assert_eq!(from_home(&expand(&element)[1].key), Some(element));
        }
        for foreign in [&b""[..], &[0; 20], &[1; 20], &[1; 15], &[1; 36]] {
            assert_eq!(from_home(foreign), None);
        }
    }
}
