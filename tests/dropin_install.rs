//! `quantumctl install` and `uninstall`, in folders of their own: what is in place afterwards, that
//! doing it twice changes nothing, and that what is not ours stays.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::network_ports::addresses;
use crate::support::binaries;
use crate::support::conf::with;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, SILENCE, udp_answers};
use crate::support::world::{HOST, names_in};

const NAMES: [&str; 8] =
    ["bandwidth", "bridge", "firewall", "host-local", "loopback", "portmap", "ptp", "tuning"];

pub(crate) struct Host {
    dir: TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn bin(&self) -> std::path::PathBuf {
        self.dir.path().join("opt/bin")
    }

    pub(crate) fn conf(&self) -> std::path::PathBuf {
        self.dir.path().join("etc/net.d")
    }

    pub(crate) fn conflist(&self) -> std::path::PathBuf {
        self.conf().join("10-quantum.conflist")
    }

    pub(crate) fn run(&self, verb: &str, more: &[&str]) -> Output {
        let mut command = Command::new(binaries::quantumctl());
        command.arg(verb).arg("--bin-dir").arg(self.bin()).arg("--conf-dir").arg(self.conf());
        // Nobody is there, whatever runs on this machine.
        command.env("QUANTUM_CNI_SOCKET", self.dir.path().join("none.sock"));
        command.args(more).output().expect("quantumctl")
    }

    pub(crate) fn install(&self, more: &[&str]) -> Output {
        let plugin = binaries::plugin();
        let plugin = ["--plugin", plugin.to_str().expect("UTF-8")];
        self.run("install", &[&plugin[..], more].concat())
    }
}

