//! Who may ask what: root everything, the members of `reader_group` what changes nothing, others nothing;
//! and that the log says who asked.

use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::binaries;
use crate::support::conf::{at, example, with};
use crate::support::ctl::told;
use crate::support::daemon::{Daemon, Options, log};
use crate::support::docker::Dockerd;
use crate::support::eventually::eventually;
use crate::support::inventory::Inventory;
use crate::support::plugin::{Call, feed};
use crate::support::skip;
use crate::support::user::{USER, be_user, can_be_played, for_all, open_to_all};
use crate::support::world::World;

/// A group by its number: the host need not have it.
const READERS: u32 = 4711;

/// The policy that is tried.
fn policy() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": "tried", "namespace": "default" },
        "spec": { "podSelector": {}, "policyTypes": ["Ingress"] },
    })
}

/// The user, in these groups.
struct Somebody<'a> {
    world: &'a World,
    groups: &'a [u32],
    plugin: std::path::PathBuf,
    quantumctl: std::path::PathBuf,
}

impl<'a> Somebody<'a> {
    fn new(world: &'a World, groups: &'a [u32]) -> Self {
        open_to_all(world);
        let plugin = for_all(world, binaries::plugin());
        let quantumctl = for_all(world, binaries::quantumctl());
        Self { world, groups, plugin, quantumctl }
    }

    fn calls(&self, call: Call) -> crate::support::plugin::Outcome {
        let mut command = self.world.host.command(&self.plugin);
        command.env_clear();
        command.env(quantum_config::wire::SOCKET_VARIABLE, &self.world.paths().socket);
        command.env(quantum_config::spool::DIR_VARIABLE, &self.world.paths().spool_dir);
        be_user(&mut command, self.groups);
        call.run(command)
    }

    fn asks(&self, args: &str, stdin: &str) -> Output {
        let mut command = Command::new(&self.quantumctl);
        command.args(args.split_whitespace());
        command.env(quantum_config::wire::SOCKET_VARIABLE, &self.world.paths().socket);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        be_user(&mut command, self.groups);
        let mut child = command.spawn().expect("quantumctl");
        feed(child.stdin.take(), stdin.as_bytes());
        child.wait_with_output().expect("quantumctl")
    }
}

/// The last record that has these members.
fn record(world: &World, members: &Value) -> Option<Value> {
    let wanted = members.as_object().expect("an object");
    let has = |record: &&Value| wanted.iter().all(|(key, value)| record[key] == *value);
    log(world.paths()).iter().rev().find(has).cloned()
}

#[test]
fn without_a_group_the_socket_is_roots_alone() {
    let world = world!();
    let _daemon = world.daemon();
    let socket = std::fs::metadata(&world.paths().socket).expect("the socket");
    assert_eq!(socket.mode() & 0o7777, 0o600);
    assert_eq!((socket.uid(), socket.gid()), (0, 0));
}

