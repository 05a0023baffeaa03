//! The door: the one place where requests are held back. Behind it nothing is bounded, so this is
//! what bounds the daemon's memory and its load on the kernel.
//!
//! There are permits for the daemon and for each network. Who gets none waits here, and leaves by
//! himself when his time is over. Of those who wait, DELs go first: they give back what ADDs wait
//! for. Everybody waits until the daemon knows after a start what the kernel has, and ADDs until its
//! house is in order.

use std::collections::{HashMap, VecDeque};

use quantum_config::ids::NetworkName;

/// What a request is to the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// DEL and GC: they give resources back.
    Teardown,
    /// CHECK.
    Look,
    /// ADD.
    Setup,
}

/// How many requests are let in at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For the whole daemon.
    pub daemon: usize,
    /// For one network, so that a burst on one leaves room for the others.
    pub network: usize,
}

/// What the door says to somebody who wants in.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry<W> {
    /// Come in; call [`Door::leave`] at the end.
    Admitted(W),
    /// Wait; a later [`Door::leave`] or [`Door::open`] gives the waiter back.
    Waiting,
}

/// The door. `W` is somebody who wants in.
#[derive(Debug)]
pub struct Door<W> {
    limits: Limits,
    /// The last class that is let in yet, in the order of the classes.
    open: Option<Class>,
    inside: usize,
    per_network: HashMap<NetworkName, usize>,
    queues: [VecDeque<(NetworkName, W)>; 3],
}

