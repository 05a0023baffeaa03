//! A store that is not the one that was written last: what lives is known to it all the same.

use std::os::unix::process::CommandExt;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::damage_matrix::Town;
use crate::support::daemon::{Daemon, Options, command};

#[test]
fn another_state_directory_and_back_loses_nobody() {
    let world = world!();
    let elsewhere = format!("--state-dir {}", world.paths().root.join("other").display());
    // The first knows nothing; the second attaches; the first comes back.
    world.daemon().kill();
    let (town, daemon) = Town::with(world, 206, Options::default().args(&elsewhere));
    daemon.kill();
    std::fs::copy(
        town.world.paths().root.join("other/policy.json"),
        town.world.paths().state_dir.join("policy.json"),
    )
    .expect("policy comes along");
    let daemon = town.world.daemon();
    town.is_known();
    daemon.kill();
    let daemon = town.world.daemon_with(Options::default().args(&elsewhere));
    town.is_known();
    daemon.kill();
    let _daemon = town.world.daemon();
    town.ends_well();
}

#[test]
fn another_boot_id_ends_nothing_that_is_there() {
    let world = world!();
    let (town, daemon) = Town::new(world, 207);
    daemon.kill();
    let boot = town.world.paths().root.join("boot_id");
    std::fs::write(&boot, "11111111-2222-3333-4444-555555555555\n").expect("a boot id");
    let mut command = command(&town.world.host, town.world.paths(), &[]);
    // SAFETY: system calls only; the path was made before the fork.
    unsafe {
        command.pre_exec(move || {
            let (none, at) = (None::<&str>, "/proc/sys/kernel/random/boot_id");
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(Some(&boot), at, none, MsFlags::MS_BIND, none)?;
            Ok(())
        });
    }
    let mut daemon = Daemon::spawn(command, &town.world.host, town.world.paths());
    daemon.wait_ready();
    town.ends_well();
}
