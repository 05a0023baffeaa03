//! Writing our tables as a whole: what the text says, translated, and what is kept.
//!
//! ```text
//!   in place   at a start: rules and elements change, sets stay, so that a packet under way in the rules
//!              of the last daemon finds in them what it looks for
//!   anew       when something is not as it should be: whatever is there goes, and all of it comes
//! ```
//!
//! Either is one transaction. The second does not depend on what is there: it is how every repair ends.
//!
//! Where the kernel has it (Linux 6.9) the tables belong to our socket, and outlive it: nobody else can change
//! or flush them while the daemon runs, and the next daemon takes them over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::elements::is_stamp;
use super::listing::family;
use super::print::Print;
use super::scratch::{Ownership, Scratch};
use super::sets::SetElement;
use super::table::{Difference, sort};
use super::transaction::{self, Step, commit};
use super::translation::{Translation, families};
use super::{NftError, Table, removal};
use crate::policy::{Rules, is_of_policy};

/// For so long after `nft` hung nobody waits for it again: those who have queued up behind it hear why at once,
/// and the next try is the watch's.
const SHARED: Duration = Duration::from_secs(1);

/// Tests see here what somebody else may do between two steps of ours.
pub(super) fn between_steps() {
    #[cfg(test)]
    super::tests_repair::interfere();
}

impl Table {
    /// Makes the tables again, with all that is kept, whatever is there.
    pub fn heal(&mut self) -> Result<(), NftError> {
        let (translation, print) = self.translate()?;
        between_steps();
        let flags = self.flags();
        let mut steps = Vec::new();
        for &of in families(self.tables) {
            steps.extend(Step::clear_table(of));
            steps.push(Step::make_table_with(of, flags));
        }
        steps.extend(translation.steps());
        steps.extend(transaction::add(self.wanted()));
        commit(&mut self.socket, &steps).map_err(sort)?;
        between_steps();
        self.print = Some(print);
        Ok(())
    }

    /// We are about to end: the tables are left so that everybody can list them.
    pub fn leave(&mut self) -> Result<(), NftError> {
        match self.ownership {
            Some(Ownership { flags, is_left: false }) if flags != 0 => {
                self.ownership = Some(Ownership::default());
                self.heal()
            }
            _ => Ok(()),
        }
    }

    /// What our tables are to be, but for the elements that come and go, and what that looks like.
    pub(super) fn translate(&mut self) -> Result<(Translation, Print), NftError> {
        let (rules, unmasked, is_owner) =
            self.kept.all(|kept| (kept.rules.clone(), kept.unmasked.clone(), kept.is_owner));
        self.in_scratch(|table, scratch| {
            let ownership = match table.ownership {
                Some(known) => known,
                None if is_owner => scratch.ownership()?,
                None => Ownership::default(),
            };
            let (translation, print) = scratch.translate(&rules, &unmasked)?;
            table.tables = scratch.tables();
            table.ownership = Some(ownership);
            Ok((translation, print.with_flags(ownership.flags)))
        })
    }

    /// Works where the text is translated. If that fails, it is made anew the next time.
    fn in_scratch<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &mut Scratch) -> Result<T, NftError>,
    ) -> Result<T, NftError> {
        if let Some((at, hung)) = &self.hung
            && at.elapsed() < SHARED
        {
            return Err(hung.clone().into());
        }
        let mut scratch = self.scratch.take().map_or_else(Scratch::open, Ok)?;
        let done = work(self, &mut scratch);
        match &done {
            Ok(_) => self.scratch = Some(scratch),
            Err(NftError::Hung(hung)) => self.hung = Some((Instant::now(), hung.clone())),
            Err(_) => {}
        }
        done
    }

    /// Writes the tables where they are there as we or an earlier daemon had them.
    pub(super) fn write_in_place(
        &mut self,
        (translation, print): &(Translation, Print),
        differs: &Difference,
    ) -> Result<(), NftError> {
        let flags = self.flags();
        let tables = families(self.tables).iter().map(|of| Step::make_table_with(*of, flags));
        let mut steps: Vec<Step> = tables.collect();
        let objects = translation.sets.iter().chain(&translation.chains);
        steps.extend(objects.map(|(_, _, step)| step.clone()));
        let chains = translation.chains.iter();
        steps.extend(chains.map(|(of, name, _)| Step::flush_chain(*of, name)));
        let filled = translation.filled.iter();
        steps.extend(filled.map(|(of, name)| Step::flush_set(*of, name)));
        steps.extend(translation.rest.iter().cloned());
        let changes = |all: &[SetElement], of_stamp: bool| -> Vec<SetElement> {
            all.iter().filter(|element| is_stamp(element) == of_stamp).cloned().collect()
        };
        for of_stamp in [false, true] {
            between_steps();
            steps.extend(transaction::remove(changes(&differs.strange, of_stamp)));
            steps.extend(transaction::add(changes(&differs.lacking, of_stamp)));
            // The stamp comes behind all else, see `govern`.
            commit(&mut self.socket, &steps).map_err(sort)?;
            steps.clear();
        }
        self.print = Some(print.clone());
        self.leave_nothing_behind(translation)
    }

    /// Removes what an earlier daemon had in our tables and we have not. In tables that do not belong to our
    /// socket, what is not of policy may be somebody else's.
    fn leave_nothing_behind(&mut self, ours: &Translation) -> Result<(), NftError> {
        let is_owner = self.flags() != 0;
        for &of in families(self.tables) {
            let (chains, sets) = removal::there(&mut self.socket, of)?;
            let is_left = |name: &String, ours: &[(u8, String, Step)]| {
                let is_known = ours.iter().any(|(family, known, _)| *family == of && known == name);
                !is_known && (is_owner || (of == family::INET && is_of_policy(name)))
            };
            let chains: Vec<_> =
                chains.into_iter().filter(|name| is_left(name, &ours.chains)).collect();
            let sets: Vec<_> = sets.into_iter().filter(|name| is_left(name, &ours.sets)).collect();
            let (chains, sets) =
                (chains.iter().map(String::as_str), sets.iter().map(String::as_str));
            let steps = removal::steps_of(of, chains, sets);
            commit(&mut self.socket, &steps.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Makes chains and sets of policy that are `new` beside those `before`.
    pub(super) fn create(&mut self, before: &Arc<Rules>, new: &Rules) -> Result<(), NftError> {
        let unmasked = self.kept.all(|kept| kept.unmasked.clone());
        let translation =
            self.in_scratch(|_, scratch| scratch.translate_new(before, new, &unmasked))?;
        between_steps();
        commit(&mut self.socket, &translation.steps().collect::<Vec<_>>())
    }
}
