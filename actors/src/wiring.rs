//! The graph: every actor is made here, from the highest rank down, each with the mailboxes of those
//! it asks. This file is the diagram of docs/actors.md in code.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Addr, Recipient};
use prometheus::Registry;
use quantum_cni::attach::Bound;
use quantum_cni::attach::NetnsId;
use quantum_cni::docker::Book;
use quantum_cni::ipam::Register;
use quantum_cni::kernel::lane::Lane;
use quantum_cni::kernel::netns::Netns;
use quantum_cni::store::{Ledger, StoredState};
use quantum_config::ids::AttachmentKey;
use quantum_config::settings::CniServerConfig;
use slog::{Logger, o};
use tokio::sync::watch;

use crate::board::Board;
use crate::cache::{Cache, StoreLane};
use crate::docker::{self, Desk, Docker};
use crate::driver::{Driver, Lanes};
use crate::manager::{Folders, Manager, OrphanWatch};
use crate::messages::cache::{All, Defined, Find, Held, Rebuild};
use crate::messages::docker::Serve;
use crate::messages::driver::{Inform, Loopback, Scan, Sweep};
use crate::messages::manager::{Admit, Open, Reclaim, Reload, Replay, Warm};
use crate::messages::metrics::{Health, Render};
use crate::messages::policy::{Answer, Begin, Reread};
use crate::messages::publisher::Publish;
use crate::messages::{Drain, Observe};
use crate::meters::Meters;
use crate::metrics::Metrics;
use crate::network::Hands;
use crate::policy::{self, Policy, ShelfLane};
use crate::publisher::Publisher;

/// What the graph is made of.
pub(crate) struct Parts {
    pub(crate) settings: CniServerConfig,
    pub(crate) folders: Folders,
    pub(crate) store: StoreLane,
    pub(crate) shelf: ShelfLane,
    /// The attachments that the store holds.
    pub(crate) known: HashMap<AttachmentKey, StoredState>,
    /// The addresses that it holds for attachments without a record.
    pub(crate) held: Vec<(AttachmentKey, IpAddr)>,
    pub(crate) lanes: Lanes,
    /// The network namespace of the host.
    pub(crate) host: NetnsId,
    /// What is kept of Docker, where it is served.
    pub(crate) docker: Option<DockerParts>,
    pub(crate) board: watch::Sender<Board>,
    pub(crate) registry: Registry,
    pub(crate) meters: Meters,
    pub(crate) log: Logger,
}

/// What Docker's door is made of.
pub(crate) struct DockerParts {
    pub(crate) book: Book,
    pub(crate) ledger: Lane<Ledger>,
    /// The network namespace of the host.
    pub(crate) host: Netns,
}

