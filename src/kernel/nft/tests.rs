//! The tables in a network namespace of the test's own, seen by `nft` as operators see it.

use quantum_config::cni::{Genuine, Transport};
use quantum_config::ids::{IfName, Mac};
use quantum_config::prefixes::Prefixes;
use serde_json::Value;

use super::{Kept, NftError, Table, skeleton};
use crate::attach::{Element, PublishedAt, Trait};
use crate::kernel::testing::{in_namespace, run};

pub(super) fn masquerade(address: &str) -> Element {
    Element::Masquerade { address: address.parse().expect("an address") }
}

pub(super) fn home(address: &str, bridge: &str) -> Element {
    Element::Home {
        address: address.parse().expect("an address"),
        bridge: IfName::new(bridge).expect("a name"),
    }
}

pub(super) fn open() -> Table {
    Table::open(Kept::default()).expect("a table")
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
        skeleton::apply("").expect("the skeleton");
        let mut table = open();
        let all = [
            home("10.0.0.2", "quantum0"),
            home("fd00::2", "fifteen-bytes-x"),
            masquerade("10.0.0.2"),
            masquerade("fd00::2"),
        ];
        table.add(&all).expect("added");
        assert_eq!(elements("masq4"), ["10.0.0.2"]);
        assert_eq!(elements("home4"), ["10.0.0.2 . quantum0"]);
        assert_eq!(elements("masq6"), ["fd00::2"]);
        assert_eq!(elements("home6"), ["fd00::2 . fifteen-bytes-x"]);
        assert_eq!(table.list().expect("a list"), all);
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
fn what_is_not_masqueraded_is_what_the_last_daemon_was_told() {
    in_namespace(&["nft"], || {
        let start = |blocks: &[&str]| {
            let blocks = Prefixes::new(blocks.iter().copied()).expect("blocks");
            let mut table = Table::open(Kept::new(&blocks, false)).expect("a table");
            table.heal().expect("the tables");
            table
        };
        let has = |set: &str, blocks: &str| {
            let text = run(&format!("nft list set inet quantum {set}"));
            let words: Vec<&str> = text.split_whitespace().collect();
            let words = words.join(" ");
            match blocks {
                "" => assert!(!words.contains("elements"), "{words}"),
                some => assert!(words.contains(&format!("elements = {{ {some} }}")), "{words}"),
            }
        };
        start(&["10.0.0.0/8", "fd00::/8"]);
        // One that was, and is still, beside one within what was: in one transaction.
        let mut table = start(&["10.0.0.0/9", "10.128.0.0/9", "192.0.2.0/24", "fd00::/8"]);
        let all = "10.0.0.0/9, 10.128.0.0/9, 192.0.2.0/24";
        has("unmasq4", all);
        has("unmasq6", "fd00::/8");
        assert!(table.harm().expect("a look").is_none());
        for harm in
            ["flush set inet quantum unmasq4", "add element inet quantum unmasq4 { 1.0.0.0/8 }"]
        {
            run(&format!("nft {harm}"));
            let found = table.harm().expect("a look");
            assert_eq!(found.to_string(), "set inet quantum unmasq4", "{harm}");
            table.undo(&found).expect("undone");
            has("unmasq4", all);
            assert!(table.harm().expect("a look").is_none());
        }
        start(&["0.0.0.0/0", "::/0"]);
        has("unmasq4", "0.0.0.0/0");
        has("unmasq6", "::/0");
        start(&[]);
        has("unmasq4", "");
        has("unmasq6", "");
    });
}

#[test]
fn a_published_port_means_one_container() {
    in_namespace(&["nft"], || {
        skeleton::apply("").expect("the skeleton");
        let mut table = open();
        let port = |at, address: &str, port| Element::Published {
            transport: Transport::Tcp,
            at,
            host_port: 8080,
            address: address.parse().expect("an address"),
            port,
        };
        let host = PublishedAt::Address("192.0.2.1".parse().expect("an address"));
        let all = [
            port(PublishedAt::Everywhere, "10.0.0.2", 80),
            port(host, "10.0.0.3", 80),
            port(PublishedAt::Loopback, "10.0.0.2", 80),
            port(PublishedAt::Everywhere, "fd00::2", 80),
        ];
        table.add(&all).expect("added");
        run("nft list ruleset");
        assert!(run("nft list map inet quantum port4").contains("tcp . 8080 : 10.0.0.2 . 80"));
        let one = run("nft list map inet quantum addrport4");
        assert!(one.contains("192.0.2.1 . tcp . 8080 : 10.0.0.3 . 80"), "{one}");
        assert!(table.has(&all[1]).expect("an answer"));
        let other = port(PublishedAt::Everywhere, "10.0.0.9", 81);
        assert!(!table.has(&other).expect("an answer"), "the same port means another container");
        let error = table.add(&[other]).expect_err("taken");
        assert!(matches!(error, NftError::Conflict { .. }), "{error}");
        let mut listed = table.list().expect("a list");
        listed.sort_by_key(|e| all.iter().position(|a| a == e));
        assert_eq!(listed, all);
        table.remove(&all).expect("removed");
        assert_eq!(table.list().expect("a list"), []);
    });
}

#[test]
fn the_skeleton_can_be_applied_over_itself() {
    in_namespace(&["nft"], || {
        skeleton::apply("").expect("the skeleton");
        let mut table = open();
        table.add(&[masquerade("10.0.0.2"), home("10.0.0.2", "quantum0")]).expect("added");
        let before = run("nft list ruleset");
        skeleton::apply("").expect("the skeleton again");
        assert_eq!(run("nft list ruleset"), before, "neither rules doubled nor elements lost");
        run("nft add table ip somebody");
        skeleton::apply("").expect("the skeleton again");
        assert!(run("nft list tables").contains("ip somebody"));
        assert!(before.contains("ip saddr . oifname @home4 accept"), "{before}");
    });
}

#[test]
fn a_table_that_was_taken_away_is_made_again_with_all_that_is_kept() {
    in_namespace(&["nft"], || {
        let mut table = open();
        let (one, other) = (home("10.0.0.2", "quantum0"), home("10.0.0.3", "quantum0"));
        let port = IfName::new("qc0").expect("a name");
        let seen = Element::Port { port, mac: Mac([2; 6]), genuine: Genuine::Addresses };
        table.add(std::slice::from_ref(&seen)).expect("added");
        for harm in [
            "nft flush ruleset",
            "nft delete table inet quantum",
            "nft delete table bridge quantum",
            "nft flush set inet quantum home4",
            "nft flush chain inet quantum across",
            "nft insert rule bridge quantum prerouting accept",
            "nft add chain inet quantum forward { policy drop; }",
            "nft add element bridge quantum loose { qc9 }",
        ] {
            table.add(std::slice::from_ref(&one)).expect("added");
            run(harm);
            let done = table.harm().expect("an answer");
            assert!(!done.is_none() && !done.to_string().is_empty(), "{harm}");
            table.undo(&done).expect("undone");
            assert!(table.harm().expect("an answer").is_none(), "{harm}");
            assert!(table.has(&one).expect("an answer"), "{harm}");
            assert!(run("nft list tables").contains("bridge quantum"), "{harm}");
        }
        run("nft flush ruleset");
        table.add(std::slice::from_ref(&other)).expect("added");
        assert_eq!(elements("home4").len(), 2, "what is added brings the others back");
    });
}

#[test]
fn sets_are_brought_to_what_is_wanted() {
    in_namespace(&["nft"], || {
        let mut table = open();
        let network =
            |trait_| Element::Network { bridge: IfName::new("quantum0").expect("a name"), trait_ };
        let (stays, goes, comes) =
            (masquerade("10.0.0.2"), masquerade("10.0.0.3"), masquerade("10.0.0.4"));
        table.add(&[stays.clone(), goes, network(Trait::Closed)]).expect("added");
        let mut next = open();
        next.reconcile(vec![stays.clone(), comes.clone()], std::sync::Arc::default())
            .expect("reconciled");
        assert_eq!(elements("masq4"), ["10.0.0.2", "10.0.0.4"]);
        assert_eq!(elements("closed"), ["quantum0"], "a network stays closed until it is opened");
        run("nft add element inet quantum inward { quantum1 . quantum0 }");
        next.reconcile(vec![stays.clone(), comes.clone()], std::sync::Arc::default())
            .expect("reconciled");
        assert!(elements("inward").is_empty(), "no network has two bridges");
        next.reconcile(vec![], std::sync::Arc::default()).expect("reconciled");
        assert!(elements("masq4").is_empty());
        run("nft flush ruleset");
        next.heal().expect("healed");
        assert_eq!(elements("closed"), ["quantum0"], "also when nobody has used it since");
    });
}

#[test]
fn a_set_that_is_lost_voids_no_removal() {
    in_namespace(&["nft"], || {
        skeleton::apply("").expect("the skeleton");
        let mut table = open();
        let elements_ = [masquerade("10.0.0.2"), home("10.0.0.2", "quantum0")];
        table.add(&elements_).expect("added");
        run("nft flush table inet quantum");
        run("nft delete set inet quantum home4");
        table.remove(&elements_).expect("removed");
        assert!(elements("masq4").is_empty());
    });
}

#[test]
fn a_kernel_without_destroying_is_served_as_well() {
    in_namespace(&["nft"], || {
        skeleton::apply("").expect("the skeleton");
        let mut table = open();
        table.forget_destroying();
        let all = [masquerade("10.0.0.2"), masquerade("fd00::2")];
        table.add(&all).expect("added");
        table.remove(&all[..1]).expect("removed");
        table.remove(&all).expect("removed, of which some were not there");
        assert_eq!(table.list().expect("a list"), []);
    });
}

#[test]
fn many_elements_are_one_transaction() {
    in_namespace(&["nft"], || {
        let mut table = open();
        let all: Vec<Element> =
            (0..5000).map(|n| masquerade(&format!("10.1.{}.{}", n / 250, n % 250))).collect();
        table.add(&all).expect("added");
        assert_eq!(table.list().expect("a list").len(), 5000);
        table.remove(&all).expect("removed");
        assert_eq!(table.list().expect("a list"), []);
    });
}

#[test]
fn what_is_translated_is_what_nft_would_have_made() {
    in_namespace(&["nft"], || {
        let blocks = Prefixes::new(["10.0.0.0/8", "fd00::/8"].into_iter()).expect("blocks");
        skeleton::apply(&skeleton::unmasked(&blocks)).expect("by nft itself");
        let (text, json) = (run("nft list ruleset"), run("nft -j list ruleset"));
        run("nft flush ruleset");
        let mut table = Table::open(Kept::new(&blocks, false)).expect("a table");
        table.heal().expect("by us");
        assert_eq!(run("nft list ruleset"), text);
        // Handles are the kernel's.
        let bare = |json: &str| {
            let mut value: Value = serde_json::from_str(json).expect("JSON");
            for object in value["nftables"].as_array_mut().expect("a list") {
                for (_, about) in object.as_object_mut().expect("an object") {
                    about.as_object_mut().expect("an object").remove("handle");
                }
            }
            value
        };
        assert_eq!(bare(&run("nft -j list ruleset")), bare(&json));
        assert!(table.harm().expect("a look").is_none());
    });
}

/// Whether `nft` can do this.
fn can(command: &str) -> bool {
    let words = command.split_whitespace();
    let status = std::process::Command::new("nft").args(words).status();
    status.expect("nft").success()
}

#[test]
fn tables_that_are_ours_are_changed_by_nobody_else_and_taken_over_by_the_next_daemon() {
    in_namespace(&["nft"], || {
        let start = |is_owner| {
            let mut table =
                Table::open(Kept::new(&Prefixes::default(), is_owner)).expect("a table");
            table.reconcile(vec![home("10.0.0.2", "quantum0")], Default::default()).expect("begun");
            table
        };
        // One that belongs to nobody becomes ours.
        drop(start(false));
        let table = start(true);
        if table.flags() == 0 {
            return println!("skipped: the kernel has no tables with an owner that outlive it");
        }
        let before = run("nft list ruleset");
        assert!(before.contains("10.0.0.2 . \"quantum0\""), "{before}");
        assert!(can("flush ruleset"));
        for harm in [
            "delete table inet quantum",
            "delete table bridge quantum",
            "flush chain inet quantum forward",
            "insert rule inet quantum forward accept",
            "add element inet quantum home4 { 10.0.0.3 . quantum0 }",
            "flush set inet quantum home4",
        ] {
            assert!(!can(harm), "{harm}");
        }
        assert_eq!(run("nft list ruleset"), before);
        drop(table);
        assert!(run("nft list ruleset").contains("10.0.0.2 . \"quantum0\""), "it outlives us");
        let mut table = start(true);
        assert!(!can("delete table inet quantum"), "it is ours again");
        assert!(table.harm().expect("a look").is_none());
        table.add(&[home("10.0.0.4", "quantum0")]).expect("added");
        // Whatever nft there is can list what is left behind by one that ends in order.
        table.leave().expect("left");
        drop(table);
        let json: Value = serde_json::from_str(&run("nft -j list ruleset")).expect("JSON");
        assert!(json["nftables"].is_array());
        assert!(run("nft list ruleset").contains("10.0.0.4 . \"quantum0\""));
        // And one that was somebody's becomes nobody's, for a daemon that is not to own it.
        let mut table = start(false);
        assert!(can("flush chain inet quantum forward"));
        assert!(!table.harm().expect("a look").is_none());
        run("nft flush ruleset");
    });
}
