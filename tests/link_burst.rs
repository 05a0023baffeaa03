//! Containers that come and go make a dozen messages about links each, and none of them is a harm.

use std::collections::BTreeMap;
use std::fs;

use crate::network_isolation::dual;
use crate::support::plugin::Call;

/// The processor time of each thread of a process, by name, in ticks.
fn ticks(pid: nix::unistd::Pid) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let (front, back) = stat.rsplit_once(") ").expect("a name");
        let fields: Vec<u64> =
            back.split(' ').map(|field| field.parse().unwrap_or_default()).collect();
        let name = front.split_once('(').expect("a name").1.to_owned();
        *all.entry(name).or_default() += fields[11] + fields[12];
    }
    all
}

#[test]
fn containers_that_come_and_go_are_no_business_of_the_watch() {
    let world = world!();
    let daemon = world.daemon();
    let conf = dual("burst", 151, serde_json::json!({}));
    let before = ticks(daemon.pid());
    for _ in 0..6 {
        let containers: Vec<_> = (0..40).map(|_| world.container()).collect();
        for verb in ["ADD", "DEL"] {
            std::thread::scope(|scope| {
                for (n, container) in containers.iter().enumerate() {
                    let (world, conf) = (&world, &conf);
                    scope.spawn(move || {
                        let id = format!("c{n}");
                        let call = match verb {
                            "ADD" => Call::add(&id, container),
                            _ => Call::del(&id, container),
                        };
                        world.call(call.conf(conf)).succeeded();
                    });
                }
            });
        }
    }
    let after = ticks(daemon.pid());
    let spent = |name: &str| after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
    let all: u64 = after.keys().map(|name| spent(name)).sum();
    println!("the watch: {} of {all} ticks", spent("watch"));
    assert!(spent("watch") * 10 <= all, "the watch: {} of {all} ticks", spent("watch"));
}
