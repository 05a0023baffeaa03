//! What operators apply, delete and label. Each is done as a whole or refused as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quantum_config::cni::{CniError, operators_label, operators_removal};
use quantum_config::ids::AttachmentKey;
use quantum_config::policy::{
    Document, DocumentKey, Format, Labels, OperatorLabels, OrderedPolicy, PolicyError, Reach,
    documents, read,
};
use serde_json::Value;

use super::{Catalog, CatalogError, Problem};

/// The most documents that operators give, and the most labels they give an endpoint.
const MOST: usize = 10_000;
const MOST_LABELS: usize = 64;

/// A document that an operator gave.
#[derive(Debug, Clone)]
pub(super) struct Given {
    /// As it was written.
    pub(super) value: Arc<Value>,
    /// What it means.
    pub(super) document: Arc<Document>,
    /// Why it means nothing any more.
    pub(super) problem: Option<Problem>,
}

impl Given {
    /// What was saved, with its key. It was good when it was given; should this release not read it, it
    /// is broken as a file's would be. None if it is nothing that anybody can have given.
    pub(super) fn restored(value: Value) -> Option<(DocumentKey, Self)> {
        let (document, problem) = match read(&value) {
            Ok(document) => (document, None),
            Err(error) => {
                let called = format!("{}, given at run time", DocumentKey::of_unread(&value)?);
                let why = error.to_string();
                let stand_in =
                    OrderedPolicy::broken(called.clone(), &why, Reach::of_unread(&value));
                (Document::Ordered(stand_in), Some(Problem { file: called, reason: why }))
            }
        };
        let key = if problem.is_some() { DocumentKey::of_unread(&value)? } else { document.key() };
        Some((key, Self { value: Arc::new(value), document: Arc::new(document), problem }))
    }
}

/// The documents of a text that an operator gave, read. It takes long where the text is made for that, and
/// needs no catalog.
#[derive(Debug)]
pub struct Written(Vec<(Value, Document)>);

impl Written {
    /// Reads JSON or YAML, whichever it is.
    pub fn read(text: &str) -> Result<Self, CatalogError> {
        let all =
            |format| documents(text, format).into_iter().collect::<Result<Vec<_>, PolicyError>>();
        let found = if text.trim_start().starts_with('{') {
            // YAML, too, may begin so.
            all(Format::Json).or_else(|error| all(Format::Yaml).map_err(|_| error))
        } else {
            all(Format::Yaml)
        }?;
        if found.is_empty() {
            return Err(CatalogError::Empty);
        }
        let read = |value| read(&value).map(|document| (value, document));
        Ok(Self(found.into_iter().map(read).collect::<Result<_, PolicyError>>()?))
    }
}

impl Catalog {
    /// Adds documents, or puts them in the place of those that operators gave before. Gives
    /// also which they are, in their order.
    pub fn apply(&self, written: Written) -> Result<(Self, Vec<DocumentKey>), CatalogError> {
        self.check_not_lost()?;
        let of_files = self.of_files();
        let mut given = (*self.given).clone();
        let (mut seen, mut keys) = (BTreeSet::new(), Vec::new());
        for (value, document) in written.0 {
            let key = document.key();
            check_no_files(&key, &of_files)?;
            if !seen.insert(key.clone()) {
                return Err(CatalogError::Twice { key });
            }
            keys.push(key.clone());
            let (value, document) = (Arc::new(value), Arc::new(document));
            given.insert(key, Given { value, document, problem: None });
        }
        if given.len() > MOST {
            return Err(CatalogError::TooMany { most: MOST });
        }
        Ok((Self { given: Arc::new(given), outdated: None, ..self.clone() }, keys))
    }

    /// Takes documents away that operators gave.
    pub fn delete(&self, keys: &[DocumentKey]) -> Result<Self, CatalogError> {
        self.check_not_lost()?;
        let of_files = self.of_files();
        let mut given = (*self.given).clone();
        for key in keys {
            check_no_files(key, &of_files)?;
            if given.remove(key).is_none() {
                return Err(CatalogError::Unknown { key: key.clone() });
            }
        }
        Ok(Self { given: Arc::new(given), outdated: None, ..self.clone() })
    }

    /// Takes labels away from an endpoint, and then gives it others. One that it `came_with` stays away,
    /// whoever gave it, until it is given again; that one is not there is no error.
    pub fn label(
        &self,
        endpoint: &AttachmentKey,
        set: &Labels,
        removed: &[String],
        came_with: impl Fn(&str) -> bool,
    ) -> Result<Self, CatalogError> {
        self.check_not_lost()?;
        let refused = |e: CniError| CatalogError::Label(e.to_string());
        let mut own = self.labels(endpoint).cloned().unwrap_or_default();
        for key in removed {
            operators_removal(key).map_err(refused)?;
            match came_with(key) {
                true => own.insert(key.clone(), None),
                false => own.remove(key),
            };
        }
        for (key, value) in set {
            operators_label(key, value).map_err(refused)?;
            own.insert(key.clone(), Some(value.clone()));
        }
        if own.len() > MOST_LABELS {
            let endpoint = endpoint.clone();
            return Err(CatalogError::TooManyLabels { endpoint, most: MOST_LABELS });
        }
        Ok(self.with_labels(endpoint, own))
    }

    /// The catalog without the labels of an endpoint that is gone: its key may be another's one day.
    pub fn forget(&self, endpoint: &AttachmentKey) -> Self {
        if self.labels(endpoint).is_none() {
            return self.clone();
        }
        self.with_labels(endpoint, OperatorLabels::new())
    }

    fn with_labels(&self, endpoint: &AttachmentKey, own: OperatorLabels) -> Self {
        let mut labels = (*self.labels).clone();
        if own.is_empty() {
            labels.remove(endpoint);
        } else {
            labels.insert(endpoint.clone(), own);
        }
        Self { labels: Arc::new(labels), ..self.clone() }
    }

    fn check_not_lost(&self) -> Result<(), CatalogError> {
        match &self.lost {
            None => Ok(()),
            Some((Problem { file, reason }, _)) => {
                Err(CatalogError::Lost { file: file.clone(), reason: reason.clone() })
            }
        }
    }

    /// Which documents are files'. One is a file's or an operator's: were it both, nobody could say
    /// which of them is meant when either changes.
    fn of_files(&self) -> BTreeMap<DocumentKey, &str> {
        self.files
            .iter()
            .flat_map(|(name, file)| {
                file.documents().iter().map(move |document| (document.key(), name.as_str()))
            })
            .collect()
    }
}

/// That no file has this document.
fn check_no_files(
    key: &DocumentKey,
    of_files: &BTreeMap<DocumentKey, &str>,
) -> Result<(), CatalogError> {
    let file = of_files.get(key).map(|file| (*file).to_owned());
    file.map_or(Ok(()), |file| Err(CatalogError::OfFile { key: key.clone(), file }))
}
