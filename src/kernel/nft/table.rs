//! The elements of our tables: add, remove, ask for, bring to what they should be.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use nix::errno::Errno;
use quantum_config::prefixes::Prefixes;

use super::NftError;
use super::doors::{self, Doors};
use super::elements::{collect, expand, is_told};
use super::error::Hung;
use super::govern::sets_of;
use super::message::{self, Answer, Verb};
use super::print::Print;
use super::scratch::{Ownership, Scratch};
use super::sets::{Family, Set, SetElement, known};
use super::skeleton::{self, Tables};
use super::transaction::{self, Step};
use crate::attach::Element;
use crate::kernel::netfilter::NetfilterSocket;
use crate::policy::{Rules, SetName};

/// How often a dump is repeated that somebody's change has torn.
const DUMPS: usize = 8;

/// What our tables are to hold, whatever anybody does to them. It outlives the [`Table`] that fills them,
/// which a panic costs.
#[derive(Debug, Clone, Default)]
pub struct Kept(Arc<Mutex<Holding>>);

/// What our tables are to hold besides what is the same everywhere.
#[derive(Debug, Default)]
pub(super) struct Holding {
    /// Elements of our sets.
    pub(super) elements: HashSet<Element>,
    /// Chains and sets that policy needs.
    pub(super) rules: Arc<Rules>,
    /// The text that fills the sets of what is not masqueraded. The daemon's settings say it, once.
    pub(super) unmasked: String,
    /// The tables are to belong to our socket, so that nobody else changes them.
    pub(super) is_owner: bool,
}

impl Kept {
    /// Nothing yet but what is not to be masqueraded, and whether the tables are to belong to us.
    pub fn new(unmasked: &Prefixes, is_owner: bool) -> Self {
        let unmasked = skeleton::unmasked(unmasked);
        Self(Arc::new(Mutex::new(Holding { unmasked, is_owner, ..Holding::default() })))
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut HashSet<Element>) -> T) -> T {
        self.all(|holding| work(&mut holding.elements))
    }

    pub(super) fn all<T>(&self, work: impl FnOnce(&mut Holding) -> T) -> T {
        // Whoever panicked had at most not yet removed an element.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        self.all(|holding| holding.rules.clone())
    }
}

/// How our sets differ from what they are to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Elements that are gone.
    pub(super) lacking: Vec<SetElement>,
    /// Elements that we did not put there: they may well let somebody pass. What networks left in a set
    /// that does not tell whose it is stays: they are prepared when they are used.
    pub(super) strange: Vec<SetElement>,
}

/// The door to the elements of our tables in one network namespace. Blocks, but for no longer than the
/// kernel needs: writers of one namespace wait for each other there.
#[derive(Debug)]
pub struct Table {
    pub(super) socket: NetfilterSocket,
    /// What removes an element: destroying forgives absence, and older kernels cannot.
    pub(super) removal: Verb,
    pub(super) kept: Kept,
    /// Which of the two tables there can be.
    pub(super) tables: Tables,
    /// Where the text of our rules is translated; made when it is first needed.
    pub(super) scratch: Option<Scratch>,
    /// How our tables belong to us; none before it is known what the kernel has.
    pub(super) ownership: Option<Ownership>,
    /// What our rules look like here; none before they were applied.
    pub(super) print: Option<Print>,
    /// When `nft` did not end in its time, last.
    pub(super) hung: Option<(Instant, Hung)>,
}

impl Table {
    /// Opens the tables in the calling thread's network namespace. They need not exist yet: what is
    /// added to a table that is not there makes it, with all that is `kept`.
    pub fn open(kept: Kept) -> Result<Self, NftError> {
        let (socket, removal, tables) = (NetfilterSocket::open()?, Verb::Destroy, Tables::Both);
        let (scratch, ownership, print, hung) = (None, None, None, None);
        let mut table = Self { socket, removal, kept, tables, scratch, ownership, print, hung };
        table.removal = table.probe()?;
        Ok(table)
    }

    /// Whether frames can be looked at: a kernel may have nftables and none for bridges. Known once
    /// the tables were made.
    pub fn sees_frames(&self) -> bool {
        self.tables == Tables::Both
    }

