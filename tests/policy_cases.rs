//! The table of cases by real packets: in each step every container asks every other one by TCP, UDP and
//! SCTP at two ports, as soon as `quantumctl` has returned, and exactly those of the table are denied.
//!
//! ```text
//!   x/a x/b x/c  y/a y/b y/c  z/a z/b z/c ── grid0 ── host
//! ```

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::network_routed::without_br_netfilter;
use crate::support::conf::with;
use crate::support::ctl::told;
use crate::support::eventually::eventually;
use crate::support::grid::{Grid, Shape, table};
use crate::support::node::Protocol;

/// Those that the table says are denied in a step.
fn denied(step: &Value) -> BTreeSet<String> {
    serde_json::from_value(step["denied"].clone()).expect("a list of names")
}

/// The host routes between the containers of a network.
fn routed() -> Value {
    json!({ "policy": { "enforcement": "routed" } })
}

/// The steps of a case.
fn steps(id: &str) -> Vec<Value> {
    let table = table();
    let mut cases = table["cases"].as_array().expect("cases").iter();
    let case = cases.find(|case| case["id"] == id).expect("a case");
    case["steps"].as_array().expect("steps").clone()
}

/// The first of them.
fn step(id: &str) -> Value {
    steps(id).remove(0)
}

/// What is judged, and in which order it comes about.
#[derive(Debug, Clone, Copy)]
struct Manner {
    protocols: &'static [Protocol],
    /// 0 is IPv4, 1 is IPv6.
    address: usize,
    /// Before a case all containers are removed, and attached under its policies.
    policy_first: bool,
}

const PLAIN: Manner = Manner { protocols: &Protocol::ALL, address: 0, policy_first: false };
/// For cases that name no block of addresses, as those are of IPv4.
const BY_IPV6: Manner =
    Manner { protocols: &[Protocol::Tcp, Protocol::Udp], address: 1, policy_first: false };

