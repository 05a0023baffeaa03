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
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use prometheus::Registry;
use quantum_cni::attach::ForwardingNote;
use quantum_cni::kernel::lane::{Gauge, Lane};
use quantum_cni::kernel::lock::HostLock;
use quantum_cni::kernel::netns::Netns;
use quantum_cni::kernel::{clock, needs};
use quantum_cni::store::{ForwardingFile, Ledger, Shelf, spool};
use quantum_config::settings::CniServerConfig;
use slog::{Logger, error, info, warn};
use tokio::sync::{oneshot, watch};

use crate::board::Board;
use crate::docker::Door;
use crate::drain::drain;
use crate::driver::Lanes;
use crate::folders;
use crate::gauges::Gauges;
use crate::http::{self, Pages};
use crate::manager::Folders;
use crate::messages::ask;
use crate::messages::manager::Reload;
use crate::messages::policy::Reread;
use crate::meters::Meters;
use crate::policy_dir::PolicyDir;
use crate::recovery::{self, Found};
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
    let Found { store, opening, known, held, elsewhere } =
        recovery::open(&settings, &boot_id, host, &log)?;
    let spools = folders::spools(&settings);
    let locks: Result<Vec<_>, _> = spools.iter().map(|dir| spool::lock(dir)).collect();
    let _locks = locks?;

    let registry = Registry::new();
    let meters = Meters::new(&registry)?;
    let unmet = needs::unmet(&settings.state_dir);
    for need in &unmet {
        error!(log, "something that the daemon needs is missing"; "error" => need);
    }
    let (places, warnings) = session::places(&log)?;
    let (board, seen) = watch::channel(Board { unmet, warnings, ..Board::default() });
    if let Some(why) = recovery::reason(&opening) {
        board.send_modify(|b| b.degraded.push(why));
    }
    board.send_modify(|b| b.degraded.extend(elsewhere));
    let pages_listener = http::bind(settings.http_listen)
        .map_err(|e| format!("http_listen {}: {e}", settings.http_listen))?;
    let docker = match settings.docker_socket {
        Some(_) => Some(docker_parts(&settings.state_dir, &log)?),
        None => None,
    };
    let mut signals = Signals::take(hangup)?;
    let listener = Listener::bind(Path::new(&settings.socket_path), reader_group, &places)?;
    let docker_door = settings.docker_socket.as_deref().map(Door::bind).transpose()?;

    let forwarding_file = ForwardingFile::new(&settings.state_dir);
    let forwarding = ForwardingNote::new(&boot_id, host);
    let folders = Folders {
        config_dir: settings.config_dir.clone().into(),
        spools: spools.clone(),
        boot_id,
        reading: Gauge::new("files"),
    };
    let store = Lane::own("store", store)?;
    let shelf = Lane::own(
        "shelf",
        Shelf::new(&settings.state_dir, &settings.runtime_dir(), &settings.policy_dir()),
    )?;
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
    actix_rt::spawn(http::run(pages_listener, pages, places.pages));
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
    let order =
        recovery::put_in_order(&graph, &opening, Path::new(&settings.config_dir), &board, &log);
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
