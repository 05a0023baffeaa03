//! How else the container's end is set up: flags, queue and settings.

use nix::libc;
use quantum_config::cni::{Sysctl, Tuning};
use quantum_config::sysctl::SysctlName;
use serde_json::json;

use super::{Bridge, link_names};
use crate::kernel::netns::inside;
use crate::kernel::route::Step;
use crate::kernel::sysctl;
use crate::kernel::testing::{in_private_netns, ip_json, new_netns};

fn setting(name: &str, value: &str) -> Sysctl {
    Sysctl { name: SysctlName::new(name).unwrap(), value: value.to_owned() }
}

#[test]
fn an_interface_is_set_up_as_the_plan_says() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let container = new_netns();
        let (link, mut plan) = bridge.plan(7);
        plan.tuning = Tuning {
            sysctls: vec![
                setting("net.ipv4.conf.eth0.arp_notify", "0"),
                setting("net.ipv4.conf.eth0.rp_filter", "2"),
            ],
            mac: None,
            promisc: true,
            all_multicast: Some(true),
            tx_queue: Some(77),
        };
        bridge.host.attach(&link, &plan, &container).unwrap();
        inside(&container, || {
            let eth0 = &ip_json("link show eth0")[0];
            let flags = eth0["flags"].as_array().unwrap();
            assert!(["PROMISC", "ALLMULTI", "UP"].iter().all(|f| flags.contains(&json!(f))));
            assert_eq!(eth0["txqlen"], 77);
            for sysctl in &plan.tuning.sysctls {
                assert!(sysctl.is(&sysctl::read(&sysctl.name).unwrap()), "{sysctl:?}");
            }
        })
        .unwrap();
        let outside = sysctl::read(&SysctlName::new("net.ipv4.conf.all.rp_filter").unwrap());
        assert_ne!(outside.unwrap().trim(), "2", "only in the container");
    });
}

#[test]
fn nothing_is_changed_of_what_nobody_speaks_of() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let container = new_netns();
        let (link, mut plan) = bridge.plan(7);
        plan.tuning.all_multicast = Some(false);
        bridge.host.attach(&link, &plan, &container).unwrap();
        let eth0 = inside(&container, || ip_json("link show eth0")[0].clone()).unwrap();
        let flags = eth0["flags"].as_array().unwrap();
        assert!(!flags.contains(&json!("PROMISC")) && !flags.contains(&json!("ALLMULTI")));
        assert_eq!(eth0["txqlen"], 1000);
    });
}

#[test]
fn a_setting_that_is_not_there_undoes_everything_and_is_named() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let container = new_netns();
        let (link, mut plan) = bridge.plan(7);
        plan.tuning.sysctls = vec![setting("net.ipv4.no_such_thing", "1")];
        let error = bridge.host.attach(&link, &plan, &container).unwrap_err();
        assert_eq!((error.step, error.errno), (Step::SetSysctl, libc::ENOENT));
        assert_eq!(error.object, "/proc/sys/net/ipv4/no_such_thing");
        assert_eq!(link_names(), ["lo", "br0"]);
    });
}
