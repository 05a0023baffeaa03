//! What must survive the daemon of the policy, in three places, so that neither damage nor loss of one takes away what
//! operators have said:
//!
//! ```text
//!   state_dir/policy.json          what was saved last
//!   state_dir/policy.json.before   what was saved the time before
//!   runtime_dir/policy.json        what was saved last, written first: within a boot nothing is newer
//! ```
//!
//! That one of the others is there says that `policy.json` was; only where there is none has there never been
//! a policy.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{StoreError, small_file};
use crate::policy::Catalog;

/// The files.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    last: PathBuf,
    before: PathBuf,
    copy: PathBuf,
}

/// What a file says.
enum Read {
    Good(Vec<u8>, Catalog),
    Bad(String),
    Absent,
}

impl Saved {
    pub(super) fn new(state_dir: &Path, runtime_dir: &Path) -> Self {
        let last = state_dir.join("policy.json");
        let before = last.with_extension("json.before");
        Self { last, before, copy: runtime_dir.join("policy.json") }
    }

    /// What was saved, and what is to be told if that is not simply in `policy.json`.
    pub(super) fn restore(&self) -> (Catalog, Option<String>) {
        let name = self.last.display().to_string();
        let (last, copy) = (read(&self.last), read(&self.copy));
        let why = match (&last, &copy) {
            (Read::Good(last, catalog), Read::Good(copy, _)) if last == copy => {
                return (catalog.clone(), None);
            }
            (Read::Good(_, catalog), Read::Bad(_) | Read::Absent) => {
                return (catalog.clone(), None);
            }
            (Read::Good(..), Read::Good(..)) => "is not what was saved last".to_owned(),
            (Read::Bad(why), _) => why.clone(),
            (Read::Absent, _) => "is gone".to_owned(),
        };
        let told = |from: &Path| Some(format!("{name} {why}: what is in {} holds", from.display()));
        if let Read::Good(_, catalog) = copy {
            self.set_aside(&last);
            return (catalog, told(&self.copy));
        }
        match (read(&self.before), &last, &copy) {
            (Read::Good(_, catalog), ..) => {
                self.set_aside(&last);
                let reason = format!(
                    "{why}: what had been saved before holds, and what was changed last may be missing; look at \
                     it (quantumctl policy show), and say it again"
                );
                (catalog.outdated(name.clone(), reason), told(&self.before))
            }
            (Read::Absent, Read::Absent, Read::Absent) => (Catalog::default(), None),
            (Read::Bad(_) | Read::Absent, ..) => (Catalog::lost(name, why), None),
        }
    }

    /// For somebody to look at: it is written anew.
    fn set_aside(&self, last: &Read) {
        if let Read::Bad(_) = last {
            let _ = fs::rename(&self.last, self.last.with_extension("json.bad"));
        }
    }

    /// Saves. When it returns, that is on the disk; after a power cut before, there is what was saved last.
    pub(super) fn replace(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let current = fs::read(&self.last).ok();
        let copied = self.copy_is(Some(bytes));
        copied.map_err(StoreError::of_file("write the documents of policy to", &self.copy))?;
        if current.as_deref() == Some(bytes) {
            return Ok(());
        }
        if current.is_some() {
            self.keep_before();
        }
        let written = small_file::replace(&self.last, bytes);
        if written.is_err() {
            // Nothing has changed.
            let _ = self.copy_is(current.as_deref());
        }
        written.map_err(StoreError::of_file("write the documents of policy to", &self.last))
    }

