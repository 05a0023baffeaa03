//! Undoing what a record says: first the rules, so that no address is served that is about to go,
//! then the pair, and when it is gone and nobody can answer any more, the connections of its
//! addresses. One that fails does not stop the other.

use std::net::IpAddr;

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::attach::{
    Element, Record, elements, naming, publishes_at_loopback, serves_loopback,
};
use quantum_cni::kernel::nft::Table;
use quantum_cni::kernel::{KernelError, fault, loopback};

use super::{Driver, Lanes};
use crate::messages::driver::Revert;

impl Handler<Revert> for Driver {
    type Result = ResponseFuture<Result<(), KernelError>>;

    fn handle(&mut self, Revert(record): Revert, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move { revert(&lanes, &record).await })
    }
}

/// The same for an ADD that failed.
pub(super) async fn revert(lanes: &Lanes, record: &Record) -> Result<(), KernelError> {
    // Nobody is to put it back.
    lanes.book.with(|links| links.detached(&record.host, record.index));
    let unfiltered = withdraw(lanes, record).await;
    fault::reach("del-unfiltered")?;
    let unlinked = lanes.remove_of(record).await;
    fault::reach("del-unlinked")?;
    unfiltered.and(unlinked)
}

/// The rules; with the last port at 127.0.0.0/8 goes what its bridge was opened for. On the lane that
/// opens it, so that the two do not meet.
async fn withdraw(lanes: &Lanes, record: &Record) -> Result<(), KernelError> {
    let (mut going, home) = (elements(record), record.home().clone());
    let own = IpAddr::V6(naming::link_local(record.mac));
    let addresses = record.addresses.iter().map(|assigned| assigned.address.ip()).chain([own]);
    let crowded: Vec<Element> = addresses.map(|address| Element::Crowded { address }).collect();
    let job = move |table: &mut Table| {
        // Whoever gets the address next holds nothing yet.
        going.extend(crowded.into_iter().filter(|element| table.keeps(element)));
        let removed = table.remove(&going).map_err(KernelError::from);
        if publishes_at_loopback(&going) && !table.look(|kept| serves_loopback(kept, &home)) {
            loopback::leave(&home)?;
        }
        removed
    };
    lanes.netfilter(job).await?
}
