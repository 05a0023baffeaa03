//! What real runtimes said on the wire, said again to our plugin, call by call and in their order.
//!
//! `tests/data/*.json` are recordings of containerd, ctr, CRI-O and podman with the reference
//! plugins, made smaller: configurations and answers are kept once and meant by their index, paths
//! of namespaces are numbers, `prevResult` is a mark, since a runtime hands over what *our* ADD
//! answered. Of answers the values that no two runs share are replaced ([`shape`]). Where the
//! recorder made a plugin fail on purpose (`fault`), ours has no reason to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use crate::support::eventually::eventually;
use crate::support::inventory::veths;
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::world::World;

/// What the reference plugin `bridge` answered, with what it leaves out and ours hands on: the
/// capability `dns`, which CONVENTIONS.md wants served.
fn with_dns(mut answer: Value, conf: &Value) -> Value {
    let said = &conf["runtimeConfig"]["dns"];
    for (theirs, member) in
        [("Servers", "nameservers"), ("Searches", "search"), ("Options", "options")]
    {
        if let Some(list) = said[theirs].as_array().filter(|list| !list.is_empty()) {
            answer["dns"][member] = list.clone().into();
        }
    }
    answer
}

/// Why a recorded call is none of ours; nothing if it is ours.
fn not_ours(call: &Value) -> Option<&'static str> {
    match call["type"].as_str()? {
        "bridge" | "quantum-cni" => None,
        _ if call["verb"] == "VERSION" => None, // asked of every plugin alike
        "host-local" => Some("bridge ran it; ours has it built in"),
        "loopback" => Some("another network of the runtime's own, another plugin"),
        "portmap" | "bandwidth" | "firewall" => {
            Some("chained after ours; only handed the result on")
        }
        other => panic!("{other}: a plugin nobody thought of"),
    }
}

/// A result without what differs from run to run: hardware addresses, names of host ends, paths,
/// and which address of its network it is. `mtu` the reference never says.
fn shape(result: &Value) -> Value {
    let mut shaped = result.clone();
    for interface in shaped["interfaces"].as_array_mut().into_iter().flatten() {
        let object = interface.as_object_mut().expect("an interface");
        object.remove("mtu");
        object.insert("mac".to_owned(), "mac".into());
        if object.contains_key("sandbox") {
            object.insert("sandbox".to_owned(), "netns".into());
        } else if object["name"].as_str().expect("a name").starts_with("qc") {
            object.insert("name".to_owned(), "veth".into());
        }
    }
    for ip in shaped["ips"].as_array_mut().into_iter().flatten() {
        let address: IpNetwork = ip["address"].as_str().expect("text").parse().expect("address");
        ip["address"] = format!("{}/{}", address.network(), address.prefix()).into();
    }
    shaped
}

/// An attachment that was made and not removed.
struct Attached {
    network: Value,
    netns: u64,
    result: Value,
}

struct Replay {
    world: World,
    sample: Value,
    namespaces: HashMap<u64, Netns>,
    /// By container and interface: recorded runtimes know them so.
    living: BTreeMap<(String, String), Attached>,
}

