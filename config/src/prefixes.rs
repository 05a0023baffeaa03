//! Blocks of addresses of both families, as a setting lists them.

use ipnetwork::IpNetwork;

/// Blocks of which none is within another: each address is in one at most, as the kernel's sets of
/// intervals need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefixes(Vec<IpNetwork>);

impl Prefixes {
    /// Reads blocks, in any order. The error names the first that is none.
    pub fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut all: Vec<IpNetwork> = texts.map(read).collect::<Result<_, _>>()?;
        // A block comes before all that is within it.
        all.sort_by_key(|block| (block.network(), block.prefix()));
        all.dedup_by(|later, kept| {
            kept.is_ipv4() == later.is_ipv4() && kept.contains(later.network())
        });
        Ok(Self(all))
    }

    /// Those of IPv4.
    pub fn v4(&self) -> impl Iterator<Item = &IpNetwork> {
        self.0.iter().filter(|block| block.is_ipv4())
    }

    /// Those of IPv6.
    pub fn v6(&self) -> impl Iterator<Item = &IpNetwork> {
        self.0.iter().filter(|block| block.is_ipv6())
    }
}

/// Whether two blocks have an address in common; their host bits do not matter.
pub fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    // An address is in no block of the other family.
    one.contains(other.network()) || other.contains(one.network())
}

fn read(text: &str) -> Result<IpNetwork, String> {
    // The parser takes an address alone for a block of one, and a netmask for a prefix length.
    let length = text.split_once('/').map(|(_, length)| length);
    let is_number = length.is_some_and(|l| l.bytes().all(|byte| byte.is_ascii_digit()));
    let block: IpNetwork = is_number.then(|| text.parse().ok()).flatten().ok_or_else(|| {
        format!("{text:?} is not an address with a prefix length, such as 10.244.0.0/16")
    })?;
    let (network, prefix) = (block.network(), block.prefix());
    match block.ip() == network {
        true => Ok(block),
        false => {
            Err(format!("{text:?} has host bits set; the block it is in is {network}/{prefix}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(texts: &[&str]) -> Result<Vec<String>, String> {
        let read = Prefixes::new(texts.iter().copied())?;
        Ok(read.v4().chain(read.v6()).map(ToString::to_string).collect())
    }

    #[test]
    fn blocks_overlap_if_one_is_in_the_other() {
        for (one, other, expected) in [
            ("10.0.0.0/8", "10.1.0.5/16", true),
            ("10.1.0.5/32", "10.1.0.9/24", true),
            ("10.1.0.0/24", "10.1.1.0/24", false),
            ("0.0.0.0/0", "::/0", false),
            ("fd00::/8", "fd00:1::7/64", true),
        ] {
            let (one, other) = (one.parse().expect("a block"), other.parse().expect("a block"));
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn what_is_within_another_says_nothing_more() {
        for (texts, all) in [
            (&[][..], &[][..]),
            (&["fd00::/8", "10.1.0.0/16"], &["10.1.0.0/16", "fd00::/8"]),
            (
                &["10.1.2.0/24", "10.0.0.0/8", "10.9.0.0/16", "11.0.0.0/8"],
                &["10.0.0.0/8", "11.0.0.0/8"],
            ),
            (&["10.0.0.0/8", "10.0.0.0/9", "10.0.0.0/8"], &["10.0.0.0/8"]),
            (&["0.0.0.0/0", "::/0", "::1/128", "255.0.0.0/8"], &["0.0.0.0/0", "::/0"]),
            (&["10.0.0.0/9", "10.128.0.0/9"], &["10.0.0.0/9", "10.128.0.0/9"]),
        ] {
            assert_eq!(blocks(texts).expect("blocks"), all, "{texts:?}");
        }
    }

    #[test]
    fn what_is_no_block_is_named() {
        for bad in
            ["", "10.0.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0.0/255.0.0.0", "10.0.0.0/", "x/8"]
        {
            let said = blocks(&["10.0.0.0/8", bad]).expect_err(bad);
            assert!(said.contains(&format!("{bad:?} is not an address")), "{said}");
        }
        for (bad, network) in [("10.0.0.1/8", "10.0.0.0/8"), ("fd00::1/64", "fd00::/64")] {
            let said = blocks(&[bad]).expect_err(bad);
            assert!(said.contains("host bits") && said.ends_with(network), "{said}");
        }
    }
}