/// Goes through those cases that are chosen by their names, of which there must be so many.
#[track_caller]
fn hold(grid: &mut Grid<'_>, manner: Manner, chosen: impl Fn(&str) -> bool, count: usize) {
    let table = table();
    let id = |case: &Value| case["id"].as_str().expect("a name").to_owned();
    let cases = table["cases"].as_array().expect("cases").iter();
    let cases: Vec<&Value> = cases.filter(|case| chosen(&id(case))).collect();
    assert_eq!(cases.len(), count, "the table has other cases");
    let mut wrong = Vec::new();
    for case in cases {
        if manner.policy_first {
            grid.populate(&json!({ "pods": {} }));
        }
        for step in case["steps"].as_array().expect("steps") {
            if manner.policy_first {
                grid.govern(step);
                grid.populate(step);
            } else {
                grid.populate(step);
                grid.govern(step);
            }
            let expected = denied(step);
            let (asked, found) = grid.ask(manner.protocols, manner.address, &expected);
            let whole = step["probes"].as_u64().expect("a number") as usize;
            assert_eq!(asked, whole * manner.protocols.len() / 3, "questions");
            if !found.is_empty() {
                let (id, step) = (id(case), &step["step"]);
                let some = &found[..found.len().min(9)];
                wrong.push(format!("{id}, {step}: {} are wrong: {some:?} ...", found.len()));
            }
        }
        grid.free();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn named(names: &'static str) -> (impl Fn(&str) -> bool, usize) {
    let all = names.split_whitespace();
    (move |id: &str| names.split_whitespace().any(|name| name == id), all.count())
}

/// The fence alone has to show whatever came: nothing is waited for where nothing may come.
fn a_grid_without_policies_is_open(shape: Shape, keys: Value) {
    let world = world!();
    if keys["policy"]["enforcement"] == "routed" {
        without_br_netfilter(&world);
    }
    let _daemon = world.daemon();
    let mut grid = Grid::new(&world, shape, keys);
    grid.populate(&json!({ "pods": "default" }));
    let all: BTreeSet<String> = denied(&step("H7"));
    assert_eq!(all.len(), 432, "H7 denies everything");
    for round in ["neighbours are not known yet", "neighbours are known"] {
        let (_, came) = grid.ask(&Protocol::ALL, 0, &all);
        assert_eq!(came.len(), 432, "{round}");
    }
    let (asked, wrong) = grid.ask(&Protocol::ALL, 0, &BTreeSet::new());
    assert_eq!((asked, wrong), (432, vec![]));
}

#[test]
fn without_policies_everybody_hears_everybody() {
    a_grid_without_policies_is_open(Shape::One, json!({}));
}

#[test]
fn without_policies_everybody_hears_everybody_from_bridge_to_bridge() {
    a_grid_without_policies_is_open(Shape::ForEachNamespace, json!({}));
}

#[test]
fn without_policies_everybody_hears_everybody_where_the_host_routes() {
    a_grid_without_policies_is_open(Shape::One, routed());
}

#[test]
fn base_actions_and_peers() {
    let world = world!();
    let _daemon = world.daemon();
    let mut grid = Grid::new(&world, Shape::One, json!({}));
    hold(&mut grid, PLAIN, |id| id.starts_with(['A', 'B', 'C']), 19);
}

#[test]
fn ports_and_conflicts() {
    let world = world!();
    let _daemon = world.daemon();
    let mut grid = Grid::new(&world, Shape::One, json!({}));
    hold(&mut grid, PLAIN, |id| id.starts_with(['D', 'E']), 19);
}

#[test]
fn changes_examples_and_cluster_policies() {
    let world = world!();
    let _daemon = world.daemon();
    let mut grid = Grid::new(&world, Shape::One, json!({}));
    hold(&mut grid, PLAIN, |id| id.starts_with(['F', 'G', 'H']), 15);
}

/// In each case UDP and SCTP go on with what was there before: allowed, then as the policy has it, and allowed
/// again when it is deleted.
#[test]
fn connections_are_judged_by_what_holds_now() {
    let world = world!();
    let _daemon = world.daemon();
    let mut grid = Grid::new(&world, Shape::One, json!({}));
    grid.populate(&json!({ "pods": "default" }));
    let by = [Protocol::Udp, Protocol::Sctp];
    let mut wrong = Vec::new();
    for id in "A1 A5 A7 B2 C10 D8 D14 D20 D22 E2 E12 F2 G3 G5 H3 H5 H7 H9".split(' ') {
        for step in steps(id) {
            grid.govern(&step);
            let (_, found) = grid.ask_from(20_000, &by, 0, &denied(&step));
            wrong.extend(found.into_iter().map(|what| format!("{id}, {}: {what}", step["step"])));
        }
        grid.free();
        let (_, found) = grid.ask_from(20_000, &by, 0, &BTreeSet::new());
        wrong.extend(found.into_iter().map(|what| format!("{id}, deleted: {what}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn containers_that_come_after_the_policy_find_it_in_force() {
    let world = world!();
    let _daemon = world.daemon();
    let mut grid = Grid::new(&world, Shape::One, json!({}));
    let (chosen, count) = named("A1 A5 C10 D10 E12 F6 G3 H5 H9");
    hold(&mut grid, Manner { policy_first: true, ..PLAIN }, chosen, count);
}

#[test]
fn a_bridge_for_each_namespace() {
    let world = world!();
    let _daemon = world.daemon();
    let mut grid = Grid::new(&world, Shape::ForEachNamespace, json!({}));
    let (chosen, count) = named("A1 A5 A7 C6 D20 E2 F4 G3 G9 H3 H5 H7");
    hold(&mut grid, PLAIN, chosen, count);
    let (chosen, count) = named("A1 D26 H3 H5");
    hold(&mut grid, BY_IPV6, chosen, count);
}

#[test]
fn where_the_host_routes_between_containers() {
    let world = world!();
    without_br_netfilter(&world);
    let _daemon = world.daemon();
    let mut grid = Grid::new(&world, Shape::One, routed());
    let (chosen, count) = named("A1 A7 C10 D26 E10 F4 G9 H5 H9 H11");
    hold(&mut grid, PLAIN, chosen, count);
    let (chosen, count) = named("A1 D26 F6 H5");
    hold(&mut grid, BY_IPV6, chosen, count);
}

#[test]
fn by_ipv6() {
    let world = world!();
    let _daemon = world.daemon();
    let mut grid = Grid::new(&world, Shape::One, json!({}));
    let (chosen, count) = named("A1 A5 B2 C16 D20 D26 E2 F4 F6 G3 G9 H3 H7 H11");
    hold(&mut grid, BY_IPV6, chosen, count);
    // What is said of IPv4 is nothing about IPv6: by 0.0.0.0/0, x/b may go nowhere there.
    let (e6, e12) = (step("E6"), step("E12"));
    grid.govern(&e6);
    let (_, wrong) = grid.ask(BY_IPV6.protocols, 1, &denied(&e12));
    assert_eq!(wrong, Vec::<String>::new());
    let (_, wrong) = grid.ask(&Protocol::ALL, 0, &denied(&e6));
    assert_eq!(wrong, Vec::<String>::new());
}

/// Everybody asks everybody under A1, of whose policy `change` makes what it likes. All that is denied is told,
/// and nothing else, with the policy's name; as audited or not.
fn a1_is_told(keys: Value, change: Value, audited: bool) {
    let world = world!();
    let _daemon = world.daemon();
    let mut grid = Grid::new(&world, Shape::One, keys);
    let mut step = step("A1");
    let expected = denied(&step);
    step["policies"][0] = with(&step["policies"][0], change);
    grid.populate(&step);
    grid.govern(&step);
    let not_to_come = if audited { BTreeSet::new() } else { expected.clone() };
    // The rules record 400 packets of a kind at once; there are 44 of either direction.
    let (asked, wrong) = grid.ask(&Protocol::ALL, 0, &not_to_come);
    assert_eq!((asked, wrong), (432, vec![]));
    let flows = eventually("a record of each of them", || {
        let told: Value =
            serde_json::from_str(&told(&world, "policy denied --json", "")).expect("JSON");
        let flows = told["flows"].as_array().expect("flows").clone();
        (flows.len() >= expected.len()).then_some(flows)
    });
    let name = |flow: &Value| {
        let (protocol, port) = flow["traffic"].as_str()?.split_once(' ')?;
        let (from, to) = (flow["from"]["name"].as_str()?, flow["to"]["name"].as_str()?);
        Some(format!("{from}>{to}:{}/{port}", protocol.to_uppercase()))
    };
    let names: BTreeSet<String> = flows.iter().filter_map(name).collect();
    assert_eq!((flows.len(), names), (88, expected));
    for flow in &flows {
        let (audit, because) = (&flow["audited"], flow["because"].as_str().expect("a reason"));
        let direction = if flow["from"]["name"] == "x/a" { "egress" } else { "ingress" };
        assert_eq!(*audit, audited, "{flow}");
        assert!(because.starts_with(direction), "{flow}");
        assert!(because.contains("NetworkPolicy x/base"), "{flow}");
    }
}

#[test]
fn all_that_is_denied_is_told() {
    a1_is_told(json!({}), json!({}), false);
}

#[test]
fn what_an_audited_network_would_deny_comes_through_and_is_told() {
    a1_is_told(json!({ "policy": { "mode": "audit" } }), json!({}), true);
}

#[test]
fn what_a_staged_policy_would_deny_comes_through_and_is_told() {
    let staged = json!({ "metadata": { "annotations": { "policy.quantum/mode": "audit" } } });
    a1_is_told(json!({}), staged, true);
}
