//! Why something that an operator asked of the catalog is refused. Nothing of it has been done.

use quantum_config::ids::AttachmentKey;
use quantum_config::policy::{DocumentKey, PolicyError};
use thiserror::Error;

/// Why something is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CatalogError {
    /// There is no document in it.
    #[error("there is no document in what was given")]
    Empty,
    /// A document will not do.
    #[error(transparent)]
    Document(#[from] PolicyError),
    /// A document is in what was given twice.
    #[error("{key} is there twice: take one of them away")]
    Twice {
        /// Which.
        key: DocumentKey,
    },
    /// A file has this document.
    #[error("{key} is the file {file}'s: change it there")]
    OfFile {
        /// Which.
        key: DocumentKey,
        /// The file.
        file: String,
    },
    /// Nobody has given this document.
    #[error("{key} is not there")]
    Unknown {
        /// Which.
        key: DocumentKey,
    },
    /// There would be too many documents.
    #[error("that would make more than {most} documents: delete some, or put them into files")]
    TooMany {
        /// How many there may be.
        most: usize,
    },
    /// An endpoint would have too many labels.
    #[error(
        "operators would have said more of the labels of {endpoint} than there is room for ({most}): give fewer"
    )]
    TooManyLabels {
        /// The endpoint.
        endpoint: AttachmentKey,
        /// How many there may be.
        most: usize,
    },
    /// A label is none, or not for operators to give.
    #[error("{0}")]
    Label(String),
    /// What had been saved is lost.
    #[error(
        "what was given before cannot be read from {file}: {reason}: mend or remove it, and restart"
    )]
    Lost {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
}
