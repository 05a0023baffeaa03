//! What a start knows, and what it does with it: the store and the files beside it, the links of the kernel.
//! Nothing that lives is taken away because one of them does not speak of it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;

use quantum_cni::attach::{Class, NetnsId, PortWanted, Traces, elements, naming, recover};
use quantum_cni::errors;
use quantum_cni::kernel::memory;
use quantum_cni::kernel::route::{Host, OwnedLink};
use quantum_cni::store::{Learned, Life, Opening, Place, Store, Stored, net_d};
use quantum_config::cni::Definition;
use quantum_config::ids::{AttachmentKey, IfName};
use quantum_config::settings::CniServerConfig;
use slog::{Logger, error, info, warn};
use tokio::sync::watch;

use crate::board::Board;
use crate::earlier;
use crate::lifecycle::Failure;
use crate::messages::ask;
use crate::messages::cache::{All, Defined, Rebuild};
use crate::messages::driver::{Scan, Scope, Sweep};
use crate::messages::manager::{Open, Reload, Replay, Warm};
use crate::messages::policy::Begin;
use crate::messages::publisher::Publish;
use crate::wiring::Graph;

/// The store as it was found, and what is in it.
pub(crate) struct Found {
    pub(crate) store: Store,
    pub(crate) opening: Opening,
    pub(crate) known: Vec<Stored>,
    /// Addresses that are held without a record.
    pub(crate) held: Vec<(AttachmentKey, IpAddr)>,
    /// Why attachments of another network namespace are kept, if there are any.
    pub(crate) elsewhere: Option<String>,
}

/// Opens the store. Which links are there decides what of it lives.
pub(crate) fn open(
    settings: &CniServerConfig,
    boot_id: &str,
    host: NetnsId,
    log: &Logger,
) -> Result<Found, Failure> {
    let links = Host::open()?.scan()?.into_iter();
    let there = links.map(|link| (link.index, link.name.to_string())).collect();
    let place = Place {
        state_dir: settings.state_dir.clone(),
        runtime_dir: settings.runtime_dir(),
        life: Life { boot: boot_id.to_owned(), host },
    };
    let (mut store, opening) = Store::open(&place, there)?;
    let elsewhere = earlier::settle(&mut store, &opening, settings, boot_id, log)?;
    let known = store.all()?;
    let held = store.held_without_record()?;
    say_how(&opening, store.learned(), known.len(), log);
    Ok(Found { store, opening, known, held, elsewhere })
}

/// Says what was found.
fn say_how(opening: &Opening, learned: &Learned, attachments: usize, log: &Logger) {
    match opening {
        Opening::Fresh => info!(log, "store made"),
        Opening::Resumed => info!(log, "store opened"; "attachments" => attachments),
        Opening::NewBoot { dropped } => {
            info!(log, "the machine was rebooted: attachments dropped"; "attachments" => dropped);
        }
        Opening::Older { why } => {
            warn!(log, "the store may not be the newest there was: learning from the kernel what it lacks";
                "reason" => why);
        }
        Opening::Corrupt { set_aside, why } => {
            error!(log, "the store was damaged and set aside; rebuilding it from runtime_dir and the kernel";
                "file" => %set_aside.display(), "error" => why);
        }
    }
    if !learned.put_back.is_empty() {
        warn!(log, "attachments that the store had lost were put back from runtime_dir";
            "attachments" => learned.put_back.len());
    }
    for why in &learned.bad {
        error!(log, "a file of runtime_dir cannot be read, and was not needed if no interface is without a record";
            "error" => why);
    }
}

/// What keeps the daemon from knowing all that runs, until it has learned it.
pub(crate) fn reason(opening: &Opening) -> Option<String> {
    match opening {
        Opening::Corrupt { .. } => Some("the store was damaged and is being rebuilt".to_owned()),
        Opening::Older { why } => {
            Some(format!("the store is being compared with what runs: {why}"))
        }
        Opening::Fresh | Opening::Resumed | Opening::NewBoot { .. } => None,
    }
}

/// Everything between the socket and the first ADD.
pub(crate) async fn put_in_order(
    graph: &Graph,
    opening: &Opening,
    config_dir: &Path,
    board: &watch::Sender<Board>,
    log: &Logger,
) -> Result<(), Failure> {
    ask(&graph.reload, Reload).await?;
    let unknown = match opening.knows_all() {
        true => HashSet::new(),
        false => rebuild(graph, opening, config_dir, board, log).await?,
    };
    let records: Vec<Stored> = ask(&graph.all, All).await?.map_err(errors::store)?;
    let used: HashSet<_> = records.iter().map(|s| &s.record.key.network).collect();
    let mut networks = ask(&graph.defined, Defined).await?.map_err(errors::store)?;
    networks.retain(|network| used.contains(&network.name));
    for record in records.iter().map(|stored| &stored.record) {
        graph.register.borrow_mut().enter(&record.key, record.home(), &record.addresses);
    }
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

/// Compares the kernel with the records. A link of ours without a record, where the store knows all, is what a
/// daemon left that died in the middle of an ADD: nobody was told of it. A record without a link is only reported:
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

/// Where the store may lack something: every link of ours without a record gives one back as far as it can. What
/// a network is, only `config_dir` can say now. Gives the links that do not tell whose they are: they may well be
/// somebody's.
async fn rebuild(
    graph: &Graph,
    opening: &Opening,
    config_dir: &Path,
    board: &watch::Sender<Board>,
    log: &Logger,
) -> Result<HashSet<IfName>, Failure> {
    let defined = net_d::load(config_dir).networks;
    let known: Vec<Stored> = ask(&graph.all, All).await?.map_err(errors::store)?;
    let known: HashSet<IfName> = known.into_iter().map(|stored| stored.record.host).collect();
    let (mut records, mut lost) = (Vec::new(), HashSet::new());
    let scanned = ask(&graph.scan, Scan).await?.map_err(errors::kernel)?;
    let traces = Traces::read(&scanned.elements);
    // A shaper says nothing that its port does not; without a port it is swept.
    let is_unknown = |link: &OwnedLink| !link.is_shaper && !known.contains(&link.name);
    for link in scanned.links.into_iter().filter(is_unknown) {
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
        warn!(log, "rebuilt records from the kernel";
            "attachments" => recovered, "lost" => lost.len());
    }
    let nameless = (!lost.is_empty()).then(|| {
        let names: Vec<&str> = lost.iter().map(IfName::as_str).collect();
        let names = names.join(", ");
        format!("the store had been lost, and these interfaces do not tell whose they are: {names}")
    });
    let before: Vec<String> = reason(opening).into_iter().collect();
    board.send_modify(|board| board.retell(&before, nameless));
    Ok(lost)
}
