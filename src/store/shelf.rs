//! Documents of policy on disk: the files that an operator puts into `policy.d`, and what must survive the daemon
//! of the [`Catalog`] ([`saved`](super::saved)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::saved::Saved;
use super::{StoreError, small_file};
use crate::policy::{Catalog, FilesRead};

/// How the names of files end that are policy.
pub const POLICY_SUFFIXES: &[&str] = &[".yaml", ".yml", ".json"];

/// More files than this are not policy.
const MOST_FILES: usize = 1000;

/// Where documents are. Its methods block.
#[derive(Debug, Clone)]
pub struct Shelf {
    policy_dir: PathBuf,
    saved: Saved,
}

impl Shelf {
    /// The shelf of these directories.
    pub fn new(state_dir: &Path, runtime_dir: &Path, policy_dir: &Path) -> Self {
        Self { policy_dir: policy_dir.to_owned(), saved: Saved::new(state_dir, runtime_dir) }
    }

    /// What was saved, without the files read again, and what is to be told of how it was found. Nothing saved is
    /// an empty catalog; what cannot be read anywhere makes one that denies everything, see [`Catalog::lost`].
    pub fn restore(&self) -> (Catalog, Option<String>) {
        self.saved.restore()
    }

    /// The catalog after the files have been read.
    ///
    /// A directory that is gone is one that cannot be read: nobody takes all restrictions away at once
    /// by what may be a file system that is not mounted.
    pub fn reload(&self, catalog: &Catalog) -> Catalog {
        let dir = self.policy_dir.display().to_string();
        let read = self.read_files().and_then(|files| {
            match catalog.has_files(&dir) && !self.policy_dir.exists() {
                true => Err("is gone: make it, without files if none shall hold".to_owned()),
                false => Ok(files),
            }
        });
        catalog.with_files(&dir, read)
    }

    /// The files, in the order of their names. A directory that does not exist has none. They are named
    /// with the directory's last part, as in `policy.d/web.yaml`.
    pub fn read_files(&self) -> FilesRead {
        match self.list() {
            Ok(None) => Ok(Vec::new()),
            Ok(Some(files)) if files.len() > MOST_FILES => {
                Err(format!("has more than {MOST_FILES} documents' files"))
            }
            Ok(Some(files)) => Ok(files.into_iter().map(|file| self.read(&file)).collect()),
            Err(e) => Err(format!("cannot be read: {e}")),
        }
    }

    fn list(&self) -> io::Result<Option<Vec<PathBuf>>> {
        let entries = match fs::read_dir(&self.policy_dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Editors and container runtimes keep files with a dot beside those that are meant.
            if !name.starts_with('.') && POLICY_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
            {
                files.push(path);
            }
        }
        files.sort();
        Ok(Some(files))
    }

    fn read(&self, file: &Path) -> (String, Result<Vec<u8>, String>) {
        let part =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{}/{}", part(&self.policy_dir), part(file));
        (name, self.contents(file).map_err(|e| e.to_string()))
    }

    /// A link may lead to another file of the directory, as those of a mounted ConfigMap do, and not
    /// out of it: elsewhere, others than the operator may be able to write.
    fn contents(&self, file: &Path) -> io::Result<Vec<u8>> {
        let real = fs::canonicalize(file)?;
        if !real.starts_with(fs::canonicalize(&self.policy_dir)?) {
            let why = format!("it leads to {}, out of the directory", real.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        small_file::read(&real)
    }

    /// Writes what must survive the daemon. When it returns, that is on the disk; after a power cut
    /// before, there is what was saved last.
    pub fn save(&self, catalog: &Catalog) -> Result<(), StoreError> {
        let encoded = catalog.to_saved().map_err(|source| StoreError::Encode {
            doing: "write down the documents of policy".into(),
            source,
        })?;
        // None: what is there cannot be read by us, and may be mended by somebody.
        let Some(bytes) = encoded else { return Ok(()) };
        self.saved.replace(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::policy::Written;

    const GOOD: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: a}}";
    const BAD: &str = "kind: [";

    fn read(text: &str) -> Written {
        Written::read(text).expect("documents")
    }

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("policy.d")).expect("made");
        let shelf = Shelf::new(dir.path(), &dir.path().join("run"), &dir.path().join("policy.d"));
        (dir, shelf)
    }

