//! Removing chains and sets of policy, in one transaction.

use super::NftError;
use super::listing::{self, chain, family::INET, set};
use super::sets::TABLE;
use super::transaction::{Step, commit};
use crate::kernel::netfilter::NetfilterSocket;
use crate::policy::Rules;

/// What removes these, if all of them are there.
pub(super) fn steps(rules: &Rules) -> impl Iterator<Item = Step> {
    let sets = rules.sets.keys().map(|name| name.as_str());
    steps_of(INET, rules.names().map(|name| name.as_str()), sets)
}

/// What removes these chains and sets of a family.
pub(super) fn steps_of<'n>(
    family: u8,
    chains: impl Iterator<Item = &'n str> + Clone,
    sets: impl Iterator<Item = &'n str>,
) -> impl Iterator<Item = Step> {
    // Without rules no chain refers to another, nor to a set, and the order does not matter.
    let flushed = chains.clone().map(move |name| Step::flush_chain(family, name));
    let deleted = chains.map(move |name| Step::delete_chain(family, name));
    let sets = sets.map(move |name| Step::delete_set(family, name));
    flushed.chain(deleted).chain(sets)
}

/// Removes these, as far as they are there.
pub(super) fn remove(socket: &mut NetfilterSocket, rules: &Rules) -> Result<(), NftError> {
    let all: Vec<Step> = steps(rules).collect();
    if commit(socket, &all).is_ok() {
        return Ok(());
    }
    let (chains, sets) = there(socket, INET)?;
    let mut left = rules.clone();
    left.chains.retain(|name, _| chains.iter().any(|there| there == name.as_str()));
    left.doors.retain(|name, _| chains.iter().any(|there| there == name.as_str()));
    left.sets.retain(|name, _| sets.iter().any(|there| there == name.as_str()));
    commit(socket, &steps(&left).collect::<Vec<_>>())
}

/// The names of all chains, and of all named sets, of our table of a family.
pub(super) fn there(
    socket: &mut NetfilterSocket,
    family: u8,
) -> Result<(Vec<String>, Vec<String>), NftError> {
    let chains = listing::chains_of(socket, family, TABLE)?;
    let sets = listing::sets(socket, family, TABLE)?;
    let sets = sets.iter().map(|of| of.name(set::NAME)).filter(|name| !name.starts_with("__"));
    Ok((chains.iter().map(|of| of.name(chain::NAME)).collect(), sets.collect()))
}
