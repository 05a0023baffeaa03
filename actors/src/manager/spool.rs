//! The spool: DELs that found no daemon are carried out now. At start this comes before the first
//! ADD, so that no container gets an address whose owner is only waiting to be buried.

use std::path::PathBuf;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use futures_util::future::join_all;
use quantum_cni::store::spool::{self, Spool, Tombstone};
use quantum_config::cni::{CniError, peek};
use quantum_config::ids::{AttachmentKey, NetworkName};
use slog::{error, info, warn};
use tokio::sync::oneshot;

use super::Manager;
use crate::messages::manager::Replay;
use crate::messages::network::Detach;

impl Handler<Replay> for Manager {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Replay, ctx: &mut Context<Self>) -> Self::Result {
        let (tell, told) = oneshot::channel();
        self.replay(ctx, Some(tell));
        Box::pin(async move {
            let _ = told.await;
        })
    }
}

impl Manager {
    /// Reads the spool and carries it out; tells when it is done.
    pub(super) fn replay(&mut self, ctx: &mut Context<Self>, tell: Option<oneshot::Sender<()>>) {
        let dir = self.folders.spool_dir.clone();
        let reading = tokio::task::spawn_blocking(move || spool::read_all(&dir));
        ctx.spawn(reading.into_actor(self).map(move |read, manager, ctx| {
            match read.map_err(|e| e.to_string()).and_then(|r| r.map_err(|e| e.to_string())) {
                Ok(found) => manager.bury(found, tell, ctx),
                Err(e) => warn!(manager.log, "reading the spool"; "error" => e),
            }
        }));
    }

    fn bury(&mut self, found: Spool, tell: Option<oneshot::Sender<()>>, ctx: &mut Context<Self>) {
        let (tombstones, bad) = found;
        for (file, reason) in bad {
            error!(self.log, "a file of the spool is no tombstone and was set aside";
                "file" => %file.display(), "error" => reason);
        }
        let burials: Vec<_> =
            tombstones.into_iter().filter_map(|tombstone| self.burial(tombstone, ctx)).collect();
        if !burials.is_empty() {
            info!(self.log, "carrying out DELs that found no daemon"; "tombstones" => burials.len());
        }
        ctx.spawn(join_all(burials).into_actor(self).map(move |outcomes, manager, _| {
            for (file, outcome) in outcomes {
                match outcome {
                    Ok(()) => manager.remove(&file),
                    Err(e) => warn!(manager.log, "a tombstone waits for another try";
                        "file" => %file.display(), "error" => %e),
                }
            }
            if let Some(tell) = tell {
                let _ = tell.send(());
            }
        }));
    }

    /// The DEL of a tombstone; none if there is nothing to do for it.
    fn burial(
        &mut self,
        tombstone: Tombstone,
        ctx: &mut Context<Self>,
    ) -> Option<impl Future<Output = (PathBuf, Result<(), CniError>)> + use<>> {
        let Tombstone { path, call } = tombstone;
        let (written, boot) = call.written.clone().unwrap_or_default();
        let network = NetworkName::new(peek(&call.stdin).name);
        let names = (network, call.env.container_id(), call.env.interface());
        let (Ok(network), Ok(container), Ok(ifname)) = names else {
            self.remove(&path); // names nothing that could exist
            return None;
        };
        if boot != self.folders.boot_id {
            self.remove(&path); // attachments do not outlive a boot
            return None;
        }
        let mailbox = self.network(&network, ctx);
        let key = AttachmentKey { network, container, ifname };
        Some(async move {
            let request = Detach { key, made_before: Some(written) };
            let outcome = crate::messages::ask(&mailbox.detach, request).await;
            (path, outcome.and_then(|o| o.map(|_| ())))
        })
    }

    fn remove(&self, file: &std::path::Path) {
        if let Err(e) = spool::remove(file) {
            warn!(self.log, "removing a tombstone"; "file" => %file.display(), "error" => %e);
        }
    }
}
