//! The daemon's settings: defaults, the TOML file, flags that overrule it, and errors that name
//! file, key and reason.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::support::binaries;
use crate::support::conf::example;
use crate::support::daemon::{Daemon, Options, command, without_flags};
use crate::support::eventually::eventually;
use crate::support::plugin::Call;
use crate::support::wire;
use crate::support::world::World;

/// Writes a settings file for this world; the keys that `text` does not set point into the world.
fn settings_file(world: &World, text: &str) -> String {
    let paths = world.paths();
    let mut whole = text.to_owned();
    for (key, path) in [
        ("socket_path", &paths.socket),
        ("config_dir", &paths.config_dir),
        ("state_dir", &paths.state_dir),
        ("spool_dir", &paths.spool_dir),
    ] {
        if !text.contains(key) {
            whole.push_str(&format!("\n{key} = \"{}\"", path.display()));
        }
    }
    let file = paths.root.join("server.toml");
    std::fs::write(&file, whole).expect("a settings file");
    file.to_str().expect("UTF-8").to_owned()
}

/// The daemon with this command line ends at once and says this on stderr.
#[track_caller]
fn refuses(world: &World, args: &[&str]) -> String {
    let mut command = without_flags(&world.host);
    let mut child =
        command.args(args).stderr(std::process::Stdio::piped()).spawn().expect("started");
    let status = eventually("the daemon to refuse", || child.try_wait().expect("its state"));
    let output = child.wait_with_output().expect("its output");
    assert!(!status.success(), "it must not exit with success: {args:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[test]
fn without_file_and_flags_it_has_the_module_documents_defaults() {
    let world = world!();
    let mut command = without_flags(&world.host);
    // The default paths, in a mount namespace that only this daemon sees.
    // SAFETY: system calls only; nothing is allocated after the fork.
    unsafe {
        command.pre_exec(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            for path in ["/run", "/var/lib", "/etc"] {
                let (kind, none) = (Some("tmpfs"), None::<&str>);
                mount(kind, path, kind, MsFlags::empty(), none)?;
            }
            Ok(())
        });
    }
    let mut daemon = Daemon::spawn(command, &world.host, world.paths());
    let inside = format!("/proc/{}/root", daemon.pid());
    let socket = format!("{inside}/run/quantum/cni.sock");
    eventually("the default socket to answer", || {
        assert!(daemon.is_running(), "it ended");
        wire::ready(Path::new(&socket)).then_some(())
    });
    let container = world.container();
    let add = Call::add("c1", &container).conf(&example());
    world.call(add.var(quantum_config::wire::SOCKET_VARIABLE, &socket)).succeeded();
    let state = std::fs::read_dir(format!("{inside}/var/lib/quantum/cni")).expect("the state_dir");
    assert!(state.count() > 0, "the state is in /var/lib/quantum/cni");
    let (status, metrics) = daemon.get("/metrics");
    assert!(status == 200 && metrics.contains("cni_operations_total"), "metrics are enabled");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&socket).expect("the socket").permissions(),
    );
    assert_eq!(mode & 0o007, 0, "the socket is nobody else's: {mode:o}");
}

#[test]
fn the_help_names_every_flag() {
    let Ok(output) = Command::new(binaries::daemon()).arg("--help").output() else { panic!("run") };
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for flag in [
        "--config",
        "--socket-path",
        "--config-dir",
        "--policy-dir",
        "--cache-size",
        "--log-level",
        "--metrics-enabled",
        "--state-dir",
        "--spool-dir",
        "--log-format",
        "--http-listen",
        "--sysctl-allowlist",
        "--non-masquerade-cidrs",
    ] {
        assert!(text.contains(flag), "{flag} is not in the help: {text}");
    }
}

#[test]
fn a_file_gives_settings_and_a_flag_overrules_it() {
    let world = world!();
    let other = world.paths().root.join("other.sock");
    let text = format!("socket_path = \"{}\"\nmetrics_enabled = false", other.display());
    let file = settings_file(&world, &text);
    let start = |args: &[&str]| {
        let mut command = without_flags(&world.host);
        command.args(["--config", &file]).args(args);
        Daemon::spawn(command, &world.host, world.paths())
    };

    let mut daemon = start(&[]);
    eventually("the file's socket to answer", || {
        assert!(daemon.is_running(), "it ended");
        wire::ready(&other).then_some(())
    });
    assert_ne!(daemon.get("/metrics").0, 200, "the file switched metrics off");
    assert_eq!(daemon.get("/healthz").0, 200);
    assert!(daemon.terminate().success());

    let socket = world.paths().socket.to_str().expect("UTF-8").to_owned();
    let mut daemon = start(&["--socket-path", &socket, "--metrics-enabled", "true"]);
    daemon.wait_ready();
    assert!(!wire::ready(&other), "the flag wins over the file");
    assert_eq!(daemon.get("/metrics").0, 200, "the flag wins over the file");
}

