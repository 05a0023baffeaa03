//! The host's table of connections is shared by all of its containers. It is looked at every second, and who
//! holds too much of it while it is rather full begins no new connections until he holds less.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use quantum_cni::attach::{Bound, ConnectionTable};
use quantum_cni::kernel::KernelError;
use slog::warn;

use super::{Driver, Lanes};
use crate::messages::manager::Crowded;

/// How often the table is looked at: a container that opens 10,000 connections a second, and the default size
/// of 262,144, leave six seconds between three quarters and all of it.
const EVERY: Duration = Duration::from_secs(1);

/// What a look came to.
struct Census {
    table: ConnectionTable,
    crowded: BTreeMap<IpAddr, u64>,
}

impl Driver {
    /// Begins to look.
    pub(super) fn watch_connections(&self, ctx: &mut Context<Self>) {
        ctx.run_interval(EVERY, |driver, ctx| {
            if std::mem::replace(&mut driver.counts, true) {
                return; // the last look is not over yet
            }
            let before: BTreeSet<IpAddr> = driver.crowded.keys().copied().collect();
            let work = count(driver.lanes.clone(), driver.bound, before).into_actor(driver);
            ctx.spawn(work.map(|census, driver, _| driver.take(census)));
        });
    }

    fn take(&mut self, census: Result<Option<Census>, KernelError>) {
        self.counts = false;
        let Census { table, crowded } = match census {
            Ok(Some(census)) => census,
            Ok(None) => return,
            Err(error) => {
                warn!(self.log, "who holds how many connections is not known"; "error" => %error);
                return;
            }
        };
        self.meters.connections.set(table.entries as i64);
        self.meters.connections_max.set(table.max as i64);
        self.meters.crowded.set(crowded.len() as i64);
        let is_known = self.crowded.keys().eq(crowded.keys());
        self.crowded = crowded;
        if let (false, Some(inform)) = (is_known, &self.inform) {
            inform.crowded.do_send(Crowded(self.crowded.clone()));
        }
    }
}

async fn count(
    lanes: std::rc::Rc<Lanes>,
    bound: Bound,
    before: BTreeSet<IpAddr>,
) -> Result<Option<Census>, KernelError> {
    let had = before.clone();
    let look = move |conntrack: &mut quantum_cni::kernel::conntrack::Conntrack| {
        let Some(table) = conntrack.table() else { return Ok(None) };
        let held = if bound.counts(table, &had) { conntrack.held()? } else { Default::default() };
        Ok::<_, KernelError>(Some((table, bound.crowded(table, &held, &had))))
    };
    let Some((table, mut crowded)) = lanes.flows(look).await?? else { return Ok(None) };
    if !crowded.is_empty() || !before.is_empty() {
        let addresses: BTreeSet<IpAddr> = crowded.keys().copied().collect();
        let ours = lanes.netfilter(move |table| table.crowd(&addresses)).await??;
        crowded.retain(|address, _| ours.contains(address));
    }
    Ok(Some(Census { table, crowded }))
}
