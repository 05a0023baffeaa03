//! What changes of an attachment, or of a network, while it is there: the ports that lead to it, and that it
//! is no more.

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::attach::{
    Families, bridge_element, exchanged, naming, network_elements, publishes_at_loopback,
    serves_loopback,
};
use quantum_cni::kernel::nft::Table;
use quantum_cni::kernel::{KernelError, identity, loopback};

use super::apply::forget_flows;
use super::{Driver, forwarding};
use crate::messages::driver::{Dismantle, Republish};

impl Handler<Republish> for Driver {
    type Result = ResponseFuture<Result<(), KernelError>>;

    fn handle(
        &mut self,
        Republish { before, after }: Republish,
        _: &mut Context<Self>,
    ) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move {
            let home = after.home().clone();
            let (coming, going) = exchanged(&before, &after);
            let job = move |table: &mut Table| -> Result<(), KernelError> {
                let added = table.add(&coming).map_err(KernelError::from);
                let opened = added.and_then(|()| match publishes_at_loopback(&coming) {
                    true => Ok(loopback::serve(&home)?),
                    false => Ok(()),
                });
                if let Err(error) = opened {
                    table.remove(&coming)?;
                    return Err(error);
                }
                table.remove(&going)?;
                if publishes_at_loopback(&going) && !table.look(|kept| serves_loopback(kept, &home))
                {
                    loopback::leave(&home)?;
                }
                Ok(())
            };
            lanes.netfilter(job).await??;
            // Those that led to the container, too, go on as they were for as long as they last.
            let ports = [before.ports.as_slice(), &after.ports].concat();
            forget_flows(&lanes, &ports).await
        })
    }
}

impl Handler<Dismantle> for Driver {
    type Result = ResponseFuture<Result<(), KernelError>>;

    fn handle(&mut self, Dismantle(network): Dismantle, _: &mut Context<Self>) -> Self::Result {
        let (lanes, log) = (self.lanes.clone(), self.log.clone());
        let is_last = self.stances.leave(&network);
        Box::pin(async move {
            if !is_last {
                return Ok(()); // the bridge is another network's, too
            }
            let mac = naming::bridge_mac(&identity::host_id(), &network.bridge);
            let bridge = network.bridge.clone();
            // Nobody is to put it back.
            lanes.book.with(|links| links.dismantled(&bridge));
            if !lanes.inspect(move |host| host.remove_bridge(&bridge, mac)).await?? {
                return Ok(()); // somebody else is there, for whom the rules still hold
            }
            let mut going = network_elements(&network, &[]);
            going.push(bridge_element(&network, &[], mac).0);
            lanes.netfilter(move |table| table.remove(&going)).await??;
            forwarding::settle(&lanes, Families::default(), &log).await;
            Ok(())
        })
    }
}
