//! A link that is gone, and those that only seem to be.

use std::os::fd::{AsFd, AsRawFd};

use super::super::Host;
use super::Bridge;
use crate::kernel::netns::inside;
use crate::kernel::testing::{in_private_netns, ip, new_netns};

#[test]
fn a_link_is_destroyed_with_its_container_and_not_by_a_move_or_another_name() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let (container, other, elsewhere) = (new_netns(), new_netns(), new_netns());
        bridge.attach(2, &container).unwrap();
        bridge.attach(3, &other).unwrap();
        let (gone, never) = (bridge.record(2, &container), bridge.record(9, &container));
        let mut host = Host::open().unwrap();
        let mut destroyed = |record: &_| host.is_destroyed(record).unwrap();
        let own = std::process::id();
        assert!(!destroyed(&gone));
        ip("link set qc002 down");
        assert!(!destroyed(&gone), "it is down");
        ip("link set qc002 name strange");
        assert!(!destroyed(&gone), "it has another name");
        ip("link set strange name qc002");
        ip(&format!("link set qc002 netns /proc/{own}/fd/{}", elsewhere.as_fd().as_raw_fd()));
        assert!(!destroyed(&gone), "it is somewhere else");
        inside(&elsewhere, || ip("link set qc002 name other")).unwrap();
        assert!(!destroyed(&gone), "and has another name there");
        drop(elsewhere);
        // What is in a namespace goes with it, in the kernel's own time.
        let went = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            destroyed(&gone)
        });
        assert!(went, "both ends went with that namespace");
        assert!(
            bridge.host.links().unwrap().has("qc003") && bridge.host.is_destroyed(&never).unwrap()
        );
    });
}
