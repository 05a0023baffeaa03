//! Network namespaces: a descriptor that is known to be one, its identity, and short visits.
//!
//! A namespace is given to us as a descriptor, never as a path: a path may name another namespace
//! by the time it is opened. A descriptor pins what it names for as long as it is open.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;

use crate::attach::NetnsId;

/// Why a descriptor is not a usable network namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// It is open on something that no kernel namespace is, such as a plain file.
    #[error(
        "the descriptor is not a namespace (its file is not in nsfs); give a file such as /proc/PID/ns/net or a bind mount of one"
    )]
    NotANamespace,
    /// It is a namespace, but of another type.
    #[error("the descriptor is a {0} namespace, not a network namespace")]
    OtherType(&'static str),
    /// It could not be asked what it is.
    #[error("cannot examine the namespace's descriptor: {0}")]
    Examine(#[source] io::Error),
    /// The thread's own namespace could not be opened.
    #[error("cannot open the network namespace of this thread (/proc/thread-self/ns/net): {0}")]
    Current(#[source] io::Error),
    /// The thread could not go in. `EPERM` means that `CAP_SYS_ADMIN` is missing there.
    #[error("cannot enter the network namespace {}:{}: {source}", id.dev, id.ino)]
    Enter {
        /// Which.
        id: NetnsId,
        /// What `setns` said.
        source: io::Error,
    },
}

impl NetnsError {
    /// The error number of the call that failed, or `EINVAL` where none did.
    pub fn errno(&self) -> i32 {
        match self {
            Self::NotANamespace | Self::OtherType(_) => libc::EINVAL,
            Self::Examine(e) | Self::Current(e) | Self::Enter { source: e, .. } => {
                e.raw_os_error().unwrap_or(libc::EIO)
            }
        }
    }
}

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    id: NetnsId,
}

// ioctl_ns(2): asks a namespace's descriptor for its CLONE_NEW* flag. No argument.
nix::ioctl_none_bad!(ns_get_nstype, nix::request_code_none!(0xb7, 0x3));

impl Netns {
    /// Takes a descriptor that we opened ourselves, after checking what it is.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, NetnsError> {
        let id = Self::examine(fd.as_fd())?;
        Ok(Self { fd, id })
    }

    /// Takes a descriptor that [`Self::examine`] found to be this namespace.
    pub(super) fn examined(fd: OwnedFd, id: NetnsId) -> Self {
        Self { fd, id }
    }

    /// Which namespace a descriptor is open on, if it is one. This never blocks, whatever it is open on.
    pub(super) fn examine(fd: BorrowedFd<'_>) -> Result<NetnsId, NetnsError> {
        // In this order: only of a file in nsfs it is known that the kernel itself answers the rest. A file
        // of FUSE or NFS would be asked of its server, and the ioctl number could mean anything to it.
        let examine = |e: Errno| NetnsError::Examine(e.into());
        if filesystem(fd).map_err(NetnsError::Examine)? != nsfs()? {
            return Err(NetnsError::NotANamespace);
        }
        // SAFETY: the descriptor is open for the whole call, the request takes no argument and
        // writes no memory of ours.
        match unsafe { ns_get_nstype(fd.as_raw_fd()) } {
            Ok(libc::CLONE_NEWNET) => {}
            Ok(other) => return Err(NetnsError::OtherType(namespace_type(other))),
            // A descriptor opened with O_PATH, which cannot be entered either.
            Err(Errno::EBADF) => return Err(NetnsError::NotANamespace),
            Err(e) => return Err(examine(e)),
        }
        let stat = fstat(fd).map_err(examine)?;
        Ok(NetnsId { dev: stat.st_dev, ino: stat.st_ino })
    }

    /// The namespace the calling thread is in.
    pub fn current() -> Result<Self, NetnsError> {
        let file = File::open("/proc/thread-self/ns/net").map_err(NetnsError::Current)?;
        let stat = fstat(&file).map_err(|e| NetnsError::Current(e.into()))?;
        Ok(Self { fd: file.into(), id: NetnsId { dev: stat.st_dev, ino: stat.st_ino } })
    }

    /// Which namespace this is: two descriptors of the same namespace have the same identity,
    /// whatever path they were opened by.
    pub fn id(&self) -> NetnsId {
        self.id
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The device number of nsfs, of which there is one.
fn nsfs() -> Result<u64, NetnsError> {
    static NSFS: OnceLock<u64> = OnceLock::new();
    if let Some(known) = NSFS.get() {
        return Ok(*known);
    }
    let here = Netns::current()?;
    Ok(*NSFS.get_or_init(|| here.id.dev))
}

/// The device number of the file system that a descriptor is open on, from what the kernel has of the file
/// in memory. `fstat` and `fstatfs` may ask a server.
fn filesystem(fd: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: `statx` is plain data for which all zeros is a valid value.
    let mut found: libc::statx = unsafe { mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the descriptor is open, the path is an empty text that ends, and the kernel writes one
    // `statx` to `found`, which lives.
    let result = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, 0, &raw mut found) };
    match result {
        0 => Ok(libc::makedev(found.stx_dev_major, found.stx_dev_minor)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs `visit` with the calling thread in `netns`, and brings the thread back.
///
/// Keep visits short and open sockets in them: a socket stays in the namespace it was opened in, so
/// it can be used after the return. If the thread cannot come back the process aborts, because a
/// thread that works on in a container's namespace is worse than a crash. A panic in `visit` is let
/// through after the return.
pub fn inside<T>(netns: &Netns, visit: impl FnOnce() -> T) -> Result<T, NetnsError> {
    let home = Netns::current()?;
    setns(netns, CloneFlags::CLONE_NEWNET)
        .map_err(|e| NetnsError::Enter { id: netns.id, source: e.into() })?;
    // Not before: a thread that was not let in has not left, and may not be let "back" either.
    let home = Return(home);
    let result = visit();
    drop(home);
    Ok(result)
}

/// Brings the thread back when it is dropped, in a panic as well.
struct Return(Netns);

impl Drop for Return {
    fn drop(&mut self) {
        if setns(&self.0, CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
    }
}

fn namespace_type(flag: libc::c_int) -> &'static str {
    match flag {
        libc::CLONE_NEWNS => "mount",
        libc::CLONE_NEWCGROUP => "cgroup",
        libc::CLONE_NEWUTS => "UTS",
        libc::CLONE_NEWIPC => "IPC",
        libc::CLONE_NEWUSER => "user",
        libc::CLONE_NEWPID => "PID",
        _ => "time", // the last of the eight types
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{in_private_netns, new_netns, without_capabilities};

    fn open(path: &str) -> Result<Netns, NetnsError> {
        Netns::from_fd(File::open(path).unwrap().into())
    }

    #[test]
    fn only_network_namespaces_are_taken() {
        assert!(open("/proc/self/ns/net").is_ok());
        assert!(matches!(open("/proc/self/status"), Err(NetnsError::NotANamespace)));
        assert!(matches!(open("/etc"), Err(NetnsError::NotANamespace)));
        for (path, name) in [("pid", "PID"), ("mnt", "mount"), ("user", "user"), ("uts", "UTS")] {
            match open(&format!("/proc/self/ns/{path}")) {
                Err(NetnsError::OtherType(found)) => assert_eq!(found, name),
                other => panic!("{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn identity_is_the_namespace_not_the_descriptor() {
        in_private_netns(|| {
            let here = Netns::current().unwrap();
            let again = open("/proc/thread-self/ns/net").unwrap();
            assert_eq!(here.id(), again.id());
            let other = new_netns();
            assert_ne!(here.id(), other.id());
        });
    }

    #[test]
    fn a_visit_ends_where_it_began() {
        in_private_netns(|| {
            let here = Netns::current().unwrap().id();
            let other = new_netns();
            let seen = inside(&other, || Netns::current().unwrap().id()).unwrap();
            assert_eq!(seen, other.id());
            assert_eq!(Netns::current().unwrap().id(), here);
        });
    }

    #[test]
    fn a_panic_during_a_visit_does_not_strand_the_thread() {
        in_private_netns(|| {
            let here = Netns::current().unwrap().id();
            let other = new_netns();
            let visit = || inside(&other, || panic!("on purpose"));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(visit)).is_err());
            assert_eq!(Netns::current().unwrap().id(), here);
        });
    }

    #[test]
    fn an_entry_that_is_refused_is_an_error_and_the_process_lives() {
        in_private_netns(|| {
            let other = new_netns();
            let here = Netns::current().unwrap().id();
            without_capabilities(|| {
                let error = inside(&other, || panic!("it is not inside")).unwrap_err();
                assert_eq!(error.errno(), libc::EPERM, "{error}");
                assert_eq!(Netns::current().unwrap().id(), here);
            });
        });
    }
}
