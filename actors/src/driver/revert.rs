//! Undoing what a record says: first the rules, so that no address is served that is about to go,
//! then the pair, and when it is gone and nobody can answer any more, the connections of its
//! addresses. One that fails does not stop the other.

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::attach::{Record, elements};
use quantum_cni::kernel::{KernelError, fault};

use super::apply::unfilter;
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
    let unfiltered = unfilter(lanes, elements(record)).await;
    fault::reach("del-unfiltered")?;
    let unlinked = lanes.remove_of(record).await;
    fault::reach("del-unlinked")?;
    unfiltered.and(unlinked)
}
