//! Identifiers, each a type of its own, each valid by construction.
//!
//! The rules are those of the CNI specification, section "Parameters", and of the Go skeleton that
//! every reference plugin uses: container IDs and network names match
//! `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`; an interface name is 1 to 15 bytes, is not `.` or `..`, and has
//! no `/`, `:` or white space.

use std::fmt;
use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// The longest interface name the kernel takes, in bytes (`IFNAMSIZ` less the closing NUL).
pub const IFNAME_MAX: usize = 15;

/// Why a string is not an identifier. The message ends with the offending value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId {
    /// Which identifier, in the words of the CNI specification.
    pub what: &'static str,
    /// What rule it breaks.
    pub rule: &'static str,
    /// The value that was given.
    pub value: String,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {:?}", self.what, self.rule, self.value)
    }
}

impl std::error::Error for InvalidId {}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `value` and makes an identifier of it.
            pub fn new(value: impl Into<String>) -> Result<Self, InvalidId> {
                let value = value.into();
                match $check(&value) {
                    Ok(()) => Ok(Self(value)),
                    Err((what, rule)) => Err(InvalidId { what, rule, value }),
                }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

identifier!(
    /// `CNI_CONTAINERID`. There is no limit on its length.
    ContainerId,
    check_container
);
identifier!(
    /// `CNI_IFNAME`, and any other name of a network interface.
    IfName,
    check_ifname
);
identifier!(
    /// The `name` of a network configuration.
    NetworkName,
    check_network
);

identifier!(
    /// The `type` of a plugin: the name of a file in `CNI_PATH`, and never a path.
    PluginName,
    check_plugin
);

type Verdict = Result<(), (&'static str, &'static str)>;

fn check_container(value: &str) -> Verdict {
    check_name("containerID", value)
}

fn check_network(value: &str) -> Verdict {
    check_name("network name", value)
}

fn check_name(what: &'static str, value: &str) -> Verdict {
    let mut bytes = value.bytes();
    match bytes.next() {
        None => Err((what, "is empty")),
        Some(first) if !first.is_ascii_alphanumeric() => {
            Err((what, "does not begin with a letter or a digit"))
        }
        Some(_) if bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) => Ok(()),
        Some(_) => Err((what, "has characters other than letters, digits, '_', '.' and '-'")),
    }
}

fn check_plugin(value: &str) -> Verdict {
    let what = "plugin type";
    match value {
        "" => Err((what, "is empty")),
        "." | ".." => Err((what, "is '.' or '..'")),
        _ if value.chars().any(|c| c == '/' || c.is_control()) => {
            Err((what, "has '/' or control characters in it"))
        }
        _ => Ok(()),
    }
}

fn check_ifname(value: &str) -> Verdict {
    let what = "interface name";
    if value.is_empty() {
        Err((what, "is empty"))
    } else if value.len() > IFNAME_MAX {
        Err((what, "is longer than 15 bytes"))
    } else if value == "." || value == ".." {
        Err((what, "is '.' or '..'"))
    } else if value.contains('%') {
        // The kernel takes "eth%d" for a pattern and makes an interface of another name.
        Err((what, "has '%' in it"))
    } else if value.chars().any(|c| c == '/' || c == ':' || c == '\0' || c.is_whitespace()) {
        Err((what, "has '/', ':', NUL or white space in it"))
    } else {
        Ok(())
    }
}

/// What one attachment is known by, everywhere: never by an address, never by a pod's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentKey {
    /// The network.
    pub network: NetworkName,
    /// The container.
    pub container: ContainerId,
    /// The interface inside the container.
    pub ifname: IfName,
}

impl AttachmentKey {
    /// A 64-bit name for this key, the same in every process and every release. Two keys in ten
    /// billion share one, so whoever uses it as a name compares the whole key as well.
    pub fn digest(&self) -> u64 {
        digest(&[self.network.as_str(), self.container.as_str(), self.ifname.as_str()])
    }
}

impl fmt::Display for AttachmentKey {
    /// `network/container/ifname`. No part can hold a slash, so this can be taken apart again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.network, self.container, self.ifname)
    }
}

impl std::str::FromStr for AttachmentKey {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let mut parts = text.splitn(3, '/');
        let mut part = || parts.next().unwrap_or_default();
        Ok(Self {
            network: NetworkName::new(part())?,
            container: ContainerId::new(part())?,
            ifname: IfName::new(part())?,
        })
    }
}

/// A stable 64-bit digest (SipHash-1-3, zero key) of some strings; the parts cannot run together.
pub fn digest(parts: &[&str]) -> u64 {
    let mut hasher = SipHasher13::new();
    for part in parts {
        hasher.write(part.as_bytes());
        hasher.write_u8(0);
    }
    hasher.finish()
}

/// The index of a network interface: positive, unique within one network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkIndex(pub u32);

impl fmt::Display for LinkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A hardware (MAC) address of six bytes, written `02:42:ac:14:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A locally administered unicast address made of `seed`: the same seed gives the same address.
    pub fn from_seed(seed: u64) -> Self {
        let s = seed.to_be_bytes();
        Self([(s[2] & 0xfc) | 0x02, s[3], s[4], s[5], s[6], s[7]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::str::FromStr for Mac {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId {
            what: "MAC address",
            rule: "is not six pairs of hexadecimal digits with ':' or '-' between them",
            value: text.to_owned(),
        };
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or_else(invalid)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_follow_the_specification() {
        for good in ["a", "0", "cnitool-77383ca0a0715733ca6f", "ns-a_b.c", &"f".repeat(300)] {
            assert!(ContainerId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "some-%%container-id", "-a", ".a", "a/b", "a b", "ä", "a\n"] {
            assert!(ContainerId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn interface_names_follow_the_kernel() {
        for good in ["eth0", "a", "a.b", "fifteen-bytes-x", "..."] {
            assert!(IfName::new(good).is_ok(), "{good}");
        }
        for bad in
            ["", "sixteen-bytes-xx", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\u{a0}b", "eth%d"]
        {
            assert!(IfName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_can_be_written_and_read_again() {
        let key: AttachmentKey = "net/cont/eth0".parse().expect("a key");
        assert_eq!(key.to_string(), "net/cont/eth0");
        assert!("net/cont".parse::<AttachmentKey>().is_err());
        assert!("net/cont/eth0/x".parse::<AttachmentKey>().is_err());
    }

    #[test]
    fn a_digest_is_the_same_in_every_release() {
        // Host interface names are made of it: a change here would orphan every running container.
        assert_eq!(digest(&["net", "cont", "eth0"]), digest(&["net", "cont", "eth0"]));
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        let key: AttachmentKey = "quantum-bridge/c1/eth0".parse().expect("a key");
        assert_eq!(key.digest(), 15_534_637_016_016_314_088);
    }

    #[test]
    fn mac_addresses_are_read_and_made() {
        let mac: Mac = "02:42:AC-14:00:02".parse().expect("a mac");
        assert_eq!(mac.to_string(), "02:42:ac:14:00:02");
        for bad in
            ["", "02:42:ac:14:00", "02:42:ac:14:00:02:03", "0:42:ac:14:00:02", "+2:42:ac:14:00:02"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
        let made = Mac::from_seed(0xffff_ffff_ffff_ffff);
        assert_eq!(made.0[0] & 0x03, 0x02, "locally administered, unicast");
    }
}
