//! The table of denied flows: who is being denied what, how often, since when and by which rule. It is
//! bounded, as whoever is denied chooses what we have to remember: the flow that was longest not seen goes
//! first. The same table decides which of them are worth a line in the log.
//!
//! ```text
//!   a record ──► its flow, new or known ──► said within the last minute?  ──yes──────────────┐
//!                                               no                                           │
//!                                               has its sender, or everybody, had all        ▼
//!                                               the lines of this minute?  ──yes──► withheld, quiet
//!                                               no ──► a line: First or Again
//! ```
//!
//! That a flow has one line a minute does not suffice: to a container that scans, every port is a flow of
//! its own. And that there is a limit for all does not either: the scan would take what others need.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use quantum_config::policy::Direction;

use super::{Denial, Spoken};

/// The most flows that are remembered.
pub const FLOWS: usize = 4096;
/// How long the log has nothing more of a flow after a line about it, in milliseconds; and the time for
/// which the limits below hold.
const MINUTE: u64 = 60_000;
/// The most lines a minute, in all and about what one address begins.
const LINES: u32 = 120;
const LINES_OF_ONE: u32 = 20;

/// A denied flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Whose side denied it.
    pub direction: Direction,
    /// Who began it.
    pub from: IpAddr,
    /// Whom it was for.
    pub to: IpAddr,
    /// What was spoken.
    pub spoken: Spoken,
    /// It was only noted, and let through. What is denied by one policy and noted by another is here twice.
    pub audit: bool,
    /// What denied it, in the evaluator's words.
    pub why: String,
    /// How many records of it there were. The rules limit records, so there may have been more packets.
    pub count: u64,
    /// When the first one came, in milliseconds of the caller's clock.
    pub first: u64,
    /// And the last one.
    pub last: u64,
}

/// What the log is to be told of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// A flow of which the log had nothing yet.
    First,
    /// A known flow, of which the log had nothing for a minute.
    Again {
        /// The records since its last line, this one among them.
        times: u64,
    },
    /// Nothing.
    Quiet,
}

/// The table. Time is the caller's, in milliseconds, and should not go backwards.
#[derive(Debug)]
pub struct DeniedFlows {
    room: usize,
    flows: HashMap<Key, Kept>,
    /// The flows by when they were last seen, as counted by `turn`: no two are equal.
    order: BTreeMap<u64, Key>,
    turn: u64,
    policy: u64,
    lines: Lines,
}

type Key = (Direction, bool, IpAddr, IpAddr, Spoken);

#[derive(Debug)]
struct Kept {
    flow: Denied,
    turn: u64,
    /// The policy by which `why` was found.
    policy: u64,
    /// When the log was told of it, and how many records came since.
    said: Option<u64>,
    since: u64,
}

/// The lines of this minute.
#[derive(Debug, Default)]
struct Lines {
    began: u64,
    all: u32,
    of: HashMap<IpAddr, u32>,
    withheld: u64,
}

impl Default for DeniedFlows {
    fn default() -> Self {
        Self::with_room(FLOWS)
    }
}

impl DeniedFlows {
    /// A table that remembers so many flows, one at least.
    pub fn with_room(room: usize) -> Self {
        Self {
            room: room.max(1),
            flows: HashMap::new(),
            order: BTreeMap::new(),
            turn: 0,
            policy: 0,
            lines: Lines::default(),
        }
    }

    /// Takes a record, and tells what the log should have of it. `why` says what denies it, and is asked
    /// only of a flow that is not known, or since which policy has changed.
    pub fn note(&mut self, now: u64, denial: &Denial, why: impl FnOnce() -> String) -> Told {
        let key = (denial.direction, denial.audit, denial.from, denial.to, denial.spoken);
        self.turn += 1;
        let turn = self.turn;
        if !self.flows.contains_key(&key) {
            self.make_room();
        }
        let kept = self.flows.entry(key).or_insert_with(|| Kept::new(now, denial));
        self.order.remove(&kept.turn);
        self.order.insert(turn, key);
        kept.turn = turn;
        if kept.flow.count == 0 || kept.policy != self.policy {
            kept.flow.why = why();
            kept.policy = self.policy;
        }
        kept.flow.count += 1;
        kept.flow.last = now;
        kept.since += 1;
        let told = match kept.said {
            None => Told::First,
            Some(said) if now.saturating_sub(said) >= MINUTE => Told::Again { times: kept.since },
            Some(_) => return Told::Quiet,
        };
        if !self.lines.has_one(now, denial.from) {
            return Told::Quiet;
        }
        kept.said = Some(now);
        kept.since = 0;
        told
    }

