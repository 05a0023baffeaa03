//! A link that is gone, and those that only seem to be.

use std::os::fd::{AsFd, AsRawFd};

use super::super::Host;
use super::{Bridge, name};
use crate::kernel::testing::{in_private_netns, ip, new_netns};

#[test]
fn a_link_is_destroyed_with_its_container_and_not_by_a_move_or_another_name() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let (container, other, elsewhere) = (new_netns(), new_netns(), new_netns());
        bridge.attach(2, &container).unwrap();
        bridge.attach(3, &other).unwrap();
        let (link, _) = bridge.plan(2);
        let mut host = Host::open().unwrap();
        let mut destroyed = |name: &_| host.is_destroyed(name, link.index).unwrap();
        let own = std::process::id();
        assert!(!destroyed(&link.host));
        ip("link set qc002 down");
        assert!(!destroyed(&link.host), "it is down");
        ip("link set qc002 name strange");
        assert!(!destroyed(&link.host), "it has another name");
        ip("link set strange name qc002");
        ip(&format!("link set qc002 netns /proc/{own}/fd/{}", elsewhere.as_fd().as_raw_fd()));
        assert!(!destroyed(&link.host), "it is somewhere else");
        drop(elsewhere);
        // What is in a namespace goes with it, in the kernel's own time.
        let gone = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            destroyed(&link.host)
        });
        assert!(gone, "both ends went with that namespace");
        assert!(bridge.host.links().unwrap().has("qc003") && destroyed(&name("qc002")));
    });
}