/// How the graph is reached from outside: by sessions, by HTTP and by the life cycle.
#[derive(Debug, Clone)]
pub(crate) struct Graph {
    /// Who has which address, in all networks.
    pub(crate) register: Rc<RefCell<Register>>,
    pub(crate) admit: Recipient<Admit>,
    pub(crate) reclaim: Recipient<Reclaim>,
    pub(crate) find: Recipient<Find>,
    pub(crate) reload: Recipient<Reload>,
    pub(crate) replay: Recipient<Replay>,
    pub(crate) warm: Recipient<Warm>,
    pub(crate) open: Recipient<Open>,
    pub(crate) all: Recipient<All>,
    pub(crate) defined: Recipient<Defined>,
    pub(crate) rebuild: Recipient<Rebuild>,
    pub(crate) publish: Recipient<Publish>,
    pub(crate) begin: Recipient<Begin>,
    pub(crate) held: Recipient<Held>,
    pub(crate) loopback: Recipient<Loopback>,
    pub(crate) answer: Recipient<Answer>,
    pub(crate) reread: Recipient<Reread>,
    pub(crate) scan: Recipient<Scan>,
    pub(crate) sweep: Recipient<Sweep>,
    pub(crate) render: Recipient<Render>,
    pub(crate) health: Recipient<Health>,
    /// Where it is served.
    pub(crate) docker: Option<Recipient<Serve>>,
    /// In the order in which they are to be drained.
    pub(crate) drains: Vec<(&'static str, Recipient<Drain>)>,
}

/// Starts every actor but the networks, which the Manager starts, and the sessions.
pub(crate) fn start(parts: Parts) -> Graph {
    let Parts {
        settings,
        folders,
        store,
        shelf,
        known,
        held,
        lanes,
        host,
        docker,
        board,
        registry,
        meters,
        log,
    } = parts;
    let named = |actor: &'static str| log.new(o!("actor" => actor));
    let seen = board.subscribe();
    let size = NonZeroUsize::new(settings.cache_size).unwrap_or(NonZeroUsize::MIN);

    let bound = Bound::new(settings.container_connections);
    let driver = Driver::new(lanes, bound, meters.clone(), named("driver")).start();
    let mut cache = Cache::new(store, known, size, board.clone(), meters.clone(), named("cache"));
    cache.hold(held);
    let cache = cache.start();
    let register: Rc<RefCell<Register>> = Rc::default();
    let publisher = Publisher::new(meters.clone()).start();
    let to_driver =
        policy::Hands { govern: driver.clone().recipient(), flows: driver.clone().recipient() };
    let policy = Policy::new(to_driver, shelf, board.clone(), meters.clone(), named("policy"));
    let policy = policy.start();
    let hands = Hands {
        lookup: cache.clone().recipient(),
        find: cache.clone().recipient(),
        remember: cache.clone().recipient(),
        leave: cache.clone().recipient(),
        abandon: cache.clone().recipient(),
        forget: cache.clone().recipient(),
        list: cache.clone().recipient(),
        held: cache.clone().recipient(),
        hold: cache.clone().recipient(),
        take_over: cache.clone().recipient(),
        all: cache.clone().recipient(),
        addresses: cache.clone().recipient(),
        define: cache.clone().recipient(),
        publish: publisher.clone().recipient(),
        withdraw: publisher.clone().recipient(),
        judge: policy.clone().recipient(),
        dismiss: policy.clone().recipient(),
        expected: policy.clone().recipient(),
        vacant: driver.clone().recipient(),
        prepare: driver.clone().recipient(),
        restore: driver.clone().recipient(),
        apply: driver.clone().recipient(),
        revise: driver.clone().recipient(),
        revert: driver.clone().recipient(),
        republish: driver.clone().recipient(),
        dismantle: driver.clone().recipient(),
        inspect: driver.clone().recipient(),
        destroyed: driver.clone().recipient(),
        links: driver.clone().recipient(),
        attached: cache.clone().recipient(),
        ports: driver.clone().recipient(),
        sweep: driver.clone().recipient(),
        register: register.clone(),
    };
    let orphans = OrphanWatch::new(settings.orphan_seconds, host, meters.clone());
    let manager = Manager::new(folders, hands, board, orphans, named("manager")).start();
    driver.do_send(Inform {
        looked: manager.clone().recipient(),
        harmed: manager.clone().recipient(),
        refused: policy.clone().recipient(),
        crowded: manager.clone().recipient(),
    });
    let mut watched: Vec<(&'static str, Recipient<Observe>)> = vec![
        ("manager", manager.clone().recipient()),
        ("cache", cache.clone().recipient()),
        ("publisher", publisher.clone().recipient()),
        ("policy", policy.clone().recipient()),
        ("driver", driver.clone().recipient()),
    ];
    let docker: Option<Addr<Docker>> = docker.map(|DockerParts { book, ledger, host }| {
        let hands = docker::Hands {
            admit: manager.clone().recipient(),
            reclaim: manager.clone().recipient(),
            retire: manager.clone().recipient(),
            lookup: cache.clone().recipient(),
            list: cache.clone().recipient(),
            all: cache.clone().recipient(),
            links: driver.clone().recipient(),
        };
        let desk = Desk {
            hands,
            board: seen.clone(),
            book: RefCell::new(book),
            ledger: Rc::new(ledger),
            host: Arc::new(host),
            meters: meters.clone(),
            log: named("docker"),
        };
        Docker::new(desk).start()
    });
    watched.extend(docker.iter().map(|docker| ("docker", docker.clone().recipient())));
    let metrics = Metrics::new(registry, meters, seen, watched, named("metrics")).start();

    Graph {
        register,
        admit: manager.clone().recipient(),
        reclaim: manager.clone().recipient(),
        find: cache.clone().recipient(),
        reload: manager.clone().recipient(),
        replay: manager.clone().recipient(),
        warm: manager.clone().recipient(),
        open: manager.clone().recipient(),
        all: cache.clone().recipient(),
        defined: cache.clone().recipient(),
        rebuild: cache.clone().recipient(),
        publish: publisher.clone().recipient(),
        begin: policy.clone().recipient(),
        held: cache.clone().recipient(),
        loopback: driver.clone().recipient(),
        answer: policy.clone().recipient(),
        reread: policy.clone().recipient(),
        scan: driver.clone().recipient(),
        sweep: driver.clone().recipient(),
        render: metrics.clone().recipient(),
        health: metrics.recipient(),
        docker: docker.map(|docker| docker.recipient()),
        drains: vec![
            ("manager", manager.recipient()),
            ("cache", cache.recipient()),
            ("publisher", publisher.recipient()),
            ("policy", policy.recipient()),
            ("driver", driver.recipient()),
        ],
    }
}
