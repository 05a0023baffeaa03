//! Reading files that others put into directories of ours, and writing those of our own. What others put
//! there may be anything: a FIFO would hang the daemon, a link to a device would fill its memory.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// No configuration and no tombstone is longer, in bytes.
const LONGEST: u64 = 2 << 20;

/// Reads a regular file of a reasonable length.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
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
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let written = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&unfinished, path))
        .and_then(|()| File::open(path.parent().unwrap_or(path))?.sync_all());
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
    }
}