    /// One that cannot be written is better gone than older: the others are asked then.
    fn copy_is(&self, bytes: Option<&[u8]>) -> io::Result<()> {
        if bytes.is_some_and(|bytes| small_file::replace_for_now(&self.copy, bytes).is_ok()) {
            return Ok(());
        }
        match fs::remove_file(&self.copy) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// What is there becomes what was saved before. Without that there is an older one, or none.
    fn keep_before(&self) {
        let new = self.before.with_extension("before.new");
        let _ = fs::remove_file(&new);
        let _ = fs::hard_link(&self.last, &new).and_then(|()| fs::rename(&new, &self.before));
    }
}

fn read(path: &Path) -> Read {
    match small_file::read_whole(path) {
        Ok(bytes) => {
            let catalog = Catalog::from_saved(&path.display().to_string(), &bytes);
            match catalog.doubt().map(|problem| problem.reason.clone()) {
                Some(why) => Read::Bad(why),
                None => Read::Good(bytes, catalog),
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Read::Absent,
        Err(e) => Read::Bad(format!("cannot be read: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Written;

    fn saying(names: &[&str]) -> Vec<u8> {
        let one = |name: &&str| {
            format!("---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}\n")
        };
        let text: String = names.iter().map(one).collect();
        let written = Written::read(&text).expect("documents");
        let (catalog, _) = Catalog::default().apply(written).expect("applied");
        catalog.to_saved().expect("encoded").expect("not lost")
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Found {
        Last,
        Before,
        Nothing,
        Lost,
    }

    /// What is found after `harm` was done to the three files.
    fn after(harm: impl Fn(&Saved)) -> (Found, bool) {
        let dir = tempfile::tempdir().expect("a directory");
        let (state, run) = (dir.path().join("state"), dir.path().join("run"));
        for folder in [&state, &run] {
            fs::create_dir(folder).expect("made");
        }
        let saved = Saved::new(&state, &run);
        assert_eq!(saved.restore().0.documents().len(), 0, "never had one");
        saved.replace(&saying(&["a"])).expect("saved");
        saved.replace(&saying(&["a", "b"])).expect("saved");
        saved.replace(&saying(&["a", "b"])).expect("saved again, which changes nothing");
        harm(&saved);
        let (catalog, told) = saved.restore();
        let found = match catalog.documents().len() {
            _ if catalog.is_lost() => Found::Lost,
            2 => Found::Last,
            1 => Found::Before,
            _ => Found::Nothing,
        };
        assert_eq!(catalog.doubt().is_some(), matches!(found, Found::Before | Found::Lost));
        if !catalog.is_lost() {
            // It is whole again.
            saved.replace(&catalog.to_saved().expect("encoded").expect("some")).expect("saved");
            assert_eq!(saved.restore().0.documents().len(), catalog.documents().len());
        }
        (found, told.is_some())
    }

    #[test]
    fn what_was_said_is_not_forgotten_with_a_file() {
        let gone = |path: &Path| fs::remove_file(path).expect("removed");
        let cut = |path: &Path| fs::write(path, "{\"version\":1").expect("cut");
        let newer = |path: &Path| fs::write(path, "{\"version\":2}").expect("newer");
        for harm in [gone, cut, newer] {
            assert_eq!(after(|saved| harm(&saved.last)), (Found::Last, true));
            assert_eq!(after(|saved| harm(&saved.copy)), (Found::Last, false));
            assert_eq!(after(|saved| harm(&saved.before)), (Found::Last, false));
            for second in [gone, cut] {
                let both = |saved: &Saved| {
                    harm(&saved.last);
                    second(&saved.copy);
                };
                assert_eq!(after(both), (Found::Before, true));
                let all = |saved: &Saved| {
                    both(saved);
                    cut(&saved.before);
                };
                assert_eq!(after(all), (Found::Lost, false));
            }
        }
        let old = |saved: &Saved| {
            fs::copy(&saved.before, &saved.last).expect("put back");
        };
        assert_eq!(after(old), (Found::Last, true), "an older one that was put back");
        let all = |saved: &Saved| {
            [&saved.last, &saved.copy, &saved.before].into_iter().for_each(|path| gone(path));
        };
        assert_eq!(after(all), (Found::Nothing, false));
    }

    #[test]
    fn a_save_that_fails_leaves_what_was_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let (state, run) = (dir.path().join("state"), dir.path().join("run"));
        for folder in [&state, &run] {
            fs::create_dir(folder).expect("made");
        }
        let saved = Saved::new(&state, &run);
        fs::create_dir(&saved.last).expect("in the way");
        saved.replace(&saying(&["a"])).expect_err("a directory is there");
        assert!(!saved.copy.exists(), "nothing was said");
        fs::remove_dir(&saved.last).expect("removed");
        saved.replace(&saying(&["a"])).expect("saved");
        fs::remove_dir_all(&run).expect("removed");
        saved.replace(&saying(&["a", "b"])).expect("the second copy is not needed");
        assert_eq!(saved.restore().0.documents().len(), 2);
    }
}
