//! What became of attachments that were made in another network namespace than the daemon is in now, within one
//! boot of the kernel. A node that is a container (kind, k3d, minikube) is restarted so: all that was in its
//! namespaces ended, as by a reboot, and only the disk is the same. A daemon that somebody starts in another
//! namespace by mistake finds the same records, and their containers live.

use serde::{Deserialize, Serialize};

use super::NetnsId;

/// Where a daemon works, noted at its start: in `state_dir`, which a restart of the node leaves, and in
/// `runtime_dir`, which it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNote {
    /// The boot of the kernel.
    pub boot: String,
    /// The network namespace.
    pub netns: NetnsId,
    /// The same for as long as the kernel runs, where it tells (`SO_NETNS_COOKIE`, Linux 5.14): an inode is used
    /// again as soon as its namespace is gone.
    pub cookie: Option<u64>,
}

impl HostNote {
    /// Whether both are about one namespace, as far as can be told.
    pub fn is_same(&self, other: &Self) -> bool {
        let cookies = self.cookie.zip(other.cookie);
        self.boot == other.boot
            && self.netns == other.netns
            && cookies.is_none_or(|(one, two)| one == two)
    }
}

/// What is known at a start that finds attachments.
#[derive(Debug)]
pub struct Witnesses<'w> {
    /// Where the daemon is.
    pub here: &'w HostNote,
    /// The note in `state_dir`.
    pub noted: Option<&'w HostNote>,
    /// The note in `runtime_dir`.
    pub marked: Option<&'w HostNote>,
    /// In which namespaces the attachments were made, as far as their records tell.
    pub made_in: &'w [NetnsId],
    /// Some link of theirs is in the daemon's namespace.
    pub has_links: bool,
}

/// What became of the attachments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// They are of the daemon's own namespace, whatever became of them there.
    Here,
    /// Nothing of them can live: their namespaces are gone, and `runtime_dir` with them.
    Ended,
    /// They may live in another namespace: `runtime_dir` is the same as then.
    Marked,
    /// They may live in another namespace, which is there.
    Seen,
    /// They may live in another namespace: nobody noted where the last daemon was.
    Unknown,
}

/// Decides by all that is known; one that is missing proves nothing. `is_seen` tells whether a namespace is
/// anybody's still, and is asked only where that decides.
pub fn earlier<E>(
    known: &Witnesses<'_>,
    is_seen: impl Fn(&HostNote) -> Result<bool, E>,
) -> Result<Earlier, E> {
    let here = known.here;
    let noted = known.noted.filter(|note| note.boot == here.boot);
    let was_here = match noted {
        Some(note) => note.is_same(here),
        None => known.made_in.is_empty() || known.made_in.contains(&here.netns),
    };
    if known.has_links || was_here {
        return Ok(Earlier::Here);
    }
    let Some(noted) = noted else { return Ok(Earlier::Unknown) };
    if known.marked.is_some_and(|mark| mark.boot == here.boot) {
        return Ok(Earlier::Marked);
    }
    let of_records = known.made_in.iter().filter(|netns| **netns != noted.netns);
    let of_records = of_records.filter(|netns| **netns != here.netns);
    let others = of_records.map(|netns| HostNote { netns: *netns, cookie: None, ..noted.clone() });
    for namespace in std::iter::once(noted.clone()).chain(others) {
        if is_seen(&namespace)? {
            return Ok(Earlier::Seen);
        }
    }
    Ok(Earlier::Ended)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn note(boot: &str, ino: u64, cookie: Option<u64>) -> HostNote {
        HostNote { boot: boot.to_owned(), netns: NetnsId { dev: 4, ino }, cookie }
    }

    fn made(inos: &[u64]) -> Vec<NetnsId> {
        inos.iter().map(|ino| NetnsId { dev: 4, ino: *ino }).collect()
    }

    fn decided(known: &Witnesses<'_>, alive: &[u64]) -> Earlier {
        let seen = |note: &HostNote| Ok::<_, Infallible>(alive.contains(&note.netns.ino));
        let Ok(decided) = earlier(known, seen);
        decided
    }

    #[test]
    fn a_node_that_was_restarted_has_nothing_left() {
        let (here, then) = (note("b", 2, Some(20)), note("b", 1, Some(10)));
        let made_in = made(&[1, 1]);
        let restarted = Witnesses {
            here: &here,
            noted: Some(&then),
            marked: None,
            made_in: &made_in,
            has_links: false,
        };
        assert_eq!(decided(&restarted, &[]), Earlier::Ended);
        assert_eq!(decided(&Witnesses { made_in: &[], ..restarted }, &[]), Earlier::Ended);
        assert_eq!(decided(&restarted, &[1]), Earlier::Seen);
        assert_eq!(decided(&Witnesses { marked: Some(&then), ..restarted }, &[]), Earlier::Marked);
        assert_eq!(decided(&Witnesses { noted: None, ..restarted }, &[]), Earlier::Unknown);
        assert_eq!(decided(&Witnesses { has_links: true, ..restarted }, &[]), Earlier::Here);
        // One that was kept before, of a third namespace.
        let mixed = made(&[1, 3]);
        assert_eq!(decided(&Witnesses { made_in: &mixed, ..restarted }, &[3]), Earlier::Seen);
        assert_eq!(decided(&Witnesses { made_in: &mixed, ..restarted }, &[]), Earlier::Ended);
    }

    #[test]
    fn an_inode_that_is_used_again_is_another_namespace() {
        let (here, then) = (note("b", 1, Some(20)), note("b", 1, Some(10)));
        let made_in = made(&[1]);
        let same = Witnesses {
            here: &here,
            noted: Some(&then),
            marked: None,
            made_in: &made_in,
            has_links: false,
        };
        assert_eq!(decided(&same, &[]), Earlier::Ended);
        // Where the kernel tells no cookie it looks like the same one.
        let untold = note("b", 1, None);
        assert_eq!(decided(&Witnesses { here: &untold, ..same }, &[]), Earlier::Here);
        assert_eq!(decided(&Witnesses { noted: Some(&here), ..same }, &[]), Earlier::Here);
        assert_eq!(decided(&Witnesses { noted: None, ..same }, &[]), Earlier::Here);
        let old = note("a", 1, Some(10));
        assert_eq!(decided(&Witnesses { noted: Some(&old), ..same }, &[]), Earlier::Here);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever happened: what lives is never given up, if the start before noted where it was.
        #[test]
        fn what_may_live_is_never_given_up(
            here in 1u64..4, noted in proptest::option::of(1u64..4), marked in any::<bool>(),
            made_in in proptest::collection::vec(1u64..4, 0..4),
            alive in proptest::collection::vec(1u64..4, 0..4), has_links in any::<bool>(),
        ) {
            let here = note("b", here, Some(here));
            let noted = noted.map(|ino| note("b", ino, Some(ino)));
            let made_in = made(&made_in);
            let known = Witnesses {
                here: &here,
                noted: noted.as_ref(),
                marked: noted.as_ref().filter(|_| marked),
                made_in: &made_in,
                has_links,
            };
            let lives = |netns: &NetnsId| alive.contains(&netns.ino) || *netns == here.netns && has_links;
            if decided(&known, &alive) == Earlier::Ended {
                prop_assert!(!has_links && known.marked.is_none());
                prop_assert!(noted.is_some_and(|note| !note.is_same(&here) && !lives(&note.netns)));
                prop_assert!(made_in.iter().all(|netns| *netns == here.netns || !lives(netns)));
            }
        }
    }
}
