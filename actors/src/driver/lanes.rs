//! The lanes behind the Driver.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::rc::Rc;

use actix_rt::Arbiter;
use quantum_cni::attach::{Record, naming};
use quantum_cni::kernel::lane::{CollectLane, Lane, LaneError};
use quantum_cni::kernel::nft::Table;
use quantum_cni::kernel::route::Host;
use quantum_cni::kernel::{KernelError, clock};
use quantum_config::ids::{IfName, LinkIndex};
use tokio::sync::oneshot;

use crate::lanes::on_lane;

/// Pairs removed at a time: the kernel waits once for all of them, and those who are first would
/// wait for the last.
const TOGETHER: usize = 256;

/// The lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    route: Rc<Lane<Host>>,
    delete: CollectLane<Removal>,
    netfilter: Rc<Lane<Table>>,
    inspect: Rc<Lane<Host>>,
    slow: Arbiter,
}

/// A pair that is to go.
#[derive(Debug)]
struct Removal {
    link: (IfName, LinkIndex),
    /// Its addresses, each with the link it is reached over.
    addresses: Vec<(IfName, IpAddr)>,
    tell: oneshot::Sender<Result<(), KernelError>>,
}

impl Lanes {
    /// Starts the threads. Each opens its socket when it is first needed.
    pub(crate) fn start() -> io::Result<Self> {
        Ok(Self {
            route: Rc::new(Lane::start("route", Host::open)?),
            delete: CollectLane::start("route-delete", TOGETHER, Host::open, remove)?,
            netfilter: Rc::new(Lane::start("netfilter", Table::open)?),
            inspect: Rc::new(Lane::start("inspect", Host::open)?),
            slow: Arbiter::new(),
        })
    }

    /// Does `job` on the lane that makes pairs.
    pub(super) async fn route<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Host) -> T + Send + 'static,
    ) -> Result<T, KernelError> {
        on_lane(self.route.clone(), job).await
    }

    /// Does `job` on the lane of our nftables sets.
    pub(super) async fn netfilter<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Table) -> T + Send + 'static,
    ) -> Result<T, KernelError> {
        on_lane(self.netfilter.clone(), job).await
    }

    /// Does `job` on the lane that looks.
    pub(super) async fn inspect<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Host) -> T + Send + 'static,
    ) -> Result<T, KernelError> {
        on_lane(self.inspect.clone(), job).await
    }

    /// Runs a future on the arbiter for what is rare.
    pub(super) async fn slow<F, T>(&self, work: F) -> Result<T, KernelError>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        self.slow.spawn(async move {
            let _ = tell.send(work.await);
        });
        told.await.map_err(|_| LaneError::panicked().into())
    }

    /// Removes the pair of a record, together with those of others that come at the same time.
    pub(super) async fn remove(&self, record: &Record) -> Result<(), KernelError> {
        let (tell, told) = oneshot::channel();
        let reached = record.addresses.iter().map(|a| (record.home().clone(), a.address.ip()));
        let (link, addresses) = ((record.host.clone(), record.index), reached.collect());
        self.delete.put(Removal { link, addresses, tell });
        told.await.unwrap_or_else(|_| Err(LaneError::panicked().into()))
    }

    /// How many jobs wait for each lane.
    pub(super) fn waiting(&self) -> [(&'static str, usize); 4] {
        [
            ("route", self.route.waiting()),
            ("route-delete", self.delete.waiting()),
            ("netfilter", self.netfilter.waiting()),
            ("inspect", self.inspect.waiting()),
        ]
    }
}

/// What the lane for removals does with all that has arrived.
fn remove(host: Result<&mut Host, &LaneError>, removals: Vec<Removal>) {
    match host {
        Ok(host) => {
            let links: Vec<_> = removals.iter().map(|r| r.link.clone()).collect();
            let outcomes = host.detach(&links, scratch());
            // When the links are gone: until then the host could learn the addresses again.
            let addresses: Vec<_> = removals.iter().flat_map(|r| r.addresses.clone()).collect();
            host.forget_neighbours(&addresses);
            for (removal, outcome) in removals.into_iter().zip(outcomes) {
                let _ = removal.tell.send(outcome.map(|_| ()).map_err(Into::into));
            }
        }
        Err(error) => {
            for removal in removals {
                let _ = removal.tell.send(Err(error.clone().into()));
            }
        }
    }
}

/// A link group for one removal.
pub(super) fn scratch() -> NonZeroU32 {
    naming::scratch_group(clock::boottime_ms())
}
