//! From what the kernel lists of our tables to the messages that make the same elsewhere. The attributes of
//! an object are the same in both directions, but for what the kernel adds: handles, counts of references,
//! and the names of anonymous sets, which it gives itself.

use std::collections::{HashMap, HashSet};

use super::NftError;
use super::listing::{
    self, LIST_ELEM, Object, TABLE as OF_TABLE, chain, element, family, rule, set, text,
};
use super::print::{EXPR_DATA, EXPR_NAME, LOOKUP_SET};
use super::sets::TABLE;
use super::skeleton::Tables;
use super::transaction::{Step, named};
use crate::kernel::netfilter::{NetfilterSocket, attribute, attributes, written};
use crate::policy::{ChainName, Rules, SetName};

// include/uapi/linux/netfilter/nf_tables.h
const SET_FLAGS: u16 = 3;
const SET_ID: u16 = 10;
const ANONYMOUS: u32 = 1;
const INTERVAL: u32 = 4;
const LOOKUP_SET_ID: u16 = 4;
const LIST_SET_ID: u16 = 4;
/// What a set is made of: table, name, flags, types and lengths, policy, description, timeouts, what `nft`
/// keeps with it, type of object, expressions.
const OF_SET: [u16; 15] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 17, 18];
/// What a chain is made of: table, name, hook, policy, type, what `nft` keeps with it.
const OF_CHAIN: [u16; 6] = [1, 3, 4, 5, 7, 12];
/// What a rule is made of: table, chain, expressions, what `nft` keeps with it.
const OF_RULE: [u16; 4] = [1, 2, 4, 7];

/// All that a text makes of our tables, in the kernel's form.
#[derive(Debug, Clone, Default)]
pub(super) struct Translation {
    /// Chains with their family: name, and what makes them.
    pub(super) chains: Vec<(u8, String, Step)>,
    /// Named sets, likewise.
    pub(super) sets: Vec<(u8, String, Step)>,
    /// Named sets that the text fills.
    pub(super) filled: Vec<(u8, String)>,
    /// What makes anonymous sets and fills all of these, and then what adds rules.
    pub(super) rest: Vec<Step>,
}

impl Translation {
    /// What makes all of it where nothing of it is there.
    pub(super) fn steps(&self) -> impl Iterator<Item = Step> {
        let (sets, chains) = (self.sets.iter(), self.chains.iter());
        let made = sets.chain(chains).map(|(_, _, step)| step);
        made.chain(&self.rest).cloned()
    }

    /// Reads all of our tables, or the chains and sets of policy that are in `only`.
    pub(super) fn read(
        socket: &mut NetfilterSocket,
        families: &[u8],
        only: Option<&Rules>,
    ) -> Result<Self, NftError> {
        let mut all = Self::default();
        let mut rules = Vec::new();
        // Numbers by which rules and elements of this transaction name a set.
        let mut number = 0u32;
        for &of in families {
            let has = |name: &str| {
                let chain = ChainName::new(name);
                only.is_none_or(|o| o.chains.contains_key(&chain) || o.doors.contains_key(&chain))
            };
            for object in listing::chains_of(socket, of, TABLE)? {
                let name = object.name(chain::NAME);
                if has(&name) {
                    let step = Step::make_chain(of, &name, kept(&object, &OF_CHAIN));
                    all.chains.push((of, name, step));
                }
            }
            let mut listed = Vec::new();
            match only {
                None => listed = listing::rules(socket, of, TABLE)?,
                Some(only) => {
                    for name in only.names() {
                        listed.extend(listing::rules_of(socket, of, (TABLE, name.as_str()))?);
                    }
                }
            }
            let used: HashSet<String> = listed.iter().flat_map(looked_up).collect();
            let mut anonymous = HashMap::new();
            for object in listing::sets(socket, of, TABLE)? {
                let name = object.name(set::NAME);
                let flags = object.get(SET_FLAGS).try_into().map_or(0, u32::from_be_bytes);
                let is_anonymous = flags & ANONYMOUS != 0;
                let is_wanted = match is_anonymous {
                    true => used.contains(&name),
                    false => only.is_none_or(|o| o.sets.contains_key(&SetName::new(&name))),
                };
                if !is_wanted {
                    continue;
                }
                number += 1;
                let made_as = if is_anonymous { template(&name) } else { name.clone() };
                let mut made = renamed(kept(&object, &OF_SET), set::NAME, &made_as);
                made.extend(written(SET_ID, &number.to_be_bytes()));
                let step = Step::make_set(of, &name, made);
                if is_anonymous {
                    all.rest.push(step);
                    anonymous.insert(name.clone(), number);
                } else {
                    all.sets.push((of, name.clone(), step));
                }
                // The others are filled by whoever comes.
                if is_anonymous || flags & INTERVAL != 0 {
                    if !is_anonymous {
                        all.filled.push((of, name.clone()));
                    }
                    for list in listing::elements(socket, of, TABLE, &name)? {
                        let mut made = named(OF_TABLE, TABLE);
                        made.extend(named(set::NAME, &made_as));
                        made.extend(written(LIST_SET_ID, &number.to_be_bytes()));
                        made.extend(written(element::LIST, list.get(element::LIST)));
                        all.rest.push(Step::add_list(of, &name, made));
                    }
                }
            }
            rules.extend(listed.into_iter().map(|object| {
                let name = object.name(rule::CHAIN);
                let mut made = Vec::new();
                for (kind, value) in object.attributes().filter(|(k, _)| OF_RULE.contains(k)) {
                    match kind {
                        rule::EXPRESSIONS => {
                            made.extend(written(kind, &expressions(value, &anonymous)));
                        }
                        _ => made.extend(written(kind, value)),
                    }
                }
                Step::add_rule(of, &name, made)
            }));
        }
        all.rest.extend(rules);
        Ok(all)
    }
}

