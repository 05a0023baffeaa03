//! The second witness of what is attached, in `runtime_dir`, so that it does not share the fate of `state.db`:
//!
//! ```text
//!   attachments/0123456789abcdef.attached   a record; the name is the digest of its key
//!   attachments/0123456789abcdef.leaving    a DEL has been asked for and not finished
//!   held/0123456789abcdef                   addresses that are held without a record; the same name
//!   networks/0123456789abcdef               a network's definition; the digest of its name
//!   generation                              which store was written last, and how often it had been
//! ```
//!
//! Attachments end with the boot, as what is on a tmpfs does: nothing here is synced. Each file says of which
//! boot and network namespace of the host it is, and has a checksum.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use quantum_config::ids::{AttachmentKey, digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Place, Stored, StoredState, small_file};
use crate::attach::{NetnsId, Record};

const ATTACHED: &str = "attached";
const LEAVING: &str = "leaving";
/// What could be read and is no record, for somebody to look at.
const BAD: &str = "bad";
/// How the files begin; the number is that of their format.
const RECORD: &str = "quantum-attachment 1";
const GENERATION: &str = "quantum-store 1";

/// What the attachments end with: the boot, and the network namespace of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// The host's network namespace.
    pub host: NetnsId,
}

/// Which store was written last, and how often it had been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    /// Which store.
    pub(super) store: i64,
    /// One more with each commit.
    pub(super) number: i64,
}

/// What the witness says.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) attachments: Vec<Stored>,
    /// The newest store, or why that is not known.
    pub(super) newest: Option<Result<Generation, String>>,
    /// What cannot be read, and why.
    pub(super) bad: Vec<String>,
}

/// The files.
#[derive(Debug)]
pub(super) struct Witness {
    folder: PathBuf,
    pub(super) held: PathBuf,
    pub(super) networks: PathBuf,
    generation: PathBuf,
    life: Life,
    /// The generation's file and the folder, open, so that it is seen when they are removed.
    open: Option<(File, File)>,
}

impl Witness {
    pub(super) fn new(place: &Place) -> Self {
        Self {
            folder: place.runtime_dir.join("attachments"),
            held: place.runtime_dir.join("held"),
            networks: place.runtime_dir.join("networks"),
            generation: place.runtime_dir.join("generation"),
            life: place.life.clone(),
            open: None,
        }
    }

