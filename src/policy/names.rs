//! Names of what policy adds to our nftables table. They say what is in it: two of one name hold the
//! same, so that what is there already need not be written again. Those of doors say for whom they are.

use std::fmt;
use std::sync::Arc;

/// Which of an endpoint's connections are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Those it begins.
    Egress,
    /// Those that others begin.
    Ingress,
    /// Those that processes of the host begin.
    FromHost,
}

macro_rules! names {
    ($($(#[$about:meta])* $name:ident;)*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// A name that we gave, or that the kernel told.
            pub fn new(name: &str) -> Self {
                Self(name.into())
            }

            /// As nft writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// The name of a chain.
    ChainName;
    /// The name of a set.
    SetName;
}

/// Whether a chain or set of our table is one that policy made: each is named for what it holds, or
/// for whom it is.
pub fn is_of_policy(name: &str) -> bool {
    const KINDS: [&str; 8] =
        ["eg_", "in_", "host_", "sel4_", "sel6_", "named4_", "named6_", "ports_"];
    let digest = KINDS.iter().find_map(|kind| name.strip_prefix(kind));
    digest
        .and_then(|digest| digest.get(..16))
        .is_some_and(|digest| digest.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_policy_made_is_told_from_what_is_always_there() {
        for name in [
            "eg_0123456789abcdef",
            "in_0123456789abcdef_n",
            "named6_00000000000000ff",
            "eg_0123456789abcdef_door",
        ] {
            assert!(is_of_policy(name), "{name}");
        }
        for name in ["host_receiver", "host_default", "eg_", "port4", "ports_012", "across"] {
            assert!(!is_of_policy(name), "{name}");
        }
    }
}
