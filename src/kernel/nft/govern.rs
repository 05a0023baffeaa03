//! What policy puts into our tables, changed as a whole.
//!
//! ```text
//!   new chains and sets           nft -f -     nobody goes there yet
//!   doors, elements, the epoch    netlink      one transaction: from here on it holds
//!   old chains and sets           netlink      nobody goes there any more
//!   the stamp                     netlink      what is let in is remembered again
//! ```
//!
//! A chain of another content has another name, so the middle is all that a packet can notice. Where
//! policies say something else, it is doors that lead elsewhere, one for all endpoints that are alike. The epoch
//! is the mark of connections that were judged: when it changes, each of them is judged once more, at its
//! next packet.
//!
//! A packet that is under way in our rules meanwhile goes on by the rules that it began with, while the
//! elements it asks for are already the new ones. So the stamp, which is what a connection is marked with,
//! comes behind: until then it is the mark of the epoch that is over, and who has it is judged once more. No
//! connection is remembered under the new epoch that was let in by the rules before.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use quantum_config::cni::Family;

use super::doors::Doors;
use super::elements::{collect, is_stamp};
use super::message::Verb;
use super::print::Print;
use super::sets::{Set, SetElement, TABLE, known};
use super::table::{Difference, Holding, sort};
use super::write::between_steps;
use super::{NftError, Table, removal};
use crate::attach::Element;
use crate::policy::{ChainName, Changes, Rules, SetKind, SetName};

/// Marks of ours begin so: a small number may be anybody's.
const TAG: u32 = 0x5a00_0000;
const COUNTED: u32 = 0x00ff_ffff;

impl Table {
    /// Makes the tables what they should be, and brings their sets to what is `wanted` by difference:
    /// what stays is not touched. What networks have stays as well; they are prepared when they are
    /// used. If anything differs, connections are judged anew.
    pub fn reconcile(&mut self, wanted: Vec<Element>, rules: Arc<Rules>) -> Result<(), NftError> {
        let found = collect(&self.found()?);
        let of_networks = |thing: &Element| {
            matches!(
                thing,
                Element::Network { .. } | Element::Strangers { .. } | Element::Apart { .. }
            )
        };
        let networks = found.iter().filter(|thing| of_networks(thing)).cloned();
        let mut epochs = found.iter().filter_map(epoch_of);
        let epoch = match (epochs.next(), epochs.next()) {
            (Some(epoch), None) => epoch,
            _ => random(),
        };
        self.kept.all(|holding| {
            holding.elements = wanted.into_iter().chain(networks).collect();
            holding.elements.insert(Element::Epoch(epoch));
            holding.rules = rules;
        });
        let translated = self.translate()?;
        // Whose the tables are makes no difference to what they do.
        let there = Print::take(&mut self.socket)?.with_flags(self.flags());
        let present = self.found()?.into_iter().collect();
        let mut differs = self.differing(&present);
        if differs != Difference::default() || !translated.1.differing(&there).is_empty() {
            self.kept.all(Holding::next_epoch);
            differs = self.differing(&present);
        }
        let is_written = !there.is_empty() && self.write_in_place(&translated, &differs).is_ok();
        if is_written && self.difference()? == Difference::default() {
            return Ok(());
        }
        self.heal()
    }

    /// Carries a change out. When this returns, no connection goes on that is not allowed any more.
    pub fn govern(&mut self, change: Changes) -> Result<(), NftError> {
        let before = self.kept.rules();
        // Most who come need what is there already, and to compare all of it takes as long as an ADD.
        let (new, old, moved) = match Arc::ptr_eq(&before, &change.rules) {
            true => Default::default(),
            false => {
                let (new, old) =
                    (change.rules.difference(&before), before.difference(&change.rules));
                (new, old, change.rules.moved(&before))
            }
        };
        if !new.is_empty() {
            let mut all = (*before).clone();
            all.extend(new.clone());
            self.kept.all(|holding| holding.rules = Arc::new(all));
            // Where that fails, somebody may have taken our tables away, and nobody has put them back yet;
            // or some of it was left.
            if let Err(error) = self.create(&before, &new).or_else(|_| self.heal()) {
                self.kept.all(|holding| holding.rules = before);
                return Err(error);
            }
        }
        between_steps();
        let stamp = self.switch(&change, &moved)?;
        self.kept.all(|holding| holding.rules = change.rules.clone());
        between_steps();
        // What holds has changed already; what is not removed now is by the next daemon.
        if !old.is_empty() {
            let _ = removal::remove(&mut self.socket, &old);
        }
        if !new.is_empty() || !old.is_empty() || !moved.is_empty() {
            self.look_again(&new, &moved, &old);
        }
        self.stamp(&stamp)
    }

    /// Takes the print of chains that are new, or lead elsewhere than they did, and forgets that of `old`.
    fn look_again(&mut self, new: &Rules, moved: &Doors, old: &Rules) {
        let rules = self.kept.rules();
        let chains = new.names().chain(moved.keys());
        let now = self.scratch.as_mut().and_then(|scratch| {
            scratch.follow(moved, old, &rules);
            scratch.print_of(chains.clone())
        });
        match (now, &mut self.print) {
            (Some(now), Some(print)) => {
                let full = |chain: &ChainName| format!("inet {TABLE} {chain}");
                let new: Vec<_> = chains.map(full).collect();
                let old: Vec<_> = old.names().map(full).collect();
                print.renew(&now, &new, &old);
            }
            // The change holds. If it is not known what it looks like, all of it is made again.
            _ => self.print = self.translate().ok().map(|(_, print)| print),
        }
    }

