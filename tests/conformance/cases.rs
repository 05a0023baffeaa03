//! The tables: read, and spread over the versions of the protocol where a case is one of each.

use std::path::Path;

use quantum_config::cni::SUPPORTED_VERSIONS;
use serde::Deserialize;
use serde_json::Value;

/// What a case is run at that does not say otherwise: the newest version that everybody speaks.
const VERSION: &str = "1.0.0";

/// A table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// What its cases have in common, for readers.
    #[serde(rename = "about")]
    _about: String,
    /// The network that a case changes into its own.
    conf: Value,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    name: String,
    /// Run at every version, or at one other than usual.
    #[serde(default)]
    each_version: bool,
    version: Option<String>,
    /// The feature without which it cannot hold.
    awaits: Option<String>,
    /// What is different from the table's network.
    #[serde(default)]
    conf: Value,
    steps: Vec<Value>,
}

/// A case at one version.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// The case, as in `B2`.
    pub(crate) case: String,
    /// The case, and its version if it is run at each.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) awaits: Option<String>,
    pub(crate) conf: Value,
    pub(crate) steps: Vec<Value>,
}

impl Run {
    /// What an argument may name it by.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.id, self.name)
    }
}

/// Every run of every table.
pub(crate) fn load() -> Vec<Run> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases");
    let mut runs: Vec<Run> = Vec::new();
    for name in crate::support::world::names_in(&folder) {
        let text = std::fs::read_to_string(folder.join(&name)).expect("a table");
        let table: Table = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        for case in table.cases {
            let known = runs.iter().any(|r| r.case == case.case);
            assert!(!known, "{name}: {} is there twice", case.case);
            runs.extend(spread(&table.conf, &case));
        }
    }
    assert!(!runs.is_empty(), "there are no cases");
    runs
}

fn spread(base: &Value, case: &Case) -> Vec<Run> {
    let conf = match &case.conf {
        Value::Null => base.clone(),
        changes => crate::support::conf::with(base, changes.clone()),
    };
    let run = |id: String, version: &str| Run {
        case: case.case.clone(),
        id,
        name: case.name.clone(),
        version: version.to_owned(),
        awaits: case.awaits.clone(),
        conf: conf.clone(),
        steps: case.steps.clone(),
    };
    if case.each_version {
        let at = SUPPORTED_VERSIONS.iter().map(|v| v.as_str());
        at.map(|v| run(format!("{}@{v}", case.case), v)).collect()
    } else {
        vec![run(case.case.clone(), case.version.as_deref().unwrap_or(VERSION))]
    }
}
