//! `quantumctl install` and `uninstall`, in folders of their own: what is in place afterwards, that
//! doing it twice changes nothing, and that what is not ours stays.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::binaries;
use crate::support::plugin::Call;
use crate::support::world::names_in;

const NAMES: [&str; 8] =
    ["bandwidth", "bridge", "firewall", "host-local", "loopback", "portmap", "ptp", "tuning"];

struct Host {
    dir: TempDir,
}

impl Host {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    fn bin(&self) -> std::path::PathBuf {
        self.dir.path().join("opt/bin")
    }

    fn conf(&self) -> std::path::PathBuf {
        self.dir.path().join("etc/net.d")
    }

    fn conflist(&self) -> std::path::PathBuf {
        self.conf().join("10-quantum.conflist")
    }

    fn run(&self, verb: &str, more: &[&str]) -> Output {
        let mut command = Command::new(binaries::quantumctl());
        command.arg(verb).arg("--bin-dir").arg(self.bin()).arg("--conf-dir").arg(self.conf());
        // Nobody is there, whatever runs on this machine.
        command.env("QUANTUM_CNI_SOCKET", self.dir.path().join("none.sock"));
        command.args(more).output().expect("quantumctl")
    }

    fn install(&self, more: &[&str]) -> Output {
        let plugin = binaries::plugin();
        let plugin = ["--plugin", plugin.to_str().expect("UTF-8")];
        self.run("install", &[&plugin[..], more].concat())
    }
}

#[track_caller]
fn well(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// Which file it is, and when it was changed.
fn identity(path: &Path) -> (u64, i64, i64) {
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
    assert!(refused(&host.install(&["--bridge", "much-too-long-a-name"])).contains("bridge"));
    assert!(names_in(&host.bin()).is_empty() && names_in(&host.conf()).is_empty());
    let said = refused(&host.run("install", &["--plugin", "/nowhere/quantum-cni"]));
    assert!(said.contains("/nowhere/quantum-cni"), "{said}");
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
