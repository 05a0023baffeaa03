//! Several subjects in turns, one call at a time: what slows the machine down slows all of them down.

use crate::driver::{Answer, Subject, Verb, attached, detached};
use crate::failure::Result;
use crate::netlink::{Route, link_names};
use crate::report::Report;
use crate::world::{Container, as_handed_over, visiting};

use super::round::{Round, phase, warm_up};

/// A subject with containers of its own, and what was found of it.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) subject: &'a Subject,
    pub(super) containers: &'a [Container],
    pub(super) report: Report,
    /// None when not even a single call succeeded.
    pub(super) round: Option<Round>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(subject: &'a Subject, containers: &'a [Container]) -> Self {
        Self { subject, containers, report: Report::default(), round: None }
    }
}

/// Attaches every container of everybody, then detaches them, and checks all of it. Who has fewer than
/// another has turns as far apart.
pub(super) fn in_turns(turns: &mut [Turn<'_>]) -> Result<()> {
    for turn in turns.iter_mut() {
        let Some(first) = turn.containers.first() else { continue };
        if !warm_up(turn.subject, first, &mut turn.report)? {
            turn.containers = &[];
        }
    }
    let host_before = link_names(&mut Route::open()?)?;

    let added = calls(turns, Verb::Add, &[]);
    let mut adds = Vec::new();
    for (turn, answers) in turns.iter_mut().zip(&added) {
        let checked = visiting(|visitor| attached(visitor, turn.containers, answers))?;
        let what = "ADD, in turns".to_owned();
        adds.push(phase(turn.subject, what, answers, checked, true, &mut turn.report));
    }

    let deleted = calls(turns, Verb::Del, &added);
    for ((turn, answers), add) in turns.iter_mut().zip(&deleted).zip(adds) {
        let containers = turn.containers;
        let checked = visiting(|visitor| {
            let checked = detached(visitor, containers, answers, &host_before)?;
            as_handed_over(visitor, containers)?;
            Ok(checked)
        })?;
        let what = "DEL, in turns".to_owned();
        let del = phase(turn.subject, what, answers, checked, true, &mut turn.report);
        turn.round = (!containers.is_empty()).then_some(Round { add, del });
    }
    Ok(())
}

/// One call of everybody's next container, and so on. Who goes first goes last in the next turn.
fn calls(turns: &[Turn<'_>], verb: Verb, added: &[Vec<Answer>]) -> Vec<Vec<Answer>> {
    let most = turns.iter().map(|turn| turn.containers.len()).max().unwrap_or_default();
    eprintln!("{}: {most} of each of {} in turns", verb.as_str(), turns.len());
    let mut answers: Vec<Vec<Answer>> = turns.iter().map(|_| Vec::new()).collect();
    for at in 0..most {
        let mut order: Vec<usize> = (0..turns.len()).collect();
        if at % 2 == 1 {
            order.reverse();
        }
        for who in order {
            let (Some(turn), Some(answers)) = (turns.get(who), answers.get_mut(who)) else {
                continue;
            };
            let Some(number) = due(at, turn.containers.len(), most) else { continue };
            let Some(container) = turn.containers.get(number) else { continue };
            let previous = added.get(who).and_then(|added| added.get(number));
            let previous = previous.and_then(|answer| answer.outcome.as_ref().ok());
            answers.push(turn.subject.call(verb, container, previous));
        }
    }
    answers
}

/// Which of its `own` containers somebody takes at turn `at` of `all`, if it is its turn.
fn due(at: usize, own: usize, all: usize) -> Option<usize> {
    let number = at * own / all;
    (number != (at + 1) * own / all).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_takes_each_of_its_own_once_and_evenly() {
        let taken =
            |own, all| -> Vec<Option<usize>> { (0..all).map(|at| due(at, own, all)).collect() };
        assert_eq!(taken(3, 3), [Some(0), Some(1), Some(2)]);
        assert_eq!(taken(2, 6), [None, None, Some(0), None, None, Some(1)]);
        for (own, all) in [(0, 5), (7, 60), (30, 60), (59, 60)] {
            let taken: Vec<usize> = taken(own, all).into_iter().flatten().collect();
            assert_eq!(taken, (0..own).collect::<Vec<_>>());
        }
    }
}
