//! A transaction of the kernel made of any messages: tables, chains, sets, rules, lists of elements. When
//! [`commit`] returns, all of it is in force, or nothing.

use std::fmt;

use netlink_packet_core::Emitable;

use super::NftError;
use super::listing::{SUBSYSTEM, TABLE as OF_TABLE, chain, family, request_of, rule, set, table};
use super::message::{self, Verb};
use super::sets::{Family, SetElement, TABLE};
use crate::kernel::netfilter::{NetfilterSocket, written};

// include/uapi/linux/netfilter/nf_tables.h
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;
// include/uapi/linux/netlink.h
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// Elements are sent in lists of about so many bytes: an attribute has at most 65,535.
const LIST: usize = 32 << 10;

/// One message of a transaction.
#[derive(Debug, Clone)]
pub(super) struct Step {
    kind: u16,
    flags: u16,
    family: u8,
    attributes: Vec<u8>,
    doing: String,
}

/// The word of a family, as `nft` has it.
fn word(of: u8) -> &'static str {
    match of {
        family::BRIDGE => "bridge",
        _ => "inet",
    }
}

/// A name, as an attribute.
pub(super) fn named(kind: u16, name: &str) -> Vec<u8> {
    written(kind, &[name.as_bytes(), &[0]].concat())
}

impl Step {
    fn new(
        kind: u16,
        flags: u16,
        of: u8,
        names: &[(u16, &str)],
        doing: fmt::Arguments<'_>,
    ) -> Self {
        let names = [(OF_TABLE, TABLE)].into_iter().chain(names.iter().copied());
        Self {
            kind,
            flags,
            family: of,
            attributes: names.flat_map(|(kind, name)| named(kind, name)).collect(),
            doing: doing.to_string(),
        }
    }

    /// Makes the table, or leaves it as it is.
    fn make_table(of: u8) -> Self {
        Self::new(NEW_TABLE, CREATE, of, &[], format_args!("make table {} {TABLE}", word(of)))
    }

    /// The same, with these flags. One that is there must have them, or nobody may own it.
    pub(super) fn make_table_with(of: u8, flags: u32) -> Self {
        Self::make_table(of).with(table::FLAGS, &flags.to_be_bytes())
    }

    /// Deletes the table with all that is in it, if it is there: to delete what is not there is an error, and
    /// to make what is there is none.
    pub(super) fn clear_table(of: u8) -> [Self; 2] {
        let doing = format_args!("delete table {} {TABLE}", word(of));
        [Self::make_table(of), Self::new(DELETE_TABLE, 0, of, &[], doing)]
    }

    /// Makes a chain of these attributes, its table and name among them.
    pub(super) fn make_chain(of: u8, name: &str, attributes: Vec<u8>) -> Self {
        let doing = format!("make chain {} {TABLE} {name}", word(of));
        Self { kind: NEW_CHAIN, flags: CREATE, family: of, attributes, doing }
    }

    /// Deletes a chain that nothing refers to.
    pub(super) fn delete_chain(of: u8, name: &str) -> Self {
        let doing = format_args!("delete chain {} {TABLE} {name}", word(of));
        Self::new(DELETE_CHAIN, 0, of, &[(chain::NAME, name)], doing)
    }

    /// Deletes the rules of a chain.
    pub(super) fn flush_chain(of: u8, name: &str) -> Self {
        let doing = format_args!("flush chain {} {TABLE} {name}", word(of));
        Self::new(DELETE_RULE, 0, of, &[(rule::CHAIN, name)], doing)
    }

    /// Appends a rule of these attributes, its table and chain among them.
    pub(super) fn add_rule(of: u8, name: &str, attributes: Vec<u8>) -> Self {
        let doing = format!("add a rule to chain {} {TABLE} {name}", word(of));
        Self { kind: NEW_RULE, flags: CREATE | APPEND, family: of, attributes, doing }
    }

    /// Makes a set of these attributes, its table and name among them.
    pub(super) fn make_set(of: u8, name: &str, attributes: Vec<u8>) -> Self {
        let doing = format!("make set {} {TABLE} {name}", word(of));
        Self { kind: NEW_SET, flags: CREATE, family: of, attributes, doing }
    }

    /// Deletes a set that nothing refers to.
    pub(super) fn delete_set(of: u8, name: &str) -> Self {
        let doing = format_args!("delete set {} {TABLE} {name}", word(of));
        Self::new(DELETE_SET, 0, of, &[(set::NAME, name)], doing)
    }

