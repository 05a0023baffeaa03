//! The containers that begin no connections for now, as they hold too many.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{NftError, Table};
use crate::attach::Element;

impl Table {
    /// These addresses are crowded and no others, as far as they are containers'. Gives those that are.
    pub fn crowd(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>, NftError> {
        let (mut going, mut ours) = (Vec::new(), BTreeSet::new());
        self.look(|kept| {
            for element in kept {
                match element {
                    // Its link-local address is bound to its port, and at home nowhere.
                    Element::Home { address, .. } | Element::Bound { address, .. }
                        if addresses.contains(address) =>
                    {
                        ours.insert(*address);
                    }
                    Element::Crowded { address } if !addresses.contains(address) => {
                        going.push(element.clone());
                    }
                    _ => {}
                }
            }
        });
        let crowded = |address: &IpAddr| Element::Crowded { address: *address };
        let coming: Vec<Element> =
            ours.iter().map(crowded).filter(|element| !self.keeps(element)).collect();
        self.add(&coming)?;
        self.remove(&going)?;
        Ok(ours)
    }
}
