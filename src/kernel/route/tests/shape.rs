//! Limits: what the kernel has of them after an attach, and after everything that ends one.

use nix::libc;
use quantum_config::ids::LinkIndex;

use super::{Bridge, link_names, name, route};
use crate::attach::{Bucket, BucketSeen, LinkPlan, ShapePlan, Shaper, naming};
use crate::kernel::netns::inside;
use crate::kernel::route::{Cause, Detached, Host, RouteSocket, Step, shape};
use crate::kernel::testing::{in_private_netns, ip, ip_json, new_netns};

const SLOW: Bucket = Bucket { rate: 1_000_000, burst: 100_000, limit: 125_000 };
const FAST: Bucket = Bucket { rate: 5 << 30, burst: 4_000_000_000, limit: 4_100_000_000 };

/// The limits of a port whose shaper is called after it.
fn limits(link: &LinkPlan, ingress: Option<Bucket>, egress: Option<Bucket>) -> ShapePlan {
    let shaper = |bucket| Shaper {
        name: name(&link.host.as_str().replace("qc", "qs")),
        index: LinkIndex(link.index.0 + 1000),
        bucket,
    };
    ShapePlan { ingress, egress: egress.map(shaper) }
}

fn seen(bucket: Bucket) -> BucketSeen {
    BucketSeen { rate: bucket.rate, limit: bucket.limit }
}

#[test]
fn both_directions_have_their_bucket() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let container = new_netns();
        let (mut link, plan) = bridge.plan(7);
        link.shape = limits(&link, Some(SLOW), Some(FAST));
        bridge.host.attach(&link, &plan, &container).unwrap();

        let shaper = &ip_json("link show qs007")[0];
        assert_eq!(shaper["linkinfo"]["info_kind"], "ifb");
        assert_eq!((&shaper["ifindex"], &shaper["mtu"]), (&11_007.into(), &1400.into()));
        assert_eq!(shaper["ifalias"], "quantum net/c7/eth0 10.9.0.7/24");
        assert_eq!(shaper["group"], naming::GROUP.to_string());
        assert!(shaper["flags"].as_array().unwrap().contains(&"UP".into()));

        let mut socket = RouteSocket::open().unwrap();
        let buckets = shape::buckets(&mut socket).unwrap();
        let expected = [(LinkIndex(10_007), seen(SLOW)), (LinkIndex(11_007), seen(FAST))];
        assert_eq!(buckets, expected.into());
        let bridge_index = bridge.index.0;
        let mut led_to = |index| shape::led_to(&mut socket, LinkIndex(index)).unwrap();
        assert_eq!(led_to(10_007), Some(LinkIndex(11_007)));
        assert_eq!((led_to(bridge_index), led_to(4711)), (None, None));
    });
}

#[test]
fn without_limits_a_port_has_neither_bucket_nor_shaper() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let container = new_netns();
        bridge.attach(7, &container).unwrap();
        assert_eq!(link_names(), ["lo", "br0", "qc007"]);
        let mut socket = RouteSocket::open().unwrap();
        assert!(shape::buckets(&mut socket).unwrap().is_empty());
    });
}

#[test]
fn a_failing_attach_leaves_no_shaper() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let container = new_netns();
        let (mut link, mut plan) = bridge.plan(7);
        link.shape = limits(&link, None, Some(SLOW));
        plan.routes.push(route("203.0.113.0/24", Some("198.51.100.1")));
        let error = bridge.host.attach(&link, &plan, &container).unwrap_err();
        assert_eq!((error.step, error.errno), (Step::AddRoute, libc::ENETUNREACH));
        assert_eq!(link_names(), ["lo", "br0"]);
    });
}

#[test]
fn an_index_or_name_that_is_taken_is_told_apart_and_its_owner_left_alone() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let container = new_netns();
        let (mut link, plan) = bridge.plan(7);
        link.shape = limits(&link, None, Some(SLOW));
        for (other, cause) in [
            ("stranger index 11007", Cause::IndexTaken),
            ("qs007 index 12007", Cause::HostNameTaken),
        ] {
            ip(&format!("link add {other} type bridge"));
            let error = bridge.host.attach(&link, &plan, &container).unwrap_err();
            assert_eq!((error.step, error.cause), (Step::CreateShaper, Some(cause)), "{error}");
            let word = other.split(' ').next().unwrap();
            assert_eq!(link_names(), ["lo", "br0", word]);
            ip(&format!("link del {word}"));
        }
        bridge.host.attach(&link, &plan, &container).unwrap();
    });
}

#[test]
fn a_removal_takes_both_links_and_either_one_alone() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let both = [(name("qc007"), LinkIndex(10_007)), (name("qs007"), LinkIndex(11_007))];
        let scratch = naming::scratch_group(1);
        for (lost, outcomes) in [
            (None, [Detached::Removed, Detached::Removed]),
            (Some("qc007"), [Detached::Gone, Detached::Removed]),
            (Some("qs007"), [Detached::Removed, Detached::Gone]),
        ] {
            let container = new_netns();
            let (mut link, plan) = bridge.plan(7);
            link.shape = limits(&link, Some(SLOW), Some(SLOW));
            bridge.host.attach(&link, &plan, &container).unwrap();
            if let Some(lost) = lost {
                ip(&format!("link del {lost}"));
            }
            let done: Result<Vec<_>, _> = bridge.host.detach(&both, scratch).into_iter().collect();
            assert_eq!(done.unwrap(), outcomes, "{lost:?}");
            assert_eq!(link_names(), ["lo", "br0"]);
            assert_eq!(inside(&container, link_names).unwrap(), ["lo"]);
        }
    });
}

#[test]
fn a_scan_finds_shapers_by_the_same_marks() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        let container = new_netns();
        let (mut link, plan) = bridge.plan(7);
        link.shape = limits(&link, None, Some(SLOW));
        bridge.host.attach(&link, &plan, &container).unwrap();
        ip("link add qsforeign type ifb");
        ip(&format!("link add qsbridge group {} type bridge", naming::GROUP));
        let found = Host::open().unwrap().scan().unwrap();
        let mut names: Vec<_> = found.iter().map(|l| (l.name.as_str(), l.is_shaper)).collect();
        names.sort_unstable();
        assert_eq!(names, [("qc007", false), ("qs007", true)]);
        assert!(found.iter().all(|l| l.alias == link.alias));
        assert!(found.iter().all(|l| l.host().as_ref() == Some(&link.host)));
    });
}
