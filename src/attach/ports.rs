//! Whether a bridge has room for one more port. The kernel has the last word, but says it when an
//! address has been leased and rules have been made; this says it before.
//!
//! What is known is a count of the bridge's ports and the ADDs since. Ports that others plug in are
//! not seen, and those that go are not either: so "full" is only believed of a count just made, and
//! what was overlooked is refused by the kernel.

use std::collections::HashSet;

use quantum_config::ids::IfName;

/// As many ports as a bridge can have (`BR_MAX_PORTS`, less the number that is none).
pub const PORTS_MAX: usize = 1023;

/// No room for a port. The message names the bridge and the limit, by which operators search.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "bridge {0} has {PORTS_MAX} ports, which is the most a bridge can have; remove containers from it, or give the network another bridge"
)]
pub struct BridgeFull(pub IfName);

/// The ports of one bridge, as far as they are known.
#[derive(Debug, Default)]
pub struct Ports {
    /// Those that are there; none before the first count.
    present: Option<usize>,
    /// Those that ADDs under way will make, or have made: by the names of the host's ends.
    claimed: HashSet<IfName>,
}

impl Ports {
    /// An ADD wants to make this port. False if there may be no room: count, and ask again.
    pub fn claim(&mut self, port: &IfName) -> bool {
        let others = self.claimed.iter().filter(|claimed| *claimed != port).count();
        let has_room = self.present.is_some_and(|present| present + others < PORTS_MAX);
        if has_room {
            self.claimed.insert(port.clone());
        }
        has_room
    }

    /// The bridge has exactly these ports.
    pub fn counted(&mut self, names: &[String]) {
        let is_claimed = |name: &String| self.claimed.iter().any(|port| port.as_str() == name);
        self.present = Some(names.iter().filter(|name| !is_claimed(name)).count());
    }

    /// The ADD is over, and its port is there or is not.
    pub fn settle(&mut self, port: &IfName, made: bool) {
        if self.claimed.remove(port) && made {
            self.present = self.present.map(|present| present + 1);
        }
    }

    /// Nothing is known any more: the kernel said otherwise, or the bridge is another one.
    pub fn forget(&mut self) {
        self.present = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: usize) -> IfName {
        IfName::new(format!("qc{number}")).expect("a name")
    }

    fn names(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|n| port(n).to_string()).collect()
    }

    #[test]
    fn nothing_is_promised_before_it_was_counted() {
        let mut ports = Ports::default();
        assert!(!ports.claim(&port(1)));
        ports.counted(&[]);
        assert!(ports.claim(&port(1)));
        ports.forget();
        assert!(!ports.claim(&port(2)));
    }

    #[test]
    fn the_last_port_is_given_once() {
        let mut ports = Ports::default();
        ports.counted(&names(0..PORTS_MAX - 1));
        assert!(ports.claim(&port(5000)), "one is left");
        assert!(!ports.claim(&port(5001)), "it is claimed");
        // Counted while that ADD is under way, its port made or not made yet.
        for made in [names(0..PORTS_MAX - 1), [names(0..PORTS_MAX - 1), names(5000..5001)].concat()]
        {
            ports.counted(&made);
            assert!(!ports.claim(&port(5001)), "still the same one");
        }
        ports.settle(&port(5000), false);
        assert!(ports.claim(&port(5001)), "its ADD failed");
        ports.settle(&port(5001), true);
        assert!(!ports.claim(&port(5002)), "its ADD did not");
        ports.counted(&names(0..PORTS_MAX - 1));
        assert!(ports.claim(&port(5002)), "a port went, and was seen to be gone");
    }

    #[test]
    fn a_claim_does_not_stand_in_its_own_way() {
        let mut ports = Ports::default();
        ports.counted(&names(0..PORTS_MAX - 1));
        assert!(ports.claim(&port(5000)) && ports.claim(&port(5000)));
    }
}
