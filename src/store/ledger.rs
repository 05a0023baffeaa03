//! `docker.json` in the state directory: the [`Book`] of Docker's networks and pools.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{StoreError, small_file};
use crate::docker::Book;

/// Where the book is kept. Its methods block.
#[derive(Debug, Clone)]
pub struct Ledger {
    path: PathBuf,
}

impl Ledger {
    /// The one of this state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("docker.json") }
    }

    /// The book as it was saved; an empty one if there is none. One that cannot be read is set aside, and
    /// the error says where to.
    pub fn restore(&self) -> (Book, Option<String>) {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return (Book::default(), None),
            Err(e) => {
                let why = format!("{} cannot be read: {e}", self.path.display());
                return (Book::default(), Some(why));
            }
        };
        match Book::read(&bytes) {
            Ok(book) => (book, None),
            Err(error) => {
                let aside = self.path.with_extension("json.damaged");
                let moved = fs::rename(&self.path, &aside);
                let to = moved.map_or_else(|e| e.to_string(), |()| aside.display().to_string());
                let why =
                    format!("{} cannot be read: {error}; set aside: {to}", self.path.display());
                (Book::default(), Some(why))
            }
        }
    }

    /// Writes the book. When it returns, it is on the disk.
    pub fn save(&self, book: &[u8]) -> Result<(), StoreError> {
        let written = small_file::replace(&self.path, book);
        written.map_err(StoreError::of_file("write Docker's networks to", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_read_and_what_is_damaged_is_set_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        let ledger = Ledger::new(dir.path());
        assert!(ledger.restore().1.is_none(), "nothing is no damage");
        let mut book = Book::default();
        let asked = crate::docker::Asked { subnet: None, part: None, v6: false };
        let (id, _) = book.request_pool(&asked).expect("a pool");
        ledger.save(&book.to_saved().expect("written")).expect("saved");
        let (mut read, damage) = ledger.restore();
        assert!(damage.is_none());
        read.pools().take(&id, None, true, None).expect("the pool is there");
        fs::write(dir.path().join("docker.json"), "{").expect("damaged");
        let (mut read, damage) = ledger.restore();
        assert!(damage.expect("said").contains("docker.json.damaged"));
        read.pools().take(&id, None, true, None).expect_err("empty");
        assert!(dir.path().join("docker.json.damaged").exists());
    }
}
