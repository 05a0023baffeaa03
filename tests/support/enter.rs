//! Private namespaces for the whole test process, entered before `main`: a process may leave its
//! user namespace only while it has one thread, and the test runner starts threads at once.

use std::sync::OnceLock;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{getegid, geteuid};

static ENTERED: OnceLock<Result<Entered, String>> = OnceLock::new();

/// How the private namespaces were had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    /// As root of the machine.
    Root,
    /// As root of a user namespace.
    User,
}

/// How the process came into its namespaces, or why it is not in any.
pub(crate) fn entered() -> Result<Entered, String> {
    ENTERED.get_or_init(|| Err("no constructor ran before main".to_owned())).clone()
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    let _ = ENTERED.set(enter());
}

fn enter() -> Result<Entered, String> {
    let (uid, gid) = (geteuid(), getegid());
    // The daemon uses no folder that others can write to, and whoever runs the tests may make such.
    umask(Mode::from_bits_truncate(0o022));
    let private = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    let how = if uid.is_root() {
        unshare(private).map_err(|e| format!("unshare as root: {e}"))?;
        Entered::Root
    } else {
        unshare(private | CloneFlags::CLONE_NEWUSER)
            .map_err(|e| format!("not root, and user namespaces are refused: {e}"))?;
        for (file, text) in [
            ("/proc/self/setgroups", "deny".to_owned()),
            ("/proc/self/uid_map", format!("0 {uid} 1")),
            ("/proc/self/gid_map", format!("0 {gid} 1")),
        ] {
            std::fs::write(file, text).map_err(|e| format!("{file}: {e}"))?;
        }
        Entered::User
    };
    // Nothing mounted here is to be seen outside.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|e| format!("making the mounts private: {e}"))?;
    Ok(how)
}
