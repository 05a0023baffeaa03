//! The watch over what others change: our tables, links and forwarding are put right, chains of others that
//! drop what containers send are reported, and a bridge that lost its gateway's address is told of.
//!
//! The thread asks with [`Look`] and waits for the answer, so that it is one look at a time.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::mpsc;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use quantum_cni::attach::Dropping;
use quantum_cni::kernel::nft::{NftError, Table};
use quantum_cni::kernel::route::Host;
use quantum_cni::kernel::watch::{self, Done, Heard};
use quantum_cni::kernel::{KernelError, fault, features};
use quantum_config::ids::IfName;
use slog::{error, warn};

use super::links::Cared;
use super::{Driver, Lanes, forwarding};
use crate::messages::manager::{BridgeHarmed, Looked};

/// Starts the watch, unless it runs: our tables have been put in order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Watch;

/// Something was heard. It is answered when all of it has been looked at.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Look {
    heard: Heard,
    answer: mpsc::Sender<Done>,
}

/// What a look at the rules came to.
#[derive(Debug, Default)]
struct Seen {
    /// What was wrong and is right now.
    repaired: Option<String>,
    looked: Looked,
}

impl Handler<Watch> for Driver {
    type Result = ();

    fn handle(&mut self, _: Watch, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.watches, true) {
            return;
        }
        self.listen();
        self.watch_connections(ctx);
        let (lanes, log, own) = (self.lanes.clone(), self.log.clone(), ctx.address());
        let start = async move {
            // Who writes our elements, and must not be woken by it.
            let writer = lanes.netfilter(|_| watch::thread_id()).await.unwrap_or_default();
            let look = move |heard| {
                let (answer, answered) = mpsc::channel();
                own.do_send(Look { heard, answer });
                // The Driver is gone, or the look failed: that is not well.
                answered.recv().unwrap_or_default()
            };
            let deaf = log.clone();
            let cannot = move |e| {
                error!(deaf, "what others change in the kernel is noticed late"; "error" => %e);
            };
            if let Err(e) = watch::start(writer, lanes.book.clone(), cannot, look) {
                error!(log, "what others change in the kernel is not noticed"; "error" => %e);
            }
        };
        ctx.spawn(start.into_actor(self));
    }
}

impl Handler<Look> for Driver {
    type Result = ();

    fn handle(&mut self, Look { heard, answer }: Look, ctx: &mut Context<Self>) {
        let (lanes, log, care) = (self.lanes.clone(), self.log.clone(), self.care.clone());
        let work = async move {
            let robbed = robbed(&lanes, heard.addresses, heard.lost).await;
            let seen = lanes.netfilter(look).await.flatten();
            let cared = care.look(&lanes, &heard.links, heard.lost).await;
            forwarding::settle(&lanes, care.held(), &log).await;
            (heard.committer, robbed, seen, cared)
        };
        ctx.spawn(work.into_actor(self).map(move |(committer, robbed, seen, cared), driver, _| {
            driver.tell(committer, robbed, seen, cared, &answer);
        }));
    }
}

impl Driver {
    fn tell(
        &mut self,
        committer: Option<String>,
        robbed: Result<HashSet<IfName>, KernelError>,
        seen: Result<Seen, KernelError>,
        cared: Cared,
        answer: &mpsc::Sender<Done>,
    ) {
        let Seen { repaired, mut looked } = seen.unwrap_or_else(|error| Seen {
            repaired: None,
            looked: Looked {
                unruled: Some(unruled(&error)),
                ..self.told.clone().unwrap_or_default()
            },
        });
        if let Some(what) = repaired {
            self.meters.repairs.with_label_values(&["rules"]).inc();
            let by = committer.unwrap_or_else(|| "unknown".to_owned());
            warn!(self.log, "our rules were changed and are put right"; "what" => what, "by" => by);
        }
        let is_well = looked.unruled.is_none()
            && robbed.is_ok()
            && cared.bridges.is_empty()
            && cared.troubles.is_empty();
        let waited = cared.waited;
        looked.troubles = cared.troubles;
        if let Some(inform) = &self.inform {
            let robbed = robbed.unwrap_or_default();
            for link in cared.bridges.into_iter().chain(robbed).collect::<HashSet<_>>() {
                inform.harmed.do_send(BridgeHarmed(link));
            }
            if self.told.as_ref() != Some(&looked) {
                inform.looked.do_send(looked.clone());
                self.told = Some(looked);
            }
        }
        let _ = answer.send(Done { is_well, waited });
    }
}

fn unruled(error: &KernelError) -> String {
    format!("our nftables rules are not in force: {error}")
}

/// Looks at the rules of the host, and puts ours right.
fn look(table: &mut Table) -> Result<Seen, KernelError> {
    let mut seen = Seen::default();
    match mend(table, &mut seen) {
        Ok(()) => {}
        // It is run for what the kernel has, too, and would hang again.
        Err(error @ KernelError::Nft(NftError::Hung(_))) => return Err(error),
        Err(error) => seen.looked.unruled = Some(unruled(&error)),
    }
    let dropping: Vec<Dropping> = table.dropping()?;
    seen.looked.dropping = dropping;
    seen.looked.missing = features::missing(table);
    Ok(seen)
}

fn mend(table: &mut Table, seen: &mut Seen) -> Result<(), KernelError> {
    let harm = table.harm()?;
    // Rules that were never in force are not there to be changed.
    let is_new = !table.is_made();
    if harm.is_none() && !is_new {
        return Ok(());
    }
    fault::reach("mending")?;
    table.undo(&harm)?;
    seen.repaired = (!is_new).then(|| harm.to_string());
    Ok(())
}

/// The links of ours that lost a gateway's address, as far as they are still there.
async fn robbed(
    lanes: &Lanes,
    addresses: HashSet<IpAddr>,
    any: bool,
) -> Result<HashSet<IfName>, KernelError> {
    if addresses.is_empty() && !any {
        return Ok(HashSet::new());
    }
    let mut gateways = lanes.netfilter(|table| table.gateways()).await?;
    gateways.retain(|(_, address)| any || addresses.contains(address));
    Ok(lanes.inspect(move |host: &mut Host| host.without(&gateways)).await??)
}
