//! The table in a network namespace of the test's own, seen by `nft` as operators see it.

use std::time::Instant;

use quantum_config::ids::IfName;
use serde_json::Value;

use super::{NftError, Table, skeleton};
use crate::attach::Element;
use crate::kernel::testing::{in_namespace, run};

pub(super) fn masquerade(address: &str, bridge: &str) -> Element {
    Element::Masquerade {
        address: address.parse().expect("an address"),
        bridge: IfName::new(bridge).expect("a name"),
    }
}

/// The elements of a set as `nft` prints them, sorted. The text form is printed too: it must not fail.
fn elements(set: &str) -> Vec<String> {
    run("nft list ruleset");
    let json: Value = serde_json::from_str(&run("nft -j list ruleset")).expect("json");
    let sets = json["nftables"].as_array().expect("a list").iter().map(|o| &o["set"]);
    let found = sets.into_iter().find(|s| s["name"] == set).expect("the set");
    let none = Vec::new();
    let text = |e: &Value| match &e["concat"] {
        Value::Array(fields) => {
            fields.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" . ")
        }
        _ => e.as_str().expect("text").to_owned(),
    };
    let mut all: Vec<String> = found["elem"].as_array().unwrap_or(&none).iter().map(text).collect();
    all.sort();
    all
}

#[test]
fn elements_come_and_go_and_nft_prints_them() {
    in_namespace(&["nft"], || {
        skeleton::apply().expect("the skeleton");
        let mut table = Table::open().expect("a table");
        let all = [
            masquerade("10.0.0.2", "quantum0"),
            masquerade("10.0.0.3", "fifteen-bytes-x"),
            masquerade("fd00::2", "quantum0"),
        ];
        table.add(&all).expect("added");
        assert_eq!(elements("masq4"), ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(elements("home4"), ["10.0.0.2 . quantum0", "10.0.0.3 . fifteen-bytes-x"]);
        assert_eq!(elements("masq6"), ["fd00::2"]);
        assert_eq!(elements("home6"), ["fd00::2 . quantum0"]);
        let mut listed = table.list().expect("a list");
        listed.sort_by_key(|element| match element {
            Element::Masquerade { address, .. } => Some(*address),
            Element::Guard { .. } => None,
        });
        assert_eq!(listed, all);
        table.add(&all).expect("added again");
        assert!(table.has(&all[1]).expect("an answer"));
        table.remove(&all[..2]).expect("removed");
        assert!(!table.has(&all[1]).expect("an answer"));
        assert_eq!(table.list().expect("a list"), all[2..]);
        table.remove(&all).expect("removed, of which some were not there");
        assert!(elements("home6").is_empty() && elements("masq4").is_empty());
        table.remove(&all).expect("removed twice");
        table.remove(&[]).expect("nothing removed");
    });
}

#[test]
fn the_skeleton_can_be_applied_over_itself() {
    in_namespace(&["nft"], || {
        skeleton::apply().expect("the skeleton");
        let mut table = Table::open().expect("a table");
        table.add(&[masquerade("10.0.0.2", "quantum0")]).expect("added");
        let before = run("nft list ruleset");
        skeleton::apply().expect("the skeleton again");
        assert_eq!(run("nft list ruleset"), before, "neither rules doubled nor elements lost");
        run("nft add table ip somebody");
        skeleton::apply().expect("the skeleton again");
        assert!(run("nft list tables").contains("ip somebody"));
        assert!(before.contains("ip saddr . oifname @home4 accept"), "{before}");
    });
}

#[test]
fn a_flushed_table_is_told_and_can_be_made_again() {
    in_namespace(&["nft"], || {
        let element = &[masquerade("10.0.0.2", "quantum0")];
        let mut table = Table::open().expect("opened before there is a table");
        for flush in ["nft flush ruleset", "nft delete table inet quantum"] {
            skeleton::apply().expect("the skeleton");
            table.add(element).expect("added");
            run(flush);
            let error = table.add(element).expect_err("no table");
            assert!(matches!(error, NftError::SkeletonLost { .. }), "{error}");
            assert!(error.to_string().contains("10.0.0.2"), "{error}");
            assert!(matches!(table.list(), Err(NftError::SkeletonLost { .. })));
            assert!(!table.has(&element[0]).expect("an answer"));
            table.remove(element).expect("gone is gone");
        }
    });
}

#[test]
fn a_set_that_is_lost_voids_an_addition_and_no_removal() {
    in_namespace(&["nft"], || {
        skeleton::apply().expect("the skeleton");
        let mut table = Table::open().expect("a table");
        let element = &[masquerade("10.0.0.2", "quantum0")];
        table.add(element).expect("added");
        run("nft flush chain inet quantum postrouting");
        run("nft delete set inet quantum home4");
        let other = masquerade("10.0.0.3", "quantum0");
        let error = table.add(&[other]).expect_err("no set");
        assert!(error.to_string().contains("10.0.0.3 . quantum0 in set home4"), "{error}");
        assert_eq!(elements("masq4"), ["10.0.0.2"], "nothing of a failed transaction stays");
        table.remove(element).expect("removed");
        assert!(elements("masq4").is_empty());
    });
}

#[test]
fn a_kernel_without_destroying_is_served_as_well() {
    in_namespace(&["nft"], || {
        skeleton::apply().expect("the skeleton");
        let mut table = Table::open().expect("a table");
        table.forget_destroying();
        let all = [masquerade("10.0.0.2", "quantum0"), masquerade("fd00::2", "quantum0")];
        table.add(&all).expect("added");
        table.remove(&all[..1]).expect("removed");
        table.remove(&all).expect("removed, of which some were not there");
        assert_eq!(table.list().expect("a list"), []);
    });
}

#[test]
fn many_elements_are_one_transaction_and_one_refusal() {
    in_namespace(&["nft"], || {
        let mut table = Table::open().expect("a table");
        let all: Vec<Element> = (0..5000)
            .map(|n| masquerade(&format!("10.1.{}.{}", n / 250, n % 250), "quantum0"))
            .collect();
        assert!(matches!(table.add(&all), Err(NftError::SkeletonLost { .. })));
        skeleton::apply().expect("the skeleton");
        table.add(&all).expect("added");
        assert_eq!(table.list().expect("a list").len(), 5000);
        table.remove(&all).expect("removed");
        assert_eq!(table.list().expect("a list"), []);
    });
}

/// `cargo test --release -p quantum-cni --lib nft -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn measure_one_endpoint() {
    in_namespace(&["nft"], || {
        let start = Instant::now();
        skeleton::apply().expect("the skeleton");
        println!("skeleton: {:?}", start.elapsed());
        let mut table = Table::open().expect("a table");
        for fill in [0, 5000] {
            let others: Vec<Element> = (0..fill)
                .map(|n| masquerade(&format!("10.1.{}.{}", n / 250, n % 250), "quantum0"))
                .collect();
            table.add(&others).expect("added");
            let one = [masquerade("10.0.0.2", "quantum0")];
            let (mut adds, mut removes) = (Vec::new(), Vec::new());
            for _ in 0..1000 {
                let start = Instant::now();
                table.add(&one).expect("added");
                adds.push(start.elapsed());
                let start = Instant::now();
                table.remove(&one).expect("removed");
                removes.push(start.elapsed());
            }
            for (what, times) in [("add", &mut adds), ("remove", &mut removes)] {
                times.sort();
                println!("{what} beside {fill}: p50 {:?}, p99 {:?}", times[500], times[990]);
            }
        }
    });
}
