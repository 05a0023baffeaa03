//! A listening socket that is kept while daemons come and go, as a socket unit of systemd's keeps it.

use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;

use nix::libc;

use super::daemon::{Daemon, Options, command};
use super::world::World;

/// See the module. The file is root's alone, as in our unit.
#[derive(Debug)]
pub(crate) struct Kept(UnixListener);

impl Kept {
    pub(crate) fn at(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        Self(listener)
    }

    /// Starts a daemon that is handed the socket over, and does not wait for it.
    pub(crate) fn start(&self, world: &World, options: Options) -> Daemon {
        hand_over(&self.0, world, options)
    }

    /// The same, and waits until it serves.
    pub(crate) fn daemon(&self, world: &World) -> Daemon {
        let mut daemon = self.start(world, Options::default());
        daemon.wait_ready();
        daemon
    }
}

/// Starts a daemon with this as its descriptor 3. Whose it is can only be said by the process itself.
pub(crate) fn hand_over(what: &impl AsRawFd, world: &World, options: Options) -> Daemon {
    let daemon = command(&world.host, world.paths(), &options.args);
    let mut shell = world.host.command("sh");
    shell.args(["-c", "export LISTEN_PID=$$; exec \"$@\"", "sh"]);
    shell.arg(daemon.get_program()).args(daemon.get_args());
    shell.env("LISTEN_FDS", "1").envs(options.vars);
    let given = what.as_raw_fd();
    // SAFETY: system calls only, between fork and exec.
    unsafe {
        shell.pre_exec(move || {
            // Another number first: from one to itself it would stay closed on exec.
            let apart = libc::fcntl(given, libc::F_DUPFD, 10);
            if apart < 0 || libc::dup2(apart, 3) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            libc::close(apart);
            Ok(())
        });
    }
    Daemon::spawn(shell, &world.host, world.paths())
}
