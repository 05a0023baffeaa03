//! Why a document of policy is refused.

use thiserror::Error;

/// Why a document is refused. Each says which document, which field, and what stands there; a field's
/// name leads from the top of the document to it: `spec.ingress[0].from[1].ipBlock.cidr`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// It is not JSON or YAML at all.
    #[error("not {format}: {why}")]
    Decode {
        /// What it was read as.
        format: &'static str,
        /// What the parser said, with the place.
        why: String,
    },
    /// It is of no kind that we know.
    #[error("{document}: kind {kind:?} of apiVersion {version:?} is not known")]
    Kind {
        /// The document.
        document: String,
        /// Its `apiVersion`.
        version: String,
        /// Its `kind`.
        kind: String,
    },
    /// A field that must be there is not.
    #[error("{document}: {field} is missing")]
    Missing {
        /// The document.
        document: String,
        /// The field.
        field: String,
    },
    /// A field that this kind does not have.
    #[error("{document}: {field}={value} is not a known field")]
    Unknown {
        /// The document.
        document: String,
        /// The field.
        field: String,
        /// What stands there, as JSON.
        value: String,
    },
    /// A field holds what it may not hold.
    #[error("{document}: {field}={value} {rule}")]
    Invalid {
        /// The document.
        document: String,
        /// The field.
        field: String,
        /// What stands there, as JSON.
        value: String,
        /// The rule it breaks.
        rule: &'static str,
    },
}
