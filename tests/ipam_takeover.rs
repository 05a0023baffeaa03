//! A node changes over from the reference plugins with containers running: their leases are held
//! until their DEL or GC comes.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::ipam_requested::add;
use crate::spec_add::address;
use crate::support::conf::{network, with};
use crate::support::plugin::Call;
use crate::support::world::World;

fn thin(name: &str) -> Value {
    json!({ "cniVersion": "1.1.0", "name": name, "type": "quantum-cni" })
}

/// A folder of leases as host-local leaves it, and a network of the operator's that names it.
fn leases(world: &World, name: &str, subnet: &str, files: &[(&str, &str)]) -> Value {
    let data_dir: PathBuf = world.paths().root.join("networks");
    std::fs::create_dir_all(data_dir.join(name)).expect("a folder");
    for (file, text) in files {
        std::fs::write(data_dir.join(name).join(file), text).expect("a lease");
    }
    let bridge = format!("{name}0");
    let conf =
        with(&network(name, &bridge, subnet), json!({ "ipam": { "dataDir": data_dir.to_str() } }));
    let file = world.paths().config_dir.join(format!("{name}.conf"));
    std::fs::write(file, conf.to_string()).expect("a definition");
    conf
}

#[test]
fn leases_are_held_until_their_del_and_the_order_goes_on() {
    let world = world!();
    leases(
        &world,
        "moved",
        "10.110.0.0/29",
        &[
            ("10.110.0.2", "old-a\r\neth0"),
            ("10.110.0.5", "old-b\r\neth0"),
            ("last_reserved_ip.0", "10.110.0.3"),
            ("lock", ""),
        ],
    );
    let daemon = world.daemon();
    let somewhere = world.container();
    let conf = thin("moved");
    assert_eq!(address(&add(&world, "c1", &conf, "").succeeded()), "10.110.0.4", "after the last");
    daemon.kill();
    let _daemon = world.daemon();
    let said = add(&world, "c2", &conf, "IP=10.110.0.2").failed_with(7);
    assert!(said.contains("moved/old-a/eth0"), "{said}");
    assert_eq!(address(&add(&world, "c2", &conf, "").succeeded()), "10.110.0.6");
    assert_eq!(address(&add(&world, "c3", &conf, "").succeeded()), "10.110.0.3", "rested longest");
    add(&world, "c4", &conf, "").failed_with(7);
    world.call(Call::del("old-b", &somewhere).conf(&conf)).succeeded();
    assert_eq!(address(&add(&world, "c4", &conf, "").succeeded()), "10.110.0.5");
    let valid = ["c1", "c2", "c3", "c4"].map(|c| json!({ "containerID": c, "ifname": "eth0" }));
    let gc = with(&conf, json!({ "cni.dev/valid-attachments": valid }));
    world.call(Call::new("GC").conf(&gc)).succeeded();
    assert_eq!(address(&add(&world, "c5", &conf, "").succeeded()), "10.110.0.2", "GC'd");
}

#[test]
fn a_del_before_the_first_add_finds_its_lease() {
    let world = world!();
    leases(&world, "early", "10.111.0.0/30", &[("10.111.0.2", "old\r\neth0")]);
    let _daemon = world.daemon();
    let somewhere = world.container();
    add(&world, "c1", &thin("early"), "").failed_with(7);
    world.call(Call::del("old", &somewhere).conf(&thin("early"))).succeeded();
    add(&world, "c1", &thin("early"), "").succeeded();
}

#[test]
fn leases_of_all_ages_are_read_and_only_once() {
    let world = world!();
    leases(
        &world,
        "ages",
        "10.112.0.0/29",
        &[("10.112.0.2", "ancient"), ("10.112.0.3", ""), ("10.112.0.4", "new\r\nnet1")],
    );
    let daemon = world.daemon();
    let said =
        |ip: &str| add(&world, "x", &thin("ages"), &format!("IP=10.112.0.{ip}")).failed_with(7);
    assert!(said("2").contains("ages/ancient/eth0"));
    assert!(said("3").contains("unreadable-10.112.0.3"));
    assert!(said("4").contains("ages/new/net1"));
    let gc = with(&thin("ages"), json!({ "cni.dev/valid-attachments": [] }));
    world.call(Call::new("GC").conf(&gc)).succeeded();
    daemon.kill();
    let _daemon = world.daemon();
    add(&world, "x", &thin("ages"), "IP=10.112.0.2").succeeded();
}

#[test]
fn a_runtime_cannot_have_a_folder_read() {
    let world = world!();
    let conf = leases(&world, "mine", "10.113.0.0/24", &[("10.113.0.2", "old\r\neth0")]);
    std::fs::remove_file(world.paths().config_dir.join("mine.conf")).expect("removed");
    let _daemon = world.daemon();
    assert_eq!(address(&add(&world, "c1", &conf, "").succeeded()), "10.113.0.2");
}
