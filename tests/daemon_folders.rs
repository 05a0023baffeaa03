//! The daemon's folders and files: what others can write to is not used, and what the daemon makes is its own,
//! whatever the umask is and whatever lies in the way.

use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;

use nix::sys::stat::{Mode, umask};
use serde_json::json;

use crate::support::conf::example;
use crate::support::ctl::told;
use crate::support::daemon::{self, Daemon, Options, log};
use crate::support::plugin::Call;
use crate::support::skip;
use crate::support::user::{USER, can_be_played, set_mode};
use crate::support::world::names_in;

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{path:?}: {e}")).mode() & 0o7777
}

#[test]
fn a_folder_that_others_can_write_to_keeps_the_daemon_from_starting() {
    let world = world!();
    let folder = world.paths().root.join("open");
    for (flag, below, named) in [
        ("--state-dir", "", "state_dir"),
        ("--spool-dir", "", "spool_dir"),
        ("--socket-path", "/cni.sock", "socket_path"),
        ("--docker-socket", "/quantum.sock", "docker_socket"),
    ] {
        std::fs::create_dir(&folder).expect("a folder");
        let refused = || {
            let options = Options::default().args(&format!("{flag} {}{below}", folder.display()));
            let mut daemon = Daemon::start(&world.host, world.paths(), options);
            assert_eq!(daemon.wait().code(), Some(1), "{flag}");
            let said = std::fs::read_to_string(&world.paths().log).expect("its log");
            std::fs::remove_file(&world.paths().log).expect("the log");
            assert_eq!(names_in(&folder), Vec::<String>::new(), "{flag}: nothing was put there");
            said
        };
        set_mode(&folder, 0o777);
        let said = refused();
        assert!(said.contains(named) && said.contains("mode 0777"), "{said}");
        if can_be_played() {
            set_mode(&folder, 0o755);
            chown(&folder, Some(USER), None).expect("given away");
            let said = refused();
            assert!(said.contains(named) && said.contains("user 65534"), "{said}");
        }
        std::fs::remove_dir(&folder).expect("empty");
    }
}

#[test]
fn of_a_folder_of_configuration_it_warns() {
    let world = world!();
    set_mode(&world.paths().config_dir, 0o777);
    let daemon = world.daemon();
    assert!(daemon.terminate().success());
    let config_dir = world.paths().config_dir.display().to_string();
    let warned = log(world.paths()).iter().any(|record| {
        let error = record["error"].as_str().unwrap_or_default();
        record["level"] == "warning" && error.contains("config_dir") && error.contains(&config_dir)
    });
    assert!(warned, "{:?}", log(world.paths()));
}

#[test]
fn what_it_makes_is_its_own_whatever_the_umask_is() {
    for mask in [0, 0o777] {
        let world = world!();
        let run = world.paths().root.join("run/quantum");
        let mut paths = world.paths().clone();
        paths.socket = run.join("cni.sock");
        let mut command = daemon::command(&world.host, &paths, &[]);
        // SAFETY: one system call; nothing is allocated after the fork.
        unsafe {
            command.pre_exec(move || {
                umask(Mode::from_bits_truncate(mask));
                Ok(())
            });
        }
        let mut daemon = Daemon::spawn(command, &world.host, &paths);
        daemon.wait_ready();
        let state = &paths.state_dir;
        for (path, expected) in [
            (run.parent().expect("above").to_owned(), 0o755),
            (run.clone(), 0o755),
            (paths.socket.clone(), 0o600),
            (state.clone(), 0o700),
            (state.join("state.db"), 0o600),
            (state.join("lock"), 0o600),
            (paths.spool_dir.clone(), 0o700),
        ] {
            assert_eq!(mode(&path), expected, "{path:?} with umask {mask:o}");
        }
    }
}

#[test]
fn a_link_in_the_way_is_not_written_through() {
    let world = world!();
    let _daemon = world.daemon();
    let other = world.paths().root.join("other");
    std::fs::write(&other, "as it was").expect("written");
    symlink(&other, world.paths().state_dir.join("policy.json.new")).expect("a link");
    let document = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "a" } });
    told(&world, "policy apply -", &document.to_string());
    assert_eq!(std::fs::read_to_string(&other).expect("there"), "as it was");
    assert_eq!(mode(&world.paths().state_dir.join("policy.json")), 0o600);
}

#[test]
fn a_tombstone_of_somebody_else_is_set_aside() {
    let world = world!();
    if !can_be_played() {
        return skip("another user can only be played by root");
    }
    let daemon = world.daemon();
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
    assert!(daemon.terminate().success());
    world.call(Call::del("c1", &container).conf(&example())).succeeded();
    let [name] = &world.tombstones()[..] else { panic!("one tombstone") };
    let tombstone = world.paths().spool_dir.join(name);
    chown(&tombstone, Some(USER), None).expect("given away");

    let daemon = world.daemon();
    assert!(container.link("eth0").is_some(), "the DEL was not root's");
    let aside = tombstone.with_extension("del.bad");
    assert!(aside.exists() && !tombstone.exists(), "{:?}", names_in(&world.paths().spool_dir));
    assert!(daemon.terminate().success());
    let said = |record: &serde_json::Value| {
        record["error"].as_str().is_some_and(|error| error.contains("user 65534"))
    };
    assert!(log(world.paths()).iter().any(said));

    // It was only for whose it was.
    chown(&aside, Some(0), None).expect("root's");
    std::fs::rename(&aside, &tombstone).expect("back");
    let _daemon = world.daemon();
    assert!(container.link("eth0").is_none());
}
