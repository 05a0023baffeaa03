//! Processes of the host that listen where a container's ports are published. The rules take what comes in before
//! such a process does. Runtimes hold published ports by a process of their own (nerdctl's helper, podman's conmon),
//! so this is said in the log and no conflict, unless an operator or Docker's door wants it to be one
//! (docs/decisions/022).

use std::future::ready;

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::kernel::KernelError;
use quantum_cni::kernel::listening::{Found, find};
use quantum_cni::publish::{PortError, listed};
use slog::warn;

use super::Driver;
use crate::messages::driver::Vacant;

impl Handler<Vacant> for Driver {
    type Result = ResponseFuture<Result<Result<(), PortError>, KernelError>>;

    fn handle(&mut self, request: Vacant, _: &mut Context<Self>) -> Self::Result {
        let Vacant { owner, ports, loopback, strict } = request;
        let (lanes, log) = (self.lanes.clone(), self.log.clone());
        let strict = strict || lanes.refuses_ports_in_use;
        let look = async move { lanes.inspect(move |_| find(&ports, loopback)).await };
        if strict {
            return Box::pin(async move { Ok(refusal(look.await?)) });
        }
        // The ADD does not wait for what is only said.
        actix_rt::spawn(async move {
            for Found { ports, process } in look.await.unwrap_or_default() {
                let process = process.map_or_else(|| "unknown".to_owned(), |one| one.to_string());
                warn!(log, "a process of the host listens at a port that is published: what comes in from \
                    elsewhere goes to the container; refuse_ports_in_use would refuse it";
                    "container_id" => owner.container.as_str(), "interface" => owner.ifname.as_str(),
                    "network_name" => owner.network.as_str(), "ports" => listed(&ports), "process" => process);
            }
        });
        Box::pin(ready(Ok(Ok(()))))
    }
}

fn refusal(found: Vec<Found>) -> Result<(), PortError> {
    let first =
        found.into_iter().find_map(|Found { ports, process }| Some((*ports.first()?, process)));
    first.map_or(Ok(()), |(port, process)| Err(PortError::Listening { port, process }))
}
