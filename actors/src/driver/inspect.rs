//! Looking: at an attachment, and at who is on its bridge.

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::attach::{LinksSeen, expected_elements};
use quantum_cni::kernel::route::Host;
use quantum_cni::kernel::{KernelError, inspect};

use super::Driver;
use crate::messages::driver::{Destroyed, Inspect, Links, Ports, Seen};

impl Handler<Inspect> for Driver {
    type Result = ResponseFuture<Result<Seen, KernelError>>;

    fn handle(&mut self, request: Inspect, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move {
            let Inspect { record, netns, besides } = request;
            // Without the namespace somebody only wants to know whether the link is there.
            let mut wanted = besides;
            if netns.is_some() {
                wanted.extend(expected_elements(&record));
            }
            let links =
                lanes.inspect(move |_| inspect::observe(&record, netns.as_deref())).await??;
            let (missing, rules) = if wanted.is_empty() {
                (Vec::new(), Vec::new())
            } else {
                lanes
                    .netfilter(move |table| {
                        let mut missing = Vec::new();
                        for element in wanted {
                            if !table.has(&element)? {
                                missing.push(element);
                            }
                        }
                        Ok::<_, KernelError>((missing, table.changed_rules()?))
                    })
                    .await??
            };
            Ok(Seen { links, missing, rules })
        })
    }
}

impl Handler<Links> for Driver {
    type Result = ResponseFuture<Result<LinksSeen, KernelError>>;

    fn handle(&mut self, _: Links, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move { Ok(lanes.inspect(Host::links).await??) })
    }
}

impl Handler<Destroyed> for Driver {
    type Result = ResponseFuture<Result<bool, KernelError>>;

    fn handle(&mut self, Destroyed(record): Destroyed, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        let look = move |host: &mut Host| host.is_destroyed(&record);
        Box::pin(async move { Ok(lanes.inspect(look).await??) })
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
