//! Names of the kernel's settings below `net`, which a network may set in its containers, and the
//! patterns by which an operator says which of them.
//!
//! Both are written with dots or with slashes, as sysctl.d(5) has it: the first of the two that
//! occurs is the separator, and if it is the dot, a slash stands for a dot.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::IfName;

/// Stands for the container's interface, as in the reference plugin.
const INTERFACE: &str = "IFNAME";
/// What is allowed unless the operator says otherwise. The kernel gives every network namespace its
/// own IPv4 and IPv6 settings, and what they can spoil is the container's own. The others are those
/// that programs in containers are known to need, and that are as much the namespace's own. Not among
/// them are tables whose memory is the host's (`net.netfilter.*`) and the rest of `net.core.*`.
const DEFAULT: [&str; 4] =
    ["net.ipv4.*", "net.ipv6.*", "net.core.somaxconn", "net.unix.max_dgram_qlen"];

/// Why a name is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidSysctl {
    /// It is empty, absolute, or of another part of the kernel.
    #[error("is not below net")]
    NotBelowNet,
    /// It would lead elsewhere as a path.
    #[error("has a part that is empty, \".\" or \"..\"")]
    Part,
    /// It has white space or a control character, a NUL among them.
    #[error("has white space or a control character")]
    Character,
}

/// The name of a setting, as a path below `/proc/sys`: `net/ipv4/conf/eth0/rp_filter`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SysctlName(String);

impl SysctlName {
    /// Reads a name. What comes out leads to a file below `/proc/sys/net` and nowhere else.
    pub fn new(text: &str) -> Result<Self, InvalidSysctl> {
        let path = slashed(text);
        if path.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(InvalidSysctl::Character);
        }
        if !path.starts_with("net/") {
            return Err(InvalidSysctl::NotBelowNet);
        }
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(InvalidSysctl::Part);
        }
        Ok(Self(path))
    }

    /// The path below `/proc/sys`.
    pub fn path(&self) -> &str {
        &self.0
    }

    /// The same setting of this interface, where the name leaves it open. The name of an interface
    /// holds no slash and is neither `.` nor `..`, so it leads nowhere else.
    #[must_use]
    pub fn of_interface(&self, name: &IfName) -> Self {
        Self(self.0.replacen(INTERFACE, name.as_str(), 1))
    }
}

impl TryFrom<String> for SysctlName {
    type Error = InvalidSysctl;
    fn try_from(text: String) -> Result<Self, InvalidSysctl> {
        Self::new(&text)
    }
}

impl From<SysctlName> for String {
    fn from(name: SysctlName) -> Self {
        name.0
    }
}

