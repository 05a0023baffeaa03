//! Folders of the daemon's. Whoever can write to one can exchange what is in it: the socket that runtimes
//! connect to, the store, a DEL that is to be carried out.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::geteuid;

/// Why a folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It is somebody else's.
    #[error("{what} {} belongs to user {owner}, who could exchange what is in it: chown root it", path.display())]
    Foreign {
        /// The setting.
        what: &'static str,
        /// The folder.
        path: PathBuf,
        /// Whose.
        owner: u32,
    },
    /// Others may write to it.
    #[error(
        "{what} {} has mode {mode:04o}: others than its owner could exchange what is in it: chmod go-w it",
        path.display()
    )]
    Writable {
        /// The setting.
        what: &'static str,
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It could not be made or looked at.
    #[error("{doing} {what} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The setting.
        what: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// From now on files of this process are its user's alone, unless they say otherwise.
pub fn make_files_private() {
    umask(Mode::from_bits_truncate(0o077));
}

/// Whether a file's owner is the daemon's user, or root of its user namespace.
pub(super) fn is_ours(file: &Metadata) -> bool {
    file.uid() == 0 || file.uid() == geteuid().as_raw()
}

/// Makes a folder with this mode, whatever the umask is, and those above it; one that is there must be ours, and
/// nobody else may write to it. `what` names the setting.
pub fn own(what: &'static str, path: &Path, mode: u32) -> Result<(), FolderError> {
    let failed =
        |doing| move |source| FolderError::Io { doing, what, path: path.to_owned(), source };
    make(path, mode).map_err(failed("making"))?;
    let there = File::open(path).and_then(|folder| folder.metadata());
    safe(what, path, &there.map_err(failed("looking at"))?)
}

/// Looks at a folder that others fill: what is wrong with it, if anything is. One that is not there, or that
/// nobody can write to because its file system is mounted so, is fine.
pub fn look(what: &'static str, path: &Path) -> Result<(), FolderError> {
    let Ok(folder) = File::open(path) else { return Ok(()) };
    let is_read_only = fstatvfs(&folder).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY));
    match folder.metadata() {
        Ok(there) if !is_read_only => safe(what, path, &there),
        _ => Ok(()),
    }
}

fn safe(what: &'static str, path: &Path, there: &Metadata) -> Result<(), FolderError> {
    let (path, mode) = (path.to_owned(), there.mode() & 0o7777);
    if !is_ours(there) {
        return Err(FolderError::Foreign { what, path, owner: there.uid() });
    }
    if mode & 0o022 != 0 {
        return Err(FolderError::Writable { what, path, mode });
    }
    Ok(())
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => File::open(path)?.set_permissions(fs::Permissions::from_mode(mode)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let above = path.parent().filter(|above| !above.as_os_str().is_empty());
            make(above.ok_or(e)?, mode)?;
            make(path, mode)
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    }

    #[test]
    fn a_folder_is_made_with_its_mode_and_those_above_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b");
        own("state_dir", &path, 0o750).expect("made");
        for made in [&path, &dir.path().join("a")] {
            assert_eq!(fs::metadata(made).expect("there").mode() & 0o7777, 0o750);
        }
        own("state_dir", &path, 0o700).expect("it is there");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o750, "as it was");
        fs::write(dir.path().join("file"), "").expect("written");
        let error = own("state_dir", &dir.path().join("file/x"), 0o700).expect_err("no folder");
        assert!(error.to_string().starts_with("making state_dir"), "{error}");
    }

    #[test]
    fn one_that_others_can_write_to_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        for mode in [0o770, 0o707, 0o720, 0o702, 0o1777] {
            set_mode(dir.path(), mode);
            let error = own("spool_dir", dir.path(), 0o700).expect_err("writable").to_string();
            assert!(error.contains("spool_dir") && error.contains("chmod go-w"), "{error}");
            assert!(look("config_dir", dir.path()).is_err());
        }
        set_mode(dir.path(), 0o755);
        own("spool_dir", dir.path(), 0o700).expect("only ours");
        if geteuid().is_root() {
            chown(dir.path(), Some(65534), None).expect("given away");
            let error = own("spool_dir", dir.path(), 0o700).expect_err("foreign").to_string();
            assert!(error.contains("user 65534"), "{error}");
        }
        look("config_dir", &dir.path().join("none")).expect("one that is not there is fine");
    }
}
