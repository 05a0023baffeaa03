//! The base chains of others at the hook `forward` whose policy is to drop, and the interfaces that the
//! rules of their tables name.

use std::collections::BTreeSet;

use quantum_config::cni::Family;
use quantum_config::ids::{IFNAME_MAX, IfName};

use super::listing::{self, LIST_ELEM, Object, chain, element, family, rule, text};
use super::print::expressions;
use super::sets::TABLE;
use super::{NftError, Table};
use crate::attach::Dropping;
use crate::kernel::netfilter::{attribute, attributes};

// include/uapi/linux/netfilter.h
const NF_INET_FORWARD: u32 = 2;
const NF_DROP: u32 = 0;
// include/uapi/linux/netfilter/nf_tables.h
const HOOK_NUMBER: u16 = 1;
const META_KEY: u16 = 2;
const META_NAMES: [u32; 2] = [6, 7]; // of the interface it came in by, goes out by
const CMP_DATA: u16 = 3;
const DATA_VALUE: u16 = 1;
const SET_KEY_TYPE: u16 = 4;
/// The type of an interface's name as `nft` tells it, and in how many bits it tells one of several.
const TYPE_IFNAME: u32 = 41;
const TYPE_BITS: u32 = 6;
const NAME: usize = IFNAME_MAX + 1;

impl Table {
    /// Every such chain.
    pub fn dropping(&mut self) -> Result<Vec<Dropping>, NftError> {
        let mut found = Vec::new();
        for object in listing::chains(&mut self.socket, family::ANY)? {
            let seen = match object.family {
                family::INET if object.name(chain::TABLE) != TABLE => None,
                family::IPV4 => Some(Family::V4),
                family::IPV6 => Some(Family::V6),
                _ => continue,
            };
            let hook = attribute(object.get(chain::HOOK), HOOK_NUMBER);
            if hook.and_then(number) != Some(NF_INET_FORWARD)
                || number(object.get(chain::POLICY)) != Some(NF_DROP)
            {
                continue;
            }
            let (table, name) = (object.name(chain::TABLE), object.name(chain::NAME));
            let names = self.named(object.family, &table)?.into_iter().collect();
            found.push(Dropping { family: seen, table, chain: name, names });
        }
        found.sort_by_key(ToString::to_string);
        Ok(found)
    }

    /// The interfaces that a table's rules name, by themselves or in a set.
    fn named(&mut self, family: u8, table: &str) -> Result<BTreeSet<String>, NftError> {
        let mut names = BTreeSet::new();
        for rule in listing::rules(&mut self.socket, family, table)? {
            names.extend(of_rule(&rule));
        }
        for set in listing::sets(&mut self.socket, family, table)? {
            if !number(set.get(SET_KEY_TYPE)).is_some_and(has_names) {
                continue;
            }
            let of = set.name(listing::set::NAME);
            for list in listing::elements(&mut self.socket, family, table, &of)? {
                let elements = attributes(list.get(element::LIST)).filter(|(k, _)| *k == LIST_ELEM);
                for (_, one) in elements {
                    let key = attribute(one, element::KEY).and_then(data);
                    names.extend(key.iter().flat_map(|k| in_key(k)));
                }
            }
        }
        Ok(names)
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

fn data(value: &[u8]) -> Option<&[u8]> {
    attribute(value, DATA_VALUE)
}

/// Names that are compared with right after they were read.
pub(super) fn of_rule(object: &Object) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_name = false;
    for (name, of) in expressions(object.get(rule::EXPRESSIONS)) {
        if name == "cmp"
            && is_name
            && let Some(value) = attribute(of, CMP_DATA).and_then(data)
        {
            // The beginning of a name is compared with just that many bytes.
            let any = if value.len() < NAME && !value.contains(&0) { "*" } else { "" };
            found.push(format!("{}{any}", text(value)));
        }
        is_name = name == "meta"
            && attribute(of, META_KEY)
                .and_then(number)
                .is_some_and(|key| META_NAMES.contains(&key));
    }
    found
}

/// Whether one of the types of a key is a name.
fn has_names(mut types: u32) -> bool {
    while types != 0 {
        if types & ((1 << TYPE_BITS) - 1) == TYPE_IFNAME {
            return true;
        }
        types >>= TYPE_BITS;
    }
    false
}

/// The names in a key, wherever they stand: fields begin at multiples of 4 bytes.
pub(super) fn in_key(mut key: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while !key.is_empty() {
        let name = text(&key[..key.len().min(NAME)]);
        let is_name = IfName::new(name.as_str()).is_ok();
        key = key.get(if is_name { NAME } else { 4 }..).unwrap_or_default();
        if is_name {
            found.push(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::nft::Kept;
    use crate::kernel::testing::{in_namespace, run};

    fn found() -> Vec<Dropping> {
        Table::open(Kept::default()).expect("a table").dropping().expect("a list")
    }

    #[test]
    fn only_chains_that_drop_what_is_forwarded_are_found() {
        in_namespace(&["nft"], || {
            run("nft add table inet quantum");
            for harmless in
                ["inet quantum own", "ip a accepting", "ip a incoming", "bridge b frames"]
            {
                let (table, _) = harmless.rsplit_once(' ').expect("a chain");
                run(&format!("nft add table {table}"));
                let (hook, policy) = match harmless {
                    "ip a accepting" => ("forward", "accept"),
                    "ip a incoming" => ("input", "drop"),
                    _ => ("forward", "drop"),
                };
                run(&format!(
                    "nft add chain {harmless} {{ type filter hook {hook} priority 0; policy {policy}; }}"
                ));
            }
            assert_eq!(found(), []);
            for table in ["inet firewall", "ip filter", "ip6 filter"] {
                run(&format!("nft add table {table}"));
                run(&format!(
                    "nft add chain {table} FORWARD {{ type filter hook forward priority 0; policy drop; }}"
                ));
            }
            let told: Vec<String> = found().iter().map(ToString::to_string).collect();
            let chain = |of| format!("the nftables chain {of} FORWARD");
            assert_eq!(told, ["inet firewall", "ip filter", "ip6 filter"].map(chain));
        });
    }

    #[test]
    fn the_interfaces_that_rules_name_are_found() {
        in_namespace(&["nft"], || {
            run("nft add table inet f");
            run(
                "nft add chain inet f forward { type filter hook forward priority 0; policy drop; }",
            );
            run("nft add set inet f some { type ifname . ipv4_addr; }");
            run("nft add element inet f some { br4 . 10.0.0.1 }");
            for rule in [
                "iifname br0 accept",
                "tcp dport 80 oifname != br1 accept",
                "iifname br2* accept",
                "oifname { br3, lo } accept",
                "meta iifname vmap { br5 : accept }",
            ] {
                run(&format!("nft add rule inet f forward {rule}"));
            }
            let names = found().remove(0).names;
            assert_eq!(names, ["br0", "br1", "br2*", "br3", "br4", "br5", "lo"]);
        });
    }
}
