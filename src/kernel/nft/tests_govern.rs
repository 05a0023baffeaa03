//! What policy has in our tables, seen by `nft`.

use std::sync::Arc;

use quantum_config::cni::Family;
use quantum_config::ids::IfName;

use super::Table;
use super::tests::{home, open};
use crate::attach::Element;
use crate::kernel::testing::{in_namespace, run};
use crate::policy::{Chain, ChainName, Changes, Rules, SetKind, SetName, Way};

const EGRESS: &str = "eg_0123456789abcdef";
const MEMBERS: &str = "sel4_0123456789abcdef";

fn rules(chains: &[&str], sets: &[&str]) -> Arc<Rules> {
    let mut rules = Rules::default();
    for name in chains {
        rules.chains.insert(ChainName::new(name), Chain::from([]));
    }
    for name in sets {
        let kind = match name.starts_with("sel4") {
            true => SetKind::Addresses(Family::V4),
            false => SetKind::Named(Family::V6),
        };
        rules.sets.insert(SetName::new(name), kind);
    }
    Arc::new(rules)
}

fn judged(chain: &str) -> Element {
    Element::Judged {
        way: Way::Egress,
        address: "10.0.0.2".parse().expect("an address"),
        bridge: IfName::new("quantum0").expect("a name"),
        chain: ChainName::new(chain),
    }
}

fn member() -> Element {
    Element::Member { set: SetName::new(MEMBERS), address: "10.0.0.3".parse().expect("an address") }
}

fn mark() -> String {
    let set = run("nft list set inet quantum epoch");
    let (_, rest) = set.split_once("elements = { ").expect("an epoch");
    rest.split_once(' ').expect("one").0.to_owned()
}

fn governed() -> (Table, Changes) {
    let mut table = open();
    table.reconcile(vec![home("10.0.0.2", "quantum0")], Arc::default()).expect("in order");
    let change = Changes {
        rules: rules(&[EGRESS], &[MEMBERS, "named6_0123456789abcdef"]),
        remove: Vec::new(),
        add: vec![judged(EGRESS), member()],
        anew: true,
    };
    table.govern(change.clone()).expect("governed");
    (table, change)
}

#[test]
fn a_change_comes_and_goes_as_a_whole() {
    in_namespace(&["nft"], || {
        let (mut table, change) = governed();
        let first = mark();
        let all = run("nft list ruleset");
        assert!(all.contains(&format!("10.0.0.2 . \"quantum0\" : goto {EGRESS}")), "{all}");
        assert!(all.contains(&format!("set {MEMBERS}")), "{all}");
        assert!(run("nft list map inet quantum stamp").contains(&format!("ipv6 : {first}")));
        assert!(table.has(&judged(EGRESS)).expect("an answer"));
        assert!(table.has(&member()).expect("an answer"));
        assert!(!table.has(&judged("eg_fedcba9876543210")).expect("an answer"));
        assert!(table.harm().expect("a look").is_none());

        // The same connections, judged by another chain.
        let other = "eg_fedcba9876543210";
        let next = Changes {
            rules: rules(&[other], &[]),
            remove: change.add,
            add: vec![judged(other)],
            anew: true,
        };
        table.govern(next).expect("governed");
        let all = run("nft list ruleset");
        assert!(all.contains(&format!(": goto {other}")), "{all}");
        assert!(!all.contains(EGRESS) && !all.contains(MEMBERS), "{all}");
        assert_ne!(mark(), first);
        assert!(table.harm().expect("a look").is_none());
    });
}

#[test]
fn what_is_taken_away_comes_back() {
    in_namespace(&["nft"], || {
        let (mut table, _) = governed();
        for harm in [
            "flush ruleset".to_owned(),
            format!("delete element inet quantum {MEMBERS} {{ 10.0.0.3 }}"),
            "flush map inet quantum egress4".to_owned(),
            format!("add rule inet quantum {EGRESS} accept"),
            "flush set inet quantum epoch".to_owned(),
        ] {
            run(&format!("nft {harm}"));
            let found = table.harm().expect("a look");
            assert!(!found.is_none(), "{harm}");
            table.undo(&found).expect("put right");
            assert!(table.harm().expect("a look").is_none(), "{harm}");
            assert!(table.has(&judged(EGRESS)).expect("an answer"), "{harm}");
            assert!(table.has(&member()).expect("an answer"), "{harm}");
        }
    });
}

#[test]
fn another_daemon_finds_it_as_it_is_or_leaves_none_of_it() {
    in_namespace(&["nft"], || {
        let (_, change) = governed();
        // A set that was there before the others stands before them.
        let ruleset = || {
            let mut lines: Vec<String> =
                run("nft list ruleset").lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let (first, before) = (mark(), ruleset());
        let same: Vec<Element> =
            change.add.iter().cloned().chain([home("10.0.0.2", "quantum0")]).collect();
        open().reconcile(same, change.rules).expect("in order");
        assert!(ruleset() == before, "nothing differs, nobody is judged anew");
        open().reconcile(vec![home("10.0.0.2", "quantum0")], Arc::default()).expect("in order");
        let all = run("nft list ruleset");
        assert!(
            !all.contains(EGRESS) && !all.contains(MEMBERS) && !all.contains("named6_"),
            "{all}"
        );
        assert_ne!(mark(), first);
    });
}

#[test]
fn a_change_that_the_kernel_refuses_changes_nothing() {
    in_namespace(&["nft"], || {
        let (mut table, change) = governed();
        let (first, before) = (mark(), run("nft list ruleset"));
        let nowhere = Changes {
            rules: change.rules,
            remove: vec![member()],
            add: vec![judged("eg_ffffffffffffffff")],
            anew: true,
        };
        table.govern(nowhere).expect_err("there is no such chain");
        assert_eq!((mark(), run("nft list ruleset")), (first, before));
        assert!(table.harm().expect("a look").is_none());
    });
}
