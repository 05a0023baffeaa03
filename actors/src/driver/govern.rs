//! What policy has in our tables, and the connections that it judges.

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::kernel::nflog::{Denials, GROUP, Heard, NflogError};
use quantum_cni::kernel::{KernelError, fault};
use quantum_cni::policy::LiveFlow;
use slog::{error, warn};

use super::Driver;
use crate::messages::driver::{Flows, Govern};
use crate::messages::policy::Refused;

impl Handler<Govern> for Driver {
    type Result = ResponseFuture<Result<(), KernelError>>;

    fn handle(&mut self, Govern(changes): Govern, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move {
            fault::reach("governing")?;
            lanes.netfilter(move |table| table.govern(changes)).await??;
            Ok(())
        })
    }
}

impl Handler<Flows> for Driver {
    type Result = ResponseFuture<Result<Vec<LiveFlow>, KernelError>>;

    fn handle(&mut self, _: Flows, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move { Ok(lanes.flows(|conntrack| conntrack.flows()).await??) })
    }
}

impl Driver {
    /// Begins to hear what the rules deny.
    pub(super) fn listen(&mut self) {
        let Some(inform) = &self.inform else { return };
        let (refused, log) = (inform.refused.clone(), self.log.clone());
        let heard = move |heard: Result<Heard, NflogError>| match heard {
            Ok(heard) => refused.do_send(Refused(heard)),
            Err(error) => {
                error!(log, "what policy denies is not heard any more"; "error" => %error)
            }
        };
        let started = Denials::open(GROUP).map(|denials| denials.start(heard));
        match started {
            Ok(Ok(hearing)) => self.hearing = Some(hearing),
            // The features that are missing have it.
            Err(NflogError::Missing) => {}
            Ok(Err(error)) => warn!(self.log, "what policy denies is not heard"; "error" => %error),
            Err(error) => warn!(self.log, "what policy denies is not heard"; "error" => %error),
        }
    }
}
