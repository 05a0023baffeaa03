//! The print of our rules: what the kernel has of our chains, in a form that is the same for the same
//! text. It is taken after the text was applied, and compared with what is there later. So it is known
//! what our rules look like on this kernel, as this `nft` writes them, without knowing how to write them.
//!
//! Left out is what differs although nobody changed anything: handles, counters, and the numbers of
//! anonymous sets. Such a set cannot be changed by anybody, so that its rule stands for it.

use std::collections::BTreeMap;

use super::NftError;
use super::listing::{self, LIST_ELEM, Object, chain, element, family, rule, table, text};
use super::sets::TABLE;
use super::skeleton;
use crate::kernel::netfilter::{NetfilterSocket, attribute, attributes};
use crate::policy::ChainName;

// include/uapi/linux/netfilter/nf_tables.h
pub(super) const EXPR_NAME: u16 = 1;
pub(super) const EXPR_DATA: u16 = 2;
pub(super) const LOOKUP_SET: u16 = 1;

/// See the module. By chain, as `inet quantum forward`: what it is, and its rules. By table, as
/// `inet quantum`: its flags, as one that is dormant does nothing. By set that only the text fills, as
/// `inet quantum @unmasq4`: its elements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Print(BTreeMap<String, Vec<Vec<u8>>>);

impl Print {
    /// Takes the print of both tables.
    pub(super) fn take(socket: &mut NetfilterSocket) -> Result<Self, NftError> {
        let mut print = BTreeMap::<String, Vec<Vec<u8>>>::new();
        for (number, word) in [(family::INET, "inet"), (family::BRIDGE, "bridge")] {
            let name = |chain: String| format!("{word} {TABLE} {chain}");
            for object in listing::tables(socket, number)? {
                if object.family == number && object.name(table::NAME) == TABLE {
                    let flags = object.get(table::FLAGS).to_vec();
                    print.insert(format!("{word} {TABLE}"), vec![flags]);
                }
            }
            for object in listing::chains_of(socket, number, TABLE)? {
                print.insert(name(object.name(chain::NAME)), vec![kind_of(&object)]);
            }
            for object in listing::rules(socket, number, TABLE)? {
                // A chain that came between the two listings: the next look sees it.
                if let Some(rules) = print.get_mut(&name(object.name(rule::CHAIN))) {
                    rules.push(essence(object.get(rule::EXPRESSIONS)));
                }
            }
        }
        if print.contains_key(&format!("inet {TABLE}")) {
            for set in skeleton::OF_SETTINGS {
                let lists = listing::elements(socket, family::INET, TABLE, set)?;
                print.insert(format!("inet {TABLE} @{set}"), lists.iter().flat_map(ends).collect());
            }
        }
        Ok(Self(print))
    }

    /// The same where the tables have these flags.
    pub(super) fn with_flags(mut self, flags: u32) -> Self {
        for word in ["inet", "bridge"] {
            if let Some(of_table) = self.0.get_mut(&format!("{word} {TABLE}")) {
                *of_table = vec![flags.to_be_bytes().to_vec()];
            }
        }
        self
    }

    /// Nothing of ours is there.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same of these chains of policy only. They are no base chains, of which there is more to tell
    /// than that they are there.
    pub(super) fn take_of<'c>(
        socket: &mut NetfilterSocket,
        chains: impl Iterator<Item = &'c ChainName>,
    ) -> Result<Self, NftError> {
        let mut print = BTreeMap::new();
        for chain in chains {
            let mut about = vec![Vec::new()];
            for object in listing::rules_of(socket, family::INET, (TABLE, chain.as_str()))? {
                about.push(essence(object.get(rule::EXPRESSIONS)));
            }
            print.insert(format!("inet {TABLE} {chain}"), about);
        }
        Ok(Self(print))
    }

    /// Takes from `now` what the chains in `new` look like, and forgets those in `old`.
    pub(super) fn renew(&mut self, now: &Self, new: &[String], old: &[String]) {
        for name in old {
            self.0.remove(name);
        }
        let found = new.iter().filter_map(|name| now.0.get_key_value(name));
        self.0.extend(found.map(|(name, rules)| (name.clone(), rules.clone())));
    }

    /// What is gone or different in `now`: chains, or a whole table. What others put beside ours is
    /// theirs.
    pub(super) fn differing(&self, now: &Self) -> Vec<String> {
        let differs = |(name, rules): &(&String, &Vec<_>)| now.0.get(*name) != Some(*rules);
        let mut found: Vec<String> = Vec::new();
        for (name, _) in self.0.iter().filter(differs) {
            let (of, last) = name.rsplit_once(' ').unwrap_or_default();
            let lost = match (now.0.contains_key(of), last.strip_prefix('@')) {
                (true, Some(set)) => format!("set {of} {set}"),
                (true, None) => format!("chain {name}"),
                (false, _) => format!("table {}", if self.0.contains_key(of) { of } else { name }),
            };
            if !found.contains(&lost) {
                found.push(lost);
            }
        }
        found
    }
}

