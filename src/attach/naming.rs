//! Names of kernel objects. A link of ours can be told by three marks, which must agree before it is
//! ever deleted: the prefix of its name, its link group and its alias (see [`is_ours`]).

use std::net::Ipv6Addr;
use std::num::NonZeroU32;

use ipnetwork::IpNetwork;
use quantum_config::ids::{AttachmentKey, IfName, InvalidId, LinkIndex, Mac, digest};

/// How the names of our host ends begin.
pub const PREFIX: &str = "qc";
/// How the names of the ports of VLANs' gateways begin.
const GATEWAY_PREFIX: &str = "qg";
/// How the names of the ends begin that wait on the host for whoever moves them into a container.
const PEER_PREFIX: &str = "qp";
/// What the interface of an attachment is called whose end is handed over: Docker puts a number behind it
/// that we do not learn.
pub const HANDED: &str = "eth";
/// How the names of our shapers begin; the rest is that of the host end.
pub const SHAPER_PREFIX: &str = "qs";
/// The link group of our host ends, and of the bridges that we made: "qcni" in ASCII. Groups are a plain
/// number that any tool may set; a high one does not meet the small ones that people use. The rules
/// drop what comes by a link of this group that they do not know by its name (`config/nft`).
pub const GROUP: u32 = 0x7163_6e69;
/// The range of groups for removals, and its mask.
const SCRATCH: u32 = 0x7200_0000;
const SCRATCH_MASK: u32 = 0xff00_0000;
/// How our aliases begin.
const ALIAS: &str = "quantum";
/// The interface of a key that stands for another one.
const STAND_IN: &str = "?";
/// The longest alias that we set, in bytes: the kernel takes fewer than `IFALIASZ` (256) with the
/// closing NUL that netlink strings carry.
const ALIAS_MAX: usize = 254;
/// Indexes we choose lie here: far above those the kernel counts up to by itself, below `i32::MAX`.
const INDEX_BASE: u32 = 0x4000_0000;
const INDEX_MASK: u32 = 0x3fff_ffff;
/// The index of a shaper differs from that of its host end in this bit.
const SHAPER_BIT: u32 = 0x2000_0000;
/// That of a container's end in the host's own namespace, where it cannot be the same, in this one.
const BESIDE_BIT: u32 = 0x1000_0000;

/// The host end's name: the prefix and 13 letters that hold the 64 bits of the key's digest. With a
/// thousand attachments the odds of two equal names are about 1 in 10^13.
pub fn host_name(key: &AttachmentKey) -> Result<IfName, InvalidId> {
    name_of(PREFIX, key.digest())
}

/// The name of the container's end, where it waits on the host.
pub fn peer_name(key: &AttachmentKey) -> Result<IfName, InvalidId> {
    name_of(PEER_PREFIX, key.digest())
}

/// The name of the port by which a VLAN's gateway is plugged into its bridge. It does not begin with
/// our prefix: like the bridge it belongs to no attachment, and nobody sweeps it.
pub fn gateway_port(gateway: &IfName) -> Result<IfName, InvalidId> {
    name_of(GATEWAY_PREFIX, digest(&["gateway", gateway.as_str()]))
}

fn name_of(prefix: &str, digest: u64) -> Result<IfName, InvalidId> {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let letters = (0..13).map(|i| {
        let five = (digest >> (5 * i)) & 31;
        char::from(LETTERS.get(five as usize).copied().unwrap_or(b'0'))
    });
    IfName::new(prefix.chars().chain(letters).collect::<String>())
}

/// The index for both ends. Should it be taken, the next `attempt` gives another.
pub fn link_index(key: &AttachmentKey, attempt: u32) -> LinkIndex {
    let mixed = (key.digest() >> 17) as u32;
    LinkIndex(INDEX_BASE | (mixed.wrapping_add(attempt.wrapping_mul(0x9e37_79b9)) & INDEX_MASK))
}

/// The index of the container's end where both ends are in one namespace.
pub fn index_beside(index: LinkIndex) -> LinkIndex {
    LinkIndex(index.0 ^ BESIDE_BIT)
}

/// Name and index of the shaper that belongs to a host end, so that who knows the one knows the other.
pub fn shaper(host: &IfName, index: LinkIndex) -> Result<(IfName, LinkIndex), InvalidId> {
    let rest = host.as_str().strip_prefix(PREFIX).unwrap_or(host.as_str());
    Ok((IfName::new(format!("{SHAPER_PREFIX}{rest}"))?, LinkIndex(index.0 ^ SHAPER_BIT)))
}

