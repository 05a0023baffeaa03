//! What the tests of this module share: private network namespaces and a look with `ip`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use nix::libc;
use nix::sched::{CloneFlags, unshare};

use super::netns::Netns;

/// Runs a test on a thread of its own in a network namespace of its own. The namespace goes with
/// the thread. Without the right to make one the test is skipped, and says so.
pub(crate) fn in_private_netns(test: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let result = thread::scope(|scope| {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            test();
        };
        scope.spawn(run).join()
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Another network namespace, empty, that lives as long as the value.
pub(crate) fn new_netns() -> Netns {
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        Netns::current().unwrap()
    });
    made.join().unwrap()
}

/// `ip ARGS`, run in the network namespace of this thread; what it printed.
pub(crate) fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split_whitespace()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// `ip -j ARGS` as JSON.
pub(crate) fn ip_json(args: &str) -> serde_json::Value {
    let text = ip(&format!("-j -d {args}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("ip -j {args}: {e}: {text}"))
}

/// Many `ip` commands, one a line, in one process.
pub(crate) fn ip_batch(commands: &str) {
    let ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn();
    let mut ip = ip.unwrap();
    // Dropped, and so closed, at the end of the statement.
    ip.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success());
}

/// The same where these programs are needed; which one is missing is said.
pub(crate) fn in_namespace(tools: &[&str], test: impl FnOnce() + Send) {
    for tool in tools {
        if Command::new(tool).arg("-V").output().is_err() {
            let name = thread::current().name().unwrap_or_default().to_owned();
            return println!("{name}: skipped: needs {tool}");
        }
    }
    in_private_netns(test);
}

/// A command, run in the network namespace of this thread; what it printed.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().expect("a program"))
        .args(words)
        .output()
        .unwrap_or_else(|e| panic!("{command}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {} {stderr}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a test on a thread of its own that has no capability any more, in the caller's namespaces.
pub(crate) fn without_capabilities(test: impl FnOnce() + Send) {
    /// `_LINUX_CAPABILITY_VERSION_3`, see capset(2).
    const VERSION: u32 = 0x2008_0522;
    let result = thread::scope(|scope| {
        let run = || {
            let (header, none) = ([VERSION, 0], [0_u32; 6]);
            // SAFETY: the call reads a header of two words and, in this version, two times three; both
            // are alive. It concerns this thread only.
            let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
            assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
            test();
        };
        scope.spawn(run).join()
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
