//! Chains and sets as a whole, and the text that makes or removes them.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use quantum_config::cni::Family;

use super::rule::Rule;
use crate::policy::{ChainName, SetName};

/// The rules of a chain, in their order.
pub type Chain = Arc<[Arc<Rule>]>;

/// Chains and sets of ours whose names say what is in them: those of one name are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The chains.
    pub chains: BTreeMap<ChainName, Chain>,
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
        self.chains.is_empty() && self.sets.is_empty()
    }

    /// What of this is not in `other`, or there is something else.
    pub fn difference(&self, other: &Self) -> Self {
        let chains = self.chains.iter().filter(|(name, chain)| {
            other
                .chains
                .get(*name)
                .is_none_or(|there| !Arc::ptr_eq(chain, there) && *chain != there)
        });
        let sets = self.sets.iter().filter(|(name, kind)| other.sets.get(*name) != Some(*kind));
        Self {
            chains: chains.map(|(name, chain)| (name.clone(), Arc::clone(chain))).collect(),
            sets: sets.map(|(name, kind)| (name.clone(), kind.clone())).collect(),
        }
    }

    /// Adds what is in `other`.
    pub fn extend(&mut self, other: Self) {
        self.chains.extend(other.chains);
        self.sets.extend(other.sets);
    }

    /// The text for `nft -f -` that makes all this. What is there already stays as it is, with the
    /// elements of its sets: applied twice it does the same as once.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.is_empty() {
            return text;
        }
        self.declare(&mut text);
        self.flush(&mut text);
        text.push_str("table inet quantum {\n");
        for (name, chain) in &self.chains {
            line(&mut text, format_args!("\tchain {name} {{"));
            for rule in chain.iter() {
                line(&mut text, format_args!("\t\t{rule}"));
            }
            text.push_str("\t}\n");
        }
        text.push_str("}\n");
        text
    }

    /// The text that removes all this, if nothing else refers to it any more. It names everything
    /// before it removes it, so that what is gone already does not stop it.
    pub fn removal_text(&self) -> String {
        let mut text = String::new();
        if self.is_empty() {
            return text;
        }
        self.declare(&mut text);
        // Without rules no chain refers to another, nor to a set, and the order does not matter.
        self.flush(&mut text);
        for name in self.chains.keys() {
            line(&mut text, format_args!("delete chain inet quantum {name}"));
        }
        for name in self.sets.keys() {
            line(&mut text, format_args!("delete set inet quantum {name}"));
        }
        text
    }

    fn declare(&self, text: &mut String) {
        text.push_str("table inet quantum {\n");
        for (name, kind) in &self.sets {
            line(text, format_args!("\tset {name} {{ {kind} }}"));
        }
        for name in self.chains.keys() {
            line(text, format_args!("\tchain {name} {{ }}"));
        }
        text.push_str("}\n");
    }

    fn flush(&self, text: &mut String) {
        for name in self.chains.keys() {
            line(text, format_args!("flush chain inet quantum {name}"));
        }
    }
}

/// A text takes everything that is written to it.
fn line(text: &mut String, line: fmt::Arguments<'_>) {
    let _ = writeln!(text, "{line}");
}
