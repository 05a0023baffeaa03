//! Who may ask what of the daemon: user 0 everything, the members of `reader_group` what changes nothing,
//! and others nothing.
//!
//! | asked                                                             | user 0 | `reader_group` | others |
//! |-------------------------------------------------------------------|--------|----------------|--------|
//! | CNI STATUS, VERSION; `status`; policy explain, simulate, show, matrix, denied | yes | yes   | no     |
//! | CNI ADD, DEL, CHECK, GC; policy apply, delete, label; Docker's calls | yes | no             | no     |
//!
//! Whoever may change is root of the host's network: a network of his own choice puts addresses and routes
//! on the host, and the namespace of any container can be handed over. So no group may. CHECK changes
//! nothing, but it looks into a namespace that the caller hands over and that need not be the caller's.

use std::fmt;

use quantum_config::ask::Ask;
use quantum_config::cni::{CniError, Code, Command};

use crate::kernel::peer::Credentials;

/// What is asked, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    /// Nothing yet: the request has not been read.
    Connection,
    /// A verb of CNI; none if there is no such verb.
    Call(Option<Command>),
    /// How the daemon is.
    Status,
    /// A question about policy, or a change of it.
    Policy(&'a Ask),
    /// A question that is not known, or cannot be read. The answer says so, and nothing is done.
    Unknown,
    /// A call of Docker's plugin protocol.
    Docker,
}

/// What it takes to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Nothing is changed.
    Read,
    /// Something is, or may be.
    Change,
}

impl Asked<'_> {
    /// What it takes. A new request does not compile before it has its line here.
    pub fn needs(self) -> Right {
        match self {
            Self::Connection | Self::Status | Self::Unknown => Right::Read,
            Self::Call(Some(Command::Status | Command::Version)) => Right::Read,
            Self::Call(Some(Command::Add | Command::Del | Command::Check | Command::Gc) | None) => {
                Right::Change
            }
            Self::Policy(
                Ask::Explain(_) | Ask::Simulate(_) | Ask::Show | Ask::Matrix(_) | Ask::Denied,
            ) => Right::Read,
            Self::Policy(Ask::Apply(_) | Ask::Delete(_) | Ask::Label(_)) => Right::Change,
            Self::Docker => Right::Change,
        }
    }
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection => f.write_str("the daemon's socket"),
            Self::Call(Some(command)) => command.fmt(f),
            Self::Call(None) => f.write_str("an unknown CNI_COMMAND"),
            Self::Status => f.write_str("status"),
            Self::Policy(ask) => f.write_str(ask.question()),
            Self::Unknown => f.write_str("an unknown question"),
            Self::Docker => f.write_str("Docker's plugin protocol"),
        }
    }
}

/// Somebody asked for what is not theirs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("user {uid} (pid {pid}) may not use {asked}: {}", match needs {
    Right::Read => "only root and the members of the daemon's reader_group may ask anything",
    Right::Change => "only root may change anything, or hand over a namespace; run it as root",
})]
pub struct Forbidden {
    /// Who.
    pub uid: u32,
    /// Their process.
    pub pid: i32,
    /// What was asked.
    pub asked: String,
    /// What that takes.
    pub needs: Right,
}

impl From<Forbidden> for CniError {
    fn from(forbidden: Forbidden) -> Self {
        Self::new(Code::Forbidden, "quantum-cnid does not do this for everybody")
            .with_details(forbidden.to_string())
    }
}

/// Whether a peer may ask this. `readers` is the number of `reader_group`, if one is set.
pub fn decide(peer: &Credentials, readers: Option<u32>, asked: Asked<'_>) -> Result<(), Forbidden> {
    let is_reader = readers.is_some_and(|group| peer.gid == group || peer.groups.contains(&group));
    let needs = asked.needs();
    let may = match needs {
        Right::Read => peer.uid == 0 || is_reader,
        Right::Change => peer.uid == 0,
    };
    let (uid, pid) = (peer.uid, peer.pid);
    if may { Ok(()) } else { Err(Forbidden { uid, pid, asked: asked.to_string(), needs }) }
}

