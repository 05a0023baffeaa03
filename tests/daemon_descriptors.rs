//! The descriptors of the daemon: it takes as many as it may have, serves no more calls at a time than it has
//! descriptors for, and says so if those are few.

use nix::libc;
use serde_json::{Value, json};

use crate::daemon_status::quantumctl;
use crate::network_burst::together;
use crate::support::conf::{example, network};
use crate::support::daemon::{Daemon, Options, command};
use crate::support::eventually::eventually;
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::wire::Client;
use crate::support::world::World;

/// A daemon that is started with these limits.
fn limited(world: &World, soft: u64, hard: u64) -> Daemon {
    let daemon = command(&world.host, world.paths(), &Options::default().args);
    let mut shell = world.host.command("sh");
    shell.args(["-c", "ulimit -Sn $1; ulimit -Hn $2; shift 2; exec \"$@\"", "sh"]);
    shell.args([soft.to_string(), hard.to_string()]);
    shell.arg(daemon.get_program()).args(daemon.get_args());
    let mut daemon = Daemon::spawn(shell, &world.host, world.paths());
    daemon.wait_ready();
    daemon
}

#[test]
fn it_takes_as_many_as_it_may_have() {
    let world = world!();
    let daemon = limited(&world, 64, 7000);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid()));
    let limits = limits.expect("its limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    assert_eq!(line.split_whitespace().nth(3), Some("7000"), "{line}");
    let (status, page) = daemon.get("/readyz");
    let page: Value = serde_json::from_str(&page).expect("json");
    assert_eq!((status, &page["warnings"]), (200, &json!([])));
}

#[test]
fn where_they_are_few_it_says_so_and_calls_wait_instead_of_failing() {
    let world = world!();
    let daemon = limited(&world, 64, 256);
    let (status, page) = daemon.get("/readyz");
    assert_eq!(status, 200, "it is no reason not to serve: {page}");
    assert!(page.contains("256 files open") && page.contains("LimitNOFILE"), "{page}");
    let shown = quantumctl(&world, "status");
    assert!(shown.status.success());
    let shown = String::from_utf8(shown.stdout).expect("UTF-8");
    assert!(shown.contains("warning: the daemon may have 256 files open"), "{shown}");

    let conf = network("few", "few0", "10.94.0.0/24");
    let containers: Vec<Netns> = (0..100).map(|_| world.container()).collect();
    for make in [Call::add, Call::del] {
        let each = containers.iter().enumerate();
        let calls = each.map(|(n, c)| make(&format!("c{n}"), c).conf(&conf)).collect();
        for outcome in together(&world, calls) {
            outcome.succeeded();
        }
    }
}

/// Lets a process have these descriptors, and no others than it has.
fn limit(daemon: &Daemon, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: 4096 };
    let none = std::ptr::null_mut();
    // SAFETY: the new limit lives until the call returns, and the old one is not asked for.
    let done = unsafe {
        libc::prlimit(daemon.pid().as_raw(), libc::RLIMIT_NOFILE, &raw const limit, none)
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_call_whose_descriptors_cannot_be_taken_is_told_why() {
    let world = world!();
    let daemon = limited(&world, 64, 4096);
    let container = world.container();
    let open = || -> Vec<u64> {
        let names = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("its files");
        names.filter_map(|name| name.ok()?.file_name().to_str()?.parse().ok()).collect()
    };
    let before = open().len();
    let mut client = Client::connect(&world.paths().socket).expect("connected");
    eventually("the connection to be accepted", || (open().len() > before).then_some(()));
    let has = open();
    let first_free = (0..).find(|number| !has.contains(number)).expect("a number");
    limit(&daemon, first_free);
    let add = Call::add("c1", &container).conf(&example());
    client.call(&add, &world.host, Some(&container));
    let reply = client.reply();
    let error: Value = serde_json::from_str(&reply.stdout).expect("an error");
    assert_eq!((reply.exit, &error["code"]), (1, &json!(11)));
    assert!(reply.stdout.contains("too many open files"), "{}", reply.stdout);
    limit(&daemon, 4096);
    world.call(add).succeeded();
}

#[test]
fn the_unit_has_enough() {
    let unit = std::fs::read_to_string(crate::support::unit::path()).expect("the unit");
    let limit = unit.lines().find_map(|line| line.strip_prefix("LimitNOFILE="));
    let limit: u64 = limit.expect("a limit").parse().expect("a number");
    assert_eq!(quantum_cni::places::Places::within(limit), quantum_cni::places::PROMISED);
}
