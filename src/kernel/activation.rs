//! A listening socket that the supervisor made and keeps (systemd's socket units, sd_listen_fds(3)): it
//! outlives the daemon, and who connects while one daemon replaces another waits in the kernel's queue.

use std::env;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockType, UnixAddr, getsockname, getsockopt, sockopt};
use nix::unistd::geteuid;

use super::socket_file::give_to;

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

const GROUP_MAY_CONNECT: u32 = 0o020;
const OTHERS_MAY_CONNECT: u32 = 0o002;

/// Why what was handed over is not the daemon's socket.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// None, or several.
    #[error("LISTEN_FDS={0}: the socket unit is to hand over one socket, that of socket_path")]
    Count(String),
    /// Not a unix stream socket, or one that does not listen.
    #[error(
        "descriptor 3, handed over by the socket unit, is no listening unix stream socket: use ListenStream with a path"
    )]
    NotListening,
    /// It listens somewhere else.
    #[error(
        "the socket unit listens at {there:?}, and socket_path is {path:?}: make them the same"
    )]
    Elsewhere {
        /// Where it listens.
        there: PathBuf,
        /// Where it should.
        path: PathBuf,
    },
    /// Others may connect than the settings say.
    #[error("{path:?}, made by the socket unit, {what}")]
    Access {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// The socket that was handed over, if one was, and is what [`socket_file::listen`](super::socket_file::listen)
/// would have made at this path for this group. To be called once, at the start.
pub fn take(path: &Path, group: Option<u32>) -> Result<Option<UnixListener>, ActivationError> {
    let read = |name| env::var(name).unwrap_or_default();
    if !is_given(std::process::id(), &read("LISTEN_PID"), &read("LISTEN_FDS"))? {
        return Ok(None);
    }
    // SAFETY: LISTEN_PID names this process, so the descriptor is one that its supervisor has opened for it;
    // if it is not open, the calls on it fail.
    let given = unsafe { BorrowedFd::borrow_raw(FIRST) };
    let listens = getsockopt(&given, sockopt::SockType) == Ok(SockType::Stream)
        && getsockopt(&given, sockopt::AcceptConn) == Ok(true);
    let address = getsockname::<UnixAddr>(given.as_raw_fd()).ok().filter(|_| listens);
    let address = address.ok_or(ActivationError::NotListening)?;
    let there = address.path().unwrap_or(Path::new("")).to_owned();
    if there != path {
        return Err(ActivationError::Elsewhere { there, path: path.to_owned() });
    }
    let access = |what: String| ActivationError::Access { path: path.to_owned(), what };
    let file = fs::symlink_metadata(path).map_err(|e| access(format!("cannot be read: {e}")))?;
    if let Some(what) = is_open_to_others(&file, geteuid().as_raw(), group) {
        return Err(access(what));
    }
    // The unit need not name the group.
    if let Some(group) = group.filter(|_| file.mode() & GROUP_MAY_CONNECT == 0) {
        give_to(path, group)
            .map_err(|e| access(format!("cannot be given to reader_group, {group}: {e}")))?;
    }
    // Programs that the daemon runs do not get it.
    fcntl(given, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
        .map_err(|errno| access(format!("cannot be kept from programs: {}", errno.desc())))?;
    // SAFETY: as above; nobody else in this process has it, since this is called once.
    Ok(Some(UnixListener::from(unsafe { OwnedFd::from_raw_fd(FIRST) })))
}

/// Whether a socket was handed over to the process `own`. What names another was for one that started us.
fn is_given(own: u32, pid: &str, count: &str) -> Result<bool, ActivationError> {
    match (pid.parse() == Ok(own), count) {
        (false, _) => Ok(false),
        (true, "1") => Ok(true),
        (true, other) => Err(ActivationError::Count(other.to_owned())),
    }
}

/// Who may write to the socket may connect: its owner, and the group if there is one; the group, only if it
/// is the right one.
fn is_open_to_others(file: &fs::Metadata, own: u32, group: Option<u32>) -> Option<String> {
    let mode = file.mode() & 0o777;
    if file.uid() != own {
        return Some(format!("belongs to user {}, not to {own}: SocketUser", file.uid()));
    }
    let group_may = mode & GROUP_MAY_CONNECT != 0 && group != Some(file.gid());
    if group_may || mode & OTHERS_MAY_CONNECT != 0 {
        let (found, meant) = (file.gid(), group.map(|group| format!(", SocketGroup={group}")));
        return Some(format!(
            "has the mode {mode:04o} and the group {found}, so that others may connect: SocketMode={}",
            meant.map_or("0600".to_owned(), |group| format!("0660{group}"))
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_socket_is_taken_that_is_for_this_process() {
        assert!(is_given(7, "7", "1").unwrap());
        for (pid, count) in [("", ""), ("", "1"), ("8", "1"), ("8", "2"), ("x", "1")] {
            assert!(!is_given(7, pid, count).unwrap(), "{pid} {count}");
        }
        for count in ["", "0", "2", "one"] {
            assert!(is_given(7, "7", count).unwrap_err().to_string().contains("LISTEN_FDS"));
        }
    }

    #[test]
    fn nobody_else_may_connect_than_the_settings_say() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _socket = UnixListener::bind(&path).unwrap();
        let own = geteuid().as_raw();
        let gid = fs::metadata(&path).unwrap().gid();
        let judge = |mode, uid, group| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            is_open_to_others(&fs::metadata(&path).unwrap(), uid, group)
        };
        assert_eq!(judge(0o600, own, None), None);
        assert_eq!(judge(0o755, own, None), None, "to read it is not to connect");
        assert_eq!(judge(0o660, own, Some(gid)), None);
        assert!(judge(0o600, own + 1, None).unwrap().contains("SocketUser"));
        for (mode, group) in [(0o660, None), (0o666, None), (0o602, None)] {
            assert!(judge(mode, own, group).unwrap().contains("SocketMode=0600"));
        }
        assert_eq!(judge(0o600, own, Some(gid + 1)), None, "nobody may yet");
        for (mode, group) in [(0o666, gid), (0o602, gid), (0o660, gid + 1)] {
            assert!(judge(mode, own, Some(group)).unwrap().contains("SocketGroup"));
        }
    }
}
