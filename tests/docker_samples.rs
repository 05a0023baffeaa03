//! What four releases of dockerd said on the wire, said again to our daemon, call by call and in their order.
//!
//! `tests/data/docker-*.json` are recordings with a driver made for that, made smaller: each entry is a method,
//! its body and the answer, or a note of what happened meanwhile. What that driver chose (pools, addresses)
//! is replaced by what ours chose.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use crate::support::docker::Dockerd;
use crate::support::inventory::{Inventory, veths};
use crate::support::world::World;

/// What was chosen there, and what was chosen here.
#[derive(Debug, Default)]
struct Chosen(HashMap<String, Value>);

impl Chosen {
    fn learn(&mut self, there: &Value, here: &Value) {
        if let Some(there) = there.as_str() {
            self.0.insert(there.to_owned(), here.clone());
        }
        // Addresses are given back without the length of their prefix.
        let short = |value: &Value| {
            Some(value.as_str()?.split_once('/')?.0.to_owned()).filter(|ip| !ip.contains("quantum"))
        };
        if let (Some(there), Some(here)) = (short(there), short(here)) {
            self.0.insert(there, here.into());
        }
    }

    fn replace(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.0.get(text).unwrap_or(value).clone(),
            Value::Array(list) => list.iter().map(|item| self.replace(item)).collect(),
            Value::Object(map) => {
                map.iter().map(|(key, value)| (key.clone(), self.replace(value))).collect()
            }
            other => other.clone(),
        }
    }
}

fn members(value: &Value) -> BTreeSet<String> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

/// What one call was answered with there and here.
fn compare(method: &str, body: &Value, there: &Value, here: &Value) {
    let wanted = members(there);
    if wanted.contains("Err") {
        return; // that driver was made to fail, and ours has no reason to
    }
    let mut found = members(here);
    // Said always, where no gateway is said.
    found.remove("DisableGatewayService");
    assert_eq!(found, wanted, "{method} {body}: {there} there and {here} here");
    assert_eq!(
        members(&here["Interface"]),
        members(&there["Interface"]),
        "{method} {body}: {here}"
    );
    for key in ["Gateway", "GatewayIPv6"] {
        assert_eq!(here.get(key), there.get(key), "{method} {body}");
    }
}

fn replay(world: &World, recording: &str) {
    let (_daemon, dockerd) = Dockerd::start(world);
    let before = Inventory::of(&world.host);
    let entries: Vec<Vec<Value>> = serde_json::from_str(recording).expect("a recording");
    let mut chosen = Chosen::default();
    chosen.learn(&json!("qlocal"), &json!("quantum"));
    let (mut calls, mut others_option, mut internal) = (0, false, false);
    for entry in &entries {
        let method = entry[0].as_str().expect("a method");
        if method == "note" {
            let note = entry[1].as_str().expect("words");
            if note.starts_with("dockerd SIGKILL") {
                // Containers die with it, and their namespaces with them.
                veths(&world.host).iter().filter(|name| name.starts_with("qc")).for_each(|name| {
                    world.host.ip(&format!("link del {name}"));
                });
            }
            // That driver's own option, which no gateway comes of.
            others_option = note.contains("docker_gwbridge");
            // It gave a gateway there, too, which then leads nowhere.
            internal = note.contains("--internal");
            continue;
        }
        let mut body = chosen.replace(&entry[1]);
        if let Some(generic) = body.pointer_mut("/Options/com.docker.network.generic")
            && others_option
        {
            *generic = json!({});
        }
        let here = dockerd.ok(method, body.clone());
        calls += 1;
        let there = &entry[2];
        match method {
            "IpamDriver.RequestPool" => {
                chosen.learn(&there["PoolID"], &here["PoolID"]);
                chosen.learn(&there["Pool"], &here["Pool"]);
            }
            "IpamDriver.RequestAddress" => chosen.learn(&there["Address"], &here["Address"]),
            "NetworkDriver.Join" if others_option || internal => continue,
            _ => {}
        }
        compare(method, &body, there, &here);
    }
    assert!(calls > 150, "{calls} calls");
    before.assert_same(&Inventory::of(&world.host), "after all was removed");
}

#[test]
fn docker_20() {
    let world = world!();
    replay(&world, include_str!("data/docker-20.10.24.json"));
}

#[test]
fn docker_26() {
    let world = world!();
    replay(&world, include_str!("data/docker-26.1.5.json"));
}

#[test]
fn docker_28() {
    let world = world!();
    replay(&world, include_str!("data/docker-28.5.2.json"));
}

#[test]
fn docker_29() {
    let world = world!();
    replay(&world, include_str!("data/docker-29-dev.json"));
}
