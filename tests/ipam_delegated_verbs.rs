//! DEL, CHECK, GC and STATUS where addresses come from an IPAM plugin that is not built in: both have
//! their part, and neither keeps the other from cleaning up.

use serde_json::{Value, json};

use crate::support::conf::{at, with};
use crate::support::daemon::Options;
use crate::support::ipam::{Ipam, conf};
use crate::support::plugin::Call;

#[test]
fn a_del_without_a_daemon_releases_the_address_and_is_written_down() {
    let world = world!();
    let daemon = world.daemon();
    let (ipam, conf) = (Ipam::new(&world), conf("down"));
    let container = world.container();
    ipam.call(&world, Call::add("c1", &container).conf(&conf)).succeeded();
    daemon.kill();
    ipam.calls();
    for _ in 0..2 {
        ipam.call(&world, Call::del("c1", &container).conf(&conf)).succeeded();
    }
    assert_eq!(ipam.calls(), ["DEL c1 eth0", "DEL c1 eth0"]);
    assert_eq!((world.tombstones().len(), ipam.leases()), (1, vec![]));
    assert!(container.link("eth0").is_some());
    let _daemon = world.daemon();
    assert!(container.link("eth0").is_none(), "the tombstone was carried out");
    ipam.call(&world, Call::add("c1", &container).conf(&conf)).succeeded();
}

#[test]
fn a_del_does_its_own_part_and_tells_what_the_other_could_not() {
    let world = world!();
    let daemon = world.daemon();
    let (ipam, conf) = (Ipam::new(&world), conf("part"));
    let container = world.container();
    ipam.call(&world, Call::add("c1", &container).conf(&conf)).succeeded();
    ipam.put("DEL.fails", r#"{"code": 11, "msg": "come back"}"#);
    let del = |conf: &Value| ipam.call(&world, Call::del("c1", &container).conf(conf));
    assert!(del(&conf).failed_with(11).contains("come back"));
    assert!(container.link("eth0").is_none(), "ours is done");
    daemon.kill();
    assert!(del(&conf).failed_with(11).contains("come back"));
    ipam.remove("DEL.fails");
    let _daemon = world.daemon();
    // As much as can be read of a configuration that is damaged otherwise.
    del(&with(&conf, json!({ "mtu": "many" }))).succeeded();
    assert_eq!(ipam.leases(), Vec::<String>::new());
    ipam.calls();
    for nobody in [json!(null), json!({ "type": "" }), json!({ "type": "static" })] {
        let mut conf = conf.clone();
        conf["ipam"] = nobody;
        del(&conf).succeeded();
    }
    assert_eq!(ipam.calls(), Vec::<String>::new());
}

#[test]
fn check_fails_where_its_check_does() {
    let world = world!();
    let _daemon = world.daemon();
    let (ipam, conf) = (Ipam::new(&world), conf("check"));
    let container = world.container();
    let told = ipam.call(&world, Call::add("c1", &container).conf(&conf)).succeeded();
    let check = with(&conf, json!({ "prevResult": told }));
    let check = || ipam.call(&world, Call::check("c1", &container).conf(&check));
    check().succeeded();
    ipam.remove("lease.c1.eth0");
    let failure = check().failed();
    assert_eq!((failure.code, failure.msg.as_str()), (111, "it has no lease"));
    assert_eq!((failure.details.as_str(), failure.cni_version.as_str()), ("at all", "1.0.0"));
    container.ip("link set eth0 down");
    check().failed_with(105);
}

#[test]
fn gc_and_status_reach_it() {
    let world = world!();
    let _daemon = world.daemon();
    let (ipam, conf) = (Ipam::new(&world), at(&conf("reach"), "1.1.0"));
    let container = world.container();
    let status = || ipam.call(&world, Call::new("STATUS").conf(&conf));
    status().succeeded();
    ipam.call(&world, Call::add("c1", &container).conf(&conf)).succeeded();
    ipam.calls();
    let valid = json!({ "cni.dev/valid-attachments": [{ "containerID": "c1", "ifname": "eth0" }] });
    let gc = |conf: &Value| ipam.call(&world, Call::new("GC").conf(conf));
    gc(&with(&conf, valid.clone())).succeeded();
    assert_eq!(ipam.calls(), ["GC"]);
    assert_eq!(ipam.text("GC.stdin"), with(&conf, valid.clone()).to_string());
    assert!(container.link("eth0").is_some());
    // One that fails does not keep the other from cleaning up.
    ipam.put("GC.fails", r#"{"code": 77, "msg": "cannot"}"#);
    let mut none = conf.clone();
    none["cni.dev/valid-attachments"] = Value::Null;
    gc(&none).failed_with(77);
    assert!(container.link("eth0").is_none());
    ipam.calls();
    gc(&conf).failed_with(7);
    assert_eq!(ipam.calls(), Vec::<String>::new(), "a list that is not there is no empty one");

    ipam.put("STATUS.fails", r#"{"code": 50, "msg": "out of addresses"}"#);
    assert!(status().failed_with(50).contains("out of addresses"));
    let call = Call::new("STATUS").conf(&conf).var("CNI_PATH", "/nowhere");
    assert!(world.call(call).failed_with(50).contains("my-ipam"));
    ipam.calls();
    for verb in ["STATUS", "GC"] {
        ipam.call(&world, Call::new(verb).conf(&at(&conf, "1.0.0"))).failed_with(1);
    }
    assert_eq!(ipam.calls(), Vec::<String>::new());
}

#[test]
fn a_gc_that_fails_here_is_carried_out_there() {
    let world = world!();
    let options = Options::default().var("QUANTUM_FAIL_AT", "del-marked");
    let _daemon = world.daemon_with(options);
    let (ipam, mut conf) = (Ipam::new(&world), at(&conf("half"), "1.1.0"));
    let container = world.container();
    ipam.call(&world, Call::add("c1", &container).conf(&conf)).succeeded();
    ipam.calls();
    ipam.put("GC.fails", r#"{"code": 77, "msg": "cannot"}"#);
    conf["cni.dev/valid-attachments"] = json!([]);
    let outcome = ipam.call(&world, Call::new("GC").conf(&conf));
    assert_ne!(outcome.failed().code, 77, "ours comes first");
    assert_eq!(ipam.calls(), ["GC"]);
    assert!(outcome.stderr.contains("cannot"), "{outcome:?}");
}
