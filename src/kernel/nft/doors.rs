//! Doors of policy: chains that do nothing but go on to another. Where they lead is changed by netlink, in
//! the transaction that makes a change hold, so that a packet finds all of it or none. It is the only rule
//! whose form in the kernel we know.

use std::collections::BTreeMap;

use super::listing::{LIST_ELEM, TABLE as OF_TABLE, family, rule};
use super::message::{DATA_VERDICT, NFT_GOTO, VERDICT_CHAIN, VERDICT_CODE};
use super::print::{EXPR_DATA, EXPR_NAME};
use super::sets::TABLE;
use super::transaction::{Step, named};
use crate::kernel::netfilter::written;
use crate::policy::ChainName;

// include/uapi/linux/netfilter/nf_tables.h
const IMMEDIATE_DREG: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const NFT_REG_VERDICT: u32 = 0;
// include/uapi/linux/netlink.h
const NESTED: u16 = 1 << 15;

/// Where each of these doors leads.
pub(super) type Doors = BTreeMap<ChainName, ChainName>;

/// What leads doors to chains, from wherever they lead.
pub(super) fn lead(moved: &Doors) -> impl Iterator<Item = Step> {
    moved.iter().flat_map(|(door, to)| {
        let of = [named(OF_TABLE, TABLE), named(rule::CHAIN, door.as_str())];
        let goes = nest(rule::EXPRESSIONS | NESTED, &[goto(to)]);
        let rule = [&of[..], &[goes]].concat().concat();
        [
            Step::flush_chain(family::INET, door.as_str()),
            Step::add_rule(family::INET, door.as_str(), rule),
        ]
    })
}

/// An expression that goes to a chain.
fn goto(to: &ChainName) -> Vec<u8> {
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
