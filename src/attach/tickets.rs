//! Order for each attachment key, without a lock on anything else: requests for different keys run
//! side by side, requests for one key one after the other.
//!
//! ```text
//! claim(ADD) ──► Run            done() ──► the next ticket, if any
//! claim(DEL) ──► Wait           the running ADD is told to give up; ADDs that wait are refused
//! ```
//!
//! A DEL wins over every ADD that came before it: the runtime has given up on the container. An ADD
//! that comes after it waits for it.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// What happens to a ticket that was handed in.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim<T> {
    /// The key is free: carry it out now, and call [`Tickets::done`] afterwards.
    Run(T),
    /// The key is busy; the ticket comes back from [`Tickets::done`]. `overtaken` are those that
    /// will not run any more.
    Wait {
        /// Tickets that this one makes void.
        overtaken: Vec<T>,
    },
}

/// The tickets of all keys.
#[derive(Debug)]
pub struct Tickets<K, T> {
    waiting: HashMap<K, VecDeque<T>>,
}

impl<K: Eq + Hash + Clone, T> Default for Tickets<K, T> {
    fn default() -> Self {
        Self { waiting: HashMap::new() }
    }
}

impl<K: Eq + Hash + Clone, T> Tickets<K, T> {
    /// Hands in a ticket. `voids` says which of the waiting tickets it makes void.
    pub fn claim(&mut self, key: &K, ticket: T, voids: impl Fn(&T) -> bool) -> Claim<T> {
        let Some(queue) = self.waiting.get_mut(key) else {
            self.waiting.insert(key.clone(), VecDeque::new());
            return Claim::Run(ticket);
        };
        let (overtaken, mut kept): (VecDeque<T>, VecDeque<T>) =
            std::mem::take(queue).into_iter().partition(voids);
        kept.push_back(ticket);
        *queue = kept;
        Claim::Wait { overtaken: overtaken.into() }
    }

    /// The ticket that ran for `key` is done; gives the next one, which is to run now.
    pub fn done(&mut self, key: &K) -> Option<T> {
        let next = self.waiting.get_mut(key)?.pop_front();
        if next.is_none() {
            self.waiting.remove(key);
        }
        next
    }

    /// True if a ticket runs for `key`.
    pub fn is_busy(&self, key: &K) -> bool {
        self.waiting.contains_key(key)
    }

    /// How many keys have a ticket that runs.
    pub fn running(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Ticket {
        Add(u32),
        Del(u32),
    }

    fn claim(tickets: &mut Tickets<u8, Ticket>, key: u8, ticket: Ticket) -> Claim<Ticket> {
        let is_del = matches!(ticket, Ticket::Del(_));
        tickets.claim(&key, ticket, |t| is_del && matches!(t, Ticket::Add(_)))
    }

    #[test]
    fn different_keys_do_not_wait_for_each_other() {
        let mut tickets = Tickets::default();
        assert_eq!(claim(&mut tickets, 1, Ticket::Add(1)), Claim::Run(Ticket::Add(1)));
        assert_eq!(claim(&mut tickets, 2, Ticket::Add(2)), Claim::Run(Ticket::Add(2)));
        assert_eq!(tickets.running(), 2);
    }

    #[test]
    fn a_del_overtakes_the_adds_that_wait() {
        let mut tickets = Tickets::default();
        claim(&mut tickets, 1, Ticket::Add(1));
        claim(&mut tickets, 1, Ticket::Add(2));
        let claimed = claim(&mut tickets, 1, Ticket::Del(3));
        assert_eq!(claimed, Claim::Wait { overtaken: vec![Ticket::Add(2)] });
        claim(&mut tickets, 1, Ticket::Add(4));
        assert_eq!(tickets.done(&1), Some(Ticket::Del(3)));
        assert_eq!(tickets.done(&1), Some(Ticket::Add(4)));
        assert_eq!(tickets.done(&1), None);
        assert!(!tickets.is_busy(&1));
    }

    proptest! {
        /// Whatever is handed in and finished in whatever order: one ticket at a time runs for a
        /// key, each runs or is overtaken exactly once, those that run keep their order, and no ADD
        /// runs that was handed in before a DEL which had to wait.
        #[test]
        fn every_ticket_ends_once_and_in_order(steps in proptest::collection::vec((0u8..3, 0u8..3), 1..200)) {
            let mut tickets = Tickets::default();
            let mut running: HashMap<u8, Ticket> = HashMap::new();
            let (mut ran, mut overtaken) = (HashMap::<u8, Vec<u32>>::new(), Vec::new());
            let mut number = 0;
            let mut start = |running: &mut HashMap<u8, Ticket>, key: u8, ticket: Ticket| {
                let (Ticket::Add(n) | Ticket::Del(n)) = ticket;
                ran.entry(key).or_default().push(n);
                assert!(running.insert(key, ticket).is_none(), "two at a time");
            };
            for (key, what) in steps {
                if what == 0 {
                    if running.remove(&key).is_some() && let Some(next) = tickets.done(&key) {
                        start(&mut running, key, next);
                    }
                    continue;
                }
                number += 1;
                let ticket = if what == 1 { Ticket::Add(number) } else { Ticket::Del(number) };
                match claim(&mut tickets, key, ticket.clone()) {
                    Claim::Run(t) => start(&mut running, key, t),
                    Claim::Wait { overtaken: gone } => {
                        prop_assert!(running.contains_key(&key));
                        prop_assert!(gone.iter().all(|t| matches!(t, Ticket::Add(_))));
                        prop_assert!(gone.is_empty() || matches!(ticket, Ticket::Del(_)));
                        overtaken.extend(gone);
                    }
                }
            }
            for key in 0..3 {
                while running.remove(&key).is_some() {
                    if let Some(next) = tickets.done(&key) {
                        start(&mut running, key, next);
                    }
                }
                prop_assert!(!tickets.is_busy(&key));
            }
            let mut ended = overtaken.len();
            for numbers in ran.values() {
                prop_assert!(numbers.is_sorted());
                ended += numbers.len();
            }
            prop_assert_eq!(ended, number as usize);
        }
    }
}
