//! `quantumctl install` and `uninstall` where others work in the same folders: a mesh that adds its plugin to our
//! conflist, an operator who adds a key, another program with a name of ours.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::dropin_install::{Host, identity, refused, well};
use crate::support::world::names_in;

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a conflist")).expect("JSON")
}

/// What linkerd's installer does: it appends its plugin, and writes the list as it likes.
fn with_mesh(host: &Host) -> Value {
    let mut list = read(&host.conflist());
    let mesh = json!({ "type": "linkerd-cni", "log_level": "info", "policy": { "x": [1, null] } });
    list["plugins"].as_array_mut().expect("plugins").push(mesh.clone());
    list["disableCheck"] = true.into();
    fs::write(host.conflist(), list.to_string()).expect("written");
    mesh
}

#[test]
fn what_others_added_to_the_conflist_survives_an_upgrade_and_an_uninstall() {
    let host = Host::new();
    well(&host.install(&[]));
    let before = read(&host.conflist());
    let mesh = with_mesh(&host);
    // A DaemonSet whose pod is started again.
    let file = identity(&host.conflist());
    let told = well(&host.install(&[]));
    assert!(told.contains("unchanged") && !told.contains("installed"), "{told}");
    assert_eq!(identity(&host.conflist()), file, "not even written");
    // An upgrade that says something else.
    let told = well(&host.install(&["--subnet", "10.9.0.0/24", "--cni-version", "0.4.0"]));
    assert!(told.contains("changed in it: cniVersion, ipam"), "{told}");
    let after = read(&host.conflist());
    assert_eq!(after["plugins"][1], mesh);
    assert_eq!((&after["disableCheck"], &after["cniVersion"]), (&json!(true), &json!("0.4.0")));
    assert_eq!(after["plugins"][0]["ipam"]["ranges"], json!([[{ "subnet": "10.9.0.0/24" }]]));
    assert_eq!(after["plugins"][0]["bridge"], before["plugins"][0]["bridge"]);

    let told = well(&host.run("uninstall", &[]));
    assert!(told.contains("linkerd-cni stays in it"), "{told}");
    let left = read(&host.conflist());
    assert_eq!((&left["plugins"], &left["disableCheck"]), (&json!([mesh]), &json!(true)));
    assert!(names_in(&host.bin()).is_empty());
    assert!(well(&host.run("uninstall", &[])).contains("nothing of ours"), "theirs stays");
    // Without ours it is no file of ours any more.
    let said = refused(&host.install(&[]));
    assert!(said.contains("no plugin of it is quantum-cni") && said.contains("--force"), "{said}");
}

#[test]
fn a_key_that_an_operator_added_stays() {
    let host = Host::new();
    well(&host.install(&["--direct-access"]));
    let mut list = read(&host.conflist());
    list["plugins"][0]["mtu"] = 1400.into();
    list["plugins"][0]["policy"]["posture"] = "isolated".into();
    list["plugins"][0]["ipMasq"] = false.into();
    fs::write(host.conflist(), list.to_string()).expect("written");
    fs::set_permissions(host.conflist(), fs::Permissions::from_mode(0o600)).expect("a mode");
    let told = well(&host.install(&[]));
    assert!(told.contains("changed in it: ipMasq, policy"), "{told}");
    let own = read(&host.conflist())["plugins"][0].clone();
    assert_eq!((&own["mtu"], &own["ipMasq"]), (&json!(1400), &json!(true)));
    assert_eq!(own["policy"], json!({ "posture": "isolated" }));
    let mode = fs::metadata(host.conflist()).expect("a file").permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
}

#[test]
fn a_conflist_that_is_kept_elsewhere_is_written_there() {
    let host = Host::new();
    fs::create_dir_all(host.conf()).expect("a folder");
    let elsewhere = host.conf().join("../ours.json");
    fs::write(&elsewhere, r#"{"plugins":[{"type":"quantum-cni"}]}"#).expect("a file");
    symlink("../ours.json", host.conflist()).expect("a link");
    well(&host.install(&[]));
    assert!(fs::read_link(host.conflist()).is_ok());
    assert_eq!(read(&elsewhere)["name"], "quantum");
    fs::remove_file(&elsewhere).expect("removed");
    assert!(refused(&host.install(&[])).contains("10-quantum.conflist"), "a link to nothing");
    well(&host.install(&["--force"]));
    assert_eq!(read(&host.conflist())["name"], "quantum");
}

#[test]
fn a_program_with_a_name_of_ours_is_known_by_its_content() {
    let host = Host::new();
    let bin = host.bin();
    fs::create_dir_all(&bin).expect("a folder");
    // Not our plugin, whatever it is called, and a link to it neither.
    fs::write(bin.join("quantum-cni"), "#!/bin/sh\necho QUANTUM_CNI_SOCKET\n").expect("a file");
    let said = refused(&host.install(&[]));
    assert!(said.contains("another program") && said.contains("--force"), "{said}");
    symlink("quantum-cni", bin.join("bridge")).expect("a link");
    well(&host.run("uninstall", &[]));
    assert_eq!(names_in(&bin), ["bridge", "quantum-cni"]);
    well(&host.install(&["--drop-in", "--force"]));
    // A copy of ours is ours, and so is a link that leads to it by another path.
    for name in ["bridge", "portmap"] {
        fs::remove_file(bin.join(name)).expect("removed");
    }
    fs::copy(bin.join("quantum-cni"), bin.join("bridge")).expect("a copy");
    symlink(bin.join("quantum-cni"), bin.join("portmap")).expect("a link");
    well(&host.install(&["--drop-in"]));
    for name in ["bridge", "portmap"] {
        assert_eq!(fs::read_link(bin.join(name)).expect("a link"), Path::new("quantum-cni"));
    }
    // Somebody else takes a place meanwhile.
    fs::remove_file(bin.join("tuning")).expect("removed");
    symlink("/bin/true", bin.join("tuning")).expect("a link");
    let said = refused(&host.install(&["--drop-in"]));
    assert!(said.contains("tuning") && said.contains("another program"), "{said}");
    well(&host.run("uninstall", &[]));
    assert_eq!(names_in(&bin), ["tuning"]);
}