fn kept(object: &Object, of: &[u16]) -> Vec<u8> {
    let kept = object.attributes().filter(|(kind, _)| of.contains(kind));
    kept.flat_map(|(kind, value)| written(kind, value)).collect()
}

fn renamed(list: Vec<u8>, of: u16, name: &str) -> Vec<u8> {
    let all = attributes(&list).flat_map(|(kind, value)| match kind == of {
        true => named(kind, name),
        false => written(kind, value),
    });
    all.collect()
}

/// What the kernel makes a name of for an anonymous set: `__set%d`, of `__set12`.
fn template(name: &str) -> String {
    format!("{}%d", name.trim_end_matches(|c: char| c.is_ascii_digit()))
}

/// The sets that a rule looks something up in.
fn looked_up(object: &Object) -> Vec<String> {
    let all = attributes(object.get(rule::EXPRESSIONS)).filter(|(kind, _)| *kind == LIST_ELEM);
    all.filter_map(|(_, one)| Some(text(attribute(lookup(one)?, LOOKUP_SET)?))).collect()
}

/// What an expression looks up, if it does.
fn lookup(expression: &[u8]) -> Option<&[u8]> {
    let is_lookup = attribute(expression, EXPR_NAME).map(text).as_deref() == Some("lookup");
    attribute(expression, EXPR_DATA).filter(|_| is_lookup)
}

/// The expressions of a rule; those that look something up in an anonymous set name it by its number.
pub(super) fn expressions(list: &[u8], anonymous: &HashMap<String, u32>) -> Vec<u8> {
    let mut made = Vec::with_capacity(list.len());
    for (kind, one) in attributes(list) {
        let sought = lookup(one).and_then(|data| {
            let name = text(attribute(data, LOOKUP_SET)?);
            Some((data, anonymous.get(&name)?, template(&name)))
        });
        let Some((data, number, name)) = sought else {
            made.extend(written(kind, one));
            continue;
        };
        let mut data = renamed(data.to_vec(), LOOKUP_SET, &name);
        data.extend(written(LOOKUP_SET_ID, &number.to_be_bytes()));
        let expression = [named(EXPR_NAME, "lookup"), written(EXPR_DATA, &data)].concat();
        made.extend(written(kind, &expression));
    }
    made
}

/// The families that our tables are of.
pub(super) fn families(tables: Tables) -> &'static [u8] {
    match tables {
        Tables::Both => &[family::INET, family::BRIDGE],
        Tables::Packets => &[family::INET],
    }
}
