//! One daemon for each network namespace. Two would each take the other's links for leftovers and
//! remove them from running containers, whatever state directories they have.
//!
//! The lock is a group of nfnetlink_log: it belongs to the network namespace, whatever the daemon's mounts are;
//! only who has `CAP_NET_ADMIN` there can have one; one socket has it; and the kernel gives it up with the
//! process, however that ends (net/netfilter/nfnetlink_log.c, `nfulnl_recv_config` and `nfulnl_rcv_nl_event`).
//! Nothing logs to it. A kernel without nfnetlink_log has a file locked instead, in a folder that only root can
//! write to; daemons that do not share that folder do not see each other's.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use super::netns::{Netns, NetnsError};
use super::nflog::{Denials, NflogError};

/// The group. Rules log to [`another`](super::nflog::GROUP).
const GROUP: u16 = 20822;
/// Where the file is, where a file it must be.
const FOLDER: &str = "/run/quantum";

/// How long a daemon that is on its way out is waited for, and how often it is looked for.
const PATIENCE: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(20);

/// Holds the network namespace for as long as it lives.
#[derive(Debug)]
pub struct HostLock(Held);

#[derive(Debug)]
enum Held {
    Group(#[allow(dead_code, reason = "held for its group")] Denials),
    File(#[allow(dead_code, reason = "held for its lock")] File, PathBuf),
}

/// Somebody else has it, or it cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HostLockError {
    /// A daemon works here already. The kernel says the same to who may not ask.
    #[error(
        "another quantum-cnid works in this network namespace: stop it first; or CAP_NET_ADMIN is missing here"
    )]
    Taken,
    /// The kernel refused the group.
    #[error("cannot take the lock of this network namespace: {0}")]
    Refused(#[source] NflogError),
    /// The file cannot be had.
    #[error("cannot take the lock of this network namespace: {doing} {}: {source}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The namespace cannot be told.
    #[error("cannot take the lock of this network namespace: {0}")]
    Netns(#[from] NetnsError),
}

impl HostLock {
    /// Takes the network namespace of the calling thread. A daemon that is on its way out is waited
    /// for.
    pub fn take() -> Result<Self, HostLockError> {
        let mut waited = Duration::ZERO;
        loop {
            let taken = match Denials::open(GROUP) {
                Ok(group) => Ok(Held::Group(group)),
                Err(NflogError::Taken { .. }) => Err(HostLockError::Taken),
                Err(NflogError::Missing) => file(Path::new(FOLDER)),
                Err(error) => Err(HostLockError::Refused(error)),
            };
            match taken {
                Ok(held) => return Ok(Self(held)),
                Err(HostLockError::Taken) if waited < PATIENCE => {
                    std::thread::sleep(STEP);
                    waited += STEP;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The file that is locked, where it had to be one.
    pub fn file(&self) -> Option<&Path> {
        match &self.0 {
            Held::Group(_) => None,
            Held::File(_, path) => Some(path),
        }
    }
}

/// Locks the file of the calling thread's network namespace. It stays: removing it would let two daemons each
/// lock a file of that name.
fn file(folder: &Path) -> Result<Held, HostLockError> {
    let id = Netns::current()?.id();
    let path = folder.join(format!("netns-{}-{}.lock", id.dev, id.ino));
    let failed = |doing| {
        let path = path.clone();
        move |source| HostLockError::File { doing, path, source }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(failed("making the folder of"))?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&path)
        .map_err(failed("opening"))?;
    let owner = file.metadata().map_err(failed("looking at"))?.uid();
    if owner != geteuid().as_raw() {
        let why = io::Error::other(format!("it is user {owner}'s, not the daemon's: remove it"));
        return Err(failed("taking")(why));
    }
    match file.try_lock() {
        Ok(()) => Ok(Held::File(file, path)),
        Err(TryLockError::WouldBlock) => Err(HostLockError::Taken),
        Err(TryLockError::Error(e)) => Err(failed("locking")(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::in_private_netns;

    #[test]
    fn a_namespace_has_one_daemon() {
        in_private_netns(|| {
            let first = HostLock::take().expect("free");
            assert!(first.file().is_none());
            assert!(matches!(HostLock::take(), Err(HostLockError::Taken)));
            drop(first);
            assert!(HostLock::take().is_ok());
        });
    }

    #[test]
    fn a_file_does_it_too_and_is_never_a_link_or_somebody_elses() {
        in_private_netns(|| {
            let folder = tempfile::tempdir().expect("a folder");
            let inside = folder.path().join("run");
            let first = file(&inside).expect("free");
            assert!(matches!(file(&inside), Err(HostLockError::Taken)));
            let Held::File(_, path) = &first else { panic!("a file") };
            let mode = std::fs::metadata(path).expect("there").mode();
            assert_eq!(mode & 0o777, 0o600);
            let path = path.clone();
            drop(first);
            file(&inside).expect("free again");
            std::os::unix::fs::chown(&path, Some(65534), None).expect("given away");
            assert!(matches!(file(&inside), Err(HostLockError::File { doing: "taking", .. })));
            std::fs::remove_file(&path).expect("removed");
            std::os::unix::fs::symlink("/dev/null", &path).expect("a link");
            assert!(matches!(file(&inside), Err(HostLockError::File { doing: "opening", .. })));
        });
    }
}
