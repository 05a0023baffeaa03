//! `quantumctl install` and `uninstall`: the plugin, links to it in the places of the reference plugins,
//! and a conflist, put in place and taken away. A runtime may look at any moment, and another program
//! may be in the middle of a call:
//!
//! ```text
//! install     plugin ─► links ─► conflist      (each whole, by renaming: a conflist means that all else is there)
//! uninstall   conflist ─► links ─► plugin      (and a plugin that is still named keeps its place)
//! ```
//!
//! What is not ours is neither replaced nor removed unless that is asked for; what is there already as
//! it should be is left alone, so that no runtime is told of a change that is none.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use quantum_config::cni::{Call, DROP_INS};
use serde_json::{Value, json};
use structopt::StructOpt;
use thiserror::Error;

use crate::ask::ask;
use crate::put::{self, PutError};

/// The name of our plugin.
const PLUGIN: &str = "quantum-cni";
/// The versions that a conflist offers. A runtime that knows the list takes the last one that it speaks,
/// any other one takes `cniVersion`.
const LISTED: &[&str] = &["0.4.0", "1.0.0", "1.1.0"];
/// A conflist of ours has this entry, so that it is known again.
const TYPE: &str = PLUGIN;

/// The subnet, unless said otherwise. It is no default of the flag's, with which one that was given without
/// a value, as of a variable that is not set, would be taken for one that was not given.
const SUBNET: &str = "172.20.0.0/16";

/// Where things are.
#[derive(Debug, StructOpt)]
pub(crate) struct Places {
    /// Where runtimes look for plugins
    #[structopt(long, default_value = "/opt/cni/bin", parse(from_os_str), number_of_values = 1)]
    bin_dir: PathBuf,
    /// Where runtimes look for conflists
    #[structopt(long, default_value = "/etc/cni/net.d", parse(from_os_str), number_of_values = 1)]
    conf_dir: PathBuf,
    /// The network's name
    #[structopt(long, default_value = "quantum", number_of_values = 1)]
    name: String,
}

impl Places {
    fn plugin(&self) -> PathBuf {
        self.bin_dir.join(PLUGIN)
    }

    fn conflist(&self) -> PathBuf {
        self.conf_dir.join(format!("10-{}.conflist", self.name))
    }
}

#[derive(Debug, StructOpt)]
pub(crate) struct Install {
    #[structopt(flatten)]
    places: Places,
    /// The plugin to install; what stands beside quantumctl unless said otherwise
    #[structopt(long, parse(from_os_str))]
    plugin: Option<PathBuf>,
    /// Also take the places of the reference plugins, by links with their names
    #[structopt(long)]
    drop_in: bool,
    /// Write no conflist
    #[structopt(long)]
    no_conf: bool,
    /// The network's bridge
    #[structopt(long, default_value = "quantum0", number_of_values = 1)]
    bridge: String,
    /// The network's subnets, separated by commas or each with a flag of its own: containers get an
    /// address of each [default: 172.20.0.0/16]
    #[structopt(long = "subnet", number_of_values = 1)]
    subnets: Vec<String>,
    /// Whoever has a route to this host reaches containers by their addresses
    #[structopt(long)]
    direct_access: bool,
    /// The conflist's cniVersion, for runtimes that do not read cniVersions: a kubelet with
    /// dockershim (before Kubernetes 1.24) needs 0.4.0
    #[structopt(long, default_value = "1.0.0", number_of_values = 1, possible_values = LISTED)]
    cni_version: String,
    /// Replace what is not ours
    #[structopt(long)]
    force: bool,
}

#[derive(Debug, StructOpt)]
pub(crate) struct Uninstall {
    #[structopt(flatten)]
    places: Places,
    /// Remove the plugin although conflists name it, or containers are attached
    #[structopt(long)]
    force: bool,
}