/// The host end that a shaper belongs to.
pub fn host_of_shaper(shaper: &IfName) -> Option<IfName> {
    let rest = shaper.as_str().strip_prefix(SHAPER_PREFIX)?;
    IfName::new(format!("{PREFIX}{rest}")).ok()
}

/// A link group for one removal: whatever is in it is deleted, so it must be one that nobody uses. It
/// is drawn from a range that no tool assigns, and `seed` differs each time.
pub fn scratch_group(seed: u64) -> NonZeroU32 {
    let drawn = digest(&["scratch", &seed.to_string()]) as u32 & !SCRATCH_MASK;
    NonZeroU32::MIN | SCRATCH | drawn
}

/// Whether a veth is one of our host ends. It has our prefix, and
/// - our group and an alias of ours: it was made;
/// - our group, no alias, and an index of ours: we died before the alias was set;
/// - a scratch group and an alias of ours: its removal failed.
///
/// What lacks a mark is somebody else's, however like ours it looks.
pub fn is_ours(name: &str, index: LinkIndex, group: u32, alias: &str) -> bool {
    name.starts_with(PREFIX) && is_marked(index, group, alias)
}

/// The same for an ifb: whether it is one of our shapers.
pub fn is_our_shaper(name: &str, index: LinkIndex, group: u32, alias: &str) -> bool {
    name.starts_with(SHAPER_PREFIX) && is_marked(index, group, alias)
}

fn is_marked(index: LinkIndex, group: u32, alias: &str) -> bool {
    let unfinished = alias.is_empty() && index.0 >= INDEX_BASE;
    let named = read_alias(alias).is_some();
    match group {
        GROUP => named || unfinished,
        other => other & SCRATCH_MASK == SCRATCH && named,
    }
}

/// The hardware address of the container's end: the same for the same key.
pub fn container_mac(key: &AttachmentKey) -> Mac {
    Mac::from_seed(key.digest())
}

/// The link-local address that the kernel gives to an interface of this hardware address (RFC 4291,
/// appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The hardware address of the host's end.
pub fn host_mac(key: &AttachmentKey) -> Mac {
    Mac::from_seed(!key.digest())
}

/// Whether containers on the bridge may be at home on the link: it is the bridge, or the gateway of one
/// of its VLANs.
pub fn is_home(link: &IfName, bridge: &IfName) -> bool {
    let of_vlan = || link.as_str().strip_prefix(bridge.as_str())?.strip_prefix('.');
    link == bridge || of_vlan().is_some_and(|vlan| vlan.parse::<u16>().is_ok())
}

/// The hardware address of a bridge we create. It depends on the host, so that two hosts whose
/// bridges are joined do not clash, and not on the boot, so that neighbours need not learn it anew.
pub fn bridge_mac(host_id: &str, bridge: &IfName) -> Mac {
    Mac::from_seed(digest(&["bridge", host_id, bridge.as_str()]))
}

/// The alias: key and addresses, so that the kernel alone can tell what the link is. A key that is
/// too long for it is given by its digest.
pub fn alias(key: &AttachmentKey, addresses: impl Iterator<Item = IpNetwork>) -> String {
    let mut addresses: Vec<String> = addresses.map(|a| a.to_string()).collect();
    let whole = format!("{ALIAS} {key} {}", addresses.join(","));
    if whole.len() <= ALIAS_MAX {
        return whole;
    }
    loop {
        let mut short = format!("{ALIAS} {} {}", digested(key), addresses.join(","));
        if short.len() <= ALIAS_MAX {
            return short;
        }
        // Part of an address would be another address.
        if addresses.pop().is_none() {
            short.truncate(ALIAS_MAX);
            return short;
        }
    }
}

/// What stands for a key that is too long: its network, its digest and no interface.
pub fn digested(key: &AttachmentKey) -> String {
    format!("{}/{:016x}/", key.network, key.digest())
}

/// The key under which an attachment is known if its own was too long for an alias and its record
/// was lost.
pub fn stand_in(key: &AttachmentKey) -> Option<AttachmentKey> {
    format!("{}{STAND_IN}", digested(key)).parse().ok()
}

/// What an alias says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// Whose link it is; if the key was too long, what stands for it.
    pub key: Option<AttachmentKey>,
    /// Its addresses.
    pub addresses: Vec<IpNetwork>,
}

