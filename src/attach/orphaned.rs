//! Attachments whose link is destroyed and whose DEL does not come: a runtime that was killed between an
//! ADD and writing down what it said forgets the container, and deletes its namespace without us.
//!
//! That a link is not there is not enough to release an address. It has to be a link whose absence says
//! something ([`is_ours_to_release`]), gone at each of several looks and for a grace time ([`Orphans`]), and
//! nowhere else at the end of it (`kernel::route`'s `is_destroyed`).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use quantum_config::ids::{AttachmentKey, IfName, LinkIndex};

use super::{NetnsId, Record, naming};

/// How often is looked, at most.
const RARELY: Duration = Duration::from_secs(10);
/// How many looks there are in a grace time, at least.
const LOOKS: u32 = 4;

/// How often is looked for those whose grace time is this.
pub fn interval(grace: Duration) -> Duration {
    (grace / LOOKS).min(RARELY)
}

/// The links of a network namespace at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinksSeen {
    names: HashSet<String>,
    by_index: HashMap<LinkIndex, String>,
}

impl FromIterator<(LinkIndex, String)> for LinksSeen {
    fn from_iter<T: IntoIterator<Item = (LinkIndex, String)>>(links: T) -> Self {
        let mut seen = Self::default();
        for (index, name) in links {
            seen.names.insert(name.clone());
            seen.by_index.insert(index, name);
        }
        seen
    }
}

impl LinksSeen {
    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.by_index.is_empty()
    }

    /// There is a link of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// An attachment's link is there, whatever its state; also one that somebody has given another name.
    /// Another attachment's that got the same index is known by its own.
    pub fn carry(&self, host: &IfName, index: LinkIndex) -> bool {
        let other = self.by_index.get(&index);
        self.has(host.as_str()) || other.is_some_and(|name| !name.starts_with(naming::PREFIX))
    }
}

/// Whether an attachment may be released because its link is gone. `host` is the namespace that was looked
/// in: in another one than its link was made in nothing is to be seen of it. What another program gave its
/// address for has to be told to that program, which we do not run; what was handed over has a rule of its own
/// ([`is_abandoned`](super::is_abandoned)).
pub fn is_ours_to_release(record: &Record, host: NetnsId) -> bool {
    !record.handed && !record.delegated && record.host_netns == Some(host)
}

/// One attachment: an ADD for the same key makes another.
type Attachment = (AttachmentKey, u64);

/// Since when links are gone.
#[derive(Debug, Default)]
pub struct Orphans {
    gone: HashMap<Attachment, Gone>,
}

#[derive(Debug, Clone, Copy)]
struct Gone {
    /// On the clock of the looks.
    since: Duration,
    looks: u32,
}

/// One whose grace time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Whose it is.
    pub key: AttachmentKey,
    /// When it was made: another one of this key is not meant.
    pub created: u64,
    /// How long its link has been gone.
    pub gone_for: Duration,
}

impl Orphans {
    /// Notes a look: these attachments have no link. Gives those for which that has been so at every look of
    /// the grace time; one that is not among them now, and comes back, begins anew. `now` is what a clock
    /// says that only goes forward.
    pub fn note(&mut self, now: Duration, grace: Duration, without: Vec<Attachment>) -> Vec<Due> {
        let before = std::mem::take(&mut self.gone);
        let mut due = Vec::new();
        for attachment in without {
            let known = before.get(&attachment).copied();
            let mut gone = known.unwrap_or(Gone { since: now, looks: 0 });
            gone.looks += 1;
            let gone_for = now.saturating_sub(gone.since);
            if gone.looks > 1 && gone_for >= grace {
                let (key, created) = attachment.clone();
                due.push(Due { key, created, gone_for });
            }
            self.gone.insert(attachment, gone);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::sample;
    use super::*;

    const GRACE: Duration = Duration::from_secs(300);

    fn attachment(container: &str, created: u64) -> Attachment {
        (format!("n/{container}/eth0").parse().expect("a key"), created)
    }

    fn names(due: &[Due]) -> Vec<&str> {
        due.iter().map(|due| due.key.container.as_str()).collect()
    }

    #[test]
    fn it_is_due_when_every_look_of_the_grace_time_has_missed_it() {
        let mut orphans = Orphans::default();
        let mut look = |seconds: u64, without: &[Attachment]| {
            orphans.note(Duration::from_secs(seconds), GRACE, without.to_vec())
        };
        let (a, b) = (attachment("a", 1), attachment("b", 2));
        assert!(look(0, std::slice::from_ref(&a)).is_empty());
        assert!(look(10, &[a.clone(), b.clone()]).is_empty());
        assert!(look(299, &[a.clone(), b.clone()]).is_empty());
        let due = look(300, &[a.clone(), b.clone()]);
        assert_eq!((names(&due), due[0].created, due[0].gone_for), (vec!["a"], 1, GRACE));
        // What could not be released is due again.
        assert_eq!(names(&look(310, &[a.clone(), b.clone()])), ["a", "b"]);
    }

    #[test]
    fn one_that_is_seen_again_begins_anew_and_so_does_the_next_of_its_key() {
        let mut orphans = Orphans::default();
        let mut look = |seconds: u64, without: Vec<Attachment>| {
            orphans.note(Duration::from_secs(seconds), GRACE, without)
        };
        look(0, vec![attachment("a", 1)]);
        look(200, vec![]);
        assert!(look(300, vec![attachment("a", 1)]).is_empty());
        assert!(look(590, vec![attachment("a", 1)]).is_empty());
        assert!(look(600, vec![attachment("a", 9)]).is_empty(), "an ADD came in between");
        assert_eq!(names(&look(900, vec![attachment("a", 9)])), ["a"]);
    }

    #[test]
    fn one_look_is_never_enough() {
        let (mut orphans, now) = (Orphans::default(), GRACE);
        assert!(orphans.note(now, Duration::ZERO, vec![attachment("a", 1)]).is_empty());
        assert_eq!(orphans.note(now, Duration::ZERO, vec![attachment("a", 1)]).len(), 1);
    }

    #[test]
    fn a_link_is_known_by_its_name_and_by_its_index() {
        let record = sample("").record;
        let seen = |name: &str, index| LinksSeen::from_iter([(index, name.to_owned())]);
        let other = LinkIndex(7);
        assert!(seen(record.host.as_str(), record.index).carry(&record.host, record.index));
        assert!(seen(record.host.as_str(), other).carry(&record.host, record.index));
        assert!(seen("renamed", record.index).carry(&record.host, record.index));
        assert!(!seen("eth0", other).carry(&record.host, record.index));
        assert!(
            !seen("qc0000000000000", record.index).carry(&record.host, record.index),
            "another's"
        );
    }

    #[test]
    fn only_what_was_made_here_and_is_ours_alone_is_released() {
        let made = sample("").record;
        let here = made.host_netns.expect("known");
        assert!(is_ours_to_release(&made, here));
        assert!(!is_ours_to_release(&made, NetnsId { ino: here.ino + 1, ..here }));
        let change = |change: fn(&mut Record)| {
            let mut record = made.clone();
            change(&mut record);
            is_ours_to_release(&record, here)
        };
        assert!(!change(|record| record.handed = true));
        assert!(!change(|record| record.delegated = true));
        assert!(!change(|record| record.host_netns = None), "one of an earlier release");
    }

    #[test]
    fn it_is_looked_several_times_in_a_grace_time_and_not_too_rarely() {
        assert_eq!(interval(Duration::from_secs(1)), Duration::from_millis(250));
        assert_eq!(interval(GRACE), RARELY);
    }
}