    /// Reads all there is of this life. What is of another boot goes: its attachments have ended.
    pub(super) fn read(&self) -> Seen {
        let mut seen = Seen { newest: self.read_generation(), ..Seen::default() };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return seen,
            Err(e) => {
                seen.bad.push(format!("{}: {e}", self.folder.display()));
                return seen;
            }
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let state = match path.extension().and_then(|suffix| suffix.to_str()) {
                Some(ATTACHED) => StoredState::Attached,
                // Left by a daemon that was killed after it had written another record for the key.
                Some(LEAVING) if path.with_extension(ATTACHED).exists() => continue,
                Some(LEAVING) => StoredState::Leaving,
                _ => continue,
            };
            let bad = |why: &dyn ToString| format!("{}: {}", path.display(), why.to_string());
            let bytes = match small_file::read_own(&path) {
                Ok(bytes) => bytes,
                Err(e) => {
                    seen.bad.push(bad(&e));
                    continue;
                }
            };
            match decode(&bytes).and_then(|(life, record)| self.of_name(&path, life, record)) {
                Ok((life, record)) if life == self.life => {
                    seen.attachments.push(Stored { record, state });
                }
                Ok((life, _)) if life.boot != self.life.boot => _ = fs::remove_file(&path),
                Ok(_) => {} // of another daemon
                Err(why) => {
                    let _ = fs::rename(&path, path.with_extension(BAD));
                    seen.bad.push(bad(&why));
                }
            }
        }
        seen
    }

    fn of_name(&self, path: &Path, life: Life, record: Record) -> Result<(Life, Record), String> {
        let state = path.extension().unwrap_or_default().to_string_lossy();
        match self.file(&record.key, &state) == path {
            true => Ok((life, record)),
            false => Err(format!("it is of {}", record.key)),
        }
    }

    /// What the attachments end with.
    pub(super) fn life(&self) -> &Life {
        &self.life
    }

    /// What is known of one attachment.
    pub(super) fn look(&self, key: &AttachmentKey) -> Option<Stored> {
        let states = [(ATTACHED, StoredState::Attached), (LEAVING, StoredState::Leaving)];
        states.into_iter().find_map(|(name, state)| {
            let bytes = small_file::read_own(&self.file(key, name)).ok()?;
            let (life, record) = decode::<Record>(&bytes).ok()?;
            let is_meant = life == self.life && record.key == *key;
            is_meant.then_some(Stored { record, state })
        })
    }

    /// Writes what an attachment is.
    pub(super) fn keep(&self, record: &Record, state: StoredState) -> io::Result<()> {
        let (name, other) = match state {
            StoredState::Attached => (ATTACHED, LEAVING),
            StoredState::Leaving => (LEAVING, ATTACHED),
        };
        let (path, bytes) = (self.file(&record.key, name), encode(&self.life, record)?);
        put(&path, &bytes)?;
        absent_is_fine(fs::remove_file(self.file(&record.key, other)))
    }

    /// A DEL has been asked for.
    pub(super) fn mark(&self, key: &AttachmentKey) -> io::Result<()> {
        absent_is_fine(fs::rename(self.file(key, ATTACHED), self.file(key, LEAVING)))
    }

    /// Whether it has the mark.
    pub(super) fn is_leaving(&self, key: &AttachmentKey) -> bool {
        self.file(key, LEAVING).is_file()
    }

    /// The attachment is no more.
    pub(super) fn remove(&self, key: &AttachmentKey) -> io::Result<()> {
        absent_is_fine(fs::remove_file(self.file(key, LEAVING)))?;
        absent_is_fine(fs::remove_file(self.file(key, ATTACHED)))
    }

    /// Whether nothing has been taken away under us.
    pub(super) fn is_whole(&self) -> bool {
        let is_there = |path: &Path, file: &File| {
            let (now, then) = (fs::metadata(path).ok(), file.metadata().ok());
            now.zip(then).is_some_and(|(now, then)| now.ino() == then.ino() && then.nlink() > 0)
        };
        self.open.as_ref().is_some_and(|(generation, folder)| {
            is_there(&self.generation, generation) && is_there(&self.folder, folder)
        })
    }

    /// Notes how new the store is.
    pub(super) fn note(&mut self, newest: Generation) -> io::Result<()> {
        let line = generation_line(&self.life, newest);
        // As long as the one before: one write in its place.
        if let Some((file, _)) = &self.open {
            return file.write_all_at(line.as_bytes(), 0);
        }
        self.make_folder()?;
        small_file::replace_for_now(&self.generation, line.as_bytes())?;
        let file = File::options().write(true).open(&self.generation)?;
        self.open = Some((file, File::open(&self.folder)?));
        Ok(())
    }

    /// Has the generation's file made anew at the next note.
    pub(super) fn reopen(&mut self) {
        self.open = None;
    }

    fn read_generation(&self) -> Option<Result<Generation, String>> {
        match small_file::read_own(&self.generation) {
            Ok(bytes) => Some(read_generation(&bytes, &self.life)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => Some(Err(e.to_string())),
        }
    }

    fn file(&self, key: &AttachmentKey, state: &str) -> PathBuf {
        self.folder.join(format!("{:016x}.{state}", key.digest()))
    }

    fn make_folder(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)
    }
}

/// Writes a file, and makes its folder if that is missing.
pub(super) fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match small_file::replace_for_now(path, bytes) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(path);
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            small_file::replace_for_now(path, bytes)
        }
        written => written,
    }
}

pub(super) fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[derive(Serialize)]
struct Written<'a, T> {
    life: &'a Life,
    record: &'a T,
}

#[derive(Deserialize)]
struct Read<T> {
    life: Life,
    record: T,
}

pub(super) fn encode<T: Serialize>(life: &Life, record: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_string(&Written { life, record })?;
    Ok(format!("{RECORD} {:016x}\n{body}", digest(&[&body])).into_bytes())
}

/// What a file says. Also what is too short, too long or in part another is none.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(Life, T), String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let (head, body) = text.split_once('\n').ok_or("it is cut off")?;
    let sum = head.strip_prefix(RECORD).ok_or("it is no record of ours")?.trim_start();
    if sum != format!("{:016x}", digest(&[body])) {
        return Err("its checksum is not that of what is in it".into());
    }
    let Read { life, record } = serde_json::from_str(body).map_err(|e| e.to_string())?;
    Ok((life, record))
}

fn generation_line(life: &Life, newest: Generation) -> String {
    let Generation { store, number } = newest;
    let said =
        format!("{} {} {} {store:016x} {number:020}", life.boot, life.host.dev, life.host.ino);
    format!("{GENERATION} {:016x} {said}\n", digest(&[&said]))
}

