//! What others did to our tables, and undoing it. It is all kept: the text, what it looks like here, and
//! what the sets are to hold.

use std::fmt;
use std::net::IpAddr;

use quantum_config::ids::IfName;

use super::doors::Doors;
use super::print::Print;
use super::sets::SetElement;
use super::table::Difference;
use super::write::between_steps;
use super::{NftError, Table};
use crate::attach::Element;

/// What is not as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Harm {
    /// Chains, or whole tables, that are gone or other than they should be.
    pub rules: Vec<String>,
    elements: Difference,
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
        parts.extend(some(&self.elements.lacking, "missing"));
        parts.extend(some(&self.elements.strange, "strange"));
        f.write_str(&parts.join(", "))
    }
}

impl Table {
    /// The chains and tables that are not as the text has them. Nothing before it was applied.
    pub fn changed_rules(&mut self) -> Result<Vec<String>, NftError> {
        let Some(print) = &self.print else { return Ok(Vec::new()) };
        Ok(print.differing(&Print::take(&mut self.socket)?))
    }

    /// What is not as it should be.
    pub fn harm(&mut self) -> Result<Harm, NftError> {
        let rules = self.changed_rules()?;
        between_steps();
        Ok(Harm { rules, elements: self.difference()? })
    }

    /// Puts all of it right, whatever has happened since the look.
    pub fn undo(&mut self, harm: &Harm) -> Result<(), NftError> {
        between_steps();
        if harm.rules.is_empty()
            && self.is_made()
            && self.settle(&harm.elements, &Doors::new()).is_ok()
        {
            return Ok(());
        }
        self.heal()
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
