//! Reading files that others put into directories of ours, and writing those of our own. What others put
//! there may be anything: a FIFO would hang the daemon, a link to a device would fill its memory.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use super::folder::is_ours;

/// No configuration and no tombstone is longer, in bytes.
const LONGEST: u64 = 2 << 20;

/// Reads a regular file of a reasonable length.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    contents(open(path, OFlag::empty())?)
}

/// The same of a file that only root, or the daemon's user, can have put there.
pub(super) fn read_own(path: &Path) -> io::Result<Vec<u8>> {
    contents(open_own(path)?)
}

/// The same of a file that we wrote, which may be longer than one of somebody else's.
pub(super) fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_own(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn open_own(path: &Path) -> io::Result<File> {
    let file = open(path, OFlag::O_NOFOLLOW)?;
    let there = file.metadata()?;
    if !is_ours(&there) {
        let why = format!("it belongs to user {}, and not to root", there.uid());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(file)
}

fn open(path: &Path, more: OFlag) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | more;
    let file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}

fn contents(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        let why = format!("it is longer than {LONGEST} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(bytes)
}

/// Writes a file of ours. When it returns, that is on the disk; after a power cut before, there is what was
/// there before.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, File::sync_all)?;
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// The same for what does not outlive the boot: it survives the process, and no power cut.
pub(super) fn replace_for_now(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, |_| Ok(()))
}

fn write(path: &Path, bytes: &[u8], sync: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    // Left by a daemon that was killed. What is opened then is new: neither a link nor somebody's file.
    let _ = fs::remove_file(&unfinished);
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| sync(&file)))
        .and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn only_regular_files_of_a_reasonable_length_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        nix::unistd::mkfifo(&path("fifo"), Mode::S_IRWXU).expect("a FIFO");
        std::os::unix::fs::symlink("/dev/zero", path("zero")).expect("a link");
        std::fs::write(path("long"), vec![b' '; LONGEST as usize + 1]).expect("written");
        std::fs::write(path("good"), b"x").expect("written");
        for bad in ["fifo", "zero", "long", "none"] {
            assert!(read(&path(bad)).is_err(), "{bad}");
        }
        assert_eq!(read(&path("good")).expect("readable"), b"x");
        assert_eq!(read_own(&path("good")).expect("readable"), b"x");
        std::os::unix::fs::symlink("good", path("linked")).expect("a link");
        assert_eq!(read(&path("linked")).expect("readable"), b"x");
        assert!(read_own(&path("linked")).is_err(), "a link may lead anywhere");
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(path("good"), Some(65534), None).expect("given away");
            let error = read_own(&path("good")).expect_err("somebody else's").to_string();
            assert!(error.contains("user 65534"), "{error}");
        }
    }

    #[test]
    fn what_is_written_is_new_and_ours() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("theirs"), b"theirs").expect("written");
        for unfinished in ["a.new", "b.new"] {
            // A link, and what a daemon left that was killed: open to all, and in somebody's hands.
            match unfinished {
                "a.new" => std::os::unix::fs::symlink("theirs", path(unfinished)).expect("a link"),
                _ => std::fs::hard_link(path("theirs"), path(unfinished)).expect("a link"),
            }
            let name = unfinished.trim_end_matches(".new");
            replace(&path(name), b"ours").expect("written");
            let there = std::fs::symlink_metadata(path(name)).expect("there");
            assert_eq!((there.is_file(), there.mode() & 0o7777), (true, 0o600));
            assert_eq!(std::fs::read(path("theirs")).expect("there"), b"theirs");
        }
    }
}