impl fmt::Display for SysctlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which settings networks may set: names in which `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysctlPatterns(Vec<String>);

impl Default for SysctlPatterns {
    fn default() -> Self {
        Self(DEFAULT.into_iter().map(slashed).collect())
    }
}

impl SysctlPatterns {
    /// Reads patterns; none of them allows nothing. The error names the one that is none.
    pub fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let read = |text: &'a str| {
            let path = slashed(text);
            let begins = path.starts_with("net/") || path.starts_with('*');
            let is_plain = |c: char| !c.is_whitespace() && !c.is_control();
            if begins && path.chars().all(is_plain) {
                return Ok(path);
            }
            Err(format!("{text:?} is not the name of a setting below net, such as net.ipv4.*"))
        };
        texts.map(read).collect::<Result<_, _>>().map(Self)
    }

    /// One of them has room for this name. The name counts as it was written, with the interface left
    /// open.
    pub fn allow(&self, name: &SysctlName) -> bool {
        self.0.iter().any(|pattern| matches(pattern, name.path()))
    }
}

/// The text with slashes for separators.
fn slashed(text: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    match text.chars().find(|c| matches!(c, '.' | '/')) {
        Some('.') => text.chars().map(swap).collect(),
        _ => text.to_owned(),
    }
}

/// `*` stands for any text, also for none. The pieces between are found from the left, each as early
/// as it can be, which leaves the most for those after it; the last one is at the end.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match text.split_once(piece) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> SysctlName {
        SysctlName::new(text).expect(text)
    }

    #[test]
    fn dots_and_slashes_mean_the_same() {
        for (text, path) in [
            ("net.ipv4.conf.IFNAME.rp_filter", "net/ipv4/conf/IFNAME/rp_filter"),
            ("net/ipv4/conf/IFNAME/rp_filter", "net/ipv4/conf/IFNAME/rp_filter"),
            ("net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
            ("net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
        ] {
            assert_eq!(name(text).path(), path);
        }
        let eth0 = IfName::new("net.1").expect("a name");
        let of = name("net.ipv4.conf.IFNAME.rp_filter").of_interface(&eth0);
        assert_eq!(of.path(), "net/ipv4/conf/net.1/rp_filter");
    }

    #[test]
    fn what_leads_elsewhere_is_no_name() {
        for (text, error) in [
            ("", InvalidSysctl::NotBelowNet),
            ("net", InvalidSysctl::NotBelowNet),
            ("kernel.hostname", InvalidSysctl::NotBelowNet),
            ("/net/ipv4/ip_forward", InvalidSysctl::NotBelowNet),
            ("/proc/sys/net/ipv4/ip_forward", InvalidSysctl::NotBelowNet),
            ("netx.ipv4", InvalidSysctl::NotBelowNet),
            (".net.ipv4", InvalidSysctl::NotBelowNet),
            ("net/../kernel/hostname", InvalidSysctl::Part),
            ("net.//.kernel.hostname", InvalidSysctl::Part),
            ("net/./ipv4/ip_forward", InvalidSysctl::Part),
            ("net..ipv4", InvalidSysctl::Part),
            ("net.ipv4.", InvalidSysctl::Part),
            ("net.ipv4.ip\0forward", InvalidSysctl::Character),
            ("net.ipv4.ip forward", InvalidSysctl::Character),
            ("net.ipv4\n", InvalidSysctl::Character),
        ] {
            assert_eq!(SysctlName::new(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_pattern_has_room_for_what_it_says() {
        let allow = |patterns: &[&str], text: &str| {
            SysctlPatterns::new(patterns.iter().copied()).expect("patterns").allow(&name(text))
        };
        assert!(allow(&["net.ipv4.*"], "net/ipv4/conf/eth0.1/rp_filter"));
        assert!(!allow(&["net.ipv4.*"], "net.ipv6.conf.all.forwarding"));
        assert!(!allow(&["net.ipv4.tcp"], "net.ipv4.tcp_syncookies"));
        assert!(allow(&["net.ipv4.*_filter"], "net.ipv4.conf.IFNAME.rp_filter"));
        assert!(allow(&["net/ipv4/conf/*/rp_*ter"], "net.ipv4.conf.all.rp_filter"));
        assert!(!allow(&["net.ipv4.conf.*.rp_filter"], "net.ipv4.conf.rp_filter"));
        assert!(!allow(&["net.*.x.*.x"], "net.a.x"), "a text is not used twice");
        assert!(allow(&["*"], "net.core.somaxconn") && !allow(&[], "net.core.somaxconn"));
        for bad in ["kernel.*", "/proc/*", "", "net.ipv4. *"] {
            assert!(SysctlPatterns::new([bad].into_iter()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn by_default_what_is_the_containers_own() {
        let default = SysctlPatterns::default();
        for text in ["net.ipv4.tcp_syncookies", "net/ipv6/conf/IFNAME/x", "net.core.somaxconn"] {
            assert!(default.allow(&name(text)), "{text}");
        }
        for text in ["net.netfilter.nf_conntrack_max", "net.core.rmem_max", "net.ipv4x.y"] {
            assert!(!default.allow(&name(text)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_name_stays_below_net(text in "(net)?[./a-z]{0,20}", ifname in "[a-z.]{1,15}") {
            if let Ok(name) = SysctlName::new(&text) {
                prop_assert!(name.path().starts_with("net/"));
                prop_assert!(name.path().split('/').all(|p| !["", ".", ".."].contains(&p)));
                if let Ok(ifname) = IfName::new(ifname) {
                    let of = name.of_interface(&ifname);
                    prop_assert!(of.path().split('/').all(|p| !["", ".", ".."].contains(&p)));
                }
            }
        }
    }
}
