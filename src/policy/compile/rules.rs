//! Chains and sets as a whole, and the text that makes or removes them.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use quantum_config::cni::Family;

use super::rule::Rule;
use crate::policy::{ChainName, SetName};

/// The rules of a chain, in their order.
pub type Chain = Arc<[Arc<Rule>]>;

/// Chains and sets of ours whose names say what is in them: those of one name are the same. Only doors
/// may lead elsewhere one day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The chains.
    pub chains: BTreeMap<ChainName, Chain>,
    /// Chains that do nothing but go on to another, each with where it leads.
    pub doors: BTreeMap<ChainName, ChainName>,
    /// The sets.
    pub sets: BTreeMap<SetName, SetKind>,
}

/// What is in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetKind {
    /// Addresses of endpoints, which come and go.
    Addresses(Family),
    /// Addresses of endpoints and their ports of one name.
    Named(Family),
    /// Ports, from the first to the last. They are there from the beginning, and stay.
    Ports(Vec<(u16, u16)>),
}

impl fmt::Display for SetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(Family::V4) => f.write_str("type ipv4_addr;"),
            Self::Addresses(Family::V6) => f.write_str("type ipv6_addr;"),
            Self::Named(Family::V4) => f.write_str("type ipv4_addr . inet_service;"),
            Self::Named(Family::V6) => f.write_str("type ipv6_addr . inet_service;"),
            Self::Ports(spans) => {
                f.write_str("type inet_service; flags interval; elements = {")?;
                for (n, (first, last)) in spans.iter().enumerate() {
                    f.write_str(if n == 0 { " " } else { ", " })?;
                    if first == last { first.fmt(f)? } else { write!(f, "{first}-{last}")? }
                }
                f.write_str(" };")
            }
        }
    }
}

impl Rules {
    /// There is nothing.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.doors.is_empty() && self.sets.is_empty()
    }

    /// The names of all chains, doors among them.
    pub fn names(&self) -> impl Iterator<Item = &ChainName> + Clone {
        self.chains.keys().chain(self.doors.keys())
    }

    /// The doors that are in `other`, too, and lead elsewhere there; each with where it leads here.
    pub fn moved(&self, other: &Self) -> BTreeMap<ChainName, ChainName> {
        let doors = self
            .doors
            .iter()
            .filter(|(door, chain)| other.doors.get(*door).is_some_and(|there| there != *chain));
        doors.map(|(door, chain)| (door.clone(), chain.clone())).collect()
    }

    /// What of this is not in `other`, or there is something else. A door is the same wherever it leads.
    pub fn difference(&self, other: &Self) -> Self {
        let chains = self.chains.iter().filter(|(name, chain)| {
            other
                .chains
                .get(*name)
                .is_none_or(|there| !Arc::ptr_eq(chain, there) && *chain != there)
        });
        let sets = self.sets.iter().filter(|(name, kind)| other.sets.get(*name) != Some(*kind));
        let doors = self.doors.iter().filter(|(door, _)| !other.doors.contains_key(*door));
        Self {
            chains: chains.map(|(name, chain)| (name.clone(), Arc::clone(chain))).collect(),
            doors: doors.map(|(door, chain)| (door.clone(), chain.clone())).collect(),
            sets: sets.map(|(name, kind)| (name.clone(), kind.clone())).collect(),
        }
    }

    /// Adds what is in `other`.
    pub fn extend(&mut self, other: Self) {
        self.chains.extend(other.chains);
        self.doors.extend(other.doors);
        self.sets.extend(other.sets);
    }

    /// The text for `nft -f -` that makes all this where none of it is there yet, and makes nothing if a chain
    /// is.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.is_empty() {
            return text;
        }
        // To create a set is to create it without its elements.
        text.push_str("table inet quantum {\n");
        for (name, kind) in &self.sets {
            line(&mut text, format_args!("\tset {name} {{ {kind} }}"));
        }
        text.push_str("}\n");
        for name in self.names() {
            line(&mut text, format_args!("create chain inet quantum {name}"));
        }
        for (name, chain) in &self.chains {
            for rule in chain.iter() {
                line(&mut text, format_args!("add rule inet quantum {name} {rule}"));
            }
        }
        for (door, chain) in &self.doors {
            line(&mut text, format_args!("add rule inet quantum {door} goto {chain}"));
        }
        text
    }
}

/// A text takes everything that is written to it.
fn line(text: &mut String, line: fmt::Arguments<'_>) {
    let _ = writeln!(text, "{line}");
}
