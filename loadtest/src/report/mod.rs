//! What a run found: for people as a table and sentences, for programs as JSON.

mod figure;
mod phase;

use std::fmt;

use serde_json::{Value, json};

pub(crate) use figure::{Asked, Figure, Unit};
pub(crate) use phase::Phase;

/// So many findings are shown; a broken plugin would otherwise fill the screen.
const SHOWN: usize = 20;

/// Everything a run found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) phases: Vec<Phase>,
    pub(crate) figures: Vec<Figure>,
    /// Checks that failed: lost calls, double addresses, leftovers.
    pub(crate) wrong: Vec<String>,
    /// What one must know to read the figures.
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// Did every check hold? Timing has no say in this.
    pub(crate) fn sound(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Makes notes of what is wrong: what a peer does wrong is worth a word, and is not what is being
    /// tested.
    pub(crate) fn forgive(&mut self) {
        let failed = self.wrong.len();
        let first = std::mem::take(&mut self.wrong).into_iter().next();
        self.notes.extend(first.map(|first| format!("{failed} checks failed, the first: {first}")));
    }

    /// Appends what another report has.
    pub(crate) fn absorb(&mut self, other: Report) {
        self.phases.extend(other.phases);
        self.figures.extend(other.figures);
        self.wrong.extend(other.wrong);
        self.notes.extend(other.notes);
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "sound": self.sound(),
            "phases": self.phases.iter().map(Phase::to_json).collect::<Vec<_>>(),
            "figures": self.figures.iter().map(Figure::to_json).collect::<Vec<_>>(),
            "wrong": self.wrong,
            "notes": self.notes,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", Phase::heading())?;
        self.phases.iter().try_for_each(|phase| writeln!(f, "{phase}"))?;
        writeln!(f)?;
        self.figures.iter().try_for_each(|figure| writeln!(f, "{figure}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        writeln!(f)?;
        if self.sound() {
            return writeln!(
                f,
                "checks: every call succeeded, every address was distinct, nothing was left behind"
            );
        }
        writeln!(f, "checks: {} FAILED", self.wrong.len())?;
        self.wrong.iter().take(SHOWN).try_for_each(|wrong| writeln!(f, "  {wrong}"))?;
        match self.wrong.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_promise_is_no_failed_check() {
        let mut report = Report::default();
        report.figures.push(Figure::new("f", Unit::Times, Asked::AtMost(1.0), Ok(9.0)));
        assert!(report.sound());
        report.wrong.push("ADD of c1: lost".to_owned());
        assert!(!report.sound());
        assert_eq!(report.to_json()["sound"], false);
    }

    #[test]
    fn a_flood_of_findings_is_counted_not_shown() {
        let report = Report { wrong: vec!["lost".to_owned(); SHOWN + 7], ..Report::default() };
        assert!(report.to_string().ends_with("and 7 more\n"));
    }
}
