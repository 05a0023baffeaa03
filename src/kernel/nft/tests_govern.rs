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

const DOOR: &str = "eg_00000000000000aa_door";
const OTHER: &str = "eg_fedcba9876543210";

/// Rules with a door that leads to the only chain.
pub(super) fn through(chain: &str) -> Arc<Rules> {
    let mut all = Rules::clone(&rules(&[chain], &[]));
    all.doors.insert(ChainName::new(DOOR), ChainName::new(chain));
    Arc::new(all)
}

/// An endpoint is behind the door, which leads to [`EGRESS`].
pub(super) fn behind_a_door() -> Table {
    let mut table = open();
    table.reconcile(Vec::new(), Arc::default()).expect("in order");
    let change = Changes {
        rules: through(EGRESS),
        add: vec![judged(DOOR)],
        anew: true,
        ..Changes::default()
    };
    table.govern(change).expect("governed");
    table
}

fn leads() -> String {
    let listed = run(&format!("nft list chain inet quantum {DOOR}"));
    let gotos: Vec<&str> = listed.lines().filter_map(|l| l.trim().strip_prefix("goto ")).collect();
    gotos.join(" ")
}

#[test]
fn a_door_leads_elsewhere_with_the_epoch_and_its_endpoints_stay_behind_it() {
    in_namespace(&["nft"], || {
        let mut table = behind_a_door();
        let first = mark();
        assert_eq!(leads(), EGRESS);
        let change = Changes { rules: through(OTHER), anew: true, ..Changes::default() };
        table.govern(change).expect("governed");
        assert_eq!(leads(), OTHER);
        assert_ne!(mark(), first);
        let all = run("nft list ruleset");
        assert!(!all.contains(EGRESS), "{all}");
        assert!(table.has(&judged(DOOR)).expect("an answer"));
        assert!(table.harm().expect("a look").is_none());

        // What others do to it is seen, whether the door was made by nft or by us.
        for harm in ["flush chain", "insert rule"] {
            let rest = if harm == "flush chain" { "" } else { " accept" };
            run(&format!("nft {harm} inet quantum {DOOR}{rest}"));
            let found = table.harm().expect("a look");
            assert!(!found.is_none(), "{harm}");
            table.undo(&found).expect("put right");
            assert!(table.harm().expect("a look").is_none(), "{harm}");
            assert_eq!(leads(), OTHER);
        }

        // A chain that was left is no hindrance, and neither is a table that is gone.
        run(&format!("nft add chain inet quantum {EGRESS}"));
        let change = Changes { rules: through(EGRESS), anew: true, ..Changes::default() };
        table.govern(change).expect("governed");
        assert_eq!(leads(), EGRESS);
        run("nft flush ruleset");
        let change = Changes { rules: through(OTHER), anew: true, ..Changes::default() };
        table.govern(change).expect("governed");
        assert_eq!(leads(), OTHER);
        assert!(table.has(&judged(DOOR)).expect("an answer"));
        assert!(table.harm().expect("a look").is_none());
    });
}

#[test]
fn a_door_that_cannot_lead_there_goes_on_leading_where_it_led() {
    in_namespace(&["nft"], || {
        let mut table = behind_a_door();
        let (first, before) = (mark(), run("nft list ruleset"));
        let mut nowhere = Rules::clone(&through(EGRESS));
        nowhere.doors.insert(ChainName::new(DOOR), ChainName::new(OTHER));
        let rules = Arc::new(nowhere);
        let change = Changes { rules, anew: true, ..Changes::default() };
        let error = table.govern(change).expect_err("there is no such chain").to_string();
        assert!(error.contains(&format!("{DOOR} goto {OTHER}")), "{error}");
        assert_eq!((mark(), run("nft list ruleset")), (first, before));
        assert!(table.harm().expect("a look").is_none());
    });
}

#[test]
fn another_daemon_has_the_doors_lead_where_they_should() {
    in_namespace(&["nft"], || {
        drop(behind_a_door());
        let (first, before) = (mark(), run("nft list ruleset"));
        open().reconcile(vec![judged(DOOR)], through(EGRESS)).expect("in order");
        assert_eq!((mark(), run("nft list ruleset")), (first.clone(), before), "nothing differs");

        let mut table = open();
        table.reconcile(vec![judged(DOOR)], through(OTHER)).expect("in order");
        assert_eq!(leads(), OTHER);
        assert_ne!(mark(), first);
        assert!(!run("nft list ruleset").contains(EGRESS));
        let harm = table.harm().expect("a look");
        assert!(harm.is_none(), "{harm}");

        // One that does something else is put right as well.
        run(&format!("nft insert rule inet quantum {DOOR} accept"));
        let mut table = open();
        table.reconcile(vec![judged(DOOR)], through(OTHER)).expect("in order");
        assert!(!run(&format!("nft list chain inet quantum {DOOR}")).contains("accept"));
        assert_eq!(leads(), OTHER);
        assert!(table.harm().expect("a look").is_none());

        // From a daemon whose elements led to the chains themselves.
        run("nft flush ruleset");
        let mut table = open();
        table.reconcile(vec![judged(EGRESS)], rules(&[EGRESS], &[])).expect("in order");
        let mut table = open();
        table.reconcile(vec![judged(DOOR)], through(EGRESS)).expect("in order");
        assert!(table.has(&judged(DOOR)).expect("an answer"));
        assert_eq!(leads(), EGRESS);
        assert!(table.harm().expect("a look").is_none());
    });
}
