//! The spool: DELs that found no daemon, left by the plugin as files (see
//! [`quantum_config::spool`]). A tombstone is removed when it has been carried out, not before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use quantum_config::spool::SUFFIX;
use quantum_config::wire::{Call, HEADER, Header, Request, WireError};

use super::small_file;

/// Where files go that are no tombstones, for somebody to look at.
const BAD_SUFFIX: &str = ".bad";

/// A tombstone.
#[derive(Debug)]
pub struct Tombstone {
    /// Its file.
    pub path: PathBuf,
    /// The DEL.
    pub call: Box<Call>,
}

/// What is in a spool.
#[derive(Debug, Default)]
pub struct Spool {
    /// What is to be carried out.
    pub tombstones: Vec<Tombstone>,
    /// Files that are no tombstones, with the reason.
    pub bad: Vec<(PathBuf, String)>,
    /// What could not be read now, and may be a tombstone.
    pub unread: Vec<String>,
}

/// Reads every tombstone. A file that is none, or that others than root can have put there, is renamed out
/// of the way; neither it nor one that cannot be read now stops the others.
pub fn read_all(dir: &Path) -> Spool {
    let mut spool = Spool::default();
    let unread = |path: &Path, e: &io::Error| format!("reading {}: {e}", path.display());
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return spool,
        Err(e) => {
            spool.unread.push(unread(dir, &e));
            return spool;
        }
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(e) => {
                spool.unread.push(unread(dir, &e));
                break;
            }
        };
        if !path.to_string_lossy().ends_with(SUFFIX) {
            continue;
        }
        let decoded = match small_file::read_own(&path) {
            Ok(bytes) => decode(&bytes).map_err(|e| e.to_string()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue, // gone since it was listed
            Err(e) if may_pass(&e) => {
                spool.unread.push(unread(&path, &e));
                continue;
            }
            Err(e) => Err(e.to_string()),
        };
        match decoded {
            Ok(call) => spool.tombstones.push(Tombstone { path, call }),
            Err(why) => {
                let mut aside = path.clone().into_os_string();
                aside.push(BAD_SUFFIX);
                let _ = fs::rename(&path, &aside);
                spool.bad.push((path, why));
            }
        }
    }
    spool
}

/// Whether the fault is not the file's own: the disk's, or the process has too much open.
fn may_pass(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EIO | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ESTALE)
    )
}

/// Removes a tombstone that has been carried out.
pub fn remove(tombstone: &Path) -> io::Result<()> {
    match fs::remove_file(tombstone) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Box<Call>, WireError> {
    let (header, body) = bytes.split_first_chunk::<HEADER>().ok_or(WireError::Truncated)?;
    let header = Header::decode(header)?;
    if body.len() != header.length as usize {
        return Err(WireError::Truncated);
    }
    match Request::decode(&header, body)? {
        Request::Call(call) if call.written.is_some() => Ok(call),
        _ => Err(WireError::UnknownKind(header.kind as u8)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_does_not_stop_the_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let call = Call { written: Some((5, "boot".into())), ..Call::default() };
        fs::write(dir.path().join("good.del"), call.encode().expect("encoded")).expect("written");
        fs::write(dir.path().join("bad.del"), b"QCNI").expect("written");
        fs::write(dir.path().join("unfinished.del.7.new"), b"").expect("written");
        let Spool { tombstones, bad, unread } = read_all(dir.path());
        assert_eq!((tombstones.len(), bad.len(), unread.len()), (1, 1, 0));
        assert_eq!(*tombstones[0].call, call);
        assert!(dir.path().join("bad.del.bad").exists(), "kept for somebody to look at");
        remove(&tombstones[0].path).expect("removed");
        remove(&tombstones[0].path).expect("removing twice is fine");
        assert_eq!(read_all(dir.path()).tombstones.len(), 0);
    }

    #[test]
    fn no_directory_is_an_empty_spool() {
        let spool = read_all(Path::new("/nonexistent/spool"));
        assert!(spool.tombstones.is_empty() && spool.unread.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_empty_or_bad() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let spool = read_all(file.path());
        let path = file.path().to_str().expect("UTF-8");
        assert!(spool.unread.iter().any(|why| why.contains(path)), "{spool:?}");
        for (errno, passes) in [(Errno::EMFILE, true), (Errno::EIO, true), (Errno::ELOOP, false)] {
            assert_eq!(may_pass(&io::Error::from(errno)), passes, "{errno}");
        }
        assert!(!may_pass(&io::Error::other("it is not a regular file")));
    }
}
