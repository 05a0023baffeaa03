//! Network namespaces as runtimes make them: a file with the namespace bind-mounted onto it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A network namespace; it is given up on drop.
#[derive(Debug)]
pub(crate) struct Netns {
    path: PathBuf,
    file: File,
}

impl Netns {
    /// Makes a namespace and mounts it at `path`.
    pub(crate) fn create(path: PathBuf) -> Self {
        File::create_new(&path).expect("the file to mount a namespace on");
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            let own = Some("/proc/thread-self/ns/net");
            mount(own, &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("mounted");
        });
        let file = File::open(&path).expect("the namespace");
        Self { path, file }
    }

    /// The same namespace under another path, which is given up by itself.
    pub(crate) fn again(other: &Self, path: PathBuf) -> Self {
        let file = File::open(&path).expect("the file to mount a namespace on");
        drop(file);
        mount(Some(&other.path), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .expect("mounted");
        let file = File::open(&path).expect("the namespace");
        Self { path, file }
    }

    /// Where it is mounted: what a runtime passes as `CNI_NETNS`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path as text.
    pub(crate) fn text(&self) -> &str {
        self.path.to_str().expect("a path in UTF-8")
    }

    /// Runs `f` inside. Sockets made there stay there, whoever uses them later.
    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).expect("entered the namespace");
            f()
        })
    }

    /// A command that will run inside. It dies with the thread that spawns it, so that a test run
    /// that is killed leaves nothing behind.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let file = self.file.try_clone().expect("a second descriptor");
        let mut command = Command::new(program);
        // SAFETY: two system calls, nothing is allocated and no lock is taken after the fork.
        unsafe {
            command.pre_exec(move || {
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                setns(&file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
            });
        }
        command
    }

    /// Runs a program inside and gives its standard output; it must succeed.
    pub(crate) fn output(&self, program: &str, args: &str) -> String {
        let output = self.command(program).args(args.split_whitespace()).output().expect(program);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args}: {errors}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// `ip ARGS` inside.
    pub(crate) fn ip(&self, args: &str) {
        self.output("ip", args);
    }

    /// `ip -j -d ARGS` inside: the list it prints.
    pub(crate) fn ip_json(&self, args: &str) -> Vec<Value> {
        let text = self.output("ip", &format!("-j -d {args}"));
        if text.trim().is_empty() {
            return Vec::new();
        }
        let list: Vec<Value> = serde_json::from_str(&text).expect("JSON from ip");
        // Where nothing matches, ip prints empty objects.
        list.into_iter().filter(|v| v.as_object().is_some_and(|o| !o.is_empty())).collect()
    }

    /// Several `ip` commands inside, in one run.
    pub(crate) fn ip_batch(&self, lines: &str) {
        let mut command = self.command("ip");
        command.args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ip");
        child.stdin.take().expect("stdin").write_all(lines.as_bytes()).expect("written");
        let output = child.wait_with_output().expect("ip");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip -batch: {errors}\n{lines}");
    }

    /// The link of that name inside, if there is one.
    pub(crate) fn link(&self, name: &str) -> Option<Value> {
        self.ip_json("link show").into_iter().find(|link| link["ifname"] == name)
    }

    /// The addresses (`10.0.0.2/24`) of one family (4 or 6) and global scope on a link inside.
    pub(crate) fn addresses(&self, link: &str, family: u8) -> Vec<String> {
        let found = self.ip_json(&format!("-{family} addr show dev {link} scope global"));
        let infos = found.iter().flat_map(|l| l["addr_info"].as_array().cloned()).flatten();
        // What does not match the scope is printed as an empty object.
        infos
            .filter(|a| a["local"].is_string())
            .map(|a| format!("{}/{}", a["local"].as_str().unwrap_or_default(), a["prefixlen"]))
            .collect()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Runs `f` on a thread of its own, whose namespace may be changed without harm to others.
fn on_a_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(f).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