/// How many refusals are logged one by one before the rest of the time is only counted.
const LOGGED: u32 = 10;
/// That time, in milliseconds.
const PERIOD: u64 = 60_000;

/// Which refusals are logged: whoever is refused may ask again at once, and must not fill the log.
#[derive(Debug, Default)]
pub struct Refusals {
    began: u64,
    logged: u32,
    left_out: u64,
}

impl Refusals {
    /// Whether one at this time (milliseconds of a clock that never goes back) is logged, and then how
    /// many were left out before it.
    pub fn log(&mut self, now: u64) -> Option<u64> {
        if self.logged == 0 || now.saturating_sub(self.began) >= PERIOD {
            (self.began, self.logged) = (now, 0);
        }
        if self.logged == LOGGED {
            self.left_out += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use quantum_config::ask::{Delete, Explain, Label, OfMatrix};

    use super::*;

    const READERS: u32 = 77;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
        Credentials { pid: 5, uid, gid, groups: groups.into() }
    }

    #[test]
    fn root_changes_readers_read_and_others_do_nothing() {
        let (apply, delete) = (Ask::Apply(String::new()), Ask::Delete(Delete::default()));
        let (label, explain) = (Ask::Label(Label::default()), Ask::Explain(Explain::default()));
        let (simulate, matrix) = (Ask::Simulate(String::new()), Ask::Matrix(OfMatrix::default()));
        let read = [
            Asked::Connection,
            Asked::Status,
            Asked::Unknown,
            Asked::Call(Some(Command::Status)),
            Asked::Call(Some(Command::Version)),
            Asked::Policy(&explain),
            Asked::Policy(&simulate),
            Asked::Policy(&Ask::Show),
            Asked::Policy(&matrix),
            Asked::Policy(&Ask::Denied),
        ];
        let change = [
            Asked::Call(Some(Command::Add)),
            Asked::Call(Some(Command::Del)),
            Asked::Call(Some(Command::Check)),
            Asked::Call(Some(Command::Gc)),
            Asked::Call(None),
            Asked::Policy(&apply),
            Asked::Policy(&delete),
            Asked::Policy(&label),
            Asked::Docker,
        ];
        let root = peer(0, 0, &[]);
        let readers = [peer(1000, READERS, &[]), peer(1000, 1000, &[4, READERS])];
        // Group 0 is not user 0.
        let others = [peer(1000, 1000, &[4]), peer(1000, 0, &[0])];
        for asked in read.into_iter().chain(change) {
            assert!(decide(&root, None, asked).is_ok(), "{asked}");
            for other in &others {
                assert!(decide(other, Some(READERS), asked).is_err(), "{asked}");
            }
            for reader in &readers {
                let is_read = asked.needs() == Right::Read;
                assert_eq!(decide(reader, Some(READERS), asked).is_ok(), is_read, "{asked}");
                assert!(decide(reader, None, asked).is_err(), "no group is set: {asked}");
            }
        }
        assert!(read.into_iter().all(|asked| asked.needs() == Right::Read));
        assert!(change.into_iter().all(|asked| asked.needs() == Right::Change));
    }

    #[test]
    fn a_refusal_says_who_asked_for_what_and_what_to_do() {
        let refused =
            |asked| decide(&peer(1000, 1, &[]), Some(READERS), asked).expect_err("refused");
        let said = refused(Asked::Call(Some(Command::Add))).to_string();
        for part in ["user 1000", "pid 5", "ADD", "run it as root"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(refused(Asked::Connection).to_string().contains("reader_group"));
    }

    #[test]
    fn refusals_are_logged_one_by_one_until_there_are_too_many() {
        let mut refusals = Refusals::default();
        let logged = (0..25).filter(|now| refusals.log(*now).is_some()).count();
        assert_eq!(logged, LOGGED as usize);
        assert_eq!(refusals.log(PERIOD), Some(15), "the next time says how many were left out");
        assert_eq!(refusals.log(PERIOD + 1), Some(0));
    }
}
