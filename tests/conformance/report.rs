//! The table: each case, what came of it here and with the reference plugins, and what is known of
//! the difference.

use std::process::ExitCode;

use serde_json::Value;

use crate::Outcomes;
use crate::cases::Run;
use crate::differences::Difference;

/// Outcomes for the process that asked for them.
pub(crate) fn to_json(outcomes: &Outcomes) -> Value {
    let one = |(id, outcome): (&String, &Result<(), String>)| {
        (id.clone(), outcome.as_ref().err().map_or(Value::Null, |reason| reason.clone().into()))
    };
    Value::Object(outcomes.iter().map(one).collect())
}

/// The same, read.
pub(crate) fn from_json(text: &str) -> Outcomes {
    let value: Value = serde_json::from_str(text).expect("the outcomes");
    let members = value.as_object().expect("an object").iter();
    let one = |(id, reason): (&String, &Value)| {
        (id.clone(), reason.as_str().map_or(Ok(()), |reason| Err(reason.to_owned())))
    };
    members.map(one).collect()
}

/// Prints the table; fails where a case does not hold here, or the list of differences is not that
/// of the differences there are.
pub(crate) fn print(
    runs: &[Run],
    ours: &Outcomes,
    theirs: Option<&Outcomes>,
    known: &[Difference],
) -> ExitCode {
    let mut complaints = Vec::new();
    let mut cases: Vec<&str> = runs.iter().map(|r| r.case.as_str()).collect();
    cases.dedup();
    println!("{:<5} {:<24} {:<24} note", "case", "ours", theirs.map_or("", |_| "theirs"));
    for case in cases {
        let of_case: Vec<&Run> = runs.iter().filter(|r| r.case == case).collect();
        let run = of_case[0];
        let here = match &run.awaits {
            Some(_) if theirs.is_some() && verdict(&of_case, ours) == "ok" => "works: unmark it",
            Some(_) => "skipped",
            None => &verdict(&of_case, ours),
        };
        let there = theirs.map(|t| verdict(&of_case, t)).unwrap_or_default();
        let mut note = run.name.clone();
        if let Some(feature) = &run.awaits {
            note += &format!(" (awaits: {feature})");
        } else if here == "skipped" {
            note += " (this machine lacks what it needs)";
        }
        for difference in known.iter().filter(|d| there.contains("fails") && is_about(d, &of_case))
        {
            note += &format!("; they: {}", difference.note);
        }
        println!("{case:<5} {here:<24} {there:<24} {note}");
        for run in of_case.iter().filter(|r| r.awaits.is_none()) {
            if let Some(Err(reason)) = ours.get(&run.id) {
                complaints.push(format!("{} does not hold: {reason}", run.id));
            }
        }
    }
    if let Some(theirs) = theirs {
        complaints.extend(undeclared(theirs, known));
    }
    for complaint in &complaints {
        eprintln!("error: {complaint}");
    }
    let failed = ours.values().filter(|o| o.is_err()).count();
    println!("{} runs, {} held; {} cases wait", ours.len(), ours.len() - failed, waiting(runs));
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_about(difference: &Difference, of_case: &[&Run]) -> bool {
    of_case.iter().any(|run| difference.ids.contains(&run.id))
}

fn waiting(runs: &[Run]) -> usize {
    runs.iter().filter(|r| r.awaits.is_some()).count()
}

/// `ok`, or which runs of a case failed, or that none was made.
fn verdict(of_case: &[&Run], outcomes: &Outcomes) -> String {
    if !of_case.iter().any(|run| outcomes.contains_key(&run.id)) {
        return "skipped".to_owned();
    }
    let bad = |run: &&&Run| outcomes.get(&run.id).is_some_and(Result::is_err);
    let bad: Vec<&str> = of_case.iter().filter(bad).map(|r| r.version.as_str()).collect();
    match bad.len() {
        0 => "ok".to_owned(),
        n if n == of_case.len() => "fails".to_owned(),
        _ => format!("fails at {}", bad.join(" ")),
    }
}

/// Differences that are not listed, and rows of the list that are no differences.
fn undeclared(theirs: &Outcomes, known: &[Difference]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (id, outcome) in theirs {
        let listed = known.iter().find(|d| d.ids.contains(id));
        match (outcome, listed) {
            (Err(reason), None) => complaints.push(format!(
                "the reference plugins see {id} otherwise, and docs/conformance.md does not say so: \
                 {reason}"
            )),
            (Ok(()), Some(row)) => complaints.push(format!(
                "docs/conformance.md lists {id} as a difference ({}), and there is none",
                row.pattern
            )),
            _ => {}
        }
    }
    complaints
}
