//! The spool: DELs that found no daemon are carried out now. At start this comes before the first
//! ADD, so that no container gets an address whose owner is only waiting to be buried.

use std::path::PathBuf;

use actix::{
    ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseFuture, WrapFuture,
};
use futures_util::future::join_all;
use quantum_cni::store::spool::{self, Bad, Spool, Tombstone};
use quantum_config::cni::CniError;
use quantum_config::ids::{AttachmentKey, NetworkName};
use slog::{error, info, warn};
use tokio::sync::oneshot;

use super::Manager;
use crate::messages::ask;
use crate::messages::cache::{Find, Held, Lookup};
use crate::messages::manager::Replay;
use crate::messages::network::{Detach, Only};

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
        let dirs = self.folders.spools.clone();
        let reading = self.folders.read(move || spool::read_all(&dirs));
        ctx.spawn(reading.into_actor(self).map(move |read, manager, ctx| {
            let mut found = read.unwrap_or_else(|e| Spool {
                unread: vec![format!("reading the spool: {e}")],
                ..Spool::default()
            });
            manager.report_spool(std::mem::take(&mut found.unread));
            manager.bury(found, tell, ctx);
        }));
    }

    /// Says on the board what of the spool cannot be read, if anything: a DEL in it may be waiting.
    fn report_spool(&self, unread: Vec<String>) {
        let said = |why| format!("DELs in the spool may wait: {why}; tried again every 10 s");
        let unread: Vec<String> = unread.into_iter().map(said).collect();
        let before = self.board.borrow().unread.clone();
        for why in unread.iter().filter(|why| !before.contains(why)) {
            error!(self.log, "the spool cannot be read"; "error" => why);
        }
        if unread.is_empty() && !before.is_empty() {
            info!(self.log, "the spool can be read again");
        }
        if unread != before {
            self.board.send_modify(|board| board.spool_is(unread));
        }
    }

    fn bury(&mut self, found: Spool, tell: Option<oneshot::Sender<()>>, ctx: &mut Context<Self>) {
        let Spool { tombstones, bad, .. } = found;
        for Bad { path, why, stays } in bad {
            match stays {
                None => error!(self.log, "a file of the spool is no tombstone and was set aside";
                    "file" => %path.display(), "error" => why),
                Some(stays) if self.bad.insert(path.clone()) => {
                    error!(self.log, "a file of the spool is no tombstone: remove it";
                        "file" => %path.display(), "error" => why, "not_set_aside" => stays);
                }
                Some(_) => {}
            }
        }
        // Most often there is nothing to bury, and then no network needs an actor for it.
        let keys: Vec<_> = tombstones.iter().map(|t| key_of(t, &self.folders.boot_id)).collect();
        let hands = &self.hands;
        let (lookup, held, find) = (hands.lookup.clone(), hands.held.clone(), hands.find.clone());
        let known = join_all(keys.into_iter().map(move |key| {
            let (lookup, held, find) = (lookup.clone(), held.clone(), find.clone());
            async move {
                let key = key?;
                match ask(&lookup, Lookup(key.clone())).await {
                    // What another plugin attached has addresses and no record.
                    Ok(Ok(None)) if holds(&held, &key).await => Some(key),
                    // Its network may have another name by now, as in session/renamed.rs.
                    Ok(Ok(None)) => {
                        let AttachmentKey { container, ifname, .. } = key;
                        ask(&find, Find { container, ifname }).await.ok().flatten()
                    }
                    _ => Some(key), // in doubt there is
                }
            }
        }));
        ctx.spawn(known.into_actor(self).map(move |keys, manager, ctx| {
            manager.bury_known(tombstones, keys, tell, ctx);
        }));
    }

    /// Carries out the tombstones that have a key, and removes the others.
    fn bury_known(
        &mut self,
        tombstones: Vec<Tombstone>,
        keys: Vec<Option<AttachmentKey>>,
        tell: Option<oneshot::Sender<()>>,
        ctx: &mut Context<Self>,
    ) {
        let mut burials = Vec::new();
        for (tombstone, key) in tombstones.into_iter().zip(keys) {
            match key {
                Some(key) => burials.push(self.burial(tombstone, key, ctx)),
                None => self.remove(&tombstone.path),
            }
        }
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

    /// The DEL of a tombstone.
    fn burial(
        &mut self,
        tombstone: Tombstone,
        key: AttachmentKey,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = (PathBuf, Result<(), CniError>)> + use<> {
        let mailbox = self.network(&key.network, ctx);
        let written = tombstone.call.written.map(|(at, _)| at);
        async move {
            let request = Detach { key, made_before: written, netns: None, only: Only::Any };
            let outcome = ask(&mailbox.detach, request).await;
            (tombstone.path, outcome.and_then(|o| o.map(|_| ())))
        }
    }

    fn remove(&self, file: &std::path::Path) {
        if let Err(e) = spool::remove(file) {
            warn!(self.log, "removing a tombstone"; "file" => %file.display(), "error" => %e);
        }
    }
}

/// What a tombstone is about; none if that cannot exist: its names are no names, or it is of another
/// boot, which no attachment outlives.
fn key_of(tombstone: &Tombstone, boot_id: &str) -> Option<AttachmentKey> {
    let call = &tombstone.call;
    call.written.as_ref().filter(|(_, boot)| boot == boot_id)?;
    Some(AttachmentKey {
        network: NetworkName::new(tombstone.network.as_str()).ok()?,
        container: call.env.container_id().ok()?,
        ifname: call.env.interface().ok()?,
    })
}

/// Whether addresses are held for it.
async fn holds(held: &Recipient<Held>, key: &AttachmentKey) -> bool {
    ask(held, Held(key.clone())).await.is_ok_and(|addresses| !addresses.is_empty())
}
