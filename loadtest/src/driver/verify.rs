//! Is it true? Looks into the namespaces after the calls, apart from all timing.

use std::collections::HashMap;
use std::net::IpAddr;

use super::answer::addresses_of;
use super::subject::Answer;
use crate::failure::Result;
use crate::netlink::{Route, addresses, link_index, link_names};
use crate::world::{Container, IFNAME, Visitor};

/// What the checks of one round say.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// For each call, whether it did what it should.
    pub(crate) sound: Vec<bool>,
    /// What is wrong, in words.
    pub(crate) wrong: Vec<String>,
}

impl Checked {
    /// Takes in what is wrong with the next call.
    fn next(&mut self, call: &str, wrong: Vec<String>) {
        self.sound.push(wrong.is_empty());
        self.wrong.extend(wrong.into_iter().map(|why| format!("{call}: {why}")));
    }
}

/// Checks a round of ADD: every call succeeded, its result gives `eth0` an address, the interface
/// in the container has it, and no two have the same.
pub(crate) fn attached(
    visitor: &Visitor,
    containers: &[Container],
    answers: &[Answer],
) -> Result<Checked> {
    let mut checked = Checked::default();
    let mut owners: HashMap<IpAddr, &str> = HashMap::new();
    for (container, answer) in containers.iter().zip(answers) {
        let mut wrong = Vec::new();
        let result = answer.outcome.as_ref().map_err(Clone::clone);
        match result.and_then(|result| addresses_of(result, IFNAME)) {
            Err(why) => wrong.push(why),
            Ok(given) => {
                let held = held(visitor, container)?;
                for address in given {
                    if !held.contains(&address) {
                        wrong.push(format!("{address} is not on {IFNAME}, which has {held:?}"));
                    }
                    if let Some(other) = owners.insert(address, container.short_id()) {
                        wrong.push(format!("{address} was given to {other} too"));
                    }
                }
            }
        }
        checked.next(&format!("ADD of {}", container.short_id()), wrong);
    }
    Ok(checked)
}

/// The addresses that `eth0` of a container really has.
fn held(visitor: &Visitor, container: &Container) -> Result<Vec<IpAddr>> {
    let mut inside = visitor.route_in(&container.netns)?;
    match link_index(&mut inside, IFNAME)? {
        Some(index) => addresses(&mut inside, index),
        None => Ok(Vec::new()),
    }
}

/// Checks a round of DEL: every call succeeded, no container has `eth0` any more, and the host has
/// the interfaces it had before the round.
pub(crate) fn detached(
    visitor: &Visitor,
    containers: &[Container],
    answers: &[Answer],
    host_before: &[String],
) -> Result<Checked> {
    let mut checked = Checked::default();
    for (container, answer) in containers.iter().zip(answers) {
        let mut wrong: Vec<String> = answer.outcome.as_ref().err().cloned().into_iter().collect();
        if link_index(&mut visitor.route_in(&container.netns)?, IFNAME)?.is_some() {
            wrong.push(format!("{IFNAME} is still there"));
        }
        checked.next(&format!("DEL of {}", container.short_id()), wrong);
    }
    checked.wrong.extend(difference(host_before, &link_names(&mut Route::open()?)?));
    Ok(checked)
}

/// What is different on the host after a round.
fn difference(before: &[String], after: &[String]) -> Option<String> {
    let only_in = |some: &[String], others: &[String]| {
        some.iter().filter(|name| !others.contains(name)).cloned().collect::<Vec<_>>().join(" ")
    };
    let (left, gone) = (only_in(after, before), only_in(before, after));
    (!left.is_empty() || !gone.is_empty()).then(|| {
        format!("after DEL the host has other interfaces: left behind [{left}], gone [{gone}]")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_and_losses_are_named() {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(difference(&names(&["br0", "lo"]), &names(&["br0", "lo"])), None);
        let text = difference(&names(&["br0", "lo"]), &names(&["lo", "veth1", "veth2"]))
            .expect("different");
        assert!(text.ends_with("left behind [veth1 veth2], gone [br0]"), "{text}");
    }
}
