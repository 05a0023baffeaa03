//! Whether a network namespace is there: some thread is in it, some descriptor is open on it, or it is mounted
//! somewhere. Looked for in all of `/proc`. That shows what is in our PID namespace and those below, as far as we
//! may look: so one that is not seen may still be there, and it takes more to take it for gone
//! ([`earlier`](crate::attach::earlier)).

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::libc;

use super::netns::{Netns, inside};
use crate::attach::HostNote;

/// `SO_NETNS_COOKIE` (include/uapi/asm-generic/socket.h).
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of the calling thread's network namespace; none if the kernel tells none.
pub fn cookie() -> Option<u64> {
    let socket = UnixDatagram::unbound().ok()?;
    let (mut cookie, mut length) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes to `cookie`, which lives.
    let result = unsafe {
        let to = (&raw mut cookie).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, to, &raw mut length)
    };
    (result == 0).then_some(cookie)
}

/// Whether it is seen.
pub fn is_seen(wanted: &HostNote) -> io::Result<bool> {
    let target = format!("net:[{}]", wanted.netns.ino);
    let mut mounts = HashSet::new();
    for process in below("/proc".as_ref())? {
        let name = process.file_name().and_then(|name| name.to_str());
        if name.is_none_or(|name| name.parse::<u32>().is_err()) {
            continue;
        }
        for task in below(&process.join("task"))? {
            let own = task.join("ns/net");
            if leads_to(&own, &target)? && is_it(&own, wanted) {
                return Ok(true);
            }
        }
        for descriptor in below(&process.join("fd"))? {
            if leads_to(&descriptor, &target)? && is_it(&descriptor, wanted) {
                return Ok(true);
            }
        }
        // What is mounted is the same for all in one mount namespace.
        let mount_namespace = gone_is_nothing(fs::read_link(process.join("ns/mnt")))?;
        if mount_namespace.is_some_and(|namespace| mounts.insert(namespace)) {
            for mount in mounted(&process, &target)? {
                if is_it(&mount, wanted) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// What is in a directory; nothing if it is gone.
fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(entries) = gone_is_nothing(fs::read_dir(dir))? else { return Ok(Vec::new()) };
    let paths = entries.map(|entry| gone_is_nothing(entry.map(|entry| entry.path())));
    paths.filter_map(Result::transpose).collect()
}

fn leads_to(link: &Path, name: &str) -> io::Result<bool> {
    let target = gone_is_nothing(fs::read_link(link))?;
    Ok(target.is_some_and(|target| target.as_os_str() == name))
}

/// Where, as a process sees it, namespaces of that name are mounted: the fourth column of its `mountinfo` is what
/// of a file system is mounted, the fifth where.
fn mounted(process: &Path, name: &str) -> io::Result<Vec<PathBuf>> {
    let text = gone_is_nothing(fs::read(process.join("mountinfo")))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let at = |line: &str| {
        let mut columns = line.split(' ').skip(3);
        let (what, at) = (columns.next()?, columns.next()?);
        (what == name).then(|| process.join("root").join(at.trim_start_matches('/')))
    };
    Ok(text.lines().filter_map(at).collect())
}

/// Whether what has its inode is it, and not one that got the inode later. What cannot be told is.
fn is_it(path: &Path, wanted: &HostNote) -> bool {
    let Some(wanted_cookie) = wanted.cookie else { return true };
    let Ok(file) = File::open(path) else { return true };
    let Ok(netns) = Netns::from_fd(file.into()) else { return true };
    let found =
        std::thread::scope(|scope| scope.spawn(|| inside(&netns, cookie).ok().flatten()).join());
    netns.id() == wanted.netns && found.ok().flatten().is_none_or(|found| found == wanted_cookie)
}

/// A process or thread may end while it is looked at, a kernel thread has no files, and some let nobody look.
fn gone_is_nothing<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(e) => match e.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH | libc::EINVAL | libc::EACCES | libc::EPERM) => {
                Ok(None)
            }
            _ => Err(e),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{in_private_netns, new_netns};

    fn note(netns: &Netns) -> HostNote {
        let cookie = std::thread::scope(|scope| {
            scope.spawn(|| inside(netns, cookie).expect("entered")).join().expect("a thread")
        });
        HostNote { boot: String::new(), netns: netns.id(), cookie }
    }

    #[test]
    fn a_namespace_is_seen_as_long_as_somebody_has_it() {
        in_private_netns(|| {
            let (open, own) = (new_netns(), Netns::current().expect("this one"));
            let (of_descriptor, of_thread) = (note(&open), note(&own));
            drop(own);
            assert!(is_seen(&of_descriptor).expect("looked"), "a descriptor");
            assert!(is_seen(&of_thread).expect("looked"), "a thread");
            if let Some(cookie) = of_descriptor.cookie {
                let other = HostNote { cookie: Some(cookie + 1), ..of_descriptor.clone() };
                assert!(!is_seen(&other).expect("looked"), "another with its inode");
            }
            drop(open);
            assert!(!is_seen(&HostNote { cookie: Some(0), ..of_descriptor }).expect("looked"));
        });
    }
}