#[test]
fn the_log_level_is_the_least_that_is_logged() {
    let world = world!();
    let daemon = world.daemon_with(Options::default().args("--log-level error"));
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&example())).succeeded();
    let levels: Vec<String> = daemon.log().iter().map(|r| r["level"].to_string()).collect();
    assert!(
        levels.iter().all(|l| !l.to_lowercase().contains("info") && !l.contains("DEBG")),
        "{levels:?}"
    );
}

#[test]
fn the_sample_file_is_taken() {
    let world = world!();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/config/samples/server.toml");
    let _daemon = world.daemon_with(Options::default().args(&format!("--config {sample}")));
}

#[test]
fn a_bad_file_is_named_with_key_and_reason() {
    let world = world!();
    for (text, key, reason) in [
        ("colour = 1", "colour", "not a setting"),
        ("cache_size = 0", "cache_size", "number"),
        ("cache_size = -4", "cache_size", "number"),
        ("cache_size = \"many\"", "cache_size", "number"),
        ("log_level = \"loud\"", "log_level", "critical, error, warning, info, debug"),
        ("log_format = \"xml\"", "log_format", "terminal, json"),
        ("metrics_enabled = \"yes\"", "metrics_enabled", "true nor false"),
        ("http_listen = \"9641\"", "http_listen", "port"),
        ("non_masquerade_cidrs = [\"10.0.0.1/8\"]", "non_masquerade_cidrs", "host bits"),
        ("socket_path = \"cni.sock\"", "socket_path", "absolute"),
        ("[section]\nkey = 1", "section", "not a setting"),
    ] {
        let file = settings_file(&world, text);
        let said = refuses(&world, &["--config", &file]);
        for word in [file.as_str(), key, reason] {
            assert!(said.contains(word), "{text:?} should be answered with {word:?}: {said}");
        }
    }
    let file = settings_file(&world, "this is no TOML");
    let said = refuses(&world, &["--config", &file]);
    assert!(said.contains(&file) && said.contains("TOML"), "{said}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let world = world!();
    let gone = world.paths().root.join("gone.toml");
    let folder = world.paths().root.clone();
    for path in [gone.to_str().expect("UTF-8"), folder.to_str().expect("UTF-8")] {
        let said = refuses(&world, &["--config", path]);
        assert!(said.contains(path), "{said}");
        let reasons = ["No such file", "not found", "Is a directory"];
        assert!(reasons.iter().any(|r| said.contains(r)), "the reason is missing: {said}");
    }
    assert!(!world.paths().state_dir.exists(), "nothing was made before the settings were read");
}

#[test]
fn a_bad_flag_is_named() {
    let world = world!();
    for (flag, value, reason) in [
        ("--cache-size", "many", "number"),
        ("--cache-size", "0", "number"),
        ("--log-level", "loud", "critical"),
        ("--metrics-enabled", "perhaps", "true nor false"),
        ("--config-dir", "net.d", "absolute"),
        ("--http-listen", "nowhere", "port"),
        ("--non-masquerade-cidrs", "10.0.0.0/8,fd00::1/64", "block it is in is fd00::/64"),
        ("--non-masquerade-cidrs", "10.0.0.0", "prefix length"),
    ] {
        let said = refuses(&world, &[flag, value]);
        assert!(said.contains(flag) && said.contains(reason), "{flag} {value}: {said}");
    }
    let said = refuses(&world, &["--no-such-flag"]);
    assert!(said.contains("--no-such-flag"), "{said}");
}

#[test]
fn what_it_cannot_use_is_named() {
    let world = world!();
    // A state_dir that is a file.
    std::fs::write(&world.paths().state_dir, "").expect("a file in the way");
    let mut command = command(&world.host, world.paths(), &[]);
    command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("started");
    eventually("the daemon to refuse", || child.try_wait().expect("its state"));
    let output = child.wait_with_output().expect("its output");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains(world.paths().state_dir.to_str().expect("UTF-8")), "{said}");
}
