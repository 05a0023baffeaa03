//! Attachments whose link is destroyed and whose DEL does not come: their networks release them when the
//! grace time is over. How long each has been without is known here, and not to the next daemon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use quantum_cni::attach::orphaned::{Due, Orphans, interval, is_ours_to_release};
use quantum_cni::attach::{Claimed, NetnsId, Record, naming};
use quantum_cni::errors;
use quantum_config::cni::CniError;
use quantum_config::ids::AttachmentKey;
use slog::{debug, warn};

use super::Manager;
use crate::board::Phase;
use crate::messages::ask;
use crate::messages::cache::{Attached, Lookup};
use crate::messages::driver::Links;
use crate::messages::manager::Reclaim;
use crate::messages::network::{Detach, Only};
use crate::meters::Meters;
use crate::network::Hands;

/// How many are released after one look: those who ask for something are not to wait for them.
const AT_ONCE: usize = 64;

/// What is known of them, and what for.
pub(crate) struct OrphanWatch {
    /// How long a link has to be gone; nobody looks if there is no such time.
    grace: Option<Duration>,
    /// The network namespace that is looked at.
    host: NetnsId,
    orphans: Orphans,
    /// Where the clock of the looks begins.
    started: Instant,
    /// A look is under way.
    looks: bool,
    meters: Meters,
}

impl OrphanWatch {
    /// The network namespace that is looked at.
    pub(super) fn host(&self) -> NetnsId {
        self.host
    }

    /// Nobody is known to be one yet. With `seconds` 0 that stays so.
    pub(crate) fn new(seconds: u32, host: NetnsId, meters: Meters) -> Self {
        let grace = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        let (orphans, started) = (Orphans::default(), Instant::now());
        Self { grace, host, orphans, started, looks: false, meters }
    }
}

impl Manager {
    /// Looks every now and then from here on.
    pub(super) fn watch_for_orphans(&self, ctx: &mut Context<Self>) {
        let Some(grace) = self.watch.grace else { return };
        ctx.run_interval(interval(grace), move |manager, ctx| manager.look_for_orphans(grace, ctx));
    }

    fn look_for_orphans(&mut self, grace: Duration, ctx: &mut Context<Self>) {
        if self.board.borrow().phase != Phase::Open || self.watch.looks {
            return;
        }
        self.watch.looks = true;
        let looking = without_link(self.hands.clone(), |_| true);
        ctx.spawn(looking.into_actor(self).map(move |seen, manager, ctx| {
            manager.watch.looks = false;
            match seen {
                Ok(records) => manager.judge_orphans(grace, &records, ctx),
                // Links may come and go faster than they can be listed; the next look is soon.
                Err(error) => {
                    debug!(manager.log, "looking for attachments without an interface";
                        "error" => %error);
                }
            }
        }));
    }

    fn judge_orphans(&mut self, grace: Duration, records: &[Arc<Record>], ctx: &mut Context<Self>) {
        // Docker's endpoints are Docker's to see to.
        let records: Vec<_> = records.iter().filter(|record| !record.handed).cloned().collect();
        let watch = &mut self.watch;
        watch.meters.orphans.set(i64::try_from(records.len()).unwrap_or(i64::MAX));
        let ours = records.iter().filter(|record| is_ours_to_release(record, watch.host));
        let ours = ours.map(|record| (record.key.clone(), record.created)).collect();
        let due = watch.orphans.note(watch.started.elapsed(), grace, ours);
        self.free_what_is_exhausted(ctx);
        for due in due.into_iter().take(AT_ONCE) {
            let record = records.iter().find(|record| record.key == due.key).cloned();
            if let Some(record) = record {
                self.release(due, record, ctx);
            }
        }
    }

    /// A runtime that asks STATUS is to send ADDs again: what has no address left is not waited for.
    fn free_what_is_exhausted(&self, ctx: &mut Context<Self>) {
        let board = self.board.borrow();
        for (name, _) in board.networks.iter().filter(|(_, status)| status.exhausted.is_some()) {
            ctx.notify(Reclaim(Claimed::All(name.clone())));
        }
    }

    /// Has its network release it as a DEL would, unless it turns out to be something else by then.
    fn release(&mut self, due: Due, record: Arc<Record>, ctx: &mut Context<Self>) {
        let mailbox = self.network(&due.key.network, ctx);
        let Due { key, created, gone_for } = due;
        let detach = Detach { key, made_before: Some(created), netns: None, only: Only::Orphaned };
        let work = async move { ask(&mailbox.detach, detach).await? };
        ctx.spawn(work.into_actor(self).map(move |outcome, manager, _| match outcome {
            Ok(detached) if detached.found => {
                manager.watch.meters.orphans.dec();
                manager.released(
                    &record,
                    &format!("its DEL did not come for {} s", gone_for.as_secs()),
                );
            }
            Ok(_) => {}
            Err(error) => {
                warn!(manager.log, "releasing an attachment whose interface is gone";
                    "container_id" => record.key.container.as_str(), "error" => %error);
            }
        }));
    }

    /// Counts and logs one that was released.
    pub(super) fn released(&self, record: &Record, why: &str) {
        self.watch.meters.orphans_released.inc();
        warn!(self.log, "released an attachment whose interface is gone";
            "container_id" => record.key.container.as_str(),
            "network_name" => record.key.network.as_str(),
            "interface" => record.key.ifname.as_str(),
            "pod" => pod(record),
            "ip_address" => addresses(record),
            "why" => why);
    }
}

/// The records of the attachments whose link is not on the host, of those that are meant. Names are compared
/// first, since they follow from the keys: most often no record is looked at.
pub(super) async fn without_link(
    hands: Hands,
    is_meant: impl Fn(&AttachmentKey) -> bool,
) -> Result<Vec<Arc<Record>>, CniError> {
    let mut keys = ask(&hands.attached, Attached).await?;
    keys.retain(is_meant);
    let links = ask(&hands.links, Links).await?.map_err(errors::kernel)?;
    let mut found = Vec::new();
    let is_there =
        |key: &AttachmentKey| naming::host_name(key).is_ok_and(|name| links.has(name.as_str()));
    for key in keys.into_iter().filter(|key| !is_there(key)) {
        let stored = ask(&hands.lookup, Lookup(key)).await?.map_err(errors::store)?;
        let record = stored.filter(|stored| !stored.is_leaving()).map(|s| s.record.clone());
        found.extend(record.filter(|r| !links.carry(&r.host, r.index)).map(Arc::new));
    }
    Ok(found)
}

fn pod(record: &Record) -> String {
    let identity = &record.identity;
    if identity.is_known() {
        format!("{}/{}", identity.namespace, identity.name)
    } else {
        String::new()
    }
}

fn addresses(record: &Record) -> String {
    let each = record.addresses.iter().map(|a| a.address.ip().to_string());
    each.collect::<Vec<_>>().join(",")
}