impl<W> Door<W> {
    /// A door that lets nobody in yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: None,
            inside: 0,
            per_network: HashMap::new(),
            queues: [VecDeque::new(), VecDeque::new(), VecDeque::new()],
        }
    }

    /// Somebody wants in.
    pub fn enter(&mut self, class: Class, network: &NetworkName, who: W) -> Entry<W> {
        if self.has_room(class, network) {
            self.admit(network);
            return Entry::Admitted(who);
        }
        self.queues[class as usize].push_back((network.clone(), who));
        Entry::Waiting
    }

    /// Somebody who was admitted to `network` is done. Gives those who may come in now. `gone`
    /// tells of a waiter whether he has left meanwhile.
    pub fn leave(&mut self, network: &NetworkName, gone: impl Fn(&W) -> bool) -> Vec<W> {
        self.inside = self.inside.saturating_sub(1);
        if let Some(n) = self.per_network.get_mut(network) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.per_network.remove(network);
            }
        }
        self.next(gone)
    }

    /// Requests up to `class` are let in from now on. Gives those who waited for it.
    pub fn open(&mut self, class: Class, gone: impl Fn(&W) -> bool) -> Vec<W> {
        self.open = self.open.max(Some(class));
        self.next(gone)
    }

    /// Nobody is to be let in any more: gives those who waited.
    pub fn close(&mut self) -> Vec<W> {
        self.queues.iter_mut().flat_map(std::mem::take).map(|(_, who)| who).collect()
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.inside
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    fn next(&mut self, gone: impl Fn(&W) -> bool) -> Vec<W> {
        let mut admitted = Vec::new();
        for class in [Class::Teardown, Class::Look, Class::Setup] {
            let mut kept = VecDeque::new();
            while let Some((network, who)) = self.queues[class as usize].pop_front() {
                if gone(&who) {
                    continue;
                }
                if self.has_room(class, &network) {
                    self.admit(&network);
                    admitted.push(who);
                } else {
                    kept.push_back((network, who));
                    if self.inside >= self.limits.daemon {
                        break; // nobody of this or a later class gets in
                    }
                }
            }
            kept.append(&mut self.queues[class as usize]);
            self.queues[class as usize] = kept;
        }
        admitted
    }

    fn has_room(&self, class: Class, network: &NetworkName) -> bool {
        self.open >= Some(class)
            && self.inside < self.limits.daemon
            && self.per_network.get(network).is_none_or(|n| *n < self.limits.network)
    }

    fn admit(&mut self, network: &NetworkName) {
        self.inside += 1;
        *self.per_network.entry(network.clone()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(n: u8) -> NetworkName {
        NetworkName::new(format!("n{n}")).expect("a name")
    }

    fn open_door(daemon: usize, network: usize) -> Door<u32> {
        let mut door = Door::new(Limits { daemon, network });
        door.open(Class::Setup, |_| false);
        door
    }

    #[test]
    fn the_door_opens_for_dels_first() {
        let mut door = Door::new(Limits { daemon: 4, network: 4 });
        assert_eq!(door.enter(Class::Setup, &name(0), 1), Entry::Waiting);
        assert_eq!(door.enter(Class::Teardown, &name(0), 2), Entry::Waiting);
        assert_eq!(door.open(Class::Look, |_| false), [2]);
        assert_eq!(door.enter(Class::Teardown, &name(0), 3), Entry::Admitted(3));
        assert_eq!(door.open(Class::Setup, |_| false), [1]);
    }

    #[test]
    fn a_del_is_let_in_before_an_add_that_waits_longer() {
        let mut door = open_door(1, 1);
        door.enter(Class::Setup, &name(0), 1);
        door.enter(Class::Setup, &name(0), 2);
        door.enter(Class::Teardown, &name(0), 3);
        assert_eq!(door.leave(&name(0), |_| false), [3]);
        assert_eq!(door.leave(&name(0), |_| false), [2]);
    }

    #[test]
    fn one_network_cannot_fill_the_house() {
        let mut door = open_door(3, 2);
        door.enter(Class::Setup, &name(0), 1);
        door.enter(Class::Setup, &name(0), 2);
        assert_eq!(door.enter(Class::Setup, &name(0), 3), Entry::Waiting);
        assert_eq!(door.enter(Class::Setup, &name(1), 4), Entry::Admitted(4));
    }

    #[test]
    fn who_has_left_is_not_let_in() {
        let mut door = open_door(1, 1);
        door.enter(Class::Setup, &name(0), 1);
        door.enter(Class::Setup, &name(0), 2);
        door.enter(Class::Setup, &name(0), 3);
        assert_eq!(door.leave(&name(0), |w| *w == 2), [3]);
        assert_eq!(door.waiting(), 0);
    }

    #[test]
    fn who_waits_when_it_closes_is_given_back() {
        let mut door = open_door(1, 1);
        for (number, class) in [Class::Setup, Class::Setup, Class::Teardown].into_iter().enumerate()
        {
            door.enter(class, &name(0), number as u32);
        }
        assert_eq!(door.close(), [2, 1]);
        assert!(door.leave(&name(0), |_| false).is_empty());
        assert_eq!((door.inside(), door.waiting()), (0, 0));
    }

    proptest! {
        /// Never more inside than the limits allow, and when all have left nobody is waiting.
        #[test]
        fn the_limits_hold(steps in proptest::collection::vec((0u8..2, 0u8..3, any::<bool>()), 1..200)) {
            let mut door = open_door(4, 2);
            let mut inside: Vec<u8> = Vec::new();
            let mut networks: HashMap<u32, u8> = HashMap::new();
            let mut number = 0;
            for (network, class, leaves) in steps {
                if leaves && !inside.is_empty() {
                    let left = inside.remove(0);
                    inside.extend(door.leave(&name(left), |_| false).iter().map(|w| networks[w]));
                } else {
                    number += 1;
                    networks.insert(number, network);
                    let class = [Class::Teardown, Class::Look, Class::Setup][class as usize];
                    if let Entry::Admitted(_) = door.enter(class, &name(network), number) {
                        inside.push(network);
                    }
                }
                prop_assert_eq!(door.inside(), inside.len());
                prop_assert!(inside.len() <= 4);
                for n in 0..2 {
                    prop_assert!(inside.iter().filter(|i| **i == n).count() <= 2);
                }
            }
            while let Some(left) = inside.pop() {
                inside.extend(door.leave(&name(left), |_| false).iter().map(|w| networks[w]));
            }
            prop_assert_eq!(door.waiting(), 0);
        }
    }
}
