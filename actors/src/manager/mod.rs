//! Manager: the door, and the way from a network's name to its actor. It owns the networks that
//! `config_dir` defines, starts a Network for whoever asks for one, rebuilds one that died, and
//! publishes the board.

mod admit;
mod definitions;
mod drain;
mod orphans;
mod reclaim;
mod retire;
mod spool;
mod told;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, ResponseFuture};
use futures_util::future::join_all;
use quantum_cni::attach::{Class, Door, Limits};
use quantum_cni::kernel::lane::Gauge;
use quantum_config::cni::Definition;
use quantum_config::ids::NetworkName;
use slog::{Logger, error, info, o};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use self::admit::Waiter;
pub(crate) use self::orphans::OrphanWatch;
use self::reclaim::Reclaims;
use crate::board::{Board, Phase};
use crate::messages::Observe;
use crate::messages::manager::{Changed, Open, Warm};
use crate::messages::network::{self, NetworkMailbox};
use crate::network::{Hands, Network};

/// Requests inside at a time. The kernel makes about a thousand attachments a second, one by one:
/// more inside would only wait there instead of at the door.
const LIMITS: Limits = Limits { daemon: 512, network: 384 };
/// How often the spool is looked through while the daemon runs: a plugin whose patience ended
/// before our answer left a tombstone too.
const SPOOL: Duration = Duration::from_secs(10);

/// Where the Manager reads from.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    pub(crate) config_dir: PathBuf,
    /// Where tombstones are.
    pub(crate) spools: Vec<PathBuf>,
    /// The boot we are in.
    pub(crate) boot_id: String,
    /// Tells for how long one of them is being read.
    pub(crate) reading: Gauge,
}

/// The actor.
pub(crate) struct Manager {
    folders: Folders,
    hands: Hands,
    log: Logger,
    board: watch::Sender<Board>,
    door: Door<Waiter>,
    networks: HashMap<NetworkName, NetworkMailbox>,
    definitions: BTreeMap<NetworkName, Arc<Definition>>,
    watch: OrphanWatch,
    reclaims: Reclaims,
    /// Files of the spool that are no tombstones and cannot be set aside: said once.
    bad: HashSet<PathBuf>,
    /// Told when nobody is inside any more.
    empty: Vec<oneshot::Sender<()>>,
}

impl Folders {
    /// Reads files on a thread of its own, as a file system may hang.
    fn read<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let running = self.reading.begin();
        tokio::task::spawn_blocking(move || {
            let read = work();
            drop(running);
            read
        })
    }
}

impl Manager {
    /// A Manager that lets nobody in yet.
    pub(crate) fn new(
        folders: Folders,
        hands: Hands,
        board: watch::Sender<Board>,
        watch: OrphanWatch,
        log: Logger,
    ) -> Self {
        Self {
            folders,
            hands,
            log,
            board,
            door: Door::new(LIMITS),
            networks: HashMap::new(),
            definitions: BTreeMap::new(),
            watch,
            reclaims: Reclaims::new(),
            bad: HashSet::new(),
            empty: Vec::new(),
        }
    }

    /// The network's mailbox; its actor is started if there is none, or if it died: whoever asks for a
    /// network finds one that lives, and it knows what the store knows.
    fn network(&mut self, name: &NetworkName, ctx: &mut Context<Self>) -> NetworkMailbox {
        let known = self.networks.get(name);
        if let Some(mailbox) = known.filter(|mailbox| mailbox.is_alive()) {
            return mailbox.clone();
        }
        let after_death = known.is_some();
        if after_death {
            error!(self.log, "a network's actor died and is rebuilt"; "network_name" => name.as_str());
        }
        let log = self.log.new(o!("network_name" => name.to_string()));
        let changed = ctx.address().recipient();
        let network = Network::new(name.clone(), after_death, self.hands.clone(), changed, log);
        let mailbox = network.open();
        self.networks.insert(name.clone(), mailbox.clone());
        mailbox
    }
}

impl Actor for Manager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.watch_for_orphans(ctx);
        ctx.run_interval(SPOOL, |manager, ctx| {
            if manager.board.borrow().phase == Phase::Open {
                manager.replay(ctx, None);
            }
        });
    }
}

impl Handler<Open> for Manager {
    type Result = ();

    fn handle(&mut self, Open(class): Open, ctx: &mut Self::Context) {
        if class == Class::Setup {
            self.board.send_modify(|board| board.phase = Phase::Open);
            info!(self.log, "open for ADD");
        }
        let admitted = self.door.open(class, Waiter::has_left);
        self.admit_all(admitted, ctx);
    }
}

impl Handler<Warm> for Manager {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Warm(networks): Warm, ctx: &mut Self::Context) -> Self::Result {
        let named: HashSet<_> = networks.iter().map(|n| n.name.clone()).collect();
        // Whose leases are to be taken over: before a DEL of theirs is asked for.
        let taking_over = self.definitions.values().filter(|d| d.data_dir.is_some());
        let taking_over = taking_over.filter(|d| !named.contains(&d.name)).map(|d| (**d).clone());
        let networks: Vec<_> = networks.into_iter().chain(taking_over).collect();
        let opening: Vec<_> = networks
            .into_iter()
            .map(|stored| {
                let name = stored.name.clone();
                let defined = self.definitions.get(&name).cloned();
                let definition = defined.unwrap_or_else(|| Arc::new(stored));
                self.network(&name, ctx).open.send(network::Open(definition))
            })
            .collect();
        Box::pin(async move {
            join_all(opening).await;
        })
    }
}

impl Handler<Changed> for Manager {
    type Result = ();

    fn handle(&mut self, event: Changed, _: &mut Self::Context) {
        self.board.send_modify(|board| {
            board.networks.insert(event.network, event.status);
            board.judge();
        });
    }
}

impl Handler<Observe> for Manager {
    type Result = ();

    fn handle(&mut self, _: Observe, _: &mut Self::Context) {}
}