impl Replay {
    fn call(&mut self, recorded: &Value) {
        let text = |key: &str| recorded[key].as_str().unwrap_or_default().to_owned();
        let at = |list: &str, index: &Value| {
            self.sample[list][index.as_u64().expect("an index") as usize].clone()
        };
        let mut conf = at("configurations", &recorded["conf"]);
        let key = (text("container"), text("ifname"));
        if recorded["prevResult"] == true {
            let living = self.living.get(&key).map(|attached| attached.result.clone());
            conf["prevResult"] =
                living.unwrap_or_else(|| json!({ "cniVersion": conf["cniVersion"] }));
        }
        let answer = recorded.get("answer").map(|index| at("answers", index));
        let mut call = Call::new(&text("verb"))
            .var("CNI_CONTAINERID", &key.0)
            .var("CNI_IFNAME", &key.1)
            .var("CNI_ARGS", &text("args"))
            .conf(&conf);
        if let (Some(ended), "ADD") = (self.living.get(&key), text("verb").as_str()) {
            // ctr does not DEL a detached container that has ended, and /proc/PID comes again.
            self.namespaces.remove(&ended.netns);
        }
        if let Some(number) = recorded["netns"].as_u64() {
            let netns = self.namespaces.entry(number).or_insert_with(|| self.world.container());
            call = call.var("CNI_NETNS", netns.text());
        } else if let Some(attached) = self.living.get(&key) {
            self.namespaces.remove(&attached.netns); // a runtime says none when it is gone
        }
        if text("verb") == "VERSION" {
            call = ["CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]
                .iter()
                .fold(call, |call, name| call.var(name, "dummy"));
        }
        let document = self.world.call(call).succeeded();
        match text("verb").as_str() {
            "ADD" => {
                let answer = answer.map(|answer| with_dns(answer, &conf));
                assert_eq!(Some(shape(&document)), answer, "the result of {recorded}");
                let netns = recorded["netns"].as_u64().expect("a namespace");
                let network = conf["name"].clone();
                self.living.insert(key, Attached { network, netns, result: document });
            }
            "DEL" => {
                self.living.remove(&key);
                if let Some(netns) = recorded["netns"].as_u64() {
                    let left = self.namespaces[&netns].link(&key.1);
                    assert!(left.is_none(), "{left:?} is left after {recorded}");
                }
            }
            "GC" => {
                let valid = conf["cni.dev/valid-attachments"].as_array().cloned();
                let valid = valid.unwrap_or_default();
                let listed = |key: &(String, String)| {
                    valid.iter().any(|v| v["containerID"] == key.0 && v["ifname"] == key.1)
                };
                self.living.retain(|key, a| a.network != conf["name"] || listed(key));
            }
            "VERSION" => {
                let spoken = document["supportedVersions"].as_array().expect("a list");
                assert!(spoken.contains(&conf["cniVersion"]), "{document}");
            }
            "CHECK" | "STATUS" => {}
            other => panic!("{other}: a verb nobody thought of"),
        }
    }

    /// The host ends there should be: of what was not removed, in namespaces that are there.
    fn expected(&self) -> BTreeSet<String> {
        let there = self.living.values().filter(|a| self.namespaces.contains_key(&a.netns));
        there
            .map(|a| a.result["interfaces"][1]["name"].as_str().expect("a name").to_owned())
            .collect()
    }
}

/// Replays a recording of `total` calls, `ours` of which are for our plugin.
fn replay(recording: &str, total: usize, ours: usize) {
    let world = world!();
    let _daemon = world.daemon();
    let sample: Value = serde_json::from_str(recording).expect("a recording");
    let calls = sample["calls"].as_array().expect("calls").clone();
    let mut replay = Replay { world, sample, namespaces: HashMap::new(), living: BTreeMap::new() };
    let mut done = 0;
    for call in calls.iter().filter(|call| not_ours(call).is_none()) {
        replay.call(call);
        done += 1;
    }
    assert_eq!((calls.len(), done), (total, ours), "calls of the recording, and ours of them");
    let expected = replay.expected();
    eventually("the host ends are those of the living", || {
        let there: BTreeSet<String> = veths(&replay.world.host).into_iter().collect();
        (there == expected).then_some(())
    });
}

#[test]
fn containerd_1_6() {
    replay(include_str!("data/containerd-1.6-cri.json"), 140, 27);
}

#[test]
fn containerd_1_6_with_all_capabilities() {
    replay(include_str!("data/containerd-1.6-all-capabilities.json"), 140, 37);
}

#[test]
fn containerd_2_4() {
    replay(include_str!("data/containerd-2.4-cri-1.1.0.json"), 140, 25);
}

#[test]
fn ctr_1_6() {
    replay(include_str!("data/ctr-1.6.json"), 30, 6);
}

#[test]
fn cri_o_1_37() {
    replay(include_str!("data/crio-1.37.json"), 140, 52);
}

#[test]
fn podman_4_3() {
    replay(include_str!("data/podman-4.3.1.json"), 140, 98);
}
