//! Without root: a part of these very tests, run by another user, whose namespaces hang below a user
//! namespace. There the kernel refuses what only root of the whole machine may do, such as forcing
//! the size of a socket's buffer.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::support::enter::{Entered, entered};
use crate::support::{binaries, skip};

/// What is tried: an ADD with all that it reaches, CHECK, DEL, a kill under traffic, the socket.
const TRIED: &[&str] = &[
    "spec_add::the_result_is_what_the_kernel_says",
    "spec_add::a_container_reaches_gateway_neighbour_and_outside",
    "spec_check::an_nft_element_that_was_deleted",
    "spec_del::nothing_is_left",
    "crash_restart::a_kill_is_not_felt",
    "daemon_frames::frames_that_are_none",
];

#[test]
fn in_a_user_namespace_it_does_the_same() {
    let world = world!();
    if entered() != Ok(Entered::Root) {
        return skip("this whole run is without root");
    }
    // Where anybody can read it, which a build's own folder need not be.
    let folder = world.paths().root.join("bin");
    std::fs::create_dir(&folder).expect("a folder");
    let open_to_all = |path: &Path| {
        let permissions = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path, permissions).expect("its mode");
    };
    let own = std::env::current_exe().expect("the path of this test");
    let copies =
        [(own, "tests"), (binaries::plugin(), "quantum-cni"), (binaries::daemon(), "quantum-cnid")];
    for (program, name) in copies {
        let copy = folder.join(name);
        std::fs::copy(program, &copy).expect("a copy");
        open_to_all(&copy);
    }
    open_to_all(&world.paths().root);
    open_to_all(&folder);

    let output = Command::new(folder.join("tests"))
        .args(["--exact", "--test-threads=2"])
        .args(TRIED)
        .env("QUANTUM_BIN_DIR", &folder)
        .uid(65534)
        .gid(65534)
        .output()
        .expect("the tests");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("user namespaces are refused") {
        return skip("user namespaces are refused to others than root");
    }
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains(&format!("{} passed", TRIED.len())), "{said}\n{errors}");
}
