//! Names of what policy adds to our nftables table. They say what is in it: two of one name hold the
//! same, so that what is there already need not be written again.

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

/// The name of a chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainName(Arc<str>);

/// The name of a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName(Arc<str>);

impl ChainName {
    /// A name that we gave, or that the kernel told.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// As nft writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SetName {
    /// A name that we gave, or that the kernel told.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// As nft writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
