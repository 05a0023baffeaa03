//! `forwarding.json` in the state directory: what we did to the host's forwarding, for this boot and this
//! network namespace.

use std::path::{Path, PathBuf};

use super::{StoreError, small_file};
use crate::attach::ForwardingNote;

/// Where the note is kept. Its methods block.
#[derive(Debug, Clone)]
pub struct ForwardingFile {
    path: PathBuf,
}

impl ForwardingFile {
    /// The one of this state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("forwarding.json") }
    }

    /// What was kept, if it is about the boot and the namespace of `new`, and else `new`. Without a note that
    /// can be read nothing is our doing, and so nothing will be turned off.
    pub fn restore(&self, new: ForwardingNote) -> ForwardingNote {
        let kept = small_file::read(&self.path).ok();
        let kept: Option<ForwardingNote> = kept.and_then(|text| serde_json::from_slice(&text).ok());
        kept.filter(|kept| kept.boot == new.boot && kept.netns == new.netns).unwrap_or(new)
    }

    /// Writes the note. When it returns, it is on the disk.
    pub fn save(&self, note: &ForwardingNote) -> Result<(), StoreError> {
        let text = serde_json::to_vec_pretty(note).map_err(std::io::Error::other);
        let written = text.and_then(|text| small_file::replace(&self.path, &text));
        written.map_err(StoreError::of_file("write what was done to forwarding to", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::attach::{NetnsId, TurnedOn};

    #[test]
    fn a_note_is_for_its_boot_and_namespace() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = ForwardingFile::new(dir.path());
        let here = NetnsId { dev: 4, ino: 7 };
        let new = |boot: &str, netns| ForwardingNote::new(boot, netns);
        let mut note = new("one", here);
        assert_eq!(file.restore(note.clone()), note, "no file");
        note.ipv4 = Some(TurnedOn { redirects: true, ..TurnedOn::default() });
        file.save(&note).expect("saved");
        assert_eq!(file.restore(new("one", here)), note);
        for other in [new("two", here), new("one", NetnsId { dev: 4, ino: 8 })] {
            assert_eq!(file.restore(other.clone()), other);
        }
        fs::write(dir.path().join("forwarding.json"), "{").expect("damaged");
        assert_eq!(file.restore(new("one", here)), new("one", here));
    }
}
