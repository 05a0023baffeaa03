//! What the lanes publish of themselves, and which of them hang. Actors never block; the lanes do, so it is there
//! that it shows when the kernel or the disk does not answer.

use std::time::Duration;

use quantum_cni::kernel::lane::Gauge;
use serde::{Serialize, Serializer};

/// A job that runs for longer hangs. The longest that was seen, of 200,000 connections that a DEL has to remove,
/// took 5 s.
const STUCK: Duration = Duration::from_secs(10);

/// The lane whose jobs put the rules in force.
const RULES: &str = "netfilter";

/// The gauges of all lanes. As JSON, what hangs now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauges(Vec<Gauge>);

impl Gauges {
    pub(crate) fn new(all: Vec<Gauge>) -> Self {
        Self(all)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Gauge> {
        self.0.iter()
    }

    /// The lanes that hang, each with for how long.
    pub(crate) fn stuck(&self) -> Vec<String> {
        self.0.iter().filter(|gauge| gauge.busy() > STUCK).map(told).collect()
    }

    /// What containers may do may not be what it should be: the lane of the rules hangs.
    pub(crate) fn rules_are_stuck(&self) -> bool {
        self.0.iter().any(|gauge| gauge.lane() == RULES && gauge.busy() > STUCK)
    }

    /// Those that have something to do.
    pub(crate) fn busy(&self) -> Vec<String> {
        self.0.iter().filter(|gauge| gauge.waiting() > 0).map(told).collect()
    }
}

impl Serialize for Gauges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.stuck().serialize(serializer)
    }
}

/// `netfilter: one job for 12 s, and 3 wait`
fn told(gauge: &Gauge) -> String {
    let (seconds, behind) = (gauge.busy().as_secs(), gauge.waiting().saturating_sub(1));
    format!("{}: one job for {seconds} s, and {behind} wait", gauge.lane())
}
