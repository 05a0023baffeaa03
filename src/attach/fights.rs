//! Who puts a thing right again and again has somebody against them. Then it is done less often, and said.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// So many repairs of one thing within `WINDOW` are no accident any more.
const MANY: usize = 30;
/// The time in which they are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// How often it is still put right then.
const PAUSE: Duration = Duration::from_secs(10);

/// The repairs of the last minute, by the thing: when each was, since a start that does not matter.
#[derive(Debug)]
pub struct Fights<T>(BTreeMap<T, VecDeque<Duration>>);

impl<T: Ord> Default for Fights<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Fights<T> {
    /// Whether a thing is to be put right now; if so, it is counted.
    pub fn may_mend(&mut self, thing: T, now: Duration) -> bool {
        self.forget(now);
        let times = self.0.entry(thing).or_default();
        let is_calm = times.len() < MANY;
        let was_long_ago = times.back().is_none_or(|last| now.saturating_sub(*last) >= PAUSE);
        if is_calm || was_long_ago {
            times.push_back(now);
        }
        is_calm || was_long_ago
    }

    /// The things that somebody fights about, and how often each was put right within the last minute.
    pub fn fought(&mut self, now: Duration) -> Vec<(&T, usize)> {
        self.forget(now);
        let many = self.0.iter().filter(|(_, times)| times.len() >= MANY);
        many.map(|(thing, times)| (thing, times.len())).collect()
    }

    fn forget(&mut self, now: Duration) {
        for times in self.0.values_mut() {
            while times.front().is_some_and(|first| now.saturating_sub(*first) > WINDOW) {
                times.pop_front();
            }
        }
        self.0.retain(|_, times| !times.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fought_about_is_mended_less_often_until_there_is_peace() {
        let (mut fights, ms) = (Fights::default(), Duration::from_millis);
        let mut mended = 0;
        for tick in 0..300 {
            mended += usize::from(fights.may_mend("bridge br0", ms(tick * 200)));
        }
        // Thirty in the first six seconds, and one every ten seconds of the rest of the minute.
        assert_eq!(mended, MANY + 5);
        assert_eq!(fights.fought(ms(60_000)), [(&"bridge br0", MANY + 5)]);
        assert!(fights.may_mend("bridge br1", ms(60_000)), "that is another one");
        assert_eq!(fights.fought(ms(130_000)), []);
        assert!(fights.may_mend("bridge br0", ms(130_000)));
    }

    #[test]
    fn what_happens_now_and_then_is_no_fight() {
        let mut fights = Fights::default();
        for minute in 0..100 {
            for second in 0..MANY as u64 {
                assert!(fights.may_mend("x", Duration::from_secs(minute * 70 + second)));
            }
        }
    }
}
