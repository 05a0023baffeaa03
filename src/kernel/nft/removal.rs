//! Removing chains and sets of policy by netlink, in one transaction. It does what
//! [`Rules::removal_text`] says, without a process for it; but where something is gone already, nothing is
//! done, and the text has to.

use super::NftError;
use super::listing::family::INET;
use super::listing::{self, ERROR, SUBSYSTEM, TABLE as OF_TABLE, request_of};
use super::sets::TABLE;
use crate::kernel::netfilter::{NetfilterSocket, messages};
use crate::policy::Rules;

// include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const DELETE_CHAIN: u16 = 5;
const DELETE_RULE: u16 = 8;
const DELETE_SET: u16 = 11;
// include/uapi/linux/netlink.h
const REQUEST: u16 = 1;
const REQUEST_ACK: u16 = 5;

/// True if all of it was removed; if not, nothing was.
pub(super) fn remove(socket: &mut NetfilterSocket, rules: &Rules) -> Result<bool, NftError> {
    let chains = || rules.names().map(|chain| chain.as_str());
    let mut steps = Vec::new();
    // Without rules no chain refers to another, nor to a set, and the order does not matter.
    steps.extend(chains().map(|name| (DELETE_RULE, listing::rule::CHAIN, name)));
    steps.extend(chains().map(|name| (DELETE_CHAIN, listing::chain::NAME, name)));
    let sets = rules.sets.keys();
    steps.extend(sets.map(|name| (DELETE_SET, listing::set::NAME, name.as_str())));
    let number = socket.numbers(steps.len() + 2);
    let mut batch = of_batch(BATCH_BEGIN, number);
    let last = steps.len();
    for (at, (kind, attribute, name)) in (1..).zip(&steps) {
        let flags = if at == last { REQUEST_ACK } else { REQUEST };
        let of = [(OF_TABLE, TABLE), (*attribute, *name)];
        batch.extend(request_of(SUBSYSTEM | kind, flags, INET, &of, number + at as u32));
    }
    batch.extend(of_batch(BATCH_END, number + last as u32 + 1));
    let (mut is_done, mut is_refused) = (false, false);
    socket.ask(&batch, |datagram| {
        for message in messages(datagram).filter(|message| message.kind == ERROR) {
            let code = message.body.first_chunk::<4>().map_or(-1, |c| i32::from_ne_bytes(*c));
            is_done |= code == 0;
            is_refused |= code != 0;
        }
        Ok::<_, NftError>(())
    })?;
    Ok(is_done && !is_refused)
}

/// The beginning or the end of a transaction: its header says of which part of netfilter it is.
fn of_batch(kind: u16, number: u32) -> Vec<u8> {
    let mut bytes = request_of(kind, REQUEST, 0, &[], number);
    if let Some(resource) = bytes.last_chunk_mut::<2>() {
        *resource = (SUBSYSTEM >> 8).to_be_bytes();
    }
    bytes
}
