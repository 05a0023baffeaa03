//! What an operator asks: `quantumctl status`, for people and as JSON.

use std::process::{Command, Output};

use quantum_config::wire::Control;
use serde_json::{Value, json};

use crate::support::binaries;
use crate::support::conf::{at, example, network};
use crate::support::eventually::{BOUND, eventually_within};
use crate::support::plugin::Call;
use crate::support::wire::Client;
use crate::support::world::World;

pub(crate) fn quantumctl(world: &World, args: &str) -> Output {
    let mut command = Command::new(binaries::quantumctl());
    command.args(args.split_whitespace());
    command.env(quantum_config::wire::SOCKET_VARIABLE, &world.paths().socket);
    command.output().expect("quantumctl")
}

fn status(world: &World) -> Value {
    let output = quantumctl(world, "status -o json");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn it_says_what_is_served_and_what_is_not() {
    let world = world!();
    let folder = &world.paths().config_dir;
    let write = |file: &str, text: &str| std::fs::write(folder.join(file), text).expect("written");
    write("10-good.conf", &network("good", "good0", "10.71.0.0/30").to_string());
    write("20-bad.conf", "{");
    let _daemon = world.daemon();
    let before = status(&world).to_string();
    assert!(before.contains("good") && before.contains("10-good.conf"), "{before}");
    assert!(before.contains("20-bad.conf"), "{before}");

    let container = world.container();
    let conf = json!({ "cniVersion": "1.0.0", "name": "good", "type": "quantum-cni" });
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let after = status(&world).to_string();
    assert!(after.contains("10.71.0.0/30"), "the pool that is exhausted: {after}");

    let output = quantumctl(&world, "status");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("good") && text.contains("20-bad.conf"), "{text}");
    assert!(!text.trim_start().starts_with('{'), "for people: {text}");
}

#[test]
fn without_a_daemon_it_says_so_and_fails() {
    let world = world!();
    for args in ["status", "status -o json"] {
        let output = quantumctl(&world, args);
        assert!(!output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        let socket = world.paths().socket.to_str().expect("UTF-8");
        assert!(said.contains(socket), "{said}");
    }
}

#[test]
fn what_it_does_not_know_is_an_error() {
    let world = world!();
    let _daemon = world.daemon();
    for args in ["", "nonsense", "status -o xml", "status --nonsense"] {
        let output = quantumctl(&world, args);
        assert!(!output.status.success(), "{args}: {output:?}");
        assert!(!output.stderr.is_empty(), "{args}: {output:?}");
    }
}

#[test]
fn a_spool_that_cannot_be_read_is_said_until_it_can() {
    let world = world!();
    let _daemon = world.daemon();
    let asked = Call::new("STATUS").conf(&at(&example(), "1.1.0"));
    world.call(asked.clone()).succeeded();
    let (spool, aside) = (&world.paths().spool_dir, world.paths().root.join("aside"));
    std::fs::rename(spool, &aside).expect("renamed");
    std::fs::write(spool, "").expect("a file in its place");
    let named = spool.to_str().expect("UTF-8");
    // It is read every ten seconds.
    let output = eventually_within(2 * BOUND, "the spool to be missed", || {
        let output = quantumctl(&world, "status");
        (!output.status.success()).then_some(output)
    });
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("degraded: ") && text.contains(named), "{text}");
    assert!(world.call(asked.clone()).failed_with(51).contains(named));
    std::fs::remove_file(spool).expect("removed");
    std::fs::rename(&aside, spool).expect("renamed back");
    eventually_within(2 * BOUND, "the spool to be read again", || {
        quantumctl(&world, "status").status.success().then_some(())
    });
    world.call(asked).succeeded();
}

#[test]
fn a_question_that_is_not_known_is_told_which_are() {
    let world = world!();
    let _daemon = world.daemon();
    for question in ["nonsense", "policy.nonsense"] {
        let control = Control { question: question.into(), body: Vec::new() };
        let mut client = Client::connect(&world.paths().socket).expect("connected");
        client.send(&control.encode().expect("a frame")).expect("sent");
        let said = client.reply().stdout;
        for word in [question, "status", "policy.apply", "policy.denied"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
