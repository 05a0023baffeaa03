//! A group of processes that together get so much memory and no more, as a container's or a service's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::unistd::Pid;

/// See the module. It goes on drop, when its processes have.
#[derive(Debug)]
pub(crate) struct MemoryGroup(PathBuf);

static MADE: AtomicU32 = AtomicU32::new(0);

impl MemoryGroup {
    /// A group with at most so many bytes, or why there is none on this machine.
    pub(crate) fn of(bytes: u64) -> Result<Self, String> {
        // As the kernel has them by itself, and before that.
        let hierarchies =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        let name =
            format!("quantum-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        for (root, limit) in hierarchies {
            let group = Self(Path::new(root).join(&name));
            if fs::create_dir(&group.0).is_err() {
                continue;
            }
            if fs::write(group.0.join(limit), bytes.to_string()).is_ok() {
                return Ok(group);
            }
        }
        Err("there is no memory cgroup here that can be made".to_owned())
    }

    pub(crate) fn add(&self, process: Pid) {
        fs::write(self.0.join("cgroup.procs"), process.to_string()).expect("the process is in it");
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
