//! A transaction of the kernel made of any messages: tables, chains, sets, rules, lists of elements. When
//! [`commit`] returns, all of it is in force, or nothing.

use std::fmt;

use super::NftError;
use super::listing::{
    LIST_ELEM, SUBSYSTEM, TABLE as OF_TABLE, chain, element, family, request_of, rule, set, table,
};
use super::message::{self, DATA_VALUE, DATA_VERDICT, NFT_GOTO, VERDICT_CHAIN, VERDICT_CODE};
use super::sets::{Family, Field, SetElement, TABLE};
use crate::kernel::netfilter::{NetfilterSocket, written};

// include/uapi/linux/netfilter/nfnetlink.h
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
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
    pub(super) fn make_table(of: u8) -> Self {
        Self::new(NEW_TABLE, CREATE, of, &[], format_args!("make table {} {TABLE}", word(of)))
    }

    /// The same, with these flags. One that is there must have them, or nobody may own it.
    pub(super) fn make_table_with(of: u8, flags: u32) -> Self {
        Self::make_table(of).with(table::FLAGS, &flags.to_be_bytes())
    }

    /// Deletes the table with all that is in it.
    pub(super) fn delete_table(of: u8) -> Self {
        Self::new(DELETE_TABLE, 0, of, &[], format_args!("delete table {} {TABLE}", word(of)))
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

    /// What it does, as `make chain inet quantum forward`.
    pub(super) fn doing(&self) -> &str {
        &self.doing
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
        let mut list = Vec::new();
        for (at, element) in of_set.iter().enumerate() {
            list.extend(written(LIST_ELEM, &encoded(element)));
            if list.len() >= LIST || at + 1 == of_set.len() {
                let of = match element.set.family {
                    Family::Inet => family::INET,
                    Family::Bridge => family::BRIDGE,
                };
                let name = element.set_name();
                let mut attributes = named(OF_TABLE, TABLE);
                attributes.extend(named(set::NAME, name));
                attributes.extend(written(element::LIST, &std::mem::take(&mut list)));
                steps.push(step(of, name, attributes));
            }
        }
    }
    steps
}

/// Key and value of an element, as attributes.
fn encoded(of: &SetElement) -> Vec<u8> {
    let mut bytes = written(element::KEY, &written(DATA_VALUE, &of.key));
    if !of.value.is_empty() {
        let value = match of.set.value {
            [Field::Goto] => {
                let chain = [&of.value[..], &[0]].concat();
                let code = written(VERDICT_CODE, &NFT_GOTO.to_be_bytes());
                written(DATA_VERDICT, &[code, written(VERDICT_CHAIN, &chain)].concat())
            }
            _ => written(DATA_VALUE, &of.value),
        };
        bytes.extend(written(element::DATA, &value));
    }
    bytes
}

/// Carries all steps out, or none. A refusal names the step.
pub(super) fn commit(socket: &mut NetfilterSocket, steps: &[Step]) -> Result<(), NftError> {
    if steps.is_empty() {
        return Ok(());
    }
    let first = socket.numbers(steps.len() + 2);
    let last = first + steps.len() as u32;
    let length: usize = steps.iter().map(|step| step.attributes.len() + 24).sum();
    let mut bytes = Vec::with_capacity(length + 64);
    bytes.extend(limit(BATCH_BEGIN, first));
    for (number, step) in (first + 1..).zip(steps) {
        step.append_to(&mut bytes, number, number == last);
    }
    bytes.extend(limit(BATCH_END, last + 1));
    let doing = |number: u32| {
        let at = number.checked_sub(first + 1).map(|at| at as usize);
        let step = at.and_then(|at| steps.get(at));
        step.map_or_else(
            || format!("change our tables in {} steps", steps.len()),
            |s| s.doing.clone(),
        )
    };
    message::ask(socket, &bytes, last, &doing).map(drop)
}

/// The beginning or the end of a transaction: its header says of which part of netfilter it is.
fn limit(kind: u16, number: u32) -> Vec<u8> {
    let mut bytes = request_of(kind, REQUEST, 0, &[], number);
    if let Some(resource) = bytes.last_chunk_mut::<2>() {
        *resource = (SUBSYSTEM >> 8).to_be_bytes();
    }
    bytes
}
