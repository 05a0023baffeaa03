//! What is ours in the kernel, and what of it nobody knows any more.

use std::collections::HashSet;

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::attach::{Element, naming};
use quantum_cni::kernel::KernelError;
use quantum_cni::kernel::nft::{NftError, Table, skeleton};
use quantum_cni::kernel::route::{Host, OwnedLink};
use quantum_config::ids::IfName;

use super::lanes::scratch;
use super::{Driver, Lanes};
use crate::messages::driver::{Scan, Sweep, Swept};

impl Handler<Scan> for Driver {
    type Result = ResponseFuture<Result<Vec<OwnedLink>, KernelError>>;

    fn handle(&mut self, _: Scan, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move { links(&lanes).await })
    }
}

impl Handler<Sweep> for Driver {
    type Result = ResponseFuture<Result<Swept, KernelError>>;

    fn handle(&mut self, request: Sweep, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move {
            let Sweep { hosts, elements } = request;
            let (known, unknown): (Vec<_>, Vec<_>) =
                links(&lanes).await?.into_iter().partition(|link| hosts.contains(&link.name));
            let there: HashSet<IfName> = known.into_iter().map(|link| link.name).collect();
            let missing = hosts.difference(&there).cloned().collect();
            let going: Vec<_> = unknown.iter().map(|l| (l.name.clone(), l.index)).collect();
            if !going.is_empty() {
                let gone =
                    lanes.route(move |host: &mut Host| host.detach(&going, scratch())).await?;
                for outcome in gone {
                    outcome?;
                }
            }
            lanes.netfilter(move |table| reconcile(table, &elements)).await??;
            Ok(Swept { removed: unknown, missing })
        })
    }
}

async fn links(lanes: &Lanes) -> Result<Vec<OwnedLink>, KernelError> {
    let owned = lanes.inspect(|host: &mut Host| host.scan(naming::PREFIX, naming::GROUP)).await?;
    Ok(owned?)
}

/// Brings our sets to what the records say, by difference: what stays is not touched. If our tables
/// are not there and nobody needs them, nothing is made.
fn reconcile(table: &mut Table, wanted: &[Element]) -> Result<(), NftError> {
    let present = match table.list() {
        Err(NftError::SkeletonLost { .. }) if wanted.is_empty() => return Ok(()),
        Err(NftError::SkeletonLost { .. }) => {
            skeleton::apply()?;
            Vec::new()
        }
        other => other?,
    };
    let surplus: Vec<Element> = present.iter().filter(|e| !wanted.contains(e)).cloned().collect();
    table.remove(&surplus)?;
    table.add(wanted)
}
