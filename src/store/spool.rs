//! The spool: DELs that found no daemon, left by the plugin as files (see
//! [`quantum_config::spool`]). A tombstone is removed when it has been carried out, not before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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

/// The tombstones of a directory, and the files in it that are none, with the reason.
pub type Spool = (Vec<Tombstone>, Vec<(PathBuf, String)>);

/// Reads every tombstone. A file that is none, or that others than root can have put there, is renamed out of the way and told in the second list;
/// it never stops the others.
pub fn read_all(dir: &Path) -> io::Result<Spool> {
    let (mut tombstones, mut bad) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((tombstones, bad)),
        Err(e) => return Err(e),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if !path.to_string_lossy().ends_with(SUFFIX) {
            continue;
        }
        match small_file::read_own(&path)
            .map_err(|e| e.to_string())
            .and_then(|b| decode(&b).map_err(|e| e.to_string()))
        {
            Ok(call) => tombstones.push(Tombstone { path, call }),
            Err(why) => {
                let mut aside = path.clone().into_os_string();
                aside.push(BAD_SUFFIX);
                let _ = fs::rename(&path, &aside);
                bad.push((path, why));
            }
        }
    }
    Ok((tombstones, bad))
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
        let (tombstones, bad) = read_all(dir.path()).expect("readable");
        assert_eq!((tombstones.len(), bad.len()), (1, 1));
        assert_eq!(*tombstones[0].call, call);
        assert!(dir.path().join("bad.del.bad").exists(), "kept for somebody to look at");
        remove(&tombstones[0].path).expect("removed");
        remove(&tombstones[0].path).expect("removing twice is fine");
        assert_eq!(read_all(dir.path()).expect("readable").0.len(), 0);
    }

    #[test]
    fn no_directory_is_an_empty_spool() {
        assert!(read_all(Path::new("/nonexistent/spool")).expect("empty").0.is_empty());
    }
}
