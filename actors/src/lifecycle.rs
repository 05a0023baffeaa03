//! From start to stop. The order is what keeps addresses and containers safe:
//!
//! ```text
//!   locks and store ──► socket: STATUS is served, the others wait
//!                   ──► config_dir ──► what the kernel has against what the store knows: sweep
//!                   ──► DEL, CHECK and GC are served ──► spool ──► networks in use ──► ADD is served
//!   …
//!   SIGTERM ──► socket closed, or left to who made it ──► who is inside finishes ──► store on disk ──► lanes ──► gone
//! ```
//!
//! A stop has its time, whatever hangs: what has not finished then is named and left behind.
//!
//! Links and rules stay as they are when the daemon stops: containers do not notice.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use prometheus::Registry;
use quantum_cni::attach::{Class, ForwardingNote, PortWanted, Traces, elements, naming, recover};
use quantum_cni::errors;
use quantum_cni::kernel::lane::{Gauge, Lane};
use quantum_cni::kernel::lock::HostLock;
use quantum_cni::kernel::netns::Netns;
use quantum_cni::kernel::{clock, memory, needs};
use quantum_cni::store::{ForwardingFile, Ledger, Opening, Shelf, Store, Stored, net_d};
use quantum_config::cni::Definition;
use quantum_config::ids::IfName;
use quantum_config::settings::CniServerConfig;
use slog::{Logger, error, info, warn};
use tokio::sync::{oneshot, watch};

use crate::board::Board;
use crate::docker::Door;
use crate::drain::drain;
use crate::driver::Lanes;
use crate::earlier;
use crate::folders;
use crate::gauges::Gauges;
use crate::http::{self, Pages};
use crate::manager::Folders;
use crate::messages::ask;
use crate::messages::cache::{All, Defined, Rebuild};
use crate::messages::driver::{Scan, Scope, Sweep};
use crate::messages::manager::{Open, Reload, Replay, Warm};
use crate::messages::policy::{Begin, Reread};
use crate::messages::publisher::Publish;
use crate::meters::Meters;
use crate::policy_dir::PolicyDir;
use crate::session::{self, House, Listener, Memory, Readers};
use crate::signals::{self, Signals};
use crate::supervisor;
use crate::wiring::{self, DockerParts, Graph, Parts};