fn read_generation(bytes: &[u8], life: &Life) -> Result<Generation, String> {
    let unreadable = || "it is not what was written".to_owned();
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let mut words = text.rsplitn(3, ' ');
    let number = words.next().and_then(|word| word.trim_end().parse().ok());
    let store = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
    let (Some(number), Some(store)) = (number, store) else { return Err(unreadable()) };
    let newest = Generation { store: store.cast_signed(), number };
    match text == generation_line(life, newest) {
        true => Ok(newest),
        false => Err("it is damaged, or of another boot".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{place, record};
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let life = place(dir.path(), "boot-1").life;
        let record = record("a", &["10.0.0.2/16", "fd00::2/64"]);
        let bytes = encode(&life, &record).expect("encoded");
        assert_eq!(decode(&bytes), Ok((life, record)));
        for at in 0..bytes.len() {
            for bit in [0, 3, 6] {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                decode::<Record>(&flipped).expect_err("flipped");
            }
            decode::<Record>(&bytes[..at]).expect_err("cut off");
        }
        decode::<Record>(&[&bytes[..], b" "].concat()).expect_err("something more");
    }

    #[test]
    fn a_generation_is_read_as_it_was_written_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let life = place(dir.path(), "boot-1").life;
        for newest in [
            Generation { store: -7, number: 0 },
            Generation { store: i64::MIN, number: i64::MAX },
            Generation { store: 1, number: 12 },
        ] {
            let line = generation_line(&life, newest).into_bytes();
            assert_eq!(read_generation(&line, &life), Ok(newest));
            for at in 0..line.len() {
                let mut flipped = line.clone();
                flipped[at] ^= 1;
                read_generation(&flipped, &life).expect_err("flipped");
                read_generation(&line[..at], &life).expect_err("cut off");
            }
            let other = Life { boot: "boot-2".into(), ..life.clone() };
            read_generation(&line, &other).expect_err("of another boot");
        }
    }

    #[test]
    fn what_is_kept_is_seen_until_it_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let here = place(dir.path(), "boot-1");
        let mut witness = Witness::new(&here);
        let seen = |place: &Place| {
            let mut seen = Witness::new(place).read().attachments;
            seen.sort_by(|a, b| a.record.key.cmp(&b.record.key));
            seen.into_iter()
                .map(|s| (s.record.key.container.to_string(), s.state))
                .collect::<Vec<_>>()
        };
        let [a, b] = ["a", "b"].map(|name| record(name, &[]));
        witness.mark(&a.key).expect("nothing to mark");
        for record in [&a, &b] {
            witness.keep(record, StoredState::Attached).expect("kept");
        }
        witness.mark(&b.key).expect("marked");
        let expected = [("a", StoredState::Attached), ("b", StoredState::Leaving)];
        assert_eq!(seen(&here), expected.map(|(name, state)| (name.to_owned(), state)));
        witness.keep(&b, StoredState::Attached).expect("another of its key");
        assert_eq!(seen(&here)[1].1, StoredState::Attached);
        witness.remove(&b.key).expect("removed");
        assert_eq!(seen(&here).len(), 1);
        let newest = Generation { store: 5, number: 9 };
        witness.note(newest).expect("noted");
        assert!(witness.is_whole());
        assert_eq!(Witness::new(&here).read().newest, Some(Ok(newest)));

        let mut elsewhere = here.clone();
        elsewhere.life.host.ino += 1;
        assert!(seen(&elsewhere).is_empty() && seen(&here).len() == 1, "another daemon's stay");
        assert!(seen(&place(dir.path(), "boot-2")).is_empty());
        assert!(seen(&here).is_empty(), "what is of another boot goes");
    }

    #[test]
    fn what_is_no_record_is_told_and_set_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        let here = place(dir.path(), "boot-1");
        let witness = Witness::new(&here);
        let [a, b] = ["a", "b"].map(|name| record(name, &[]));
        for record in [&a, &b] {
            witness.keep(record, StoredState::Attached).expect("kept");
        }
        fs::write(witness.file(&a.key, ATTACHED), "").expect("emptied");
        fs::rename(witness.file(&b.key, ATTACHED), witness.folder.join("00.attached"))
            .expect("renamed");
        let seen = witness.read();
        assert_eq!((seen.attachments.len(), seen.bad.len()), (0, 2), "{seen:?}");
        assert!(seen.bad.iter().any(|why| why.contains("it is of n/b/eth0")), "{seen:?}");
        assert!(witness.read().bad.is_empty(), "told once");
        assert!(witness.folder.join("00.bad").exists(), "kept for somebody to look at");
    }
}
