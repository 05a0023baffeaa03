//! What of the catalog must survive the daemon: what operators gave, and what each file said when it was
//! last good. It is one JSON document, so that there is all of it or none.

use std::collections::BTreeMap;
use std::sync::Arc;

use quantum_config::ids::AttachmentKey;
use quantum_config::policy::OperatorLabels;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Catalog;
use super::file::PolicyFile;
use super::given::Given;

/// How it is written now.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    /// The last good text of each file.
    files: BTreeMap<String, String>,
    /// The documents that operators gave, as they were written.
    documents: Vec<Value>,
    /// The labels that they gave, by endpoint; null where they took away what it came with.
    labels: BTreeMap<String, OperatorLabels>,
}

impl Catalog {
    /// What must survive the daemon; none of a catalog that is lost, as the file may be mended yet.
    pub fn to_saved(&self) -> Result<Option<Vec<u8>>, serde_json::Error> {
        if self.lost.is_some() {
            return Ok(None);
        }
        let good = |(name, file): (&String, &PolicyFile)| {
            Some((name.clone(), file.good()?.as_ref().to_owned()))
        };
        let labels = self.labels.iter().map(|(key, labels)| (key.to_string(), labels.clone()));
        let saved = Saved {
            version: VERSION,
            files: self.files.iter().filter_map(good).collect(),
            documents: self.given.values().map(|given| (*given.value).clone()).collect(),
            labels: labels.collect(),
        };
        serde_json::to_vec(&saved).map(Some)
    }

    /// The catalog that was saved in `file`. The files are to be read then, see
    /// [`Catalog::with_files`]. What cannot be read makes a catalog that is lost.
    pub fn from_saved(file: &str, bytes: &[u8]) -> Self {
        match restore(bytes) {
            Ok(catalog) => catalog,
            Err(reason) => Self::lost(file.to_owned(), reason),
        }
    }
}

fn restore(bytes: &[u8]) -> Result<Catalog, String> {
    let saved: Saved =
        serde_json::from_slice(bytes).map_err(|e| format!("is not what was saved: {e}"))?;
    if saved.version != VERSION {
        return Err(format!("has version {} and this release knows {VERSION}", saved.version));
    }
    let given = saved.documents.into_iter().map(|value| {
        Given::restored(value).ok_or_else(|| "holds a document of no known kind".to_owned())
    });
    let label = |(key, labels): (String, OperatorLabels)| {
        let key: AttachmentKey = key.parse().map_err(|e| format!("has labels of nobody: {e}"))?;
        Ok((key, labels))
    };
    let labels = saved.labels.into_iter().map(label).collect::<Result<_, String>>()?;
    let mut catalog = Catalog {
        given: Arc::new(given.collect::<Result<_, _>>()?),
        labels: Arc::new(labels),
        ..Catalog::default()
    };
    let mut taken = catalog.taken_by_operators();
    let restored = saved.files.into_iter().map(|(name, text)| {
        let file = PolicyFile::restored(&name, text.into(), &mut taken);
        (name, file)
    });
    catalog.files = Arc::new(restored.collect());
    Ok(catalog)
}