/// How long those have then whose answer is on its way, or who are told to ask the next daemon.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// What stops the daemon before it has begun, in words.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// Runs the daemon until it is told to stop.
pub(crate) async fn run(settings: CniServerConfig, log: Logger) -> Result<(), Failure> {
    // Before it serves it may hang at a disk: then SIGTERM ends it by itself.
    let hangup = signals::hangup()?;
    let reader_group = settings.reader_group.as_deref().map(session::readers).transpose()?;
    folders::prepare(&settings, &log)?;
    let host_lock = HostLock::take()?;
    if let Some(file) = host_lock.file() {
        warn!(log, "the kernel has no nfnetlink_log: another quantum-cnid is only found if it locks the same file";
            "file" => %file.display());
    }
    let boot_id = clock::boot_id()?;
    let host = Netns::current()?.id();
    let (mut store, opening) = Store::open(&settings.state_dir, &boot_id)?;
    let elsewhere = earlier::settle(&mut store, &opening, &settings, &boot_id, &log)?;
    let known = store.all()?;
    let held = store.held_without_record()?;
    say_how(&opening, known.len(), &log);

    let registry = Registry::new();
    let meters = Meters::new(&registry)?;
    let unmet = needs::unmet(&settings.state_dir);
    for need in &unmet {
        error!(log, "something that the daemon needs is missing"; "error" => need);
    }
    let (board, seen) = watch::channel(Board { unmet, ..Board::default() });
    if let Opening::Corrupt { .. } = &opening {
        board.send_modify(|b| b.degraded.push("the store was damaged and is being rebuilt".into()));
    }
    board.send_modify(|b| b.degraded.extend(elsewhere));
    let pages_listener = http::bind(settings.http_listen)
        .map_err(|e| format!("http_listen {}: {e}", settings.http_listen))?;
    let docker = match settings.docker_socket {
        Some(_) => Some(docker_parts(&settings.state_dir, &log)?),
        None => None,
    };
    let mut signals = Signals::take(hangup)?;
    let listener = Listener::bind(Path::new(&settings.socket_path), reader_group)?;
    let docker_door = settings.docker_socket.as_deref().map(Door::bind).transpose()?;

    let forwarding_file = ForwardingFile::new(&settings.state_dir);
    let forwarding = ForwardingNote::new(&boot_id, host);
    let folders = Folders {
        config_dir: settings.config_dir.clone().into(),
        spool_dir: settings.spool_dir.clone(),
        boot_id,
        reading: Gauge::new("files"),
    };
    let store = Lane::own("store", store)?;
    let shelf = Lane::own("shelf", Shelf::new(&settings.state_dir, &settings.policy_dir()))?;
    let lanes = Lanes::start(&settings, forwarding_file, forwarding)?;
    let mut all = vec![store.gauge(), shelf.gauge(), folders.reading.clone()];
    all.extend(docker.iter().map(|docker| docker.ledger.gauge()));
    all.extend(lanes.gauges());
    let gauges = Gauges::new(all);
    board.send_modify(|board| board.lanes = gauges.clone());
    let graph = wiring::start(Parts {
        folders,
        store,
        shelf,
        known: known.iter().map(|s| (s.record.key.clone(), s.state)).collect(),
        held,
        lanes,
        host,
        docker,
        board: board.clone(),
        registry,
        meters: meters.clone(),
        log: log.clone(),
        settings: settings.clone(),
    });
    let pages = Rc::new(Pages {
        board: seen.clone(),
        render: settings.metrics_enabled.then(|| graph.render.clone()),
        health: graph.health.clone(),
        log: log.clone(),
    });
    actix_rt::spawn(http::run(pages_listener, pages));
    let (last, answered) = oneshot::channel();
    let house = Rc::new(House {
        admit: graph.admit.clone(),
        reclaim: graph.reclaim.clone(),
        find: graph.find.clone(),
        held: graph.held.clone(),
        loopback: graph.loopback.clone(),
        answer: graph.answer.clone(),
        board: seen,
        meters,
        log: log.clone(),
        memory: Memory::new(),
        readers: Readers::new(),
        host,
        reader_group,
        refusals: RefCell::default(),
        admin_chains: RefCell::default(),
        sysctls: settings.sysctl_allowlist.clone(),
        last,
    });
    supervisor::attend(house.board.clone(), graph.health.clone(), log.clone());
    let (stop_listening, stopped) = oneshot::channel();
    let listening = actix_rt::spawn(listener.run(house, stopped));
    let docker_listening = docker_door.zip(graph.docker.clone()).map(|(door, docker)| {
        let (stop, stopped) = oneshot::channel();
        (stop, actix_rt::spawn(door.run(docker, log.clone(), stopped)))
    });
    info!(log, "listening"; "socket" => &settings.socket_path, "http" => %settings.http_listen);

    // Listened to before it is read first.
    let mut policy_dir = PolicyDir::new(&settings.policy_dir(), &log);
    let order = put_in_order(&graph, &opening, Path::new(&settings.config_dir), &board, &log);
    let served = tokio::select! {
        ordered = order => match ordered {
            Ok(()) => until_told(&mut signals, &mut policy_dir, &graph, &log).await,
            Err(failure) => Err(failure),
        },
        // A start that takes long, or hangs, can be ended too.
        () = signals.stop() => Ok(()),
    };

    let _ = stop_listening.send(());
    let _ = listening.await;
    if let Some((stop, listening)) = docker_listening {
        let _ = stop.send(());
        let _ = listening.await;
    }
    drain(&graph, &gauges, &log).await;
    let _ = tokio::time::timeout(LAST_ANSWERS, answered).await;
    served
}

