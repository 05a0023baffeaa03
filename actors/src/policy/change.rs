//! Changes that operators make: checked as a whole, written, saved, and only then answered. Whatever
//! fails, what held before holds.

use actix::fut::LocalBoxActorFuture;
use actix::{
    ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, ResponseFuture,
    WrapFuture,
};
use quantum_cni::errors;
use quantum_cni::kernel::lane::LaneError;
use quantum_cni::policy::Catalog;
use quantum_cni::store::{Shelf, StoreError};
use quantum_config::cni::CniError;
use slog::{error, info, warn};
use tokio::sync::oneshot;

use super::Policy;
use crate::lanes::on_lane;
use crate::messages::policy::Reread;

/// A change that was made, or why it was not.
pub(super) type Made = Result<(), CniError>;

impl Policy {
    /// Has another catalog hold. Nothing else happens here until it does, or is known not to.
    pub(super) fn change(
        &mut self,
        catalog: Catalog,
        ctx: &mut Context<Self>,
    ) -> oneshot::Receiver<Made> {
        let (tell, told) = oneshot::channel();
        let before = self.catalog.clone();
        self.adopt(catalog);
        let changing = self
            .govern_if_changed()
            .then(|governed: Made, policy: &mut Self, _| match governed {
                Ok(()) => policy.save(),
                Err(error) => boxed(policy, Err(error)),
            })
            .then(move |made: Made, policy: &mut Self, _| match made {
                Ok(()) => {
                    info!(policy.log, "policy has changed");
                    boxed(policy, Ok(()))
                }
                Err(error) => policy.go_back(before, error),
            })
            .map(move |made, _, _| _ = tell.send(made));
        changing.wait(ctx);
        told
    }

    /// Writes what has changed; that nothing has is fine.
    fn govern_if_changed(&mut self) -> LocalBoxActorFuture<Self, Made> {
        self.govern().unwrap_or_else(|| boxed(self, Ok(())))
    }

    /// Forgets the labels of endpoints that are gone on disk too, unless that is done.
    pub(super) fn save_again(&mut self, ctx: &mut Context<Self>) {
        if !self.is_unsaved {
            return;
        }
        self.is_unsaved = false;
        let saving = self.save().map(|saved, policy: &mut Self, _| {
            if let Err(error) = saved {
                policy.is_unsaved = true;
                warn!(policy.log, "labels of an endpoint that is gone could not be forgotten, which \
                    is tried again"; "error" => %error);
            }
        });
        ctx.spawn(saving);
    }

    /// Has the catalog survive the daemon.
    pub(super) fn save(&mut self) -> LocalBoxActorFuture<Self, Made> {
        let catalog = self.catalog.clone();
        let saving = on_lane(self.shelf.clone(), move |shelf: &mut Shelf| shelf.save(&catalog));
        let saved = saving.into_actor(self).map(|saved: Result<_, LaneError>, _, _| match saved {
            Ok(saved) => saved.map_err(|e: StoreError| errors::store(e)),
            Err(e) => Err(errors::kernel(e.into())),
        });
        Box::pin(saved)
    }

    fn go_back(&mut self, before: Catalog, why: CniError) -> LocalBoxActorFuture<Self, Made> {
        self.adopt(before);
        let back = self.govern_if_changed().map(move |back, policy: &mut Self, _| {
            if let Err(error) = back {
                error!(policy.log, "what policy held before could not be put back";
                    "error" => %error);
            }
            Err(why)
        });
        Box::pin(back)
    }
}

fn boxed<T: 'static>(policy: &Policy, value: T) -> LocalBoxActorFuture<Policy, T> {
    Box::pin(std::future::ready(value).into_actor(policy))
}

impl Handler<Reread> for Policy {
    type Result = ResponseFuture<()>;

    /// A file that will not do is told of; the others hold all the same.
    fn handle(&mut self, _: Reread, ctx: &mut Context<Self>) -> Self::Result {
        let (tell, told) = oneshot::channel();
        let catalog = self.catalog.clone();
        let read = on_lane(self.shelf.clone(), move |shelf: &mut Shelf| shelf.reload(&catalog));
        let reread =
            read.into_actor(self).map(|read: Result<Catalog, LaneError>, policy, ctx| match read {
                Ok(catalog) => {
                    let changed = policy.change(catalog, ctx);
                    let log = policy.log.clone();
                    actix_rt::spawn(async move {
                        if let Ok(Err(error)) = changed.await {
                            error!(log, "documents of policy are not in force"; "error" => %error);
                        }
                        let _ = tell.send(());
                    });
                }
                Err(error) => {
                    error!(policy.log, "documents of policy could not be read"; "error" => %error);
                }
            });
        reread.wait(ctx);
        Box::pin(async move { told.await.unwrap_or_default() })
    }
}
