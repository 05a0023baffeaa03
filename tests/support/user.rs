//! Another user, played by root: programs where everybody can read them, and commands that run as that user.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use super::enter::{Entered, entered};
use super::world::World;

/// The user: nobody on every Debian, and no file of the tests is theirs.
pub(crate) const USER: u32 = 65534;

/// Whether this run can play another user: only root of the machine can.
pub(crate) fn can_be_played() -> bool {
    entered() == Ok(Entered::Root)
}

/// Sets a file's mode.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).expect("its mode");
}

/// Lets everybody as far as the world's socket and its containers.
pub(crate) fn open_to_all(world: &World) {
    set_mode(&world.paths().root, 0o755);
    set_mode(&world.paths().root.join("netns"), 0o755);
}

/// A copy of a program in the world's folder, which everybody may run; a build's own folder need not be
/// open to all.
pub(crate) fn for_all(world: &World, program: PathBuf) -> PathBuf {
    let copy = world.paths().root.join(program.file_name().expect("a name"));
    std::fs::copy(program, &copy).expect("a copy");
    set_mode(&copy, 0o755);
    copy
}

/// Has the command run as the user, in these groups and with no capability. What else is to happen before it
/// runs must have been registered already.
pub(crate) fn be_user(command: &mut Command, groups: &[u32]) {
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    // SAFETY: system calls only; nothing is allocated after the fork.
    unsafe {
        command.pre_exec(move || {
            setgroups(&groups)?;
            setgid(Gid::from_raw(USER))?;
            setuid(Uid::from_raw(USER))?;
            Ok(())
        });
    }
}
