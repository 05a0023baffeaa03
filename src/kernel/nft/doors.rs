//! Doors of policy: chains that do nothing but go on to another. Where they lead is changed by netlink, in
//! the transaction that makes a change hold, so that a packet finds all of it or none. It is the only rule
//! whose form in the kernel we know.

use std::collections::{BTreeMap, BTreeSet};

use super::NftError;
use super::listing::{
    self, LIST_ELEM, SUBSYSTEM, TABLE as OF_TABLE, chain, family, request_of, rule,
};
use super::message::{DATA_VERDICT, NFT_GOTO, VERDICT_CHAIN, VERDICT_CODE, chain as goes_to};
use super::print::{EXPR_DATA, EXPR_NAME, expressions};
use super::sets::TABLE;
use crate::kernel::netfilter::{NetfilterSocket, attribute, written};
use crate::policy::ChainName;

// include/uapi/linux/netfilter/nf_tables.h
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const IMMEDIATE_DREG: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const NFT_REG_VERDICT: u32 = 0;
// include/uapi/linux/netlink.h
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE_APPEND: u16 = 0xc00;
const NESTED: u16 = 1 << 15;

/// How many messages lead a door elsewhere.
pub(super) const MESSAGES: usize = 2;

/// Where each of these doors leads.
pub(super) type Doors = BTreeMap<ChainName, ChainName>;

/// Appends what leads a door to a chain, from wherever it leads. The messages are numbered from `number`.
pub(super) fn lead(
    bytes: &mut Vec<u8>,
    (door, to): (&ChainName, &ChainName),
    number: u32,
    is_last: bool,
) {
    let of = [(OF_TABLE, TABLE), (rule::CHAIN, door.as_str())];
    bytes.extend(request_of(SUBSYSTEM | DELETE_RULE, REQUEST, family::INET, &of, number));
    let ack = if is_last { ACK } else { 0 };
    let flags = REQUEST | CREATE_APPEND | ack;
    let start = bytes.len();
    bytes.extend(request_of(SUBSYSTEM | NEW_RULE, flags, family::INET, &of, number + 1));
    bytes.extend(nest(rule::EXPRESSIONS | NESTED, &[goto(to)]));
    let length = (bytes.len() - start) as u32;
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// An expression that goes to a chain.
pub(super) fn goto(to: &ChainName) -> Vec<u8> {
    let name = [to.as_str().as_bytes(), &[0]].concat();
    let verdict =
        [nest(VERDICT_CODE, &[NFT_GOTO.to_be_bytes().to_vec()]), nest(VERDICT_CHAIN, &[name])];
    let data = [
        nest(IMMEDIATE_DREG, &[NFT_REG_VERDICT.to_be_bytes().to_vec()]),
        nest(IMMEDIATE_DATA | NESTED, &[nest(DATA_VERDICT | NESTED, &verdict)]),
    ];
    let expression = [nest(EXPR_NAME, &[b"immediate\0".to_vec()]), nest(EXPR_DATA | NESTED, &data)];
    nest(LIST_ELEM | NESTED, &expression)
}

/// An attribute of these parts.
fn nest(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    written(kind, &parts.concat())
}

/// Those of our doors that are there and do anything but lead where they should, each with where that is.
pub(super) fn misled(socket: &mut NetfilterSocket, ours: &Doors) -> Result<Doors, NftError> {
    let mut there = BTreeSet::new();
    for object in listing::chains(socket, family::INET)? {
        if object.name(chain::TABLE) == TABLE {
            there.insert(object.name(chain::NAME));
        }
    }
    let mut misled = Doors::new();
    for (door, to) in ours.iter().filter(|(door, _)| there.contains(door.as_str())) {
        let rules = listing::rules_of(socket, family::INET, (TABLE, door.as_str()))?;
        let leads = match &rules[..] {
            [only] => leads_to(only.get(rule::EXPRESSIONS)),
            _ => None,
        };
        if leads.as_ref() != Some(to) {
            misled.insert(door.clone(), to.clone());
        }
    }
    Ok(misled)
}

/// Where a rule leads that does nothing else.
pub(super) fn leads_to(list: &[u8]) -> Option<ChainName> {
    let mut all = expressions(list);
    let (Some((name, data)), None) = (all.next(), all.next()) else { return None };
    let data = attribute(data, IMMEDIATE_DATA).filter(|_| name == "immediate")?;
    match goes_to(attribute(data, DATA_VERDICT)?) {
        [] => None,
        to => Some(ChainName::new(&String::from_utf8_lossy(to))),
    }
}
