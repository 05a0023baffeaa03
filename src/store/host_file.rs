//! `host.json`: where the daemon works, in the state directory and in the runtime directory.

use std::path::{Path, PathBuf};

use super::{StoreError, small_file};
use crate::attach::HostNote;

/// Where such a note is kept. Its methods block.
#[derive(Debug, Clone)]
pub struct HostFile {
    path: PathBuf,
}

impl HostFile {
    /// The one of this directory.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join("host.json") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was noted; nothing if there is no note that can be read.
    pub fn read(&self) -> Option<HostNote> {
        let text = small_file::read_own(&self.path).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Notes it. When it returns, it is on the disk.
    pub fn write(&self, note: &HostNote) -> Result<(), StoreError> {
        if self.read().as_ref() == Some(note) {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(note).map_err(std::io::Error::other);
        let written = text.and_then(|text| small_file::replace(&self.path, &text));
        written.map_err(StoreError::of_file("write where the daemon works to", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::NetnsId;

    #[test]
    fn what_is_noted_is_read_again_and_damage_is_no_note() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = HostFile::new(dir.path());
        assert_eq!(file.read(), None);
        for cookie in [None, Some(u64::MAX)] {
            let netns = NetnsId { dev: 4, ino: 7 };
            let note = HostNote { boot: "b".to_owned(), netns, cookie };
            file.write(&note).expect("written");
            assert_eq!(file.read(), Some(note));
        }
        std::fs::write(file.path(), "{").expect("damaged");
        assert_eq!(file.read(), None);
    }
}
