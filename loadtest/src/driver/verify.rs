//! Is it true? Looks into the namespaces after the calls, apart from all timing.

use std::collections::HashMap;
use std::net::IpAddr;

use super::answer::addresses_of;
use super::subject::{Answer, IFNAME};
use crate::failure::Result;
use crate::netlink::{Route, addresses, link_index, link_names};
use crate::world::{Container, Visitor};

/// Checks a round of ADD: every call succeeded, its result gives `eth0` an address, the interface in
/// the container has it, and no two have the same. Returns what is wrong.
pub(crate) fn attached(
    visitor: &Visitor,
    containers: &[Container],
    answers: &[Answer],
) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut owners: HashMap<IpAddr, &str> = HashMap::new();
    for (container, answer) in containers.iter().zip(answers) {
        let id = container.id.as_str();
        let given = answer.outcome.as_ref().map_err(Clone::clone);
        let given = match given.and_then(|result| addresses_of(result, IFNAME)) {
            Ok(given) => given,
            Err(why) => {
                wrong.push(format!("ADD of {id}: {why}"));
                continue;
            }
        };
        let mut inside = visitor.route_in(&container.netns)?;
        let held = match link_index(&mut inside, IFNAME)? {
            Some(index) => addresses(&mut inside, index)?,
            None => Vec::new(),
        };
        for address in given {
            if !held.contains(&address) {
                wrong.push(format!("ADD of {id}: {address} is not on {IFNAME}, which has {held:?}"));
            }
            if let Some(other) = owners.insert(address, id) {
                wrong.push(format!("ADD of {id}: {address} was given to {other} too"));
            }
        }
    }
    Ok(wrong)
}

/// Checks a round of DEL: every call succeeded, no container has `eth0` any more, and the host has
/// the interfaces it had before the round. Returns what is wrong.
pub(crate) fn detached(
    visitor: &Visitor,
    containers: &[Container],
    answers: &[Answer],
    host_before: &[String],
) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (container, answer) in containers.iter().zip(answers) {
        if let Err(why) = &answer.outcome {
            wrong.push(format!("DEL of {}: {why}", container.id));
        }
        if link_index(&mut visitor.route_in(&container.netns)?, IFNAME)?.is_some() {
            wrong.push(format!("DEL of {}: {IFNAME} is still there", container.id));
        }
    }
    wrong.extend(difference(host_before, &link_names(&mut Route::open()?)?));
    Ok(wrong)
}

/// What is different on the host after a round.
fn difference(before: &[String], after: &[String]) -> Option<String> {
    let only_in = |some: &[String], others: &[String]| {
        some.iter().filter(|name| !others.contains(name)).cloned().collect::<Vec<_>>().join(" ")
    };
    let (left, gone) = (only_in(after, before), only_in(before, after));
    (!left.is_empty() || !gone.is_empty())
        .then(|| format!("after DEL the host has other interfaces: left behind [{left}], gone [{gone}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_and_losses_are_named() {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(difference(&names(&["br0", "lo"]), &names(&["br0", "lo"])), None);
        let text = difference(&names(&["br0", "lo"]), &names(&["lo", "veth1", "veth2"])).expect("different");
        assert!(text.ends_with("left behind [veth1 veth2], gone [br0]"), "{text}");
    }
}