#[track_caller]
pub(crate) fn well(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[track_caller]
pub(crate) fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// Which file it is, and when it was changed.
pub(crate) fn identity(path: &Path) -> (u64, i64, i64) {
    let found = path.symlink_metadata().expect("a file");
    (found.ino(), found.mtime(), found.mtime_nsec())
}

#[test]
fn all_is_in_its_place_and_twice_is_as_once() {
    let host = Host::new();
    let told = well(&host.install(&["--drop-in"]));
    let places: Vec<&str> =
        told.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert!(places[0].ends_with("/quantum-cni") && places[9].ends_with(".conflist"), "{told}");
    let mut expected: Vec<String> = NAMES.map(str::to_owned).to_vec();
    expected.push("quantum-cni".to_owned());
    expected.sort();
    assert_eq!(names_in(&host.bin()), expected, "and nothing unfinished");
    let plugin = host.bin().join("quantum-cni");
    assert_eq!(fs::metadata(&plugin).expect("a file").permissions().mode() & 0o7777, 0o755);
    for name in NAMES {
        assert_eq!(fs::read_link(host.bin().join(name)).expect("a link"), Path::new("quantum-cni"));
        // The link is a plugin.
        let version = Call::new("VERSION").run(Command::new(host.bin().join(name))).succeeded();
        assert!(version["supportedVersions"].is_array(), "{name}");
    }
    let list: Value =
        serde_json::from_slice(&fs::read(host.conflist()).expect("a conflist")).expect("JSON");
    assert_eq!((&list["name"], &list["cniVersion"]), (&"quantum".into(), &"1.0.0".into()));
    assert_eq!(list["plugins"][0]["type"], "quantum-cni");
    // A kubelet with dockershim reads no cniVersions and no result of 1.0.0.
    well(&host.install(&["--cni-version", "0.4.0"]));
    let older: Value =
        serde_json::from_slice(&fs::read(host.conflist()).expect("a conflist")).expect("JSON");
    assert_eq!(
        (&older["cniVersion"], &older["cniVersions"]),
        (&"0.4.0".into(), &list["cniVersions"])
    );
    let unknown = host.install(&["--cni-version", "0.9.0"]);
    assert!(!unknown.status.success(), "{unknown:?}");
    well(&host.install(&[]));

    let files: Vec<_> =
        expected.iter().map(|name| host.bin().join(name)).chain([host.conflist()]).collect();
    let before: Vec<_> = files.iter().map(|file| identity(file)).collect();
    let told = well(&host.install(&["--drop-in"]));
    assert!(!told.contains("installed "), "{told}");
    assert_eq!(before, files.iter().map(|file| identity(file)).collect::<Vec<_>>());

    well(&host.run("uninstall", &[]));
    assert!(names_in(&host.bin()).is_empty() && names_in(&host.conf()).is_empty());
    assert!(well(&host.run("uninstall", &[])).contains("nothing of ours"));
}

#[test]
fn another_plugin_or_conflist_stays_unless_it_is_to_go() {
    let host = Host::new();
    fs::create_dir_all(host.bin()).expect("a folder");
    fs::create_dir_all(host.conf()).expect("a folder");
    fs::write(host.bin().join("portmap"), "theirs").expect("a file");
    let said = refused(&host.install(&["--drop-in"]));
    assert!(said.contains("portmap") && said.contains("--force"), "{said}");
    assert_eq!(names_in(&host.bin()), ["portmap"], "nothing was changed");
    well(&host.install(&["--no-conf"]));
    assert!(names_in(&host.conf()).is_empty());
    well(&host.run("uninstall", &[]));
    assert_eq!(fs::read(host.bin().join("portmap")).expect("theirs"), b"theirs");

    fs::write(host.conflist(), r#"{"plugins":[{"type":"macvlan"}]}"#).expect("a file");
    assert!(refused(&host.install(&[])).contains("10-quantum.conflist"));
    well(&host.run("uninstall", &[]));
    assert_eq!(names_in(&host.conf()).len(), 1, "theirs");

    well(&host.install(&["--drop-in", "--force"]));
    assert!(fs::read_link(host.bin().join("portmap")).is_ok());
}

#[test]
fn the_plugin_stays_while_another_conflist_names_it() {
    let host = Host::new();
    well(&host.install(&["--drop-in"]));
    let other = host.conf().join("tales.conflist");
    fs::write(&other, r#"{"plugins":[{"type":"bridge"},{"type":"portmap"}]}"#).expect("a file");
    let said = refused(&host.run("uninstall", &[]));
    assert!(said.contains("tales.conflist"), "{said}");
    assert!(!host.conflist().exists() && host.bin().join("bridge").exists());
    fs::remove_file(&other).expect("removed");
    well(&host.run("uninstall", &[]));
    assert!(names_in(&host.bin()).is_empty());
}

#[test]
fn a_network_that_cannot_be_is_not_written() {
    let host = Host::new();
    assert!(refused(&host.install(&["--subnet", "10.0.0.1/24"])).contains("10.0.0"));
    for (subnets, reason) in [
        ("10.244.1.0/24,fd00:244:1::1/64", "fd00:244:1::1/64\" has host bits"),
        ("10.244.1.0/24,", "\"\" is not an address with a prefix length"),
        ("", "\"\" is not an address with a prefix length"),
        ("10.244.1.0/24,10.244.0.0/16", "overlap"),
    ] {
        let said = refused(&host.install(&["--subnet", subnets]));
        assert!(said.contains(reason), "{subnets}: {said}");
    }
    let nothing = host.install(&["--subnet"]);
    assert!(!nothing.status.success(), "{nothing:?}");
    assert!(refused(&host.install(&["--bridge", "much-too-long-a-name"])).contains("bridge"));
    assert!(names_in(&host.bin()).is_empty() && names_in(&host.conf()).is_empty());
    let said = refused(&host.run("install", &["--plugin", "/nowhere/quantum-cni"]));
    assert!(said.contains("/nowhere/quantum-cni"), "{said}");
}

/// The one plugin of the conflist that was written.
#[track_caller]
fn written(host: &Host) -> Value {
    let text = fs::read(host.conflist()).expect("a conflist");
    let list: Value = serde_json::from_slice(&text).expect("JSON");
    list["plugins"][0].clone()
}

#[test]
fn a_node_of_a_cluster_is_one_command() {
    let host = Host::new();
    well(&host.install(&[]));
    let usual = written(&host);
    assert_eq!(usual["ipam"]["ranges"], json!([[{ "subnet": "172.20.0.0/16" }]]));
    assert_eq!(usual["ipam"]["routes"], json!([{ "dst": "0.0.0.0/0" }]));
    assert_eq!(usual["capabilities"]["io.kubernetes.cri.pod-annotations"], true);
    assert_eq!(usual.get("policy"), None);

    let both = json!([[{ "subnet": "10.244.1.0/24" }], [{ "subnet": "fd00:244:1::/64" }]]);
    let routes = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
    for subnets in [
        &["--subnet", "10.244.1.0/24,fd00:244:1::/64"][..],
        &["--subnet", "10.244.1.0/24", "--subnet", "fd00:244:1::/64"],
    ] {
        fs::remove_file(host.conflist()).expect("removed");
        well(&host.install(&[subnets, &["--direct-access"]].concat()));
        let plugin = written(&host);
        assert_eq!((&plugin["ipam"]["ranges"], &plugin["ipam"]["routes"]), (&both, &routes));
        assert_eq!(plugin["policy"], json!({ "directAccess": true }));
    }
    well(&host.install(&["--subnet=fd00:244:1::/64"]));
    assert_eq!(written(&host)["ipam"]["routes"], json!([{ "dst": "::/0" }]));
}

#[test]
fn what_other_hosts_send_to_the_containers_of_a_node_arrives() {
    let world = world!();
    let _daemon = world.daemon();
    let (open, usual) = (Host::new(), Host::new());
    let subnets = ["--subnet", "10.133.0.0/24,fd00:133::/64"];
    well(&open.install(&[&subnets[..], &["--direct-access", "--bridge", "open0"]].concat()));
    well(&usual.install(&["--subnet", "10.134.0.0/24"]));
    world.outside.ip(&format!("route add 10.128.0.0/9 via {HOST}"));
    let add = |host: &Host, name: &str| {
        let conf = with(&written(host), json!({ "name": name, "cniVersion": "1.0.0" }));
        let container = world.container();
        let result = world.call(Call::add(name, &container).conf(&conf)).succeeded();
        (container, addresses(&result))
    };
    let (reached, own) = add(&open, "open");
    assert_eq!(own.len(), 2, "of each family one: {own:?}");
    let (apart, other) = add(&usual, "usual");
    let _echoes = [Echo::serve(&reached, &own[0]), Echo::serve(&apart, &other[0])];
    assert!(udp_answers(&world.outside, &own[0], PATIENCE), "from another host");
    assert!(udp_answers(&world.host, &other[0], PATIENCE), "it is there");
    assert!(!udp_answers(&world.outside, &other[0], SILENCE), "without --direct-access");
}

#[test]
fn the_plugin_stays_while_containers_are_attached() {
    let world = world!();
    let _daemon = world.daemon();
    let host = Host::new();
    well(&host.install(&[]));
    let text = fs::read(host.conflist()).expect("a conflist");
    let list: Value = serde_json::from_slice(&text).expect("JSON");
    let mut conf = list["plugins"][0].clone();
    conf["name"] = list["name"].clone();
    conf["cniVersion"] = list["cniVersion"].clone();
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let uninstall = || {
        let mut command = world.host.command(binaries::quantumctl());
        command.args(["uninstall", "--bin-dir"]).arg(host.bin()).arg("--conf-dir").arg(host.conf());
        command.env("QUANTUM_CNI_SOCKET", &world.paths().socket).output().expect("quantumctl")
    };
    assert!(refused(&uninstall()).contains("1 attachment"));
    assert!(!host.conflist().exists() && host.bin().join("quantum-cni").exists());
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    well(&uninstall());
    assert!(names_in(&host.bin()).is_empty());
}