/// Why something is not in its place.
#[derive(Debug, Error)]
pub(crate) enum InstallError {
    /// The kernel said no.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The plugin to install is not to be found.
    #[error("there is no plugin at {0}; name it by --plugin")]
    NoPlugin(PathBuf),
    /// Something else is there.
    #[error(
        "{path} is there and is not ours ({why}); nothing was changed: move it away, or replace it by --force"
    )]
    Foreign {
        /// Where.
        path: PathBuf,
        /// How that is known.
        why: String,
    },
    /// The conflist would not be accepted.
    #[error("the network cannot be as asked: {0}")]
    Network(String),
    /// Containers would be left with their network.
    #[error(
        "{plugin} stays: quantum-cnid has {attached} attachments, and a runtime needs the plugin to remove them; end those containers and repeat this, or use --force"
    )]
    InUse {
        /// The plugin.
        plugin: PathBuf,
        /// How many there are.
        attached: u64,
    },
    /// Runtimes would fail.
    #[error(
        "{plugin} stays: {conflist} names it, and containers of it could not be removed any more; remove that file first, or use --force"
    )]
    Named {
        /// The plugin.
        plugin: PathBuf,
        /// Who names it.
        conflist: PathBuf,
    },
}

/// Puts everything in its place.
pub(crate) fn install(options: &Install) -> Result<(String, ExitCode), InstallError> {
    let places = &options.places;
    let source = source(options.plugin.as_deref())?;
    let content = put::read(&source)?;
    let conflist = if options.no_conf { None } else { Some(conflist(options)?) };
    let links: Vec<PathBuf> = match options.drop_in {
        true => DROP_INS.iter().map(|(name, _)| places.bin_dir.join(name)).collect(),
        false => Vec::new(),
    };
    // All is looked at before anything is changed.
    if !options.force {
        let foreign = links.iter().find_map(|link| is_foreign_link(link).map(|why| (link, why)));
        if let Some((path, why)) = foreign {
            return Err(InstallError::Foreign { path: path.clone(), why });
        }
        let path = places.conflist();
        if conflist.is_some() && path.exists() && !is_our_conflist(&path) {
            let why = format!("no plugin of it is {TYPE}");
            return Err(InstallError::Foreign { path, why });
        }
    }
    let mut told = String::new();
    put::folder(&places.bin_dir)?;
    let changed = put::file(&places.plugin(), &content, 0o755)?;
    tell(&mut told, &places.plugin(), changed);
    for link in &links {
        tell(&mut told, link, put::link(link, Path::new(PLUGIN))?);
    }
    if let Some(text) = conflist {
        put::folder(&places.conf_dir)?;
        let changed = put::file(&places.conflist(), text.as_bytes(), 0o644)?;
        tell(&mut told, &places.conflist(), changed);
    }
    Ok((told, ExitCode::SUCCESS))
}

/// Takes everything away.
pub(crate) fn uninstall(options: &Uninstall) -> Result<(String, ExitCode), InstallError> {
    let places = &options.places;
    let mut told = String::new();
    let conflist = places.conflist();
    if is_our_conflist(&conflist) {
        put::remove(&conflist)?;
        let _ = writeln!(told, "removed    {}", conflist.display());
    }
    let links = DROP_INS.iter().map(|(name, _)| places.bin_dir.join(name));
    let links: Vec<PathBuf> = links.filter(|link| is_our_link(link)).collect();
    if !options.force {
        let names: Vec<String> = links.iter().chain([&places.plugin()]).map(|p| name(p)).collect();
        let attached = attachments();
        if attached > 0 {
            return Err(InstallError::InUse { plugin: places.plugin(), attached });
        }
        if let Some(other) = who_names(&places.conf_dir, &names) {
            let plugin = places.plugin();
            return Err(InstallError::Named { plugin, conflist: other });
        }
    }
    for path in links.into_iter().chain([places.plugin()]) {
        if path.symlink_metadata().is_ok() {
            put::remove(&path)?;
            let _ = writeln!(told, "removed    {}", path.display());
        }
    }
    if told.is_empty() {
        told.push_str("nothing of ours is there");
    }
    Ok((told, ExitCode::SUCCESS))
}

fn tell(told: &mut String, path: &Path, changed: bool) {
    let word = if changed { "installed" } else { "unchanged" };
    let _ = writeln!(told, "{word:<10} {}", path.display());
}