/// The elements of a list: the ends of intervals, and which of the two each is.
pub(super) fn ends(list: &Object) -> Vec<Vec<u8>> {
    let all = attributes(list.get(element::LIST)).filter(|(kind, _)| *kind == LIST_ELEM);
    let end = |one| {
        [element::FLAGS, element::KEY].map(|kind| attribute(one, kind).unwrap_or_default()).concat()
    };
    all.map(|(_, one)| end(one)).collect()
}

pub(super) fn kind_of(chain: &Object) -> Vec<u8> {
    let kept = [chain::HOOK, chain::POLICY, chain::TYPE, chain::FLAGS];
    let parts = chain.attributes().filter(|(kind, _)| kept.contains(kind));
    parts.flat_map(|(kind, value)| [&kind.to_ne_bytes(), value].concat()).collect()
}

/// An expression of a rule: its name and its data.
pub(super) fn expressions(list: &[u8]) -> impl Iterator<Item = (String, &[u8])> {
    attributes(list).filter(|(kind, _)| *kind == LIST_ELEM).map(|(_, expression)| {
        let name = attribute(expression, EXPR_NAME).map(text).unwrap_or_default();
        (name, attribute(expression, EXPR_DATA).unwrap_or_default())
    })
}

pub(super) fn essence(list: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(list.len());
    for (name, data) in expressions(list) {
        bytes.extend(name.as_bytes());
        match name.as_str() {
            "counter" => {}
            "lookup" => {
                for (kind, value) in attributes(data) {
                    match kind {
                        LOOKUP_SET => bytes.extend(unnumbered(value)),
                        _ => bytes.extend(value),
                    }
                }
            }
            _ => bytes.extend(data),
        }
        bytes.push(0);
    }
    bytes
}

/// The name of a set, of an anonymous one without its number.
fn unnumbered(name: &[u8]) -> &[u8] {
    [&b"__set"[..], b"__map"].into_iter().find(|of| name.starts_with(of)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{in_namespace, run};

    fn take() -> Print {
        Print::take(&mut NetfilterSocket::open().expect("a socket")).expect("a print")
    }

    #[test]
    fn the_same_text_has_the_same_print() {
        in_namespace(&["nft"], || {
            assert_eq!(take(), Print::default());
            skeleton::apply("").expect("the skeleton");
            let first = take();
            let chains = skeleton::TEXT.matches("flush chain").count();
            let all = chains + skeleton::GUARD.matches("flush chain").count();
            assert_eq!(first.0.len(), all + 4, "and two tables, and two sets");
            run("nft add table inet somebody");
            for _ in 0..12 {
                skeleton::apply("").expect("the skeleton");
                assert_eq!(take(), first);
            }
        });
    }

    #[test]
    fn what_is_changed_is_named() {
        in_namespace(&["nft"], || {
            for (harm, lost) in [
                ("flush chain inet quantum across", "chain inet quantum across"),
                ("flush chain bridge quantum stranger", "chain bridge quantum stranger"),
                ("insert rule inet quantum forward accept", "chain inet quantum forward"),
                ("add rule bridge quantum port accept", "chain bridge quantum port"),
                ("add chain inet quantum forward { policy drop; }", "chain inet quantum forward"),
                ("add element inet quantum unmasq4 { 10.2.0.0/16 }", "set inet quantum unmasq4"),
                ("add table inet quantum { flags dormant; }", "table inet quantum"),
            ] {
                skeleton::apply("").expect("the skeleton");
                run("nft add chain inet quantum forward { policy accept; }");
                let before = take();
                run(&format!("nft {harm}"));
                assert_eq!(before.differing(&take()), [lost], "{harm}");
            }
            skeleton::apply("").expect("the skeleton");
            let before = take();
            run("nft add chain inet quantum theirs");
            assert_eq!(before.differing(&take()), [""; 0]);
            run("nft flush ruleset");
            assert_eq!(before.differing(&take()), ["table bridge quantum", "table inet quantum"]);
        });
    }
}
