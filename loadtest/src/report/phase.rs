//! A phase: the same call many times, and how long it took.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// What is reported of a phase.
#[derive(Debug, Clone)]
pub(crate) struct Phase {
    /// Who did the work.
    pub(crate) subject: String,
    /// What was done, and how many at a time.
    pub(crate) what: String,
    /// Calls that succeeded.
    pub(crate) calls: usize,
    /// Calls that did not; they are in no time below.
    pub(crate) lost: usize,
    /// From the start of the first call to the end of the last.
    pub(crate) wall: Duration,
    /// None when every call was lost.
    pub(crate) times: Option<Times>,
}

/// How long single calls took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) p50: Duration,
    pub(crate) p90: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

impl Times {
    /// None of no samples.
    pub(crate) fn of(mut samples: Vec<Duration>) -> Option<Self> {
        samples.sort_unstable();
        Some(Self {
            p50: percentile(&samples, 50)?,
            p90: percentile(&samples, 90)?,
            p99: percentile(&samples, 99)?,
            max: *samples.last()?,
        })
    }
}

/// The nearest-rank percentile: the smallest sample that `percent` % of all do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

impl Phase {
    /// Sums up the samples of the calls that succeeded.
    pub(crate) fn new(
        subject: impl Into<String>,
        what: impl Into<String>,
        samples: Vec<Duration>,
        lost: usize,
        wall: Duration,
    ) -> Self {
        let calls = samples.len();
        Self {
            subject: subject.into(),
            what: what.into(),
            calls,
            lost,
            wall,
            times: Times::of(samples),
        }
    }

    /// The median, in seconds.
    pub(crate) fn p50(&self) -> Option<f64> {
        self.times.map(|times| times.p50.as_secs_f64())
    }

    /// Calls that succeeded, per second.
    pub(crate) fn throughput(&self) -> Option<f64> {
        let seconds = self.wall.as_secs_f64();
        (self.calls > 0 && seconds > 0.0).then(|| self.calls as f64 / seconds)
    }

    /// How long it took until all was done, in seconds; meaningless when calls were lost.
    pub(crate) fn all_done(&self) -> Option<f64> {
        (self.lost == 0 && self.calls > 0).then_some(self.wall.as_secs_f64())
    }

    pub(crate) fn to_json(&self) -> Value {
        let times = self.times.map(|times| {
            json!({
                "p50": ms(times.p50),
                "p90": ms(times.p90),
                "p99": ms(times.p99),
                "max": ms(times.max),
            })
        });
        json!({
            "subject": self.subject,
            "phase": self.what,
            "calls": self.calls,
            "lost": self.lost,
            "wall_ms": ms(self.wall),
            "per_second": self.throughput(),
            "latency_ms": times,
        })
    }

    /// The line above the lines that [`Phase`] displays as.
    pub(crate) fn heading() -> String {
        format!(
            "{:<34} {:<26} {:>5} {:>5} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "", "", "calls", "lost", "p50 ms", "p90 ms", "p99 ms", "max ms", "per s"
        )
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<34} {:<26} {:>5} {:>5}", self.subject, self.what, self.calls, self.lost)?;
        let Some(times) = self.times else { return Ok(()) };
        for time in [times.p50, times.p90, times.p99, times.max] {
            write!(f, " {:>9.2}", ms(time))?;
        }
        write!(f, " {:>9.1}", self.throughput().unwrap_or_default())
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(values: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        values.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let times = Times::of(millis((1..=200).rev())).expect("samples");
        let expected = millis([100, 180, 198, 200]);
        assert_eq!(vec![times.p50, times.p90, times.p99, times.max], expected);
        let times = Times::of(millis([3, 1, 2])).expect("samples");
        assert_eq!((times.p50, times.p90), (Duration::from_millis(2), Duration::from_millis(3)));
    }

    #[test]
    fn one_sample_is_every_percentile_and_none_is_none() {
        let times = Times::of(millis([7])).expect("a sample");
        assert!([times.p50, times.p90, times.p99, times.max].iter().all(|t| t.as_millis() == 7));
        assert_eq!(Times::of(Vec::new()), None);
    }

    #[test]
    fn lost_calls_are_in_no_figure() {
        let phase = Phase::new("s", "ADD", millis([10, 10]), 1, Duration::from_millis(20));
        assert_eq!((phase.throughput(), phase.all_done()), (Some(100.0), None));
        let phase = Phase::new("s", "ADD", Vec::new(), 3, Duration::from_millis(20));
        assert_eq!((phase.p50(), phase.throughput()), (None, None));
    }
}