/// How many attachments the daemon has; none if there is no daemon to ask.
fn attachments() -> u64 {
    let board: Value =
        ask("status").ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let networks = board["networks"].as_object().into_iter().flat_map(|all| all.values());
    networks.filter_map(|network| network["held"].as_u64()).sum()
}

/// The plugin to install.
fn source(named: Option<&Path>) -> Result<PathBuf, InstallError> {
    if let Some(path) = named {
        return if path.is_file() { Ok(path.to_owned()) } else { Err(no_plugin(path)) };
    }
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("/"));
    let beside = [folder.join(PLUGIN), folder.join("../plugin").join(PLUGIN)];
    let found = beside.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| no_plugin(&beside[0]))
}

fn no_plugin(path: &Path) -> InstallError {
    InstallError::NoPlugin(path.to_owned())
}

/// The conflist: what every client reads that was tried, old and new ones.
fn conflist(options: &Install) -> Result<String, InstallError> {
    let mut subnets: Vec<&str> = options.subnets.iter().flat_map(|some| some.split(',')).collect();
    if subnets.is_empty() {
        subnets.push(SUBNET);
    }
    let ranges: Vec<Value> = subnets.iter().map(|s| json!([{ "subnet": s }])).collect();
    // What is no subnet of either family is refused below.
    let has = |is_v6: bool| subnets.iter().any(|subnet| subnet.contains(':') == is_v6);
    let defaults = [("0.0.0.0/0", false), ("::/0", true)];
    let defaults = defaults.into_iter().filter(|(_, is_v6)| has(*is_v6));
    let routes: Vec<Value> = defaults.map(|(dst, _)| json!({ "dst": dst })).collect();
    let mut plugin = json!({
        "type": TYPE,
        "bridge": options.bridge,
        "isGateway": true,
        "ipMasq": true,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "ranges": ranges,
            "routes": routes
        },
        "capabilities": {
            "portMappings": true,
            "bandwidth": true,
            "ips": true,
            "mac": true,
            "dns": true,
            // Labels and the names of ports. A runtime that does not know it leaves it alone.
            "io.kubernetes.cri.pod-annotations": true
        }
    });
    if options.direct_access {
        plugin["policy"] = json!({ "directAccess": true });
    }
    let mut alone = plugin.clone();
    alone["name"] = options.places.name.clone().into();
    Call::parse(alone.to_string().as_bytes())
        .and_then(|call| call.definition())
        .map_err(|e| InstallError::Network(e.to_string()))?;
    let list = json!({
        "cniVersion": options.cni_version,
        "cniVersions": LISTED,
        "name": options.places.name,
        "plugins": [plugin]
    });
    Ok(format!("{list:#}\n"))
}

/// A link to our plugin.
fn is_our_link(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|to| name(&to) == PLUGIN)
}

/// Why what is at the place of a link is not ours; nothing if it is, or there is nothing.
fn is_foreign_link(path: &Path) -> Option<String> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        _ if is_our_link(path) => None,
        Ok(found) if found.is_symlink() => Some("a link to something else".to_owned()),
        Ok(_) => Some("no link to quantum-cni".to_owned()),
        Err(e) => Some(e.to_string()),
    }
}

fn is_our_conflist(path: &Path) -> bool {
    types_in(path).iter().any(|found| found == TYPE)
}

/// The plugins that a file names.
fn types_in(path: &Path) -> Vec<String> {
    let text = fs::read(path).unwrap_or_default();
    let list: Value = serde_json::from_slice(&text).unwrap_or_default();
    let plugins = list["plugins"].as_array().cloned().unwrap_or_else(|| vec![list.clone()]);
    plugins.iter().filter_map(|p| p["type"].as_str().map(str::to_owned)).collect()
}

/// A file by which a runtime would call one of these plugins.
fn who_names(conf_dir: &Path, names: &[String]) -> Option<PathBuf> {
    let entries = fs::read_dir(conf_dir).ok()?;
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.sort();
    let is_conf = |file: &PathBuf| {
        let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
        matches!(extension, "conf" | "conflist" | "json")
    };
    files.into_iter().filter(is_conf).find(|file| types_in(file).iter().any(|t| names.contains(t)))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
