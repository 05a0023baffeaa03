//! A round: every container is attached, then every one is detached, and all of it is checked.
//! One at a time or all together is the same round.

use std::slice::from_ref;
use std::time::Duration;

use crate::driver::{Answer, Checked, Subject, Verb, all, attached, detached};
use crate::failure::Result;
use crate::netlink::{Route, link_names};
use crate::report::{Phase, Report};
use crate::world::{Container, as_handed_over, visiting};

/// The two phases of a round.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) add: Phase,
    pub(crate) del: Phase,
}

/// Runs a round with `at_once` calls at the same time. `held` is called
/// with the number of containers that are attached, while they are.
pub(crate) fn round(
    subject: &Subject,
    containers: &[Container],
    at_once: usize,
    report: &mut Report,
    held: impl FnOnce(usize),
) -> Result<Round> {
    let how = match at_once {
        1 => "one at a time".to_owned(),
        _ if at_once >= containers.len() => format!("{} together", containers.len()),
        _ => format!("{}, {at_once} at a time", containers.len()),
    };
    let host_before = link_names(&mut Route::open()?)?;

    let added = calls(subject, Verb::Add, containers, at_once, |_| None);
    let checked = visiting(|visitor| attached(visitor, containers, &added))?;
    let add = phase(subject, format!("ADD, {how}"), &added, checked, false, report);
    held(add.calls);

    // A runtime detaches also what it could not attach.
    let result_of =
        |number| added.get(number).and_then(|answer: &Answer| answer.outcome.as_ref().ok());
    let deleted = calls(subject, Verb::Del, containers, at_once, result_of);
    let checked = visiting(|visitor| {
        let checked = detached(visitor, containers, &deleted, &host_before)?;
        as_handed_over(visitor, containers)?;
        Ok(checked)
    })?;
    let del = phase(subject, format!("DEL, {how}"), &deleted, checked, false, report);
    Ok(Round { add, del })
}

/// Attaches and detaches one container, unmeasured: what a network does only once is done then, its
/// bridge above all. False when that failed, so that nothing after it would say anything.
pub(crate) fn warm_up(
    subject: &Subject,
    container: &Container,
    report: &mut Report,
) -> Result<bool> {
    let mut sound = true;
    for verb in [Verb::Add, Verb::Del] {
        if let Err(why) = subject.call(verb, container, None).outcome {
            report.wrong.push(format!("{}: the first {}: {why}", subject.name, verb.as_str()));
            sound = false;
        }
    }
    visiting(|visitor| as_handed_over(visitor, from_ref(container)))?;
    Ok(sound)
}

fn calls<'a>(
    subject: &Subject,
    verb: Verb,
    containers: &[Container],
    at_once: usize,
    previous: impl Fn(usize) -> Option<&'a serde_json::Value> + Sync,
) -> Vec<Answer> {
    eprintln!("{}: {} of {}, {at_once} at a time", subject.name, verb.as_str(), containers.len());
    let call = |number| {
        containers.get(number).map(|container| subject.call(verb, container, previous(number)))
    };
    all(containers.len(), at_once, call).into_iter().flatten().collect()
}

/// Puts the calls of one phase, and what is wrong with them, into the report. A call that does not
/// stand up to its check counts as lost, however quick it was.
pub(super) fn phase(
    subject: &Subject,
    what: String,
    answers: &[Answer],
    checked: Checked,
    in_turns: bool,
    report: &mut Report,
) -> Phase {
    let samples: Vec<Duration> = answers
        .iter()
        .zip(&checked.sound)
        .filter(|(_, sound)| **sound)
        .map(|(answer, _)| answer.ended.duration_since(answer.started))
        .collect();
    let first = answers.iter().map(|answer| answer.started).min();
    let last = answers.iter().map(|answer| answer.ended).max();
    let wall = first.zip(last).map_or(Duration::ZERO, |(first, last)| last.duration_since(first));
    // In turns with others most of that was theirs.
    let wall = if in_turns { samples.iter().sum() } else { wall };
    let lost = answers.len() - samples.len();
    let phase = Phase::new(&subject.name, what, samples, lost, wall);
    report.wrong.extend(checked.wrong.iter().map(|why| format!("{}: {why}", subject.name)));
    report.phases.push(phase.clone());
    phase
}
