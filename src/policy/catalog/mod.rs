//! All documents that are known, where each comes from, and the labels that operators gave and took away at run
//! time.
//! A catalog is a value: what is asked of it makes another one, and whoever asked commits that or drops
//! it.
//!
//! | module  | what it is                                                           |
//! |---------|----------------------------------------------------------------------|
//! | `file`  | a file of `policy.d`, and what holds while it will not do            |
//! | `given` | what operators apply, delete and label                               |
//! | `saved` | what of it must survive the daemon                                   |
//! | `error` | why something that was asked is refused                              |
//!
//! A file holds as a whole or not at all. While one will not do, what it said when it was last good holds
//! on. If it never was, its good documents hold, and all that the others could have decided is denied: a
//! broken document has an [`OrderedPolicy::broken`](quantum_config::policy::OrderedPolicy::broken) to
//! stand in for it.

mod error;
mod file;
mod given;
mod saved;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use quantum_config::ids::AttachmentKey;
use quantum_config::policy::{Document, DocumentKey, OperatorLabels, OrderedPolicy, Reach};

pub use error::CatalogError;
pub use given::Written;

use file::PolicyFile;
use given::Given;

/// The files of `policy.d` in the order of their names, each with its bytes or why it cannot be read;
/// or why the directory cannot.
pub type FilesRead = Result<Vec<(String, Result<Vec<u8>, String>)>, String>;

/// All documents that are known.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    files: Arc<BTreeMap<String, PolicyFile>>,
    given: Arc<BTreeMap<DocumentKey, Given>>,
    labels: Arc<BTreeMap<AttachmentKey, OperatorLabels>>,
    /// Why the directory could not be read.
    unread: Option<Problem>,
    /// Why what was saved could not be read, and what stands in for it.
    lost: Option<(Problem, Arc<Document>)>,
    /// Why what was saved before the last time holds, so that an operator's last word may be missing. Their next
    /// one ends that.
    outdated: Option<Problem>,
}

/// Something that will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file or directory.
    pub file: String,
    /// Why.
    pub reason: String,
}

/// Where a document comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'c> {
    /// From this file.
    File(&'c str),
    /// From an operator, at run time.
    Operator,
}

impl Catalog {
    /// A catalog of which nobody knows what operators had put into it, as `file` cannot be read. It
    /// denies everything, and takes nothing more from operators, until the file is mended or removed
    /// and the daemon started again.
    pub fn lost(file: String, reason: String) -> Self {
        let stand_in = OrderedPolicy::broken(file.clone(), &reason, Reach::everything());
        let stand_in = Arc::new(Document::Ordered(stand_in));
        Self { lost: Some((Problem { file, reason }, stand_in)), ..Self::default() }
    }

    /// The same catalog, which is not what was saved last.
    #[must_use]
    pub fn outdated(self, file: String, reason: String) -> Self {
        Self { outdated: Some(Problem { file, reason }), ..self }
    }

    /// Nothing of what operators had said is known.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Why what operators said may not be what holds.
    pub fn doubt(&self) -> Option<&Problem> {
        self.lost.as_ref().map(|(problem, _)| problem).or(self.outdated.as_ref())
    }

    /// The catalog after the files have been read. A file that is no longer there takes its documents
    /// along.
    pub fn with_files(&self, dir: &str, read: FilesRead) -> Self {
        let read = match read {
            Ok(read) => read,
            Err(reason) => return self.with_unread(dir, reason),
        };
        let mut taken = self.taken_by_operators();
        let mut files = BTreeMap::new();
        for (name, text) in read {
            let last = self.files.get(&name).and_then(PolicyFile::good);
            let file = PolicyFile::new(&name, text, last, &mut taken);
            files.insert(name, file);
        }
        Self { files: Arc::new(files), unread: None, ..self.clone() }
    }

    /// What the directory said holds on; if it never said anything, nobody knows what it would.
    fn with_unread(&self, dir: &str, reason: String) -> Self {
        let mut found = self.clone();
        if !self.has_files(dir) {
            let unread = PolicyFile::unread(dir, &reason);
            found.files = Arc::new(BTreeMap::from([(dir.to_owned(), unread)]));
        } else {
            found.unread = Some(Problem { file: dir.to_owned(), reason });
        }
        found
    }

    /// Files of the directory `dir` have been read, and some are still there.
    pub fn has_files(&self, dir: &str) -> bool {
        self.files.keys().any(|name| name != dir)
    }

    /// All documents, and what stands in for those that are broken.
    pub fn documents(&self) -> Vec<Document> {
        self.entries().map(|(_, document)| document.clone()).collect()
    }

    /// The same, each with where it comes from.
    pub fn entries(&self) -> impl Iterator<Item = (Origin<'_>, &Document)> {
        let of_files = self.files.iter().flat_map(|(name, file)| {
            file.documents().iter().map(move |document| (Origin::File(name), &**document))
        });
        let given = self.given.values().map(|given| (Origin::Operator, &*given.document));
        let lost =
            self.lost.iter().map(|(problem, stand_in)| (Origin::File(&problem.file), &**stand_in));
        lost.chain(of_files).chain(given)
    }

    /// What operators said of an endpoint's labels; none if they said nothing.
    pub fn labels(&self, key: &AttachmentKey) -> Option<&OperatorLabels> {
        self.labels.get(key)
    }

    /// What will not do.
    pub fn problems(&self) -> Vec<Problem> {
        let of_files = self.files.iter().filter_map(|(name, file)| {
            let reason = file.problem()?.to_owned();
            Some(Problem { file: name.clone(), reason })
        });
        let given = self.given.values().filter_map(|given| given.problem.clone());
        let doubt = self.doubt().cloned().into_iter();
        doubt.chain(self.unread.clone()).chain(of_files).chain(given).collect()
    }

    /// Which documents operators hold; a file may not have them too.
    fn taken_by_operators(&self) -> Taken {
        self.given.keys().map(|key| (key.clone(), Holder::Operator)).collect()
    }
}

/// Who holds a document.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Holder {
    File(String),
    Operator,
}

impl Holder {
    /// Who has this document already, in words.
    fn of(&self, key: &DocumentKey) -> String {
        match self {
            Self::File(first) => format!("{key} is in {first} already"),
            Self::Operator => format!("{key} has been given at run time: delete it first"),
        }
    }
}

/// Which documents are held already, and by whom.
type Taken = BTreeMap<DocumentKey, Holder>;