    /// The flags of our tables, as far as they are known.
    pub(super) fn flags(&self) -> u32 {
        self.ownership.unwrap_or_default().flags
    }

    /// The tables were to belong to us, and the kernel cannot have that. Known once they were made.
    pub fn lacks_owner(&self) -> bool {
        self.ownership.is_some() && self.flags() == 0 && self.kept.all(|kept| kept.is_owner)
    }

    /// Adds elements, all or none. One that is there already is no error. If the tables, or one of
    /// their sets, are gone, they are made again with everything that is kept.
    pub fn add(&mut self, elements: &[Element]) -> Result<(), NftError> {
        let new: Vec<&Element> =
            self.kept.with(|kept| elements.iter().filter(|e| kept.insert((*e).clone())).collect());
        let added = match self.put(elements) {
            Err(NftError::SkeletonLost { .. }) => self.heal(),
            other => other,
        };
        if added.is_err() {
            self.kept.with(|kept| new.iter().for_each(|element| _ = kept.remove(*element)));
        }
        added
    }

    /// Removes elements. One that is not there is no error, nor is a table that is not there.
    ///
    /// All or none, unless the table or a set is gone, or the kernel is older than 6.3 and an element
    /// is not there: what is absent then voids the transaction, and each element is removed alone.
    pub fn remove(&mut self, elements: &[Element]) -> Result<(), NftError> {
        self.kept.with(|kept| elements.iter().for_each(|element| _ = kept.remove(element)));
        let elements = self.seen(elements);
        self.take(&elements)
    }

