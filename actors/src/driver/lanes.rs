//! The lanes behind the Driver.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::rc::Rc;

use actix_rt::Arbiter;
use quantum_cni::attach::{ForwardingNote, Record, naming};
use quantum_cni::kernel::conntrack::{Conntrack, HostPort};
use quantum_cni::kernel::forwarding::Forwarding;
use quantum_cni::kernel::lane::{CollectLane, Gauge, Lane, LaneError};
use quantum_cni::kernel::nft::{Kept, Table};
use quantum_cni::kernel::route::Host;
use quantum_cni::kernel::watch::LinkBook;
use quantum_cni::kernel::{KernelError, clock};
use quantum_cni::store::ForwardingFile;
use quantum_config::ids::{IfName, LinkIndex};
use quantum_config::settings::CniServerConfig;
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
    flows: Rc<Lane<Conntrack>>,
    inspect: Rc<Lane<Host>>,
    forwarding: Rc<Lane<Forwarding>>,
    /// What our links are to be like.
    pub(super) book: LinkBook,
    /// Bridges that their networks were asked to put right, and are not since: why, if that was tried.
    unmended: RefCell<BTreeMap<IfName, String>>,
    /// The host may forward between its own links, too.
    pub(super) forwards_between_links: bool,
    /// A port at which a process of the host listens is not published.
    pub(super) refuses_ports_in_use: bool,
    slow: Arbiter,
    is_slow: Gauge,
}

/// The links of an attachment, which are to go, and what its connections are known by.
#[derive(Debug)]
struct Removal {
    links: Vec<(IfName, LinkIndex)>,
    /// Its addresses, each with the link it is reached over.
    addresses: Vec<(IfName, IpAddr)>,
    /// Its UDP ports of the host.
    ports: Vec<HostPort>,
    tell: oneshot::Sender<Result<(), KernelError>>,
}

impl Lanes {
    /// Starts the threads. Each opens its socket when it is first needed. What is done to the host's forwarding
    /// is kept in `file`, if that is about the same boot and namespace as `forwarding`.
    pub(crate) fn start(
        settings: &CniServerConfig,
        file: ForwardingFile,
        forwarding: ForwardingNote,
    ) -> io::Result<Self> {
        let kept = Kept::new(&settings.non_masquerade_cidrs, settings.own_tables);
        let open = move || Forwarding::open(file.clone(), forwarding.clone());
        Ok(Self {
            route: Rc::new(Lane::start("route", Host::open)?),
            delete: CollectLane::start("route-delete", TOGETHER, remover, remove)?,
            netfilter: Rc::new(Lane::start("netfilter", move || Table::open(kept.clone()))?),
            flows: Rc::new(Lane::start("flows", Conntrack::open)?),
            inspect: Rc::new(Lane::start("inspect", Host::open)?),
            forwarding: Rc::new(Lane::start("forwarding", open)?),
            book: LinkBook::default(),
            unmended: RefCell::default(),
            forwards_between_links: settings.forward_between_links,
            refuses_ports_in_use: settings.refuse_ports_in_use,
            slow: Arbiter::new(),
            is_slow: Gauge::new("slow"),
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

    /// Does `job` on the lane that has flows forgotten.
    pub(super) async fn flows<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Conntrack) -> T + Send + 'static,
    ) -> Result<T, KernelError> {
        on_lane(self.flows.clone(), job).await
    }

    /// Does `job` on the lane that looks.
    pub(super) async fn inspect<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Host) -> T + Send + 'static,
    ) -> Result<T, KernelError> {
        on_lane(self.inspect.clone(), job).await
    }

    /// Does `job` on the lane that sees to the host's forwarding.
    pub(super) async fn forwarding<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Forwarding) -> T + Send + 'static,
    ) -> Result<T, KernelError> {
        on_lane(self.forwarding.clone(), job).await
    }

    /// Runs a future on the arbiter for what is rare.
    pub(super) async fn slow<F, T>(&self, work: F) -> Result<T, KernelError>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let gauge = self.is_slow.clone();
        self.slow.spawn(async move {
            let running = gauge.begin();
            let outcome = work.await;
            drop(running);
            let _ = tell.send(outcome);
        });
        told.await.map_err(|_| LaneError::panicked().into())
    }

    /// Removes links and then the connections of their addresses and ports, together with those of others that come
    /// at the same time. It is in the queue when this returns, whether or not the answer is awaited.
    pub(super) fn remove(
        &self,
        links: Vec<(IfName, LinkIndex)>,
        addresses: Vec<(IfName, IpAddr)>,
        ports: Vec<HostPort>,
    ) -> impl Future<Output = Result<(), KernelError>> + use<> {
        let (tell, told) = oneshot::channel();
        self.delete.put(Removal { links, addresses, ports, tell });
        async { told.await.unwrap_or_else(|_| Err(LaneError::panicked().into())) }
    }

    /// The same for the links of a record.
    pub(super) async fn remove_of(&self, record: &Record) -> Result<(), KernelError> {
        self.remove(record.links(), record.reached(), HostPort::of(&record.ports)).await
    }

    /// These bridges are not as they should be, and no others. Gives those of which that was known before.
    pub(super) fn harmed(&self, bridges: &BTreeSet<IfName>) -> BTreeMap<IfName, String> {
        let mut unmended = self.unmended.borrow_mut();
        unmended.retain(|bridge, _| bridges.contains(bridge));
        let before = unmended.clone();
        for bridge in bridges {
            unmended.entry(bridge.clone()).or_insert_with(|| "its network was asked to".to_owned());
        }
        before
    }

    /// Notes whether a bridge could be put right, and why not.
    pub(super) fn mended(&self, bridge: &IfName, why_not: Option<String>) {
        let mut unmended = self.unmended.borrow_mut();
        match why_not {
            Some(why) => _ = unmended.insert(bridge.clone(), why),
            None => _ = unmended.remove(bridge),
        }
    }

    /// What the lanes publish of themselves.
    pub(crate) fn gauges(&self) -> Vec<Gauge> {
        vec![
            self.route.gauge(),
            self.delete.gauge(),
            self.netfilter.gauge(),
            self.flows.gauge(),
            self.inspect.gauge(),
            self.forwarding.gauge(),
            self.is_slow.clone(),
        ]
    }
}

