//! `quantumctl install` and `uninstall`: the plugin, links to it in the places of the reference plugins,
//! and a conflist, put in place and taken away. A runtime may look at any moment, and another program
//! may be in the middle of a call:
//!
//! ```text
//! install     plugin ─► links ─► conflist      (each whole, by renaming: a conflist means that all else is there)
//! uninstall   conflist ─► links ─► plugin      (and a plugin that is still named keeps its place)
//! ```
//!
//! What is not ours is neither replaced nor removed unless that is asked for, and it is known by its content:
//! others add to a conflist of ours ([`conflist`]), and another program may have a file of a name of ours. What
//! is there already as it should be is left alone, so that no runtime is told of a change that is none.

use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use quantum_config::cni::{Call, DROP_INS};
use quantum_config::wire::SOCKET_VARIABLE;
use serde_json::{Value, json};
use structopt::StructOpt;
use thiserror::Error;

use crate::ask::ask;
use crate::conflist::{self, TYPE, There};
use crate::put::{self, PutError};

/// The name of our plugin.
const PLUGIN: &str = "quantum-cni";
/// The versions that a conflist offers. A runtime that knows the list takes the last one that it speaks,
/// any other one takes `cniVersion`.
const LISTED: &[&str] = &["0.4.0", "1.0.0", "1.1.0"];
/// How a program begins (elf(5)).
const ELF: &[u8] = b"\x7fELF";

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
    let plugin = places.plugin();
    let source = source(options.plugin.as_deref())?;
    let content = put::read(&source)?;
    let mut conflist = if options.no_conf { None } else { Some(list(options)?) };
    let links: Vec<PathBuf> = match options.drop_in {
        true => DROP_INS.iter().map(|(name, _)| places.bin_dir.join(name)).collect(),
        false => Vec::new(),
    };
    // All is looked at before anything is changed.
    if !options.force {
        let mut programs = links.iter().chain([&plugin]);
        let foreign = programs.find_map(|path| is_foreign(path).map(|why| (path, why)));
        if let Some((path, why)) = foreign {
            return Err(InstallError::Foreign { path: path.clone(), why });
        }
    }
    let mut changes = Vec::new();
    if let Some(new) = &mut conflist {
        let path = places.conflist();
        match there(&path) {
            None => {}
            Some(There::Ours(list)) => (*new, changes) = conflist::updated(&list, new),
            Some(There::Foreign(_)) if options.force => {}
            Some(There::Foreign(why)) => return Err(InstallError::Foreign { path, why }),
        }
    }
    let mut told = String::new();
    put::folder(&places.bin_dir)?;
    let changed = put::file(&plugin, &content, 0o755)?;
    tell(&mut told, &plugin, changed);
    for link in &links {
        tell(&mut told, link, put::link(link, Path::new(PLUGIN))?);
    }
    if let Some(list) = conflist {
        put::folder(&places.conf_dir)?;
        let changed = write(&places.conflist(), &list)?;
        tell(&mut told, &places.conflist(), changed);
        if !changes.is_empty() {
            let _ = writeln!(told, "changed in it: {}", changes.join(", "));
        }
    }
    Ok((told, ExitCode::SUCCESS))
}

/// Takes everything away.
pub(crate) fn uninstall(options: &Uninstall) -> Result<(String, ExitCode), InstallError> {
    let places = &options.places;
    let mut told = String::new();
    let conflist = places.conflist();
    if let Some(There::Ours(list)) = there(&conflist) {
        if let Some((left, types)) = conflist::without_ours(&list) {
            write(&conflist, &left)?;
            let path = conflist.display();
            let _ = writeln!(told, "changed    {path}: {} stays in it", types.join(", "));
        } else {
            put::remove(&conflist)?;
            let _ = writeln!(told, "removed    {}", conflist.display());
        }
    }
    let is_there = |path: &PathBuf| path.symlink_metadata().is_ok() && is_foreign(path).is_none();
    let links = DROP_INS.iter().map(|(name, _)| places.bin_dir.join(name));
    let links: Vec<PathBuf> = links.filter(is_there).collect();
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
    // The links first: they would be foreign without the plugin.
    for path in links.into_iter().chain(Some(places.plugin()).filter(is_there)) {
        put::remove(&path)?;
        let _ = writeln!(told, "removed    {}", path.display());
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
fn list(options: &Install) -> Result<Value, InstallError> {
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
    Ok(json!({
        "cniVersion": options.cni_version,
        "cniVersions": LISTED,
        "name": options.places.name,
        "plugins": [plugin]
    }))
}

/// What is at the place of the conflist, if anything is.
fn there(path: &Path) -> Option<There> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        _ => Some(match put::read(path) {
            Ok(text) => conflist::read(&text),
            Err(error) => There::Foreign(error.to_string()),
        }),
    }
}

/// Writes the conflist, unless it says that already. What it is a link to is what is written, with the mode
/// that it has.
fn write(path: &Path, list: &Value) -> Result<bool, InstallError> {
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mode = place.metadata().map_or(0o644, |found| found.permissions().mode() & 0o7777);
    let says_it =
        |text: Vec<u8>| serde_json::from_slice(&text).is_ok_and(|there: Value| there == *list);
    if fs::read(&place).is_ok_and(says_it) {
        return Ok(false);
    }
    Ok(put::file(&place, format!("{list:#}\n").as_bytes(), mode)?)
}

/// Why what is at the place of a program is not ours; nothing if it is, or there is nothing. What is in it
/// counts, and of a link what it leads to; one that leads to the place of our plugin is ours without it, too.
fn is_foreign(path: &Path) -> Option<String> {
    let found = match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        found => found.ok(),
    };
    let is_link = found.is_some_and(|found| found.is_symlink());
    match fs::read(path) {
        Ok(content) if is_our_plugin(&content) => None,
        Ok(_) if is_link => Some("a link to another program".to_owned()),
        Ok(_) => Some("another program".to_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let leads_to = fs::read_link(path).unwrap_or_default();
            (leads_to != Path::new(PLUGIN)).then(|| format!("a link to {}", leads_to.display()))
        }
        Err(e) => Some(e.to_string()),
    }
}

/// A program that knows our daemon's socket by the name of its variable, as our plugin of any release does.
fn is_our_plugin(content: &[u8]) -> bool {
    let mark = SOCKET_VARIABLE.as_bytes();
    content.starts_with(ELF) && content.windows(mark.len()).any(|bytes| bytes == mark)
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
    files.into_iter().filter(is_conf).find(|file| {
        let types = fs::read(file).map(|text| conflist::types(&text)).unwrap_or_default();
        types.iter().any(|found| names.contains(found))
    })
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
