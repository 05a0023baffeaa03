//! Where the programs under test are.

use std::path::{Path, PathBuf};

/// Names the folder that holds the programs, instead of the build's own.
const FOLDER: &str = "QUANTUM_BIN_DIR";
/// Names the folder of the reference plugins: the same calls go to their `bridge`, for those tests
/// that make sense without a daemon. For trying out a test, not part of any run.
const REFERENCE: &str = "QUANTUM_TEST_REFERENCE";

/// The folder of the reference plugins, when they are the ones under test.
pub(crate) fn reference() -> Option<PathBuf> {
    std::env::var_os(REFERENCE).map(PathBuf::from)
}

/// The plugin: the static build where there is one, else the debug build.
pub(crate) fn plugin() -> PathBuf {
    match reference() {
        Some(folder) => folder.join("bridge"),
        None => find(&["../plugin/quantum-cni", "quantum-cni"]),
    }
}

/// The daemon.
pub(crate) fn daemon() -> PathBuf {
    find(&["quantum-cnid"])
}

/// The operator's tool.
pub(crate) fn quantumctl() -> PathBuf {
    find(&["quantumctl"])
}

fn find(candidates: &[&str]) -> PathBuf {
    let own = std::env::current_exe().expect("the path of this test");
    // target/debug/deps/blackbox-… → target/debug
    let beside = own.parent().and_then(Path::parent).expect("a target folder").to_owned();
    let (folder, candidates) = match std::env::var_os(FOLDER) {
        Some(folder) => (PathBuf::from(folder), &candidates[candidates.len() - 1..]),
        None => (beside, candidates),
    };
    let found = candidates.iter().map(|c| folder.join(c)).find(|p| p.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "there is no {} in {}: run `make test`, which builds it, or set {FOLDER}",
            candidates[candidates.len() - 1],
            folder.display()
        )
    })
}
