//! The cases that the reference plugins are known to see otherwise: the table of
//! `docs/conformance.md`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cases::Run;

/// A row of the table.
#[derive(Debug, Clone)]
pub(crate) struct Difference {
    /// What it is about: a case, a run of one (`B2@0.1.0`), or all runs at a version (`*@1.1.0`).
    pub(crate) pattern: String,
    /// The runs it is about.
    pub(crate) ids: Vec<String>,
    /// What the reference plugins do.
    pub(crate) note: String,
}

/// The rows; each must be about some run, where all cases are to be run.
pub(crate) fn load(runs: &[Run], all: bool) -> Vec<Difference> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
    let text = std::fs::read_to_string(&path).expect("docs/conformance.md");
    let section = text.split("\n## Differences").nth(1).expect("the section Differences");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut found = BTreeMap::new();
    for line in section.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [patterns, note, why] = cells.as_slice() else {
            panic!("a difference has three cells: {line}");
        };
        assert!(!note.is_empty() && !why.is_empty(), "a difference without a reason: {line}");
        for pattern in patterns.split(',').map(|p| p.trim().trim_matches('`')) {
            let is_about = |run: &&Run| match pattern.split_once('@') {
                Some(("*", version)) => run.id.ends_with(&format!("@{version}")),
                Some(_) => run.id == pattern,
                None => run.case == pattern,
            };
            let ids: Vec<String> = runs.iter().filter(is_about).map(|r| r.id.clone()).collect();
            assert!(!all || !ids.is_empty(), "docs/conformance.md: there is no case {pattern:?}");
            let (pattern, note) = (pattern.to_owned(), (*note).to_owned());
            let twice = found.insert(pattern.clone(), Difference { pattern, ids, note });
            assert!(twice.is_none(), "docs/conformance.md: {line} is about a case named before");
        }
    }
    found.into_values().collect()
}
