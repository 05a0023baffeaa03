//! Network namespaces: made as a runtime makes them, and visited on a thread set apart for it.

use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::failure::{Doing, Result};
use crate::netlink::Route;

/// The calling thread's network namespace, as a file.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// A network namespace, kept alive by a file that is mounted on it.
#[derive(Debug)]
pub(crate) struct Netns {
    path: PathBuf,
    file: File,
}

impl Netns {
    /// Where it is found in the file system: what a runtime gives as `CNI_NETNS`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Makes a network namespace for each name, as files in `folder`.
pub(crate) fn create(folder: &Path, names: &[String]) -> Result<Vec<Netns>> {
    apart(|| names.iter().map(|name| create_one(folder.join(name))).collect())
}

/// Leaves the calling thread in the new namespace.
fn create_one(path: PathBuf) -> Result<Netns> {
    unshare(CloneFlags::CLONE_NEWNET).doing(|| "making a network namespace")?;
    File::create(&path).doing(|| format!("creating {}", path.display()))?;
    mount(Some(CURRENT), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .doing(|| format!("mounting a network namespace on {}", path.display()))?;
    let file = File::open(&path).doing(|| format!("opening {}", path.display()))?;
    Ok(Netns { path, file })
}

/// The right to change the network namespace of the thread it lives on.
#[derive(Debug)]
pub(crate) struct Visitor {
    home: File,
    /// Bound to its thread: never `Send`.
    thread: PhantomData<*const ()>,
}

/// Runs `work` on a thread that may visit namespaces, and waits for it. No other thread ever does,
/// so none is ever found in the wrong one.
pub(crate) fn visiting<T: Send>(work: impl FnOnce(&Visitor) -> Result<T> + Send) -> Result<T> {
    apart(|| {
        let home = File::open(CURRENT).doing(|| format!("opening {CURRENT}"))?;
        work(&Visitor { home, thread: PhantomData })
    })
}

impl Visitor {
    /// Opens a route socket inside a namespace. The socket stays there, the thread comes back.
    pub(crate) fn route_in(&self, netns: &Netns) -> Result<Route> {
        self.inside(netns, Route::open)
    }

    /// Does `work` inside a namespace. Sockets that it opens stay there, the thread comes back.
    pub(crate) fn inside<T>(&self, netns: &Netns, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.go(netns, || netns.path.display().to_string())?;
        let done = work();
        self.go(&self.home, || "the host's network namespace".to_owned())?;
        done
    }

    fn go(&self, target: impl AsFd, name: impl FnOnce() -> String) -> Result<()> {
        setns(target, CloneFlags::CLONE_NEWNET).doing(|| format!("entering {}", name()))
    }
}

/// Runs `work` on a thread of its own and waits for it; a panic goes on in the caller.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| resume_unwind(panic))
}
