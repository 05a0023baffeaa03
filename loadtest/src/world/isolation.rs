//! Leaves the machine's namespaces, so that nothing here can touch its links, rules or mounts.

use std::fs;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid};

use crate::failure::{Doing, Failure, Result};
use crate::netlink::{Route, up};

/// The index of `lo`, in every namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// Moves the process into a mount and a network namespace of its own; without root, into a user
/// namespace too. Must come before the first thread: a user namespace is entered alone.
pub(crate) fn enter() -> Result<()> {
    // The daemon uses no folder that others can write to, and whoever runs this may make such.
    umask(Mode::from_bits_truncate(0o022));
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let mut kinds = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    if !uid.is_root() {
        kinds |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(kinds)
        .doing(|| "entering private namespaces")
        .map_err(|e| e.with_remedy("run as root, or where user namespaces are allowed"))?;
    if !uid.is_root() {
        become_root_inside(uid, gid)?;
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .doing(|| "making the mounts private")?;
    Route::open()?.commit([up(LOOPBACK)])
}

/// Maps the user to root of the user namespace. Groups must be given up first (user_namespaces(7)).
fn become_root_inside(uid: Uid, gid: Gid) -> Result<()> {
    let files = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    for (path, text) in files {
        fs::write(path, text).doing(|| format!("writing {path}"))?;
    }
    Ok(())
}

/// Raises the limit of open files as far as it goes: a call that runs holds three pipes, and
/// `calls` of them run together.
pub(crate) fn allow_open_files(calls: usize) -> Result<()> {
    const PER_CALL: u64 = 6;
    const OURS: u64 = 64;
    let (_, most) =
        getrlimit(Resource::RLIMIT_NOFILE).doing(|| "reading the limit of open files")?;
    let needed = calls as u64 * PER_CALL + OURS;
    if most < needed {
        return Err(Failure::new(
            format!("preparing for {calls} calls at the same time"),
            format!("they need {needed} open files and {most} are allowed"),
        )
        .with_remedy("raise `ulimit -Hn` or lower --concurrency"));
    }
    setrlimit(Resource::RLIMIT_NOFILE, most, most).doing(|| "raising the limit of open files")
}
