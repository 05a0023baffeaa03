//! The allocator against the cases the reference plugin's own tests have, and against the promises
//! that go beyond it. Ranges are made by the configuration's parser, as in life.

use std::net::IpAddr;
use std::time::Instant;

use quantum_config::cni::{Call, RangeSet};
use quantum_config::ids::AttachmentKey;

use super::{Allocator, IDLE_OF_LARGE, Known, KnownState, LeaseError};

/// The sets of a configuration's `ranges`; each text is `subnet[,rangeStart,rangeEnd]`.
pub(super) fn sets(sets: &[&[&str]]) -> Vec<RangeSet> {
    let range = |text: &&str| match text.split(',').collect::<Vec<_>>()[..] {
        [subnet, start, end] => {
            format!(r#"{{"subnet":"{subnet}","rangeStart":"{start}","rangeEnd":"{end}"}}"#)
        }
        _ => format!(r#"{{"subnet":"{text}"}}"#),
    };
    let set = |s: &&[&str]| format!("[{}]", s.iter().map(range).collect::<Vec<_>>().join(","));
    let ranges = sets.iter().map(set).collect::<Vec<_>>().join(",");
    let text = format!(
        r#"{{"cniVersion":"1.0.0","name":"n","type":"q","ipam":{{"type":"host-local","ranges":[{ranges}]}}}}"#
    );
    Call::parse(text.as_bytes()).and_then(|c| c.definition()).expect("ranges").sets().to_vec()
}

pub(super) fn key(name: &str) -> AttachmentKey {
    format!("n/{name}/eth0").parse().expect("a key")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|t| ip(t)).collect()
}

fn fresh(ranges: &[&[&str]]) -> Allocator {
    Allocator::new(sets(ranges), [])
}

fn released(address: &str, at_ms: u64) -> Known {
    Known { address: ip(address), state: KnownState::Released(at_ms) }
}

/// What a lease gives, as text, separated by spaces.
fn lease(a: &mut Allocator, owner: &str, requested: &[&str]) -> Result<String, LeaseError> {
    let assigned = a.lease(&key(owner), &ips(requested), &[])?;
    Ok(assigned.iter().map(|a| a.address.to_string()).collect::<Vec<_>>().join(" "))
}

#[test]
fn h1_one_address_of_each_set_with_prefix_and_gateway() {
    let mut a = fresh(&[&["10.1.2.0/24", "10.2.2.0/24"], &["2001:db8:1::/64"]]);
    let assigned = a.lease(&key("a"), &[], &[]).expect("a lease");
    let text = format!("{} {}", assigned[0].address, assigned[1].address);
    assert_eq!(text, "10.1.2.2/24 2001:db8:1::2/64");
    let gateways = [assigned[0].gateway, assigned[1].gateway];
    assert_eq!(gateways, [Some(ip("10.1.2.1")), Some(ip("2001:db8:1::1"))]);
    assert_eq!([assigned[0].set, assigned[1].set], [0, 1]);
    assert_eq!(a.held_by(&key("a")), ips(&["10.1.2.2", "2001:db8:1::2"]));
}

#[test]
fn h4_interfaces_of_one_container_are_leased_and_released_apart() {
    let mut a = fresh(&[&["10.0.0.0/24"]]);
    let [eth0, eth1] = ["n/c/eth0", "n/c/eth1"].map(|k| k.parse().expect("a key"));
    a.lease(&eth0, &[], &[]).expect("eth0");
    a.lease(&eth1, &[], &[]).expect("eth1");
    assert_eq!(a.release(&eth0, 1), ips(&["10.0.0.2"]));
    assert_eq!(a.holder(ip("10.0.0.3")), Some(&eth1));
}

#[test]
fn h5_a_second_lease_is_refused_and_names_the_first() {
    let mut a = fresh(&[&["10.0.0.0/24"]]);
    lease(&mut a, "a", &[]).expect("a lease");
    let error = lease(&mut a, "a", &["10.0.0.9"]).expect_err("held");
    assert_eq!(
        error,
        LeaseError::Held { owner: key("a"), addresses: ips(&["10.0.0.2"]) },
        "{error}"
    );
    assert_eq!(a.holder(ip("10.0.0.9")), None);
}

#[test]
fn h7_releasing_what_nobody_has_is_fine() {
    let mut a = fresh(&[&["10.0.0.0/24"]]);
    assert!(a.release(&key("nobody"), 1).is_empty());
    lease(&mut a, "a", &[]).expect("a lease");
    assert_eq!(a.release(&key("a"), 1).len(), 1);
    assert!(a.release(&key("a"), 2).is_empty());
}

#[test]
fn h8_requested_addresses_are_leased_and_the_other_sets_go_on() {
    let mut a = fresh(&[&["10.0.0.0/24"], &["fd00::/64"]]);
    assert_eq!(lease(&mut a, "a", &["10.0.0.77"]).expect("one"), "10.0.0.77/24 fd00::2/64");
    let both = ["fd00::aa", "10.0.0.78", "10.0.0.78"];
    assert_eq!(lease(&mut a, "b", &both).expect("both"), "10.0.0.78/24 fd00::aa/64");
    assert_eq!(lease(&mut a, "c", &[]).expect("next"), "10.0.0.2/24 fd00::3/64");
}

#[test]
fn h10_what_cannot_be_given_is_refused_and_nothing_is_kept() {
    let mut a = fresh(&[&["10.0.0.0/24,10.0.0.10,10.0.0.20"], &["fd00::/64"]]);
    lease(&mut a, "holder", &["10.0.0.15"]).expect("a lease");
    for (request, words) in [
        (["10.1.0.1"].as_slice(), "10.1.0.1 is in no range"),
        (&["10.0.0.9"], "10.0.0.10-10.0.0.20,fd00::1-"),
        (&["10.0.0.21"], "10.0.0.21 is in no range"),
        (&["10.0.0.1"], "10.0.0.1 is a gateway"),
        (&["10.0.0.15"], "10.0.0.15 is held by n/holder/eth0"),
        (&["10.0.0.11", "10.0.0.12"], "10.0.0.11 and 10.0.0.12 are both in range set"),
        (&["fd00::7", "10.0.0.15"], "held by"),
    ] {
        let error = lease(&mut a, "a", request).expect_err(words).to_string();
        assert!(error.contains(words), "{error:?} should say {words:?}");
        assert!(a.held_by(&key("a")).is_empty());
    }
    assert_eq!(lease(&mut a, "a", &["fd00::7"]).expect("still free"), "10.0.0.10/24 fd00::7/64");
}

#[test]
fn h11_a_released_address_rests_until_all_others_had_their_turn() {
    let mut a = fresh(&[&["10.0.0.0/29"]]);
    let mut got = Vec::new();
    for turn in 0..7 {
        got.push(lease(&mut a, "a", &[]).expect("a lease"));
        a.release(&key("a"), turn);
    }
    let last: Vec<&str> = got.iter().map(|g| &g[7..8]).collect();
    assert_eq!(last, ["2", "3", "4", "5", "6", "2", "3"]);
}

#[test]
fn h13_the_next_range_follows_the_last_address_of_one_and_the_first_the_last() {
    let two = sets(&[&["10.0.0.0/30", "10.0.1.0/30"]]);
    let mut a = Allocator::new(two, [released("10.0.0.2", 1)]);
    assert_eq!(lease(&mut a, "a", &[]).expect("advance"), "10.0.1.2/30");
    assert_eq!(lease(&mut a, "b", &[]).expect("wrap"), "10.0.0.2/30");
    let three = sets(&[&["10.0.0.0/30", "10.0.1.0/30", "10.0.2.0/30"]]);
    let mut a = Allocator::new(three, [released("10.0.2.2", 1)]);
    assert_eq!(lease(&mut a, "a", &[]).expect("wrap"), "10.0.0.2/30");
}

#[test]
fn h14_exhaustion_names_the_set_and_changes_nothing() {
    for ranges in [&["10.0.0.0/30"][..], &["10.0.0.0/29"], &["10.0.0.0/30", "10.0.1.0/30"]] {
        let mut a = fresh(&[&["fd00::/64"], ranges]);
        let [first, second] = a.usage()[..] else { panic!("two sets") };
        assert_eq!(first.capacity, u128::from(u64::MAX) - 1);
        for n in 0..second.capacity {
            lease(&mut a, &format!("c{n}"), &[]).expect("a lease");
        }
        assert_eq!(a.usage()[1].free(), 0);
        let LeaseError::Exhausted { set, subnets, ranges: text } =
            lease(&mut a, "late", &[]).expect_err("exhausted")
        else {
            panic!("exhausted")
        };
        assert_eq!((set, subnets), (1, ranges.join(", ")));
        assert!(text.starts_with("10.0.0.1-10.0.0."), "{text}");
        assert!(a.held_by(&key("late")).is_empty());
        assert_eq!(a.usage()[0].held, second.capacity, "nothing of the other set is kept");
        a.release(&key("c0"), 1);
        assert!(lease(&mut a, "late", &[]).is_ok(), "released is free at once");
    }
}

#[test]
fn h17_defaults_leave_out_network_gateway_and_broadcast() {
    let mut a = fresh(&[&["192.0.2.0/25"]]);
    assert_eq!(a.usage()[0].capacity, 125);
    let all: Vec<String> =
        (0..125).map(|n| lease(&mut a, &format!("c{n}"), &[]).expect("a lease")).collect();
    assert_eq!([&all[0][..], &all[124]], ["192.0.2.2/25", "192.0.2.126/25"]);
    assert!(lease(&mut a, "late", &[]).is_err());
}

#[test]
fn the_ends_of_the_address_space_are_addresses() {
    let mut a = fresh(&[
        &["255.255.255.252/30,255.255.255.253,255.255.255.255"],
        &["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff8/125"],
    ]);
    for n in 0..2 {
        lease(&mut a, &format!("c{n}"), &[]).expect("a lease");
    }
    assert!(matches!(lease(&mut a, "x", &[]), Err(LeaseError::Exhausted { set: 0, .. })));
}

#[test]
fn a_network_without_ranges_leases_nothing_and_grants_no_wish() {
    let mut a = Allocator::new(Vec::new(), []);
    assert_eq!(lease(&mut a, "a", &[]).expect("nothing"), "");
    assert!(matches!(lease(&mut a, "a", &["10.0.0.2"]), Err(LeaseError::OutOfRange { .. })));
}

#[test]
fn reshaping_takes_nothing_away_and_forgets_no_rest() {
    let mut a = fresh(&[&["10.0.0.0/29"]]);
    for c in ["a", "b"] {
        lease(&mut a, c, &[]).expect("a lease");
    }
    a.release(&key("b"), 5);
    a.reshape(sets(&[&["10.9.0.0/30"]]), &[]);
    assert_eq!(a.held_by(&key("a")), ips(&["10.0.0.2"]));
    assert_eq!(a.usage()[0].held, 0, "what lies outside does not fill the pool");
    assert_eq!(lease(&mut a, "c", &[]).expect("of the new range"), "10.9.0.2/30");
    a.reshape(sets(&[&["10.0.0.0/29"]]), &[]);
    assert_eq!(a.usage()[0].held, 1);
    assert_eq!(lease(&mut a, "d", &[]).expect("fresh first"), "10.0.0.4/29");
    assert_eq!(a.release(&key("c"), 6), ips(&["10.9.0.2"]));
}

#[test]
fn a_gateway_that_moves_onto_an_idle_address_takes_it() {
    let known = [released("10.0.0.2", 1), released("10.0.0.3", 2)];
    let mut moved = sets(&[&["10.0.0.0/29,10.0.0.2,10.0.0.3"]]);
    moved[0].0[0].gateway = ip("10.0.0.2");
    let mut a = Allocator::new(moved, known);
    assert_eq!(lease(&mut a, "a", &[]).expect("the other one"), "10.0.0.3/29");
    assert!(matches!(lease(&mut a, "b", &[]), Err(LeaseError::Exhausted { .. })));
}

#[test]
fn the_first_holder_of_an_address_told_twice_keeps_it() {
    let held = |owner| Known { address: ip("10.0.0.2"), state: KnownState::Held(key(owner)) };
    let known = [held("a"), released("10.0.0.2", 9), held("b")];
    let a = Allocator::new(sets(&[&["10.0.0.0/29"]]), known);
    assert_eq!(a.holder(ip("10.0.0.2")), Some(&key("a")));
    assert!(a.held_by(&key("b")).is_empty());
}

#[test]
fn a_pool_without_end_remembers_a_bounded_number_of_idle_addresses() {
    let mut a = fresh(&[&["fd00::/64"]]);
    for turn in 0..IDLE_OF_LARGE as u64 {
        lease(&mut a, "a", &[]).expect("a lease");
        a.release(&key("a"), turn);
    }
    assert_eq!(lease(&mut a, "a", &[]).expect("the longest idle"), "fd00::2/64");
    assert_eq!(lease(&mut a, "b", &[]).expect("a fresh one"), "fd00::402/64");
}

/// `cargo test --release -p quantum-cni --lib ipam -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn measure_a_lease_in_an_empty_and_in_a_full_pool() {
    const ROUNDS: u64 = 200_000;
    for (subnet, fill) in [("10.0.0.0/16", 0), ("10.0.0.0/16", 64_877), ("fd00::/64", 64_877)] {
        let mut a = fresh(&[&[subnet]]);
        for n in 0..fill {
            lease(&mut a, &format!("fill{n}"), &[]).expect("a lease");
        }
        let owner = key("a");
        let start = Instant::now();
        for turn in 0..ROUNDS {
            a.lease(&owner, &[], &[]).expect("a lease");
            a.release(&owner, turn);
        }
        let each = start.elapsed().as_nanos() / u128::from(ROUNDS);
        println!("{subnet} with {fill} held: {each} ns for a lease and its release");
    }
}
