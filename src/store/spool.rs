//! The spool: DELs that found no daemon, left by the plugin as files (see
//! [`quantum_config::spool`]). A tombstone is removed when it has been carried out, not before.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use quantum_config::cni;
use quantum_config::spool::SUFFIX;
use quantum_config::wire::{Call, HEADER, Header, Request, WireError};

use super::open::hold;
use super::{StoreError, small_file};

/// Where files go that are no tombstones, for somebody to look at.
const BAD_SUFFIX: &str = ".bad";

/// Older files that are not finished are nobody's: whoever writes one has five seconds for all of his call.
const UNFINISHED: Duration = Duration::from_secs(60);

/// A tombstone.
#[derive(Debug)]
pub struct Tombstone {
    /// Its file.
    pub path: PathBuf,
    /// The DEL, without its configuration: a spool may be full of them.
    pub call: Box<Call>,
    /// The name of the network in that configuration, or what stands there for one.
    pub network: String,
}

/// A file that is no tombstone.
#[derive(Debug)]
pub struct Bad {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// Why it could not be renamed out of the way, if it could not.
    pub stays: Option<String>,
}

/// What is in a spool.
#[derive(Debug, Default)]
pub struct Spool {
    /// What is to be carried out.
    pub tombstones: Vec<Tombstone>,
    /// Files that are no tombstones.
    pub bad: Vec<Bad>,
    /// What could not be read now, and may be a tombstone.
    pub unread: Vec<String>,
}

/// Locks a spool, for as long as what this gives lives: another daemon would take its tombstones for those of
/// attachments that nobody knows, and remove them. It is the folder itself that is locked, so that nothing has to be
/// written to it. One that is not there, or cannot be locked, is nobody's.
pub fn lock(dir: &Path) -> Result<Option<File>, StoreError> {
    let Ok(folder) = File::open(dir) else { return Ok(None) };
    match hold(folder, dir) {
        Err(StoreError::File { .. }) => Ok(None),
        held => held.map(Some),
    }
}

/// Reads every tombstone of these folders. A file that is none, or that others than root can have put there, is
/// renamed out of the way; neither it nor one that cannot be read now stops the others. What was never
/// finished is removed.
pub fn read_all(dirs: &[PathBuf]) -> Spool {
    let mut spool = Spool::default();
    dirs.iter().for_each(|dir| read_dir(dir, &mut spool));
    spool
}

fn read_dir(dir: &Path, spool: &mut Spool) {
    let unread = |path: &Path, e: &io::Error| format!("reading {}: {e}", path.display());
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return,
        Err(e) => return spool.unread.push(unread(dir, &e)),
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(e) => return spool.unread.push(unread(dir, &e)),
        };
        let name = path.to_string_lossy();
        if name.ends_with(quantum_config::spool::UNFINISHED) && name.contains(SUFFIX) {
            remove_unfinished(&path);
        }
        if !name.ends_with(SUFFIX) {
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
            Ok(mut call) => {
                let network = cni::peek(&std::mem::take(&mut call.stdin)).name;
                spool.tombstones.push(Tombstone { path, call, network });
            }
            Err(why) => {
                let mut aside = path.clone().into_os_string();
                aside.push(BAD_SUFFIX);
                let stays = fs::rename(&path, &aside).err().map(|e| e.to_string());
                spool.bad.push(Bad { path, why, stays });
            }
        }
    }
}

/// Whether the fault is not the file's own. What is wrong with a file itself is found by us, or when it is opened: a link,
/// a socket, a device that is not there. Everything else is the disk's or the process's, and another try may help.
fn may_pass(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    !matches!(errno, None | Some(Errno::ELOOP | Errno::ENXIO | Errno::ENODEV | Errno::EISDIR))
}

/// Removes what a writer left that was killed. A clock that was set back leaves it for longer.
fn remove_unfinished(path: &Path) {
    let written = fs::symlink_metadata(path).and_then(|there| there.modified());
    let age = written.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    if age.is_some_and(|age| age > UNFINISHED) {
        let _ = fs::remove_file(path);
    }
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

    fn read(dir: &Path) -> Spool {
        read_all(&[PathBuf::from("/nonexistent/spool"), dir.to_owned()])
    }

    #[test]
    fn a_bad_file_does_not_stop_the_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let call = Call { written: Some((5, "boot".into())), ..Call::default() };
        fs::write(dir.path().join("good.del"), call.encode().expect("encoded")).expect("written");
        fs::write(dir.path().join("bad.del"), b"QCNI").expect("written");
        fs::write(dir.path().join("unfinished.del.7.new"), b"").expect("written");
        let Spool { tombstones, bad, unread } = read(dir.path());
        assert_eq!((tombstones.len(), bad.len(), unread.len()), (1, 1, 0));
        assert_eq!(*tombstones[0].call, call);
        assert!(dir.path().join("bad.del.bad").exists(), "kept for somebody to look at");
        assert_eq!(bad[0].stays, None);
        remove(&tombstones[0].path).expect("removed");
        remove(&tombstones[0].path).expect("removing twice is fine");
        assert_eq!(read(dir.path()).tombstones.len(), 0);
        assert!(dir.path().join("unfinished.del.7.new").exists(), "somebody may be writing it");
    }

    #[test]
    fn one_that_cannot_be_set_aside_is_said_to_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let longest = format!("{}.del", "x".repeat(250));
        fs::write(dir.path().join(&longest), b"QCNI").expect("written");
        let bad = read(dir.path()).bad;
        assert!(bad.len() == 1 && bad[0].stays.is_some(), "{bad:?}");
        assert!(dir.path().join(&longest).exists());
    }

    #[test]
    fn what_was_never_finished_goes_when_nobody_can_be_writing_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        for name in ["a.del.7.new", "b.del.8.new", "theirs.new"] {
            let file = File::create(path(name)).expect("a file");
            let old = if name == "b.del.8.new" { Duration::ZERO } else { UNFINISHED * 2 };
            file.set_modified(SystemTime::now() - old).expect("its time");
        }
        read(dir.path());
        let left = ["a.del.7.new", "b.del.8.new", "theirs.new"].map(|name| path(name).exists());
        assert_eq!(left, [false, true, true]);
    }

    #[test]
    fn a_spool_has_one_owner() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = lock(dir.path()).expect("free");
        assert!(first.is_some());
        assert!(matches!(lock(dir.path()), Err(StoreError::Locked { .. })));
        drop(first);
        assert!(lock(dir.path()).expect("free again").is_some());
        assert!(lock(Path::new("/nonexistent/spool")).expect("nobody's").is_none());
    }

    #[test]
    fn no_directory_is_an_empty_spool() {
        let spool = read_all(&[PathBuf::from("/nonexistent/spool")]);
        assert!(spool.tombstones.is_empty() && spool.unread.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_empty_or_bad() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let spool = read(file.path());
        let path = file.path().to_str().expect("UTF-8");
        assert!(spool.unread.iter().any(|why| why.contains(path)), "{spool:?}");
        for (errno, passes) in [
            (Errno::EMFILE, true),
            (Errno::EIO, true),
            (Errno::ENOMEM, true),
            (Errno::ETIMEDOUT, true),
            (Errno::EACCES, true),
            (Errno::ELOOP, false),
            (Errno::ENXIO, false),
        ] {
            assert_eq!(may_pass(&io::Error::from(errno)), passes, "{errno}");
        }
        assert!(!may_pass(&io::Error::other("it is not a regular file")));
    }
}
