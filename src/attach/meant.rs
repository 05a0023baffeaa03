//! Which attachments a DEL means: of those that are there, and of those that ADDs are at work on. It is decided
//! before an ADD is told to give up, so that none does for a DEL of something else.

use super::{NetnsId, Record};

/// Whose attachments are meant. On one network there may be those of CNI's runtimes and of Docker, and who
/// says which of his are valid does not speak of the others'.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Only {
    /// Anybody's.
    #[default]
    Any,
    /// CNI's that are there: those whose end was not handed over.
    Cni,
    /// Docker's.
    Handed,
    /// Those of Docker's that nobody will ever come for.
    Abandoned,
    /// Those of Docker's whose end waits on the host, however long it has.
    Waiting,
    /// CNI's, if its link is destroyed and nobody asks anything of it now.
    Orphaned,
    /// What an ADD made whose result nobody heard, or a DEL did not finish.
    Leftover,
}

/// What a DEL means besides its key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meant {
    /// Whose.
    pub only: Only,
    /// What was made before this, in milliseconds since boot; all if not said.
    pub made_before: Option<u64>,
    /// What is in this namespace; in any if not said.
    pub netns: Option<NetnsId>,
}

/// What an ADD is to make, of which there is no record yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adding {
    /// When the ADD came, in milliseconds since boot.
    pub since: u64,
    /// The container's namespace; none for addresses that another plugin attaches with.
    pub netns: Option<NetnsId>,
    /// The container's end is handed over, as to Docker.
    pub handed: bool,
}

impl Meant {
    /// Whether an attachment that is there is meant.
    pub fn is_recorded(&self, record: &Record) -> bool {
        // One that was rebuilt from the kernel does not know its namespace, nor when it was made.
        let (created, is_in) = (record.created, record.netns);
        let is_newer = self.made_before.is_some_and(|limit| created > limit);
        let is_other = self.netns.is_some_and(|netns| created != 0 && is_in != netns);
        let is_of = match self.only {
            Only::Any | Only::Leftover => true,
            Only::Cni | Only::Orphaned => !record.handed,
            Only::Handed | Only::Abandoned | Only::Waiting => record.handed,
        };
        !is_newer && !is_other && is_of
    }

    /// Whether an ADD is meant, so that it is given up: its runtime has asked for the DEL after it. Who clears
    /// up what is left, as GC does, means nothing that somebody is at work on.
    pub fn stops(&self, adding: &Adding) -> bool {
        let is_of = match self.only {
            Only::Any => true,
            Only::Handed => adding.handed,
            Only::Cni | Only::Abandoned | Only::Waiting | Only::Orphaned | Only::Leftover => false,
        };
        let is_later = self.made_before.is_some_and(|limit| adding.since > limit);
        let is_other = self.netns.is_some_and(|netns| adding.netns != Some(netns));
        is_of && !is_later && !is_other
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::plan::tests::sample;
    use super::super::{Claim, Tickets};
    use super::*;

    const ALL: [Only; 6] =
        [Only::Any, Only::Cni, Only::Handed, Only::Abandoned, Only::Orphaned, Only::Leftover];

    fn netns(ino: u64) -> NetnsId {
        NetnsId { dev: 4, ino }
    }

    #[test]
    fn a_del_stops_what_came_before_it_and_nothing_else() {
        let adding = Adding { since: 10, netns: Some(netns(1)), handed: false };
        let del = Meant::default();
        assert!(del.stops(&adding));
        assert!(Meant { made_before: Some(10), ..del }.stops(&adding), "a tombstone of then");
        assert!(!Meant { made_before: Some(9), ..del }.stops(&adding), "an older tombstone");
        assert!(Meant { netns: Some(netns(1)), ..del }.stops(&adding));
        assert!(!Meant { netns: Some(netns(2)), ..del }.stops(&adding), "another container");
        assert!(!Meant { only: Only::Handed, ..del }.stops(&adding), "Docker's");
        assert!(Meant { only: Only::Handed, ..del }.stops(&Adding { handed: true, ..adding }));
        for only in [Only::Cni, Only::Abandoned, Only::Waiting, Only::Orphaned, Only::Leftover] {
            for handed in [true, false] {
                let adding = Adding { handed, ..adding };
                assert!(!Meant { only, ..del }.stops(&adding), "{only:?}");
            }
        }
    }

    fn meanings() -> impl Strategy<Value = Meant> {
        let limit = proptest::option::of(0u64..8);
        let inside = proptest::option::of((1u64..3).prop_map(netns));
        (proptest::sample::select(&ALL[..]), limit, inside)
            .prop_map(|(only, made_before, netns)| Meant { only, made_before, netns })
    }

    /// An ADD, or a DEL and what it means.
    #[derive(Debug, Clone, PartialEq)]
    enum Ticket {
        Add(Adding),
        Del(Meant),
    }

    proptest! {
        /// An ADD that is given up for a DEL would have made what the DEL removes, had it been done at once.
        #[test]
        fn what_is_stopped_would_have_been_removed(
            meant in meanings(), since in 1u64..8, ino in 1u64..3, handed: bool,
        ) {
            let mut record = sample("").record;
            (record.created, record.netns, record.handed) = (since, netns(ino), handed);
            let adding = Adding { since, netns: Some(netns(ino)), handed };
            prop_assert!(!meant.stops(&adding) || meant.is_recorded(&record));
        }

        /// Whatever comes in whatever order: an ADD that waits is void only by a DEL that means it and came
        /// after it, and each such DEL that has to wait makes it void.
        #[test]
        fn only_those_that_are_meant_become_void(
            steps in proptest::collection::vec((0u8..3, meanings(), 1u64..3, any::<bool>()), 1..60),
        ) {
            let mut tickets = Tickets::<u8, Ticket>::default();
            let mut waiting: Vec<Adding> = Vec::new();
            for (since, (what, meant, ino, handed)) in (1..).zip(steps) {
                let ticket = match what {
                    0 => {
                        if let Some(Ticket::Add(adding)) = tickets.done(&1) {
                            waiting.retain(|waits| *waits != adding);
                        }
                        continue;
                    }
                    1 => Ticket::Add(Adding { since, netns: Some(netns(ino)), handed }),
                    _ => Ticket::Del(meant),
                };
                let voids = |waits: &Ticket| match (&ticket, waits) {
                    (Ticket::Del(meant), Ticket::Add(adding)) => meant.stops(adding),
                    _ => false,
                };
                let (void, kept): (Vec<Adding>, Vec<Adding>) = match &ticket {
                    Ticket::Del(meant) => waiting.iter().partition(|adding| meant.stops(adding)),
                    Ticket::Add(_) => (Vec::new(), waiting.clone()),
                };
                match tickets.claim(&1, ticket.clone(), voids) {
                    Claim::Run(_) => prop_assert!(waiting.is_empty()),
                    Claim::Wait { overtaken } => {
                        let void: Vec<Ticket> = void.into_iter().map(Ticket::Add).collect();
                        prop_assert_eq!(overtaken, void);
                        waiting = kept;
                        if let Ticket::Add(adding) = ticket {
                            waiting.push(adding);
                        }
                    }
                }
            }
        }
    }
}