    /// Policy has changed: what denies a flow is found anew when it is next seen.
    pub fn policy_changed(&mut self) {
        self.policy += 1;
    }

    /// How many lines were withheld since this was last asked, because there were too many.
    pub fn take_withheld(&mut self) -> u64 {
        std::mem::take(&mut self.lines.withheld)
    }

    /// The flows, the one that was seen last first.
    pub fn snapshot(&self) -> Vec<Denied> {
        let kept = self.order.values().rev().filter_map(|key| self.flows.get(key));
        kept.map(|kept| kept.flow.clone()).collect()
    }

    /// How many flows are remembered.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Nobody was denied anything.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    fn make_room(&mut self) {
        while self.flows.len() >= self.room {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            self.flows.remove(&oldest);
        }
    }
}

impl Kept {
    fn new(now: u64, denial: &Denial) -> Self {
        let Denial { direction, audit, from, to, spoken, .. } = *denial;
        let (why, count) = (String::new(), 0);
        let flow = Denied { direction, from, to, spoken, audit, why, count, first: now, last: now };
        // No turn is 0.
        Self { flow, turn: 0, policy: 0, said: None, since: 0 }
    }
}

impl Lines {
    /// Takes one, if there is one left for what this address begins.
    fn has_one(&mut self, now: u64, from: IpAddr) -> bool {
        if now.saturating_sub(self.began) >= MINUTE {
            (self.began, self.all) = (now, 0);
            self.of.clear();
        }
        // No more addresses are kept than there are lines.
        let of_one = self.of.get(&from).copied().unwrap_or_default();
        if self.all >= LINES || of_one >= LINES_OF_ONE {
            self.withheld += 1;
            return false;
        }
        self.all += 1;
        self.of.insert(from, of_one + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use quantum_config::cni::Transport;

    use super::*;
    use crate::policy::Traffic;

    fn denial(from: u8, port: u16) -> Denial {
        Denial {
            direction: Direction::Egress,
            audit: false,
            from: IpAddr::from([10, 0, 0, from]),
            to: IpAddr::from([10, 0, 1, 1]),
            spoken: Spoken::Port(Transport::Tcp, port),
            in_index: Some(3),
            out_index: Some(4),
        }
    }

    fn note(table: &mut DeniedFlows, now: u64, denial: &Denial) -> Told {
        table.note(now, denial, String::new)
    }

    fn ports(table: &DeniedFlows) -> Vec<u16> {
        let port = |flow: Denied| match flow.spoken {
            Spoken::Port(_, port) => port,
            other => panic!("{other}"),
        };
        table.snapshot().into_iter().map(port).collect()
    }

    #[test]
    fn a_flow_is_counted_with_its_times_and_its_reason() {
        let mut table = DeniedFlows::default();
        table.note(1000, &denial(2, 80), || "a rule".to_owned());
        // By another link it is the same flow.
        let by_another_link = Denial { in_index: None, ..denial(2, 80) };
        table.note(1500, &by_another_link, || panic!("it is known"));
        let flow = table.snapshot().remove(0);
        assert_eq!((flow.count, flow.first, flow.last), (2, 1000, 1500));
        assert_eq!(flow.why, "a rule");
        let others = [
            Denial { direction: Direction::Ingress, ..denial(2, 80) },
            Denial { from: denial(3, 80).from, ..denial(2, 80) },
            Denial { to: denial(3, 80).from, ..denial(2, 80) },
            denial(2, 81),
        ];
        for other in &others {
            assert_eq!(note(&mut table, 1600, other), Told::First);
        }
        assert_eq!(table.len(), 5);
    }

    #[test]
    fn the_longest_unseen_goes_and_the_last_seen_is_first() {
        let mut table = DeniedFlows::with_room(3);
        for (now, port) in [(1, 1), (2, 2), (3, 3), (4, 1), (5, 4)] {
            note(&mut table, now, &denial(2, port));
        }
        assert_eq!(ports(&table), [4, 1, 3], "2 was longest not seen");
        for port in 100..10_000 {
            note(&mut table, 6, &denial(2, port));
        }
        assert_eq!(ports(&table), [9999, 9998, 9997]);
        assert_eq!(table.order.len(), 3, "nothing is kept of what went");
    }

    #[test]
    fn a_reason_is_asked_for_again_when_policy_has_changed() {
        let mut table = DeniedFlows::default();
        table.note(1, &denial(2, 80), || "before".to_owned());
        table.policy_changed();
        table.note(2, &denial(2, 80), || "after".to_owned());
        table.note(3, &denial(2, 80), || panic!("it is known"));
        assert_eq!(table.snapshot()[0].why, "after");
    }

    #[test]
    fn what_is_noted_and_denied_has_its_lines_for_both() {
        let mut table = DeniedFlows::default();
        let noted = Denial { audit: true, ..denial(2, 80) };
        for now in 1..10 {
            let expected = if now == 1 { Told::First } else { Told::Quiet };
            assert_eq!(note(&mut table, now, &noted), expected);
            assert_eq!(note(&mut table, now, &denial(2, 80)), expected);
        }
        let found: Vec<_> = table.snapshot().iter().map(|flow| (flow.audit, flow.count)).collect();
        assert_eq!(found, [(false, 9), (true, 9)]);
    }

    #[test]
    fn a_flow_has_one_line_a_minute() {
        let mut table = DeniedFlows::default();
        assert_eq!(note(&mut table, 5_000, &denial(2, 80)), Told::First);
        for n in 1..60 {
            assert_eq!(note(&mut table, 5_000 + n * 1000, &denial(2, 80)), Told::Quiet);
        }
        assert_eq!(note(&mut table, 65_000, &denial(2, 80)), Told::Again { times: 60 });
        assert_eq!(note(&mut table, 65_001, &denial(2, 80)), Told::Quiet);
        assert_eq!(table.take_withheld(), 0, "what is said once a minute is not withheld");
    }

    #[test]
    fn a_scan_has_its_share_of_the_lines_and_leaves_others_theirs() {
        let mut table = DeniedFlows::default();
        let mut said = 0;
        for port in 1..=60_000 {
            said += u32::from(note(&mut table, 100_000, &denial(2, port)) != Told::Quiet);
        }
        assert_eq!(said, LINES_OF_ONE);
        assert_eq!(table.len(), FLOWS);
        assert_eq!(table.take_withheld(), 60_000 - u64::from(LINES_OF_ONE));
        assert_eq!(table.take_withheld(), 0);
        assert_eq!(note(&mut table, 100_001, &denial(3, 80)), Told::First, "somebody else");
        // Many scan together.
        for from in 4..=255 {
            for port in 1..=100 {
                let told = note(&mut table, 100_002, &denial(from, port));
                said += u32::from(told != Told::Quiet);
            }
        }
        assert_eq!(said + 1, LINES);
        assert!(table.lines.of.len() <= LINES as usize);
        // What could not be said is said when there is room again.
        let late = denial(255, 100);
        assert_eq!(note(&mut table, 160_001, &late), Told::First);
        assert_eq!(note(&mut table, 160_002, &late), Told::Quiet);
    }

    #[test]
    fn the_evaluator_is_asked_about_the_same_traffic() {
        let icmp = Spoken::Icmp { kind: 8, code: 0 };
        let of = |to: &str, spoken| {
            Denial { to: to.parse().expect("an address"), spoken, ..denial(2, 1) }.traffic()
        };
        let echo = |v6| Traffic::Icmp { v6, kind: 8, code: 0 };
        assert_eq!(of("10.0.0.1", icmp), echo(false));
        assert_eq!(of("fd00::1", icmp), echo(true));
        assert_eq!(of("fd00::1", Spoken::Protocol(47)), Traffic::Other(47));
        let port = Spoken::Port(Transport::Sctp, 9);
        assert_eq!(of("fd00::1", port), Traffic::Port(Transport::Sctp, 9));
    }
}
