//! Documents and configurations that take long to read: whoever sends one, others are served meanwhile.

use quantum_config::wire::{self, Control};
use serde_json::json;

use crate::support::conf::{example, with};
use crate::support::ctl::told;
use crate::support::plugin::Call;
use crate::support::wire::Client;
use crate::support::world::World;

/// YAML that is ten times as long with each line, and refused: it has too many nodes.
fn laughs() -> String {
    let mut text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (before, name) in "abcdef".chars().zip("bcdefg".chars()) {
        let all = vec![format!("*{before}"); 10].join(",");
        text += &format!("{name}: &{name} [{all}]\n");
    }
    text
}

fn ask(world: &World, question: &str, body: &str) -> Client {
    let control = Control { question: question.into(), body: body.as_bytes().to_vec() };
    let mut client = Client::connect(&world.paths().socket).expect("connected");
    client.send(&control.encode().expect("a frame")).expect("sent");
    client
}

#[test]
fn documents_that_take_long_to_read_hold_up_nobody() {
    let world = world!();
    let daemon = world.daemon();
    let container = world.container();
    world.call(Call::add("first", &container).conf(&example())).succeeded();
    let laughs = laughs();
    let mut all: Vec<Client> = ["policy.apply", "policy.simulate"]
        .into_iter()
        .flat_map(|question| (0..6).map(move |_| question))
        .map(|question| ask(&world, question, &laughs))
        .collect();
    told(&world, "status", "");
    let another = world.container();
    world.call(Call::add("c1", &another).conf(&example())).succeeded();
    world.call(Call::del("c1", &another).conf(&example())).succeeded();
    assert_eq!(daemon.get("/healthz").0, 200);
    assert!(!all.iter().all(Client::has_answer), "they took no time: nothing was tried");
    for client in &mut all {
        let reply = client.reply();
        assert!(reply.exit == 1 && reply.stdout.contains("\"code\":7"), "{reply:?}");
    }
}

#[test]
fn a_configuration_is_read_however_long_it_is_and_its_lists_have_an_end() {
    let world = world!();
    let _daemon = world.daemon();
    let container = world.container();
    // Keys that nobody reads, as many as fit.
    let mut long = example();
    let mut length = 0;
    for number in 0.. {
        let key = format!("key{number}");
        length += key.len() + 5;
        if length > 900_000 {
            break;
        }
        long[key] = 0.into();
    }
    world.call(Call::add("c1", &container).conf(&long)).succeeded();
    world.call(Call::del("c1", &container).conf(&long)).succeeded();
    let sets: Vec<_> = (0..20_000)
        .map(|n| json!([{ "subnet": format!("10.{}.{}.0/24", n / 256, n % 256) }]))
        .collect();
    let ipam = json!({ "ipam": { "type": "host-local", "ranges": sets } });
    let conf = with(&example(), ipam);
    let error = world.call(Call::add("c1", &container).conf(&conf)).failed_with(7);
    assert!(error.contains("20001 entries, and at most 256"), "{error}");
    assert!(wire::MAX_BODY as usize > conf.to_string().len());
}
