//! Addresses that are kept for somebody, and addresses that are given as they are.

use std::net::IpAddr;

use quantum_config::cni::{Holder, Reservation, StaticAddress};
use quantum_config::ids::ContainerId;

use super::cases::{key, sets};
use super::{Allocator, LeaseError};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A /29 (.2 to .6) whose .3 is kept for the container `vip`.
fn reserved() -> (Allocator, Vec<Reservation>) {
    let holder = Holder::Container(ContainerId::new("vip").expect("a name"));
    let list = vec![Reservation { address: ip("10.0.0.3"), holder }];
    let mut a = Allocator::new(vec![], []);
    a.reshape(sets(&[&["10.0.0.0/29"]]), &list);
    (a, list)
}

#[test]
fn a_reserved_address_is_its_holders_only() {
    let (mut a, _) = reserved();
    let mut got = Vec::new();
    for n in 0..4 {
        let lease = a.lease(&key(&format!("c{n}")), &[], &[]).expect("a lease");
        got.push(lease[0].address.ip().to_string());
    }
    assert_eq!(got, ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    assert_eq!((a.usage()[0].capacity, a.usage()[0].free()), (4, 0), "STATUS counts without it");
    let full = a.lease(&key("late"), &[], &[]).expect_err("exhausted");
    assert!(matches!(full, LeaseError::Exhausted { .. }), "{full}");
    let error = a.lease(&key("thief"), &[ip("10.0.0.3")], &[]).expect_err("reserved");
    assert!(error.to_string().contains("reserved for container vip"), "{error}");
    for now in 0..3 {
        let own = a.lease(&key("vip"), &[], &[ip("10.0.0.3")]).expect("its own");
        assert_eq!(own[0].address.to_string(), "10.0.0.3/29");
        a.release(&key("vip"), now);
        let full = a.lease(&key("late"), &[], &[]).expect_err("exhausted");
        assert!(matches!(full, LeaseError::Exhausted { .. }), "idle is not free: {full}");
    }
}

#[test]
fn reservations_come_and_go_with_the_shape() {
    let (mut a, list) = reserved();
    a.lease(&key("vip"), &[], &[ip("10.0.0.3")]).expect("its own");
    a.reshape(sets(&[&["10.0.0.0/29"]]), &[]);
    assert_eq!((a.usage()[0].capacity, a.usage()[0].held), (5, 1));
    a.release(&key("vip"), 1);
    a.lease(&key("other"), &[ip("10.0.0.3")], &[]).expect("anybody's now");
    a.reshape(sets(&[&["10.0.0.0/29"]]), &list);
    let error = a.lease(&key("vip"), &[], &[ip("10.0.0.3")]).expect_err("not yet given back");
    assert!(error.to_string().contains("held by n/other/eth0"), "{error}");
    a.release(&key("other"), 2);
    a.lease(&key("vip"), &[], &[ip("10.0.0.3")]).expect("its own again");
}

#[test]
fn given_addresses_need_no_set_and_have_one_holder() {
    let mut a = Allocator::new(vec![], []);
    let given = |text: &str| StaticAddress { address: text.parse().expect("CIDR"), gateway: None };
    let both = [given("192.0.2.9/24"), given("fd00::9/64")];
    let assigned = a.give(&key("a"), &both, &|_| None).expect("given");
    assert_eq!(assigned[1].address, both[1].address);
    let error = a
        .give(&key("b"), &[given("fd00::8/64"), given("192.0.2.9/32")], &|_| None)
        .expect_err("held");
    assert_eq!(error, LeaseError::Taken { address: ip("192.0.2.9"), holder: key("a") });
    assert_eq!(a.holder(ip("fd00::8")), None, "nothing is kept");
    assert!(matches!(a.give(&key("a"), &[], &|_| None), Err(LeaseError::Held { .. })));
    a.release(&key("a"), 1);
    a.give(&key("b"), &both, &|_| None).expect("free again");
}