/// What was kept of Docker. What cannot be read is no reason not to serve the others.
fn docker_parts(state_dir: &Path, log: &Logger) -> Result<DockerParts, Failure> {
    let ledger = Ledger::new(state_dir);
    let (book, damage) = ledger.restore();
    if let Some(why) = damage {
        error!(log, "Docker's networks are not known any more; create them again"; "error" => why);
    }
    let host = Netns::current()?;
    Ok(DockerParts { book, ledger: Lane::own("docker", ledger)?, host })
}

fn say_how(opening: &Opening, attachments: usize, log: &Logger) {
    match opening {
        Opening::Fresh => info!(log, "store made"),
        Opening::Resumed => info!(log, "store opened"; "attachments" => attachments),
        Opening::NewBoot { dropped } => {
            info!(log, "the machine was rebooted: attachments dropped"; "attachments" => dropped);
        }
        Opening::Corrupt { set_aside, why } => {
            error!(log, "the store was damaged and set aside; rebuilding from the kernel";
                "file" => %set_aside.display(), "error" => why);
        }
    }
}

/// Everything between the socket and the first ADD.
async fn put_in_order(
    graph: &Graph,
    opening: &Opening,
    config_dir: &Path,
    board: &watch::Sender<Board>,
    log: &Logger,
) -> Result<(), Failure> {
    ask(&graph.reload, Reload).await?;
    let unknown = match opening {
        Opening::Resumed | Opening::NewBoot { .. } => HashSet::new(),
        // Not only a damaged store: one that is not there may have been lost.
        Opening::Fresh | Opening::Corrupt { .. } => rebuild(graph, config_dir, board, log).await?,
    };
    let records: Vec<Stored> = ask(&graph.all, All).await?.map_err(errors::store)?;
    let used: HashSet<_> = records.iter().map(|s| &s.record.key.network).collect();
    let mut networks = ask(&graph.defined, Defined).await?.map_err(errors::store)?;
    networks.retain(|network| used.contains(&network.name));
    for stored in records.iter().filter(|stored| !stored.record.ports.is_empty()) {
        let (owner, ports) = (stored.record.key.clone(), stored.record.ports.clone());
        // Two that have the same port had it from a release that did not see to it.
        if let Err(conflict) = ask(&graph.publish, Publish { owner, ports }).await? {
            warn!(log, "a port has two owners"; "error" => %conflict);
        }
    }
    let unruled = sweep(graph, &records, &networks, unknown, log).await?;
    // Said from the start; the watch takes it back when it is put right.
    board.send_modify(|board| {
        board.unruled = unruled;
        board.judge();
    });
    // Not before: a DEL in the middle of the sweep would have its elements put back.
    ask(&graph.open, Open(Class::Look)).await?;
    ask(&graph.replay, Replay).await?;
    ask(&graph.warm, Warm(networks)).await?;
    ask(&graph.open, Open(Class::Setup)).await?;
    memory::give_back();
    Ok(())
}

