//! The folder of one run: gone when the run ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::failure::{Doing, Result};

/// A folder for everything the run puts in the file system.
///
/// Only the namespaces are on a tmpfs of their own, so that one unmount lets go of all of them. The
/// rest stays on the file system that was chosen: state that is written to memory would flatter.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
    namespaces: PathBuf,
}

impl WorkDir {
    /// Makes the folder in `parent`.
    pub(crate) fn create(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("quantum-loadtest-{}", process::id()));
        let namespaces = path.join("netns");
        fs::create_dir_all(&namespaces).doing(|| format!("creating {}", namespaces.display()))?;
        let work = Self { path, namespaces };
        mount(Some("netns"), &work.namespaces, Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .doing(|| format!("mounting a tmpfs on {}", work.namespaces.display()))?;
        Ok(work)
    }

    /// Where namespaces are mounted.
    pub(crate) fn namespaces(&self) -> &Path {
        &self.namespaces
    }

    /// A file or folder of this name; not created.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for WorkDir {
    /// What cannot be removed stays, and is said: nothing depends on it.
    fn drop(&mut self) {
        // A mount that is still there shows at once, in a folder that cannot be removed.
        let _ = umount2(&self.namespaces, MntFlags::MNT_DETACH);
        if let Err(why) = fs::remove_dir_all(&self.path) {
            eprintln!("removing {}: {why}; remove it by hand", self.path.display());
        }
    }
}
