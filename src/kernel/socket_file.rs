//! The file of a listening Unix socket: whoever may write to it may connect, so there is no moment in which
//! it is open to more than it shall be, and none without a socket when a daemon replaces another.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, fchownat};

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}: {source}", path.display())]
pub struct SocketFileError {
    /// What was being done.
    pub doing: &'static str,
    /// With which file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Listens at `path`: mode 0600, or 0660 and the group's if there is one. A socket that is there already is
/// replaced, anything else is left alone. To be called while the process has one thread that makes files: the
/// mode comes by the umask, so that no name is followed to change it.
pub fn listen(path: &Path, group: Option<u32>) -> Result<UnixListener, SocketFileError> {
    let fail = |doing| move |source| SocketFileError { doing, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            let why = io::Error::new(io::ErrorKind::AlreadyExists, "it is not a socket");
            return Err(fail("replacing")(why));
        }
        _ => {}
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    let _ = fs::remove_file(&unfinished);
    // Nobody but the owner may connect before it is the group's.
    let socket = bind(&unfinished).map_err(fail("binding the socket"))?;
    if let Some(group) = group {
        give_to(&unfinished, group).map_err(fail("giving to reader_group the socket"))?;
    }
    fs::rename(&unfinished, path).map_err(fail("naming the socket"))?;
    Ok(socket)
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::from_bits_truncate(0o177));
    let socket = UnixListener::bind(path);
    umask(before);
    socket
}

/// Makes the socket a group's, and then lets its members connect. A link is not followed: what is changed is
/// what was opened, and that is a socket.
pub(super) fn give_to(path: &Path, group: u32) -> io::Result<()> {
    let flags = (OFlag::O_PATH | OFlag::O_NOFOLLOW).bits();
    let file = OwnedFd::from(File::options().read(true).custom_flags(flags).open(path)?);
    if !File::from(file.try_clone()?).metadata()?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a socket any more"));
    }
    fchownat(file.as_fd(), "", None, Some(Gid::from_raw(group)), AtFlags::AT_EMPTY_PATH)?;
    // By the descriptor: fchmod refuses those that only name a file.
    let named = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    fs::set_permissions(named, std::os::unix::fs::PermissionsExt::from_mode(0o660))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn it_is_the_owners_or_the_groups_and_nothing_else_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mode = || fs::symlink_metadata(&path).unwrap().mode() & 0o7777;
        let _first = listen(&path, None).unwrap();
        assert_eq!(mode(), 0o600);
        let own = nix::unistd::getegid().as_raw();
        let _second = listen(&path, Some(own)).unwrap();
        assert_eq!(mode(), 0o660);
        assert_eq!(fs::symlink_metadata(&path).unwrap().gid(), own);

        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&file, &path).unwrap();
        assert_eq!(listen(&path, None).unwrap_err().doing, "replacing");
        assert!(give_to(&path, own).is_err(), "a link is not followed");
        assert_eq!(fs::read(&file).unwrap(), b"x");
    }
}