    /// Has every connection judged anew.
    pub fn judge_anew(&mut self) -> Result<(), NftError> {
        let rules = self.kept.rules();
        let change = Changes { rules, anew: true, ..Changes::default() };
        let stamp = self.switch(&change, &Doors::new())?;
        self.stamp(&stamp)
    }

    /// The transaction, and what is to be done to the stamp behind it. If it fails, what is kept is what it
    /// was.
    fn switch(
        &mut self,
        change: &Changes,
        moved: &Doors,
    ) -> Result<Vec<(Verb, SetElement)>, NftError> {
        let mut going: Vec<Element> = Vec::new();
        let mut coming: Vec<Element> = Vec::new();
        self.kept.all(|holding| {
            let elements = &mut holding.elements;
            going.extend(change.remove.iter().filter(|e| elements.remove(*e)).cloned());
            let new = change.add.iter().filter(|e| elements.insert((*e).clone()));
            coming.extend(new.cloned());
            if change.anew {
                let (old, new) = holding.next_epoch();
                going.extend(old);
                coming.push(new);
            }
        });
        let (take, put) = (self.seen(&going), self.seen(&coming));
        let removals = take.into_iter().map(|element| (self.removal, element));
        let changes = removals.chain(put.into_iter().map(|element| (Verb::Add, element)));
        let (mut stamp, changes): (Vec<_>, Vec<_>) = changes.partition(|(_, e)| is_stamp(e));
        let mut done = self.change(&borrowed(&changes), moved);
        if done.is_err() {
            // Something is not there that should be, or nobody knows what is: all of it is made again, with
            // the doors as they are to lead.
            let before =
                self.kept.all(|kept| std::mem::replace(&mut kept.rules, change.rules.clone()));
            done = self.heal();
            stamp.clear();
            if done.is_err() {
                self.kept.all(|kept| kept.rules = before);
            }
        }
        if done.is_err() {
            self.kept.all(|holding| {
                coming.iter().for_each(|element| _ = holding.elements.remove(element));
                holding.elements.extend(going);
            });
        }
        done.map(|()| stamp)
    }

    /// Has what is let in marked with the epoch. What holds, holds already.
    fn stamp(&mut self, stamp: &[(Verb, SetElement)]) -> Result<(), NftError> {
        let done = self.change(&borrowed(stamp), &Doors::new());
        done.or_else(|_| self.heal())
    }

    /// Puts right how our sets differ from what is kept: in one transaction, with the stamp behind it.
    pub(super) fn settle(&mut self, differs: &Difference, moved: &Doors) -> Result<(), NftError> {
        let removals = differs.strange.iter().map(|element| (self.removal, element));
        let additions = differs.lacking.iter().map(|element| (Verb::Add, element));
        let all = removals.chain(additions);
        let (stamp, changes): (Vec<_>, Vec<_>) = all.partition(|(_, element)| is_stamp(element));
        self.change(&changes, moved).map_err(sort)?;
        between_steps();
        self.change(&stamp, &Doors::new()).map_err(sort)
    }
}

impl Holding {
    /// Goes on to the next epoch: the elements of the old one and the new one's.
    fn next_epoch(&mut self) -> (Vec<Element>, Element) {
        let old: Vec<Element> =
            self.elements.iter().filter(|e| epoch_of(e).is_some()).cloned().collect();
        for element in &old {
            self.elements.remove(element);
        }
        let last = old.iter().filter_map(epoch_of).next().unwrap_or_else(random);
        let new = Element::Epoch(TAG | (last.wrapping_add(1) & COUNTED));
        self.elements.insert(new.clone());
        (old, new)
    }
}

fn borrowed(changes: &[(Verb, SetElement)]) -> Vec<(Verb, &SetElement)> {
    changes.iter().map(|(verb, element)| (*verb, element)).collect()
}

fn epoch_of(element: &Element) -> Option<u32> {
    match element {
        Element::Epoch(mark) => Some(*mark),
        _ => None,
    }
}

/// Where to begin: no connection must bear the mark of an epoch long ago.
fn random() -> u32 {
    TAG | (RandomState::new().hash_one(()) as u32 & COUNTED)
}

/// The sets that policy has besides, each with its kind.
pub(super) fn sets_of(rules: &Rules) -> Vec<(&'static Set, Option<SetName>)> {
    let kind = |kind: &SetKind| match kind {
        SetKind::Addresses(Family::V4) => Some(&known::MEMBERS4),
        SetKind::Addresses(Family::V6) => Some(&known::MEMBERS6),
        SetKind::Named(Family::V4) => Some(&known::NAMED4),
        SetKind::Named(Family::V6) => Some(&known::NAMED6),
        SetKind::Ports(_) => None,
    };
    let all = rules.sets.iter();
    all.filter_map(|(name, of)| Some((kind(of)?, Some(name.clone())))).collect()
}