/// Compares the kernel with the records. A link of ours without a record is what a daemon left that
/// died in the middle of an ADD: nobody was told of it. A record without a link is only reported:
/// its container may be gone, and its DEL is still to come; if it does not, see the Manager's orphans.
/// What is `unknown` is left alone. Gives why our rules are not in order, if they are not.
async fn sweep(
    graph: &Graph,
    records: &[Stored],
    networks: &[Definition],
    unknown: HashSet<IfName>,
    log: &Logger,
) -> Result<Option<String>, Failure> {
    let known = records.iter().map(|s| s.record.host.clone());
    let hosts: HashSet<_> = known.chain(unknown).collect();
    let of_records = records.iter().flat_map(|s| elements(&s.record));
    let begin = Begin(records.iter().map(|s| s.record.clone()).collect());
    let begun = ask(&graph.begin, begin).await?;
    let elements = of_records.chain(begun.elements).collect();
    let attached = records.iter().filter(|stored| !stored.is_leaving());
    let ports = attached.map(|stored| PortWanted::of(&stored.record)).collect();
    let scope = Scope::Host { elements, networks: networks.to_vec(), rules: begun.rules, ports };
    let swept = ask(&graph.sweep, Sweep { hosts, scope }).await?.map_err(errors::kernel)?;
    for failure in &swept.failed {
        error!(log, "an interface without a record could not be removed"; "error" => failure);
    }
    if let Some(why) = &swept.unruled {
        error!(log, "the nftables rules could not be put in order"; "error" => why);
    }
    for link in &swept.removed {
        warn!(log, "removed an interface without a record";
            "interface" => link.name.as_str(), "alias" => &link.alias);
    }
    let keys: HashMap<_, _> = records.iter().map(|s| (&s.record.host, &s.record.key)).collect();
    for host in &swept.missing {
        let container = keys.get(host).map(|k| k.container.to_string()).unwrap_or_default();
        warn!(log, "an attachment has no interface any more; its address is held until DEL, GC or orphan_seconds";
            "container_id" => container, "interface" => host.as_str());
    }
    Ok(swept.unruled)
}

/// After the store was lost: every link of ours gives its record back as far as it can. What a network
/// is, only `config_dir` can say now. Gives the links that do not tell whose they are: they may well
/// be somebody's.
async fn rebuild(
    graph: &Graph,
    config_dir: &Path,
    board: &watch::Sender<Board>,
    log: &Logger,
) -> Result<HashSet<IfName>, Failure> {
    let defined = net_d::load(config_dir).networks;
    let (mut records, mut lost) = (Vec::new(), HashSet::new());
    let scanned = ask(&graph.scan, Scan).await?.map_err(errors::kernel)?;
    let traces = Traces::read(&scanned.elements);
    // A shaper says nothing that its port does not; without a port it is swept.
    for link in scanned.links.into_iter().filter(|link| !link.is_shaper) {
        let network = naming::read_alias(&link.alias).and_then(|a| a.key).map(|k| k.network);
        let definition = network.and_then(|n| defined.get(&n)).map(|(_, definition)| definition);
        let pools = definition.map(|d| d.sets()).unwrap_or_default();
        let bridge = link.bridge.clone().or_else(|| definition.map(|d| d.bridge.clone()));
        let record = bridge.and_then(|bridge| {
            let (host, index) = (link.name.clone(), link.index);
            recover(host, index, &link.alias, bridge, pools, &traces)
        });
        match record {
            Some(record) => records.push(record),
            None => _ = lost.insert(link.name),
        }
    }
    let recovered = records.len();
    ask(&graph.rebuild, Rebuild(records)).await?.map_err(errors::store)?;
    if recovered + lost.len() > 0 {
        warn!(log, "rebuilt the records from the kernel";
            "attachments" => recovered, "lost" => lost.len());
    }
    board.send_modify(|b| {
        b.degraded.clear();
        if !lost.is_empty() {
            let names: Vec<&str> = lost.iter().map(IfName::as_str).collect();
            b.degraded.push(format!(
                "the store was lost, and these interfaces do not tell whose they are: {}",
                names.join(", ")
            ));
        }
    });
    Ok(lost)
}

/// Serves until SIGTERM or SIGINT; SIGHUP reads `config_dir` and `policy_dir` again, and what is renamed
/// into `policy_dir` has that one read.
async fn until_told(
    signals: &mut Signals,
    policy_dir: &mut PolicyDir,
    graph: &Graph,
    log: &Logger,
) -> Result<(), Failure> {
    loop {
        let Signals { terminate, interrupt, hangup } = signals;
        let all = tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => true,
            () = policy_dir.changed() => false,
        };
        if all {
            info!(log, "reading config_dir again");
            policy_dir.listen();
            tokio::select! {
                read = ask(&graph.reload, Reload) => read?,
                () = signals.stop() => return Ok(()),
            }
        }
        tokio::select! {
            read = ask(&graph.reread, Reread) => read?,
            () = signals.stop() => return Ok(()),
        }
    }
}