    /// Deletes the elements of a set.
    pub(super) fn flush_set(of: u8, name: &str) -> Self {
        let doing = format_args!("flush set {} {TABLE} {name}", word(of));
        Self::new(DELETE_ELEMENTS, 0, of, &[(set::NAME, name)], doing)
    }

    /// Adds elements, of these attributes, to a set.
    pub(super) fn add_list(of: u8, name: &str, attributes: Vec<u8>) -> Self {
        let doing = format!("add elements to set {} {TABLE} {name}", word(of));
        Self { kind: NEW_ELEMENTS, flags: CREATE, family: of, attributes, doing }
    }

    /// Removes elements, of these attributes, from a set.
    fn remove_list(of: u8, name: &str, attributes: Vec<u8>) -> Self {
        let doing = format!("remove elements from set {} {TABLE} {name}", word(of));
        Self { kind: DELETE_ELEMENTS, flags: 0, family: of, attributes, doing }
    }

    /// Appends the message to others of a transaction.
    pub(super) fn append_to(&self, bytes: &mut Vec<u8>, number: u32, is_last: bool) {
        let start = bytes.len();
        let flags = REQUEST | self.flags | if is_last { ACK } else { 0 };
        bytes.extend(request_of(SUBSYSTEM | self.kind, flags, self.family, &[], number));
        bytes.extend(&self.attributes);
        let length = (bytes.len() - start) as u32;
        bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.attributes.extend(written(kind, value));
        self
    }
}

/// What adds elements, those of a set together.
pub(super) fn add(elements: Vec<SetElement>) -> Vec<Step> {
    lists(elements, Step::add_list)
}

/// What removes elements, those of a set together. Each has to be there.
pub(super) fn remove(elements: Vec<SetElement>) -> Vec<Step> {
    lists(elements, Step::remove_list)
}

fn lists(mut elements: Vec<SetElement>, step: fn(u8, &str, Vec<u8>) -> Step) -> Vec<Step> {
    elements.sort_by(|a, b| {
        (a.set.family as u8, a.set_name()).cmp(&(b.set.family as u8, b.set_name()))
    });
    let mut steps = Vec::new();
    let is_of_one = |a: &SetElement, b: &SetElement| {
        a.set.family == b.set.family && a.set_name() == b.set_name()
    };
    for of_set in elements.chunk_by(is_of_one) {
        let (mut list, mut length) = (Vec::new(), 0);
        for (at, element) in of_set.iter().enumerate() {
            let one = message::one(element, true);
            length += one.buffer_len();
            list.push(one);
            if length >= LIST || at + 1 == of_set.len() {
                let of = match element.set.family {
                    Family::Inet => family::INET,
                    Family::Bridge => family::BRIDGE,
                };
                let name = element.set_name();
                let all = message::of_set(name, std::mem::take(&mut list));
                let mut attributes = vec![0; all.as_slice().buffer_len()];
                all.as_slice().emit(&mut attributes);
                steps.push(step(of, name, attributes));
                length = 0;
            }
        }
    }
    steps
}

/// Carries all steps out, or none. A refusal names the step.
pub(super) fn commit(socket: &mut NetfilterSocket, steps: &[Step]) -> Result<(), NftError> {
    change(socket, &[], steps)
}

/// The same with changes of single elements before the steps.
pub(super) fn change(
    socket: &mut NetfilterSocket,
    changes: &[(Verb, &SetElement)],
    steps: &[Step],
) -> Result<(), NftError> {
    let length = changes.len() + steps.len();
    if length == 0 {
        return Ok(());
    }
    let first = socket.numbers(length + 2);
    let request = message::batch(changes, steps, first);
    // A refusal of a number that no message has is one of the transaction.
    let doing = |number: u32| {
        let at = number.checked_sub(first + 1).map(|at| at as usize);
        match at.and_then(|at| changes.get(at)) {
            Some((Verb::Add, element)) => format!("add element {element}"),
            Some((_, element)) => format!("remove element {element}"),
            None => match at.and_then(|at| steps.get(at - changes.len())) {
                Some(step) => step.doing.clone(),
                None if changes.is_empty() => {
                    format!("change our tables in {} steps", steps.len())
                }
                None => format!("change {} elements of our tables", changes.len()),
            },
        }
    };
    message::ask(socket, &request, first + length as u32, &doing).map(drop)
}
