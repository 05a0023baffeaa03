//! A figure: one number, what was asked of it, and whether it was reached.

use std::fmt;

use serde_json::{Value, json};

/// What was promised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Asked {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
    /// Nothing: the figure is for comparison.
    Nothing,
}

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A ratio.
    Times,
    Calls,
    MebiBytes,
    MilliSeconds,
}

/// Whether a promise was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Reached,
    NotReached,
    NotMeasured,
    NotAsked,
}

/// One number.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    name: String,
    unit: Unit,
    /// The number, or why there is none.
    value: Result<f64, String>,
    asked: Asked,
}

impl Figure {
    /// A figure that was measured, or the reason why not.
    pub(crate) fn new(
        name: impl Into<String>,
        unit: Unit,
        asked: Asked,
        value: Result<f64, String>,
    ) -> Self {
        Self { name: name.into(), unit, value, asked }
    }

    /// How many times `whole` is of `part`.
    pub(crate) fn ratio(
        name: impl Into<String>,
        asked: Asked,
        whole: Option<f64>,
        part: Option<f64>,
    ) -> Self {
        let value = match (whole, part) {
            (Some(whole), Some(part)) if part > 0.0 => Ok(whole / part),
            _ => Err("calls were lost, see the checks".to_owned()),
        };
        Self::new(name, Unit::Times, asked, value)
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match (&self.value, self.asked) {
            (_, Asked::Nothing) => Verdict::NotAsked,
            (Err(_), _) => Verdict::NotMeasured,
            (Ok(value), asked) if asked.allows(*value) => Verdict::Reached,
            _ => Verdict::NotReached,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "figure": self.name,
            "value": self.value.as_ref().ok(),
            "unit": self.unit.symbol().trim(),
            "asked": self.asked.to_string(),
            "verdict": self.verdict().to_string(),
        })
    }
}

impl Asked {
    fn allows(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
            Self::Below(limit) => value < limit,
            Self::Nothing => true,
        }
    }
}

impl Unit {
    fn symbol(self) -> &'static str {
        match self {
            Self::Times => "x",
            Self::Calls => "",
            Self::MebiBytes => " MiB",
            Self::MilliSeconds => " ms",
        }
    }

    /// Digits after the point.
    fn digits(self) -> usize {
        if self == Self::Calls { 0 } else { 2 }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "<= {limit}"),
            Self::AtLeast(limit) => write!(f, ">= {limit}"),
            Self::Below(limit) => write!(f, "< {limit}"),
            Self::Nothing => Ok(()),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reached => "reached",
            Self::NotReached => "NOT REACHED",
            Self::NotMeasured => "NOT MEASURED",
            Self::NotAsked => "",
        })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (symbol, digits) = (self.unit.symbol(), self.unit.digits());
        f.write_str(&self.name)?;
        if let Ok(value) = &self.value {
            write!(f, " = {value:.digits$}{symbol}")?;
        }
        if self.asked != Asked::Nothing {
            write!(f, " (asked {}{symbol}): {}", self.asked, self.verdict())?;
        }
        match (&self.value, self.asked) {
            (Ok(_), _) => Ok(()),
            (Err(why), Asked::Nothing) => write!(f, ": not measured, {why}"),
            (Err(why), _) => write!(f, ", {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_printed_with_its_verdict() {
        let add =
            |p50| Figure::ratio("ADD p50 / floor", Asked::AtMost(2.5), p50, Some(1.0)).to_string();
        assert_eq!(add(Some(1.62)), "ADD p50 / floor = 1.62x (asked <= 2.5x): reached");
        assert_eq!(add(Some(2.51)), "ADD p50 / floor = 2.51x (asked <= 2.5x): NOT REACHED");
        assert_eq!(
            add(None),
            "ADD p50 / floor (asked <= 2.5x): NOT MEASURED, calls were lost, see the checks"
        );
    }

    #[test]
    fn the_bounds_are_what_they_say() {
        let verdict = |asked, value| Figure::new("f", Unit::MebiBytes, asked, Ok(value)).verdict();
        assert_eq!(verdict(Asked::AtMost(3.0), 3.0), Verdict::Reached);
        assert_eq!(verdict(Asked::Below(3.0), 3.0), Verdict::NotReached);
        assert_eq!(verdict(Asked::AtLeast(8.0), 8.0), Verdict::Reached);
        assert_eq!(verdict(Asked::AtLeast(8.0), 7.9), Verdict::NotReached);
        assert_eq!(verdict(Asked::Nothing, 7.9), Verdict::NotAsked);
    }

    #[test]
    fn a_ratio_to_nothing_is_no_figure() {
        assert_eq!(
            Figure::ratio("r", Asked::AtLeast(8.0), Some(1.0), Some(0.0)).verdict(),
            Verdict::NotMeasured
        );
    }
}