    #[test]
    fn files_are_read_in_the_order_of_their_names_and_links_stay_inside() {
        let (dir, shelf) = shelf();
        let put = |name: &str, text: &str| {
            fs::write(dir.path().join("policy.d").join(name), text).expect("written");
        };
        for name in ["b.json", "a.yaml", "c.yml", ".a.yaml", "readme.txt"] {
            put(name, name);
        }
        put("data", "linked");
        fs::write(dir.path().join("secret"), "outside").expect("written");
        let link = |to: &str, name: &str| {
            symlink(to, dir.path().join("policy.d").join(name)).expect("linked");
        };
        link("data", "d.yaml");
        link("../secret", "e.yaml");
        link("/dev/zero", "f.yaml");
        link("gone", "g.yaml");
        let read = shelf.read_files().expect("readable");
        let names: Vec<&str> = read.iter().map(|(name, _)| name.as_str()).collect();
        let expected = ["a.yaml", "b.json", "c.yml", "d.yaml", "e.yaml", "f.yaml", "g.yaml"];
        assert_eq!(names, expected.map(|name| format!("policy.d/{name}")));
        assert_eq!(read[0].1, Ok(b"a.yaml".to_vec()));
        assert_eq!(read[3].1, Ok(b"linked".to_vec()));
        for (name, outside) in &read[4..] {
            assert!(outside.is_err(), "{name}");
        }
        let none = Shelf::new(dir.path(), &dir.path().join("run"), &dir.path().join("none"));
        assert_eq!(none.read_files(), Ok(Vec::new()));
        let no_dir = Shelf::new(dir.path(), &dir.path().join("run"), &dir.path().join("secret"));
        assert!(no_dir.read_files().is_err());
    }

    #[test]
    fn what_was_last_good_survives_a_restart() {
        let (dir, shelf) = shelf();
        let file = dir.path().join("policy.d/a.yaml");
        fs::write(&file, GOOD).expect("written");
        let key = "n/c/eth0".parse().expect("a key");
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let catalog = shelf.reload(&shelf.restore().0);
        let (catalog, _) =
            catalog.apply(read(&GOOD.replace("name: a", "name: b"))).expect("applied");
        let catalog =
            catalog.label(&key, &labels, &["role".to_owned()], |_| true).expect("labelled");
        shelf.save(&catalog).expect("saved");
        let saved = fs::metadata(dir.path().join("policy.json")).expect("there");
        assert_eq!(saved.permissions().mode() & 0o777, 0o600);

        fs::write(&file, BAD).expect("written");
        let again = shelf.reload(&shelf.restore().0);
        assert_eq!(again.documents(), catalog.documents());
        assert_eq!(again.documents().len(), 2);
        let said = [("app".to_owned(), Some("web".to_owned())), ("role".to_owned(), None)].into();
        assert_eq!(again.labels(&key), Some(&said));
        assert_eq!(again.problems().len(), 1);
        shelf.save(&again).expect("saved");
        assert_eq!(shelf.restore().0.documents(), catalog.documents(), "still the last good");
    }

    #[test]
    fn a_directory_that_is_gone_takes_nothing_along() {
        let (dir, shelf) = shelf();
        let policy_dir = dir.path().join("policy.d");
        fs::write(policy_dir.join("a.yaml"), GOOD).expect("written");
        let catalog = shelf.reload(&Catalog::default());
        fs::rename(&policy_dir, dir.path().join("elsewhere")).expect("moved");
        for _ in 0..2 {
            let gone = shelf.reload(&catalog);
            assert_eq!((gone.documents(), gone.problems().len()), (catalog.documents(), 1));
        }
        assert!(shelf.reload(&Catalog::default()).problems().is_empty(), "it never was there");
        fs::create_dir(&policy_dir).expect("made");
        let empty = shelf.reload(&catalog);
        assert!(empty.documents().is_empty() && empty.problems().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_neither_forgotten_nor_overwritten() {
        let (dir, shelf) = shelf();
        let saved = dir.path().join("policy.json");
        fs::write(&saved, "{}").expect("written");
        let catalog = shelf.reload(&shelf.restore().0);
        assert_eq!((catalog.documents().len(), catalog.problems().len()), (1, 1));
        assert!(catalog.apply(read(GOOD)).is_err());
        shelf.save(&catalog).expect("nothing to do");
        assert_eq!(fs::read(&saved).expect("there"), b"{}");
    }
}