#[test]
fn a_group_may_read_and_root_alone_changes() {
    let world = world!();
    if !can_be_played() {
        return skip("another user can only be played by root");
    }
    let _daemon = world.daemon_with(Options::default().args("--reader-group 4711"));
    let socket = std::fs::metadata(&world.paths().socket).expect("the socket");
    assert_eq!((socket.mode() & 0o7777, socket.uid(), socket.gid()), (0o660, 0, READERS));

    let conf = at(&example(), "1.1.0");
    let pod = with(&conf, json!({ "args": { "cni": {} } }));
    let (own, other) = (world.container(), world.container());
    let result = world.call(Call::add("c1", &own).conf(&pod)).succeeded();
    let address = crate::spec_add::address(&result);
    let before = Inventory::of(&world.host);

    let reader = Somebody::new(&world, &[READERS]);
    for question in [
        "status".to_owned(),
        "policy show".to_owned(),
        "policy matrix".to_owned(),
        "policy denied".to_owned(),
        format!("policy explain {address} host tcp/80"),
    ] {
        let output = reader.asks(&question, "");
        assert!(output.status.success(), "{question}: {output:?}");
    }
    let simulated = reader.asks("policy simulate -", &policy().to_string());
    assert!(simulated.status.success(), "{simulated:?}");
    reader.calls(Call::new("STATUS").conf(&conf)).succeeded();

    let check = Call::check("c1", &own).conf(&with(&conf, json!({ "prevResult": result })));
    let gc = with(&conf, json!({ "cni.dev/valid-attachments": [] }));
    let changes = [
        ("ADD", Call::add("c2", &other).conf(&conf)),
        ("DEL", Call::del("c1", &own).conf(&conf)),
        ("CHECK", check),
        ("GC", Call::new("GC").conf(&gc)),
    ];
    for (verb, call) in changes {
        let said = reader.calls(call).failed_with(102);
        for part in [verb, "user 65534", "pid ", "run it as root"] {
            assert!(said.contains(part), "{verb}: {said}");
        }
        let refused = json!({ "msg": "refused", "request": verb, "uid": USER });
        let refused = eventually("the refusal's record", || record(&world, &refused));
        assert!(refused["pid"].as_u64().is_some_and(|pid| pid > 1), "{refused}");
    }
    let document = policy().to_string();
    let label = format!("policy label {address} app=web");
    for (question, stdin) in [
        ("policy apply -", document.as_str()),
        ("policy delete NetworkPolicy tried", ""),
        (label.as_str(), ""),
    ] {
        let output = reader.asks(question, stdin);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{question}: {output:?}");
        assert!(said.contains("user 65534") && said.contains("run it as root"), "{said}");
    }
    assert!(own.link("eth0").is_some() && other.link("eth0").is_none());
    before.assert_same(&Inventory::of(&world.host), "the host after refused changes");
    assert!(!told(&world, "policy show", "").contains("tried"), "nothing was applied");

    // However often they ask, the log does not grow with it.
    for _ in 0..30 {
        reader.asks("policy delete NetworkPolicy tried", "");
    }
    let logged = log(world.paths()).iter().filter(|r| r["msg"] == "refused").count();
    assert!(logged <= 20, "{logged} refusals were logged within a minute or two");

    let stranger = Somebody::new(&world, &[READERS + 1]);
    stranger.calls(Call::new("STATUS").conf(&conf)).failed_with(102);
    let output = stranger.asks("status", "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("reader_group"), "{output:?}");
}

#[test]
fn every_change_is_logged_with_who_made_it() {
    let world = world!();
    let _daemon = world.daemon_with(Options::default().args("--log-level info"));
    let container = world.container();
    let conf = at(&example(), "1.1.0");
    let address =
        crate::spec_add::address(&world.call(Call::add("c1", &container).conf(&conf)).succeeded());
    told(&world, "policy apply -", &policy().to_string());
    told(&world, &format!("policy label {address} app=web"), "");
    told(&world, "policy delete NetworkPolicy tried", "");
    let gc = with(&conf, json!({ "cni.dev/valid-attachments": [] }));
    world.call(Call::new("GC").conf(&gc)).succeeded();
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    let document = "NetworkPolicy default/tried";
    for (members, named) in [
        (json!({ "msg": "done", "command": "ADD" }), ""),
        (json!({ "msg": "done", "command": "DEL" }), ""),
        (json!({ "msg": "done", "command": "GC" }), ""),
        (json!({ "msg": "changed policy", "request": "policy.apply" }), document),
        (json!({ "msg": "changed policy", "request": "policy.label" }), "app=web"),
        (json!({ "msg": "changed policy", "request": "policy.delete" }), document),
    ] {
        let record = eventually("the change's record", || record(&world, &members));
        assert_eq!(record["uid"], 0, "{record}");
        assert!(record["pid"].as_u64().is_some_and(|pid| pid > 1), "{record}");
        assert!(record.to_string().contains(named), "{record}");
    }
}

#[test]
fn what_is_done_for_docker_is_logged_with_who_asked() {
    let world = world!();
    let (_daemon, dockerd) = Dockerd::start(&world);
    let id = dockerd.create_network('a', 90, json!({}));
    let members = json!({ "msg": "done for Docker", "method": "NetworkDriver.CreateNetwork" });
    let record = eventually("the call's record", || record(&world, &members));
    assert_eq!(
        (&record["uid"], record["pid"].as_u64()),
        (&json!(0), Some(u64::from(std::process::id())))
    );
    assert!(record["of"].as_str().is_some_and(|of| of.contains(&id)), "{record}");
}

#[test]
fn a_group_that_is_not_there_is_named() {
    let world = world!();
    let options = Options::default().args("--reader-group nobodys-group");
    let mut daemon = Daemon::start(&world.host, world.paths(), options);
    assert_eq!(daemon.wait().code(), Some(1));
    let said = std::fs::read_to_string(&world.paths().log).expect("its log");
    assert!(said.contains("reader_group") && said.contains("nobodys-group"), "{said}");
}
