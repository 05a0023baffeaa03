//! Which elements of which sets an endpoint has, and how their keys are laid out in bytes.
//!
//! A concatenated key is its fields one after another, each padded to 4 bytes (the size of a register
//! of nf_tables):
//!
//! ```text
//!   home4    | 4: address | 16: name of the bridge, padded with NUL (IFNAMSIZ) |
//!   home6    | 16: address             | 16: name of the bridge                |
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use quantum_config::ids::{IFNAME_MAX, IfName};

use crate::attach::Element;

/// `IFNAMSIZ`
const NAME: usize = IFNAME_MAX + 1;

/// The sets that say at which bridge an address is at home.
pub(super) const HOMES: [&str; 2] = ["home4", "home6"];

/// One element of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetElement {
    pub(super) set: &'static str,
    pub(super) key: Vec<u8>,
    /// The key as an operator would write it.
    text: String,
}

impl SetElement {
    /// An element of a set that does not exist.
    pub(super) fn nowhere() -> Self {
        Self { set: "nowhere", key: vec![0; 4], text: "0.0.0.0".into() }
    }
}

impl fmt::Display for SetElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in set {}", self.text, self.set)
    }
}

/// The set elements that an element of a plan is made of.
pub(super) fn expand(element: &Element) -> [SetElement; 2] {
    let Element::Masquerade { address, bridge } = element;
    let (masq, home) = match address {
        IpAddr::V4(_) => ("masq4", "home4"),
        IpAddr::V6(_) => ("masq6", "home6"),
    };
    let mut key = octets(*address);
    let masq = SetElement { set: masq, key: key.clone(), text: address.to_string() };
    let mut name = bridge.as_str().as_bytes().to_vec();
    name.resize(NAME, 0);
    key.extend(name);
    [masq, SetElement { set: home, key, text: format!("{address} . {bridge}") }]
}

/// The element that a key of one of the sets [`HOMES`] belongs to; none if we would not have written it.
pub(super) fn from_home(key: &[u8]) -> Option<Element> {
    let (address, name) = key.split_at_checked(key.len().checked_sub(NAME)?)?;
    let address = match address.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
        _ => return None,
    };
    let end = name.iter().position(|b| *b == 0)?;
    let name = std::str::from_utf8(&name[..end]).ok()?;
    Some(Element::Masquerade { address, bridge: IfName::new(name).ok()? })
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
    fn a_key_can_be_read_again() {
        for element in [masquerade("10.0.0.2", "q"), masquerade("fd00::2", "fifteen-bytes-x")] {
            assert_eq!(from_home(&expand(&element)[1].key), Some(element));
        }
        for foreign in [&b""[..], &[0; 20], &[1; 20], &[1; 15], &[1; 36]] {
            assert_eq!(from_home(foreign), None);
        }
    }
}