/// Reads an alias; none if it is not ours.
pub fn read_alias(text: &str) -> Option<Alias> {
    let mut words = text.split(' ');
    if words.next() != Some(ALIAS) {
        return None;
    }
    let owner = words.next()?;
    // What stands for a key has no interface; in a record it gets one that no runtime asks for.
    let key = match owner.strip_suffix('/') {
        Some(digested) => format!("{digested}/{STAND_IN}").parse().ok(),
        None => owner.parse().ok(),
    };
    let addresses = words.next().unwrap_or_default().split(',').filter_map(|a| a.parse().ok());
    Some(Alias { key, addresses: addresses.collect() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> AttachmentKey {
        text.parse().expect("a key")
    }

    #[test]
    fn names_are_stable_and_as_long_as_the_kernel_allows() {
        let name = host_name(&key("quantum-bridge/c1/eth0")).expect("a name");
        assert_eq!(name.as_str().len(), 15);
        // Running containers have this name: it must never change.
        assert_eq!(name.as_str(), "qc8qqj4fx1yg5fd");
    }

    #[test]
    fn an_alias_can_be_read_again() {
        let addresses = ["172.20.0.2/16".parse().expect("v4"), "fd00::2/64".parse().expect("v6")];
        let text = alias(&key("n/c/eth0"), addresses.into_iter());
        assert_eq!(text, "quantum n/c/eth0 172.20.0.2/16,fd00::2/64");
        let read = read_alias(&text).expect("ours");
        assert_eq!((read.key, read.addresses), (Some(key("n/c/eth0")), addresses.to_vec()));
        assert_eq!(read_alias("somebody's link"), None);
    }

    #[test]
    fn a_key_that_is_too_long_still_gives_an_alias() {
        let long = key(&format!("n/{}/eth0", "c".repeat(400)));
        let text = alias(&long, ["10.0.0.2/24".parse().expect("v4")].into_iter());
        assert!(text.len() <= ALIAS_MAX);
        let read = read_alias(&text).expect("ours");
        assert_eq!((read.key, read.addresses.len()), (stand_in(&long), 1));
        let many: Vec<IpNetwork> =
            (0..40).map(|n| format!("fd00:1:2:3:4:5:6:{n:x}/64").parse().expect("v6")).collect();
        let text = alias(&key("n/c/eth0"), many.iter().copied());
        assert!(text.len() <= ALIAS_MAX);
        let read = read_alias(&text).expect("ours").addresses;
        assert_eq!(read, many[..read.len()], "no address is cut in two");
        assert!(stand_in(&long).is_some());
    }

    #[test]
    fn a_vlans_gateway_is_told_from_ports_and_other_bridges() {
        let name = |text| IfName::new(text).expect("a name");
        let port = gateway_port(&name("br0.100")).expect("a name");
        assert!(!is_ours(port.as_str(), LinkIndex(INDEX_BASE), GROUP, ""), "{port} is not swept");
        for (link, expected) in [
            ("br0", true),
            ("br0.100", true),
            ("br0.x", false),
            ("br01", false),
            ("br1.100", false),
        ] {
            assert_eq!(is_home(&name(link), &name("br0")), expected, "{link}");
        }
    }

    #[test]
    fn a_link_with_a_mark_missing_is_not_ours() {
        let alias = "quantum n/c/eth0 10.0.0.2/24";
        let ours = LinkIndex(INDEX_BASE + 7);
        assert!(is_ours("qc1", LinkIndex(7), GROUP, alias));
        assert!(is_ours("qc1", ours, GROUP, ""), "we died before its alias was set");
        assert!(is_ours("qc1", ours, scratch_group(1).get(), alias), "its removal failed");
        assert!(!is_ours("xc1", ours, GROUP, alias));
        assert!(!is_ours("qc1", ours, 5, alias));
        assert!(!is_ours("qc1", LinkIndex(7), GROUP, ""));
        assert!(!is_ours("qc1", ours, GROUP, "somebody's"));
    }

    #[test]
    fn host_end_and_shaper_are_known_by_each_other() {
        let host = host_name(&key("quantum-bridge/c1/eth0")).expect("a name");
        let index = link_index(&key("quantum-bridge/c1/eth0"), 0);
        let (name, other) = shaper(&host, index).expect("a name");
        assert_eq!(name.as_str(), "qs8qqj4fx1yg5fd");
        assert!(other != index && other.0 >= INDEX_BASE && other.0 <= i32::MAX as u32);
        assert_eq!(host_of_shaper(&name), Some(host.clone()));
        assert_eq!(host_of_shaper(&host), None);
        assert!(is_our_shaper(name.as_str(), other, GROUP, ""));
        assert!(!is_our_shaper(host.as_str(), index, GROUP, ""));
        assert!(!is_ours(name.as_str(), other, GROUP, ""));
    }

    proptest! {
        #[test]
        fn indexes_stay_in_their_range(id in "[a-z0-9]{1,20}", attempt in 0u32..20) {
            let index = link_index(&key(&format!("n/{id}/eth0")), attempt);
            prop_assert!(index.0 >= INDEX_BASE && index.0 <= i32::MAX as u32);
        }
    }
}
