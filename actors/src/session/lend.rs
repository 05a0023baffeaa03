//! Calls of the plugin `host-local`, which another plugin runs for addresses. DEL, GC and STATUS are as
//! for our own networks: an address is held by the same key.

use std::sync::Arc;

use quantum_cni::attach::Class;
use quantum_cni::kernel::clock::boottime_ms;
use quantum_config::cni::{CniError, Code, Previous};

use super::House;
use super::call::Checked;
use super::verbs::{self, Done, Undo};
use crate::messages::ask;
use crate::messages::cache::Held;
use crate::messages::network::{Detach, Lend, Only};
use crate::reclaim::insist;

/// ADD: addresses, which nobody else has until the DEL.
pub(super) async fn add(house: &House, call: Checked) -> Result<Done, CniError> {
    let key = verbs::key(&call)?;
    let network = call.conf.definition()?;
    let meant = call.conf.meant(&network, &call.call.env)?;
    let (wanted, meant) = (meant.wanted, Arc::new(meant.network.into_owned()));
    let network = Arc::new(network);
    let named = Some(network.clone());
    let admitted = verbs::admit(house, &call, &key.network, Class::Setup, named).await?;
    let Some(mailbox) = admitted.network.clone() else {
        return Err(CniError::new(Code::Internal, "ADD without a network"));
    };
    let caller = call.caller.clone();
    let request = Lend { key: key.clone(), definition: meant, wanted, caller };
    let mut result = insist(&house.reclaim, &mailbox.lend, request).await?;
    let unreachable = result.dns.leave_out_unreachable();
    let ips = result.ips.iter().map(|ip| ip.address.ip()).collect();
    let made_before = Some(boottime_ms());
    let request = Detach { key, made_before, netns: None, only: Only::Leftover };
    let undo = Undo::new(mailbox, request);
    match result.render(call.conf.version, &Previous::default()) {
        Ok(stdout) => Ok(Done { stdout, ips, unreachable, undo: Some(undo), ..Done::default() }),
        Err(error) => {
            undo.run().await?;
            Err(error)
        }
    }
}

/// CHECK: an address is held.
pub(super) async fn check(house: &House, call: Checked) -> Result<Done, CniError> {
    let key = verbs::key(&call)?;
    match ask(&house.held, Held(key.clone())).await?.is_empty() {
        false => Ok(Done::default()),
        true => Err(CniError::new(Code::CheckFailed, format!("no address is held for {key}"))),
    }
}
