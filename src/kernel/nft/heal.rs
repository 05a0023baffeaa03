//! What others did to our tables, and undoing it. It is all kept: the text, what it looks like here, and
//! what the sets are to hold.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use quantum_config::ids::IfName;

use super::message::Verb;
use super::print::Print;
use super::sets::SetElement;
use super::table::{sort, strange};
use super::{NftError, Table};
use crate::attach::Element;

/// What is not as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Harm {
    /// Chains, or whole tables, that are gone or other than they should be.
    pub rules: Vec<String>,
    /// Elements that are gone.
    lacking: Vec<SetElement>,
    /// Elements that we did not put there: they may well let somebody pass.
    strange: Vec<SetElement>,
}

impl Harm {
    /// All is as it should be.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.rules.clone();
        let some = |elements: &[SetElement], what| match elements {
            [] => None,
            [one] => Some(format!("{what} element {one}")),
            [first, ..] => Some(format!("{} {what} elements, as {first}", elements.len())),
        };
        parts.extend(some(&self.lacking, "missing"));
        parts.extend(some(&self.strange, "strange"));
        f.write_str(&parts.join(", "))
    }
}

impl Table {
    /// The chains and tables that are not as the text has them. Nothing before it was applied.
    pub fn changed_rules(&mut self) -> Result<Vec<String>, NftError> {
        if self.print.is_none() {
            return Ok(Vec::new());
        }
        let now = Print::take(&mut self.socket)?;
        Ok(self.print.as_ref().map(|print| print.differing(&now)).unwrap_or_default())
    }

    /// What is not as it should be.
    pub fn harm(&mut self) -> Result<Harm, NftError> {
        let rules = self.changed_rules()?;
        let present: HashSet<SetElement> = self.found()?.into_iter().collect();
        let wanted: HashSet<SetElement> = self.wanted().into_iter().collect();
        Ok(Harm {
            rules,
            lacking: wanted.difference(&present).cloned().collect(),
            strange: strange(&present, &wanted),
        })
    }

    /// Puts all of it right.
    pub fn undo(&mut self, harm: &Harm) -> Result<(), NftError> {
        self.take(&harm.strange)?;
        if harm.rules.is_empty() && self.print.is_some() {
            self.transact(Verb::Add, &harm.lacking).map_err(sort)
        } else {
            self.heal()
        }
    }

    /// The gateways' addresses that are kept, each with its link.
    pub fn gateways(&self) -> Vec<(IfName, IpAddr)> {
        let of = |element: &Element| match element {
            Element::Gateway { address, bridge, .. } => Some((bridge.clone(), *address)),
            _ => None,
        };
        self.kept.with(|kept| kept.iter().filter_map(of).collect())
    }

    /// True if the text was applied: until then nothing is known of our rules.
    pub fn is_made(&self) -> bool {
        self.print.is_some()
    }
}
