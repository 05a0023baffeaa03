//! Repairs among others who do not stop: whatever somebody does between whichever steps of ours, the next
//! look puts all of it right.

use std::cell::RefCell;
use std::process::{Command, Stdio};

use super::Table;
use super::tests::{home, masquerade};
use super::tests_govern::{behind_a_door, through};
use crate::kernel::testing::{in_namespace, run};
use crate::policy::Changes;

thread_local! {
    static BETWEEN: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
}

/// Whoever comes between two steps of ours on this thread.
pub(super) fn interfere() {
    // What interferes is not interfered with.
    let Some(mut somebody) = BETWEEN.take() else { return };
    somebody();
    BETWEEN.set(Some(somebody));
}

/// What others do. Where it cannot be done, nothing is.
const HARMS: [&str; 9] = [
    "flush ruleset",
    "delete table inet quantum",
    "delete table bridge quantum",
    "flush chain inet quantum forward",
    "flush set inet quantum home4",
    "add element inet quantum home4 { 10.9.9.9 . somebody }",
    "insert rule inet quantum judge accept",
    "add table inet quantum { flags dormant; }",
    // A firewall that puts back what it saved, some of it other than ours.
    "flush ruleset ; add table inet quantum ; add set inet quantum home4 { type ether_addr ; } ; \
     add chain inet quantum forward",
];

fn harm(command: &str) {
    let mut nft = Command::new("nft");
    nft.arg(command).stderr(Stdio::null());
    nft.status().expect("nft");
}

/// What our tables are like, but for the mark of what was judged, which every change has anew.
fn tables() -> Vec<String> {
    let marked =
        |word: &str| if word.starts_with("0x5a") { "MARK".to_owned() } else { word.to_owned() };
    let text = run("nft -s list ruleset");
    let of = |line: &str| line.split([' ', ',']).map(marked).collect::<Vec<_>>().join(" ");
    let mut lines: Vec<String> = text.lines().map(of).collect();
    // Chains and sets come in the order in which they were made.
    lines.sort();
    lines
}

/// Does something while somebody does `command` at the steps that `when` chooses; gives how many there were.
fn amid(
    command: &'static str,
    when: impl Fn(usize) -> bool + 'static,
    work: impl FnOnce(),
) -> usize {
    thread_local! { static STEPS: RefCell<usize> = const { RefCell::new(0) }; }
    STEPS.set(0);
    BETWEEN.set(Some(Box::new(move || {
        let step = STEPS.take();
        STEPS.set(step + 1);
        if when(step) {
            harm(command);
        }
    })));
    work();
    BETWEEN.take();
    STEPS.take()
}

fn is_put_right(table: &mut Table, wanted: &[String], what: &str) {
    let seen = table.harm().expect("a look");
    table.undo(&seen).unwrap_or_else(|e| panic!("{what}: {e}"));
    let left = table.harm().expect("a look");
    assert!(left.is_none(), "{what}: {left}");
    let now = tables();
    let besides = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|line| !b.contains(line)).cloned().collect()
    };
    assert!(now == wanted, "{what}: -{:?} +{:?}", besides(wanted, &now), besides(&now, wanted));
}

#[test]
fn whatever_comes_between_whichever_steps_the_next_look_puts_it_right() {
    in_namespace(&["nft"], || {
        let mut table = behind_a_door();
        let wanted = tables();
        let extra = [home("10.0.0.7", "quantum0"), masquerade("10.0.0.7")];
        type Work = fn(&mut Table, &[crate::attach::Element]);
        let works: [(&str, Work); 3] = [
            ("a repair", |table, _| {
                run("nft flush ruleset");
                let seen = table.harm().expect("a look");
                let _ = table.undo(&seen);
            }),
            ("an ADD", |table, extra| {
                let _ = table.add(extra);
                let _ = table.remove(extra);
            }),
            ("a change of policy", |table, _| {
                for to in ["eg_fedcba9876543210", "eg_0123456789abcdef"] {
                    let rules = through(to);
                    let _ = table.govern(Changes { rules, anew: true, ..Changes::default() });
                }
                // It may have failed, and is tried again until it does not.
                BETWEEN.take();
                let rules = through("eg_0123456789abcdef");
                table
                    .govern(Changes { rules, anew: true, ..Changes::default() })
                    .expect("governed");
            }),
        ];
        let mut tried = 0;
        for (name, work) in works {
            for command in HARMS {
                let steps = amid(command, |_| true, || work(&mut table, &extra));
                is_put_right(&mut table, &wanted, &format!("{name}, {command} always"));
                for at in 0..steps.max(1) {
                    amid(command, move |step| step == at, || work(&mut table, &extra));
                    is_put_right(&mut table, &wanted, &format!("{name}, {command} at {at}"));
                    tried += 1;
                }
            }
        }
        println!("{tried} interruptions");
        assert!(tried > 60, "{tried}");
    });
}