    /// True if all that makes up `element` is there, and means what it should; false also if the table
    /// is not.
    pub fn has(&mut self, element: &Element) -> Result<bool, NftError> {
        for part in self.seen(std::slice::from_ref(element)) {
            let number = self.socket.numbers(1);
            let request = message::get(&part, number);
            let asked = self.ask(&request, number, &|_| format!("get element {part}"));
            let Some(answer) = forgive(asked)? else { return Ok(false) };
            let found = answer.elements.into_iter();
            let mut found = found.map(|(k, v)| part.found_beside(k, v));
            if !found.any(|found| found == part) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What our sets tell of containers, in no order; nothing if they are not there.
    pub fn list(&mut self) -> Result<Vec<Element>, NftError> {
        Ok(collect(&self.found()?))
    }

    /// How our sets differ from what is kept.
    pub(super) fn difference(&mut self) -> Result<Difference, NftError> {
        let present = self.found()?.into_iter().collect();
        Ok(self.differing(&present))
    }

    /// The same of what was found.
    pub(super) fn differing(&self, present: &HashSet<SetElement>) -> Difference {
        let wanted: HashSet<SetElement> = self.wanted().into_iter().collect();
        let strange = present.difference(&wanted);
        let strange = strange.filter(|e| !e.set.is_networks || is_told(e.set));
        Difference {
            lacking: wanted.difference(present).cloned().collect(),
            strange: strange.cloned().collect(),
        }
    }

    /// True if it is kept already.
    pub fn keeps(&self, element: &Element) -> bool {
        self.kept.with(|kept| kept.contains(element))
    }

    /// Looks at all that is kept.
    pub fn look<T>(&self, at: impl FnOnce(&HashSet<Element>) -> T) -> T {
        self.kept.with(|kept| at(kept))
    }

    pub(super) fn wanted(&self) -> Vec<SetElement> {
        let all: Vec<Element> = self.kept.with(|kept| kept.iter().cloned().collect());
        self.seen(&all)
    }

    /// The set elements, as far as the kernel can have them.
    pub(super) fn seen(&self, elements: &[Element]) -> Vec<SetElement> {
        let all = elements.iter().flat_map(expand);
        all.filter(|e| e.set.family == Family::Inet || self.tables == Tables::Both).collect()
    }

    fn put(&mut self, elements: &[Element]) -> Result<(), NftError> {
        let elements = self.seen(elements);
        self.transact(Verb::Add, &elements).map_err(sort)
    }

    pub(super) fn take(&mut self, elements: &[SetElement]) -> Result<(), NftError> {
        if forgive(self.transact(self.removal, elements))?.is_none() {
            for element in elements {
                forgive(self.transact(self.removal, std::slice::from_ref(element)))?;
            }
        }
        Ok(())
    }

    /// Every element of our sets; none of those that are not there.
    pub(super) fn found(&mut self) -> Result<Vec<SetElement>, NftError> {
        let mut found = Vec::new();
        let of_policy = sets_of(&self.kept.rules());
        let all = known::ALL.into_iter().map(|set| (set, None));
        for (set, instance) in all.chain(of_policy) {
            match self.elements(set, instance) {
                Ok(elements) => found.extend(elements),
                Err(NftError::SkeletonLost { .. }) => {}
                Err(NftError::Kernel {
                    errno: Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT, ..
                }) if set.family == Family::Bridge => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn elements(
        &mut self,
        set: &'static Set,
        instance: Option<SetName>,
    ) -> Result<Vec<SetElement>, NftError> {
        let name = instance.as_ref().map_or(set.name, SetName::as_str);
        let doing = |_| format!("list set {name}");
        for _ in 0..DUMPS {
            let number = self.socket.numbers(1);
            let dump = self.ask(&message::dump(set, name, number), number, &doing).map_err(sort)?;
            if !dump.torn {
                let found = dump.elements.into_iter().map(|(k, v)| SetElement {
                    instance: instance.clone(),
                    ..SetElement::found(set, k, v)
                });
                return Ok(found.collect());
            }
        }
        Err(NftError::NoAnswer { doing: doing(0) })
    }

    /// Which verb removes elements here. Asked by a transaction that cannot be carried out: a kernel
    /// that knows the message says there is no such set, another that there is no such message.
    fn probe(&mut self) -> Result<Verb, NftError> {
        match self.transact(Verb::Destroy, &[skeleton::nowhere()]) {
            Err(NftError::Kernel { errno: Errno::EINVAL | Errno::EOPNOTSUPP, .. }) => {
                Ok(Verb::Delete)
            }
            // The table is somebody's.
            Err(NftError::Kernel { errno: Errno::EPERM, .. }) => Ok(Verb::Destroy),
            other => forgive(other).map(|_| Verb::Destroy),
        }
    }

    pub(super) fn transact(&mut self, verb: Verb, elements: &[SetElement]) -> Result<(), NftError> {
        let changes: Vec<_> = elements.iter().map(|element| (verb, element)).collect();
        self.change(&changes, &Doors::new())
    }

    /// One transaction of elements, and of doors that lead elsewhere.
    pub(super) fn change(
        &mut self,
        changes: &[(Verb, &SetElement)],
        moved: &Doors,
    ) -> Result<(), NftError> {
        let steps: Vec<Step> = doors::lead(moved).collect();
        transaction::change(&mut self.socket, changes, &steps)
    }

    fn ask(
        &mut self,
        request: &[u8],
        last: u32,
        doing: &dyn Fn(u32) -> String,
    ) -> Result<Answer, NftError> {
        message::ask(&mut self.socket, request, last, doing)
    }
}

/// None if something is not there.
fn forgive<T>(outcome: Result<T, NftError>) -> Result<Option<T>, NftError> {
    match outcome {
        Err(NftError::Kernel { errno: Errno::ENOENT, .. }) => Ok(None),
        other => other.map(Some),
    }
}

/// What a refusal means to somebody who needs the table: elements are not missed when they are added,
/// so what is not there is the table or the set.
pub(super) fn sort(error: NftError) -> NftError {
    match error {
        NftError::Kernel { doing, errno: Errno::ENOENT, .. } => NftError::SkeletonLost { doing },
        NftError::Kernel { doing, errno: Errno::EEXIST, .. } => NftError::Conflict { doing },
        other => other,
    }
}

#[cfg(test)]
impl Table {
    /// As on a kernel older than 6.3.
    pub(super) fn forget_destroying(&mut self) {
        self.removal = Verb::Delete;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_data_under_the_same_key_is_a_conflict() {
        // Only maps have data.
        let doing = "add element 8080 in map ports".to_owned();
        let error = NftError::Kernel { doing, errno: Errno::EEXIST, explanation: None };
        let error = sort(error);
        assert!(matches!(error, NftError::Conflict { .. }), "{error}");
    }
}
