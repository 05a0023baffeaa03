//! The elements of our table: add, remove, ask for, list.

use nix::errno::Errno;

use super::NftError;
use super::elements::{Family, GENUINE, HOMES, SetElement, expand, from_genuine, from_home};
use super::message::{self, Answer, Refused, Verb};
use crate::attach::Element;
use crate::kernel::netfilter::NetfilterSocket;

/// How often a dump is repeated that somebody's change has torn.
const DUMPS: usize = 8;

/// The door to the elements of table `inet quantum` in one network namespace. Blocks, but for no longer
/// than the kernel needs: writers of one namespace wait for each other there.
#[derive(Debug)]
pub struct Table {
    socket: NetfilterSocket,
    /// What removes an element: destroying forgives absence, and older kernels cannot.
    removal: Verb,
}

impl Table {
    /// Opens the table in the calling thread's network namespace. It need not exist yet.
    pub fn open() -> Result<Self, NftError> {
        let mut table = Self { socket: NetfilterSocket::open()?, removal: Verb::Destroy };
        table.removal = table.probe()?;
        Ok(table)
    }

    /// Adds elements, all or none. One that is there already is no error.
    pub fn add(&mut self, elements: &[Element]) -> Result<(), NftError> {
        let elements: Vec<SetElement> = elements.iter().flat_map(expand).collect();
        self.transact(Verb::Add, &elements).map_err(sort)
    }

    /// Removes elements. One that is not there is no error, nor is a table that is not there.
    ///
    /// All or none, unless the table or a set is gone, or the kernel is older than 6.3 and an element
    /// is not there: what is absent then voids the transaction, and each element is removed alone.
    pub fn remove(&mut self, elements: &[Element]) -> Result<(), NftError> {
        let elements: Vec<SetElement> = elements.iter().flat_map(expand).collect();
        if forgive(self.transact(self.removal, &elements))?.is_none() {
            for element in &elements {
                forgive(self.transact(self.removal, std::slice::from_ref(element)))?;
            }
        }
        Ok(())
    }

    /// True if all that makes up `element` is there; false also if the table is not.
    pub fn has(&mut self, element: &Element) -> Result<bool, NftError> {
        for part in expand(element) {
            let number = self.socket.numbers(1);
            let request = message::get(&part, number);
            let asked = self.ask(&request, number, &|_| format!("get element {part}"));
            if forgive(asked)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Everything of ours, in no order.
    pub fn list(&mut self) -> Result<Vec<Element>, NftError> {
        let mut found = Vec::new();
        for set in HOMES {
            found.extend(self.keys(Family::Inet, set)?.iter().filter_map(|key| from_home(key)));
        }
        found.extend(self.guards()?);
        Ok(found)
    }

    /// The guards; none if their table is not there, which is so on most hosts.
    pub fn guards(&mut self) -> Result<Vec<Element>, NftError> {
        match self.keys(Family::Bridge, GENUINE) {
            Ok(keys) => Ok(keys.iter().filter_map(|key| from_genuine(key)).collect()),
            Err(NftError::SkeletonLost { .. }) => Ok(Vec::new()),
            Err(NftError::Kernel { errno: Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT, .. }) => {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    fn keys(&mut self, family: Family, set: &str) -> Result<Vec<Vec<u8>>, NftError> {
        let doing = |_| format!("list set {set}");
        for _ in 0..DUMPS {
            let number = self.socket.numbers(1);
            let dump =
                self.ask(&message::dump(family, set, number), number, &doing).map_err(sort)?;
            if !dump.torn {
                return Ok(dump.keys);
            }
        }
        Err(NftError::NoAnswer { doing: doing(0) })
    }

    /// Which verb removes elements here. Asked by a transaction that cannot be carried out: a kernel
    /// that knows the message says there is no such set, another that there is no such message.
    fn probe(&mut self) -> Result<Verb, NftError> {
        match self.transact(Verb::Destroy, &[SetElement::nowhere()]) {
            Err(NftError::Kernel { errno: Errno::EINVAL | Errno::EOPNOTSUPP, .. }) => {
                Ok(Verb::Delete)
            }
            other => forgive(other).map(|_| Verb::Destroy),
        }
    }

    fn transact(&mut self, verb: Verb, elements: &[SetElement]) -> Result<(), NftError> {
        if elements.is_empty() {
            return Ok(());
        }
        let word = if verb == Verb::Add { "add" } else { "remove" };
        let first = self.socket.numbers(elements.len() + 2);
        let request = message::batch(verb, elements, first);
        // A refusal of a number that no element has is one of the transaction.
        let doing = |number: u32| {
            let at = number.checked_sub(first + 1).map(|at| at as usize);
            match at.and_then(|at| elements.get(at)) {
                Some(element) => format!("{word} element {element}"),
                None => format!("{word} {} elements of our tables", elements.len()),
            }
        };
        self.ask(&request, first + elements.len() as u32, &doing).map(drop)
    }

    /// Asks and makes of the answer an error or a success. `last` is the number that is acknowledged,
    /// `doing` names what the message of a number does.
    fn ask(
        &mut self,
        request: &[u8],
        last: u32,
        doing: &dyn Fn(u32) -> String,
    ) -> Result<Answer, NftError> {
        let mut answer = Answer::default();
        self.socket.ask(request, |datagram| {
            let read = answer.read(datagram);
            read.map_err(|source| NftError::Decode { doing: doing(last), source })
        })?;
        match answer.refused {
            Some(Refused { number, errno, explanation }) => {
                Err(NftError::Kernel { doing: doing(number), errno, explanation })
            }
            None if answer.done == Some(last) => Ok(answer),
            None => Err(NftError::NoAnswer { doing: doing(last) }),
        }
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
fn sort(error: NftError) -> NftError {
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
        // Only maps have data, and there are none yet.
        let doing = "add element 8080 in set ports".to_owned();
        let error = NftError::Kernel { doing, errno: Errno::EEXIST, explanation: None };
        let error = sort(error);
        assert!(matches!(error, NftError::Conflict { .. }), "{error}");
    }
}
