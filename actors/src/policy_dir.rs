//! Tells when something was renamed into `policy_dir`, so that what is put there whole is read without a
//! SIGHUP: by `mv`, by a careful editor, or by Kubernetes that changed a ConfigMap.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quantum_cni::kernel::renames::Renames;
use quantum_cni::store::POLICY_SUFFIXES;
use slog::{Logger, warn};
use tokio::time::timeout;

/// Several files that are renamed after each other are read at once: when nothing happened for so long.
const QUIET: Duration = Duration::from_millis(300);
/// A folder that is never quiet is read all the same after this.
const PATIENCE: Duration = Duration::from_secs(2);

/// Listens to `policy_dir`, while there is one.
pub(crate) struct PolicyDir {
    path: PathBuf,
    renames: Option<Renames>,
    log: Logger,
}

impl PolicyDir {
    pub(crate) fn new(path: &Path, log: &Logger) -> Self {
        let mut dir = Self { path: path.to_owned(), renames: None, log: log.clone() };
        dir.listen();
        dir
    }

    /// Listens to the folder that is there now, which may be another one than before.
    pub(crate) fn listen(&mut self) {
        self.renames = Renames::into(&self.path, POLICY_SUFFIXES).unwrap_or_else(|e| {
            warn!(self.log, "what is renamed into policy_dir is read on SIGHUP only: cannot listen to it";
                "policy_dir" => %self.path.display(), "error" => %e);
            None
        });
    }

    /// Until something was renamed into it, and is followed by nothing more for a while.
    pub(crate) async fn changed(&mut self) {
        loop {
            let Some(renames) = &self.renames else { return pending().await };
            match renames.next().await {
                Ok(false) => continue,
                Ok(true) => {}
                // Nothing more will be heard there.
                Err(e) => {
                    warn!(self.log, "what is renamed into policy_dir is not read any more before the next \
                        SIGHUP"; "policy_dir" => %self.path.display(), "error" => %e);
                    self.renames = None;
                    continue;
                }
            }
            let quiet = async { while let Ok(Ok(_)) = timeout(QUIET, renames.next()).await {} };
            let _ = timeout(PATIENCE, quiet).await;
            return;
        }
    }
}
