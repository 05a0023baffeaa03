//! The links between which the host does not forward.

use super::{NftError, Table};
use crate::attach::Element;

impl Table {
    /// These links are apart; if they are `all`, no others.
    pub fn keep_apart(&mut self, wanted: &[Element], all: bool) -> Result<(), NftError> {
        let coming: Vec<Element> =
            wanted.iter().filter(|element| !self.keeps(element)).cloned().collect();
        self.add(&coming)?;
        if !all {
            return Ok(());
        }
        let is_old = |e: &&Element| matches!(e, Element::Apart { .. }) && !wanted.contains(*e);
        let going: Vec<Element> = self.look(|kept| kept.iter().filter(is_old).cloned().collect());
        self.remove(&going)
    }
}
