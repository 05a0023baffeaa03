//! Looking at an attachment, and at who is on its bridge.

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::attach::elements;
use quantum_cni::kernel::route::Host;
use quantum_cni::kernel::{KernelError, inspect};

use super::Driver;
use crate::messages::driver::{Inspect, Ports, Seen};

impl Handler<Inspect> for Driver {
    type Result = ResponseFuture<Result<Seen, KernelError>>;

    fn handle(&mut self, request: Inspect, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move {
            let Inspect { record, netns } = request;
            // Without the namespace somebody only wants to know whether the link is there.
            let wanted = if netns.is_some() { elements(&record) } else { Vec::new() };
            let links =
                lanes.inspect(move |_| inspect::observe(&record, netns.as_deref())).await??;
            let missing = if wanted.is_empty() {
                Vec::new()
            } else {
                lanes
                    .netfilter(move |table| {
                        let mut missing = Vec::new();
                        for element in wanted {
                            if !table.has(&element)? {
                                missing.push(element);
                            }
                        }
                        Ok::<_, KernelError>(missing)
                    })
                    .await??
            };
            Ok(Seen { links, missing })
        })
    }
}

impl Handler<Ports> for Driver {
    type Result = ResponseFuture<Result<Vec<String>, KernelError>>;

    fn handle(&mut self, Ports(bridge): Ports, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(
            async move { Ok(lanes.inspect(move |host: &mut Host| host.ports(bridge)).await??) },
        )
    }
}