/// What the lane for removals works with.
fn remover() -> Result<(Host, Conntrack), String> {
    let host = Host::open().map_err(|e| e.to_string())?;
    Ok((host, Conntrack::open().map_err(|e| e.to_string())?))
}

/// What the lane for removals does with all that has arrived. A container whose link stays goes on
/// talking, so its connections stay, too.
fn remove(hands: Result<&mut (Host, Conntrack), &LaneError>, removals: Vec<Removal>) {
    let (host, conntrack) = match hands {
        Ok(hands) => hands,
        Err(error) => {
            for removal in removals {
                let _ = removal.tell.send(Err(error.clone().into()));
            }
            return;
        }
    };
    let links: Vec<_> = removals.iter().flat_map(|r| r.links.clone()).collect();
    let mut outcomes = host.detach(&links, scratch()).into_iter();
    let detached: Vec<Result<(), KernelError>> = removals
        .iter()
        .map(|removal| {
            let own: Vec<_> = outcomes.by_ref().take(removal.links.len()).collect();
            let own: Result<Vec<_>, _> = own.into_iter().collect();
            own.map(drop).map_err(Into::into)
        })
        .collect();
    let gone = removals.iter().zip(&detached).filter(|(_, outcome)| outcome.is_ok());
    let gone: Vec<_> = gone.map(|(removal, _)| removal).collect();
    let reached: Vec<_> = gone.iter().flat_map(|r| r.addresses.iter().cloned()).collect();
    let ports: Vec<HostPort> = gone.iter().flat_map(|r| r.ports.iter().copied()).collect();
    // When the links are gone: until then the host could learn the addresses again.
    host.forget_neighbours(&reached);
    let addresses: Vec<IpAddr> = reached.into_iter().map(|(_, address)| address).collect();
    let purged = conntrack.purge(&addresses).and_then(|_| conntrack.flush_udp_ports(&ports));
    let purged = purged.map(drop);
    for (removal, detached) in removals.into_iter().zip(detached) {
        let purged = if removal.addresses.is_empty() { Ok(()) } else { purged.clone() };
        let _ = removal.tell.send(detached.and_then(|()| purged.map_err(Into::into)));
    }
}

/// A link group for one removal.
fn scratch() -> NonZeroU32 {
    naming::scratch_group(clock::boottime_ms())
}
