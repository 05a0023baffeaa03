//! The daemon under test: started on a world's host, stopped, killed, and looked at.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::binaries;
use super::eventually::{BOUND, eventually};
use super::netns::Netns;
use super::wire;
use super::world::Paths;

/// Where the daemon serves metrics and health, inside the world's host.
pub(crate) const HTTP: &str = "127.0.0.1:9641";

/// What is different from a plain start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) args: Vec<String>,
    pub(crate) vars: Vec<(String, String)>,
}

impl Options {
    /// Anybody may change our tables.
    pub(crate) fn without_own_tables() -> Self {
        Self::default().args("--own-tables false")
    }

    #[must_use]
    pub(crate) fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub(crate) fn args(mut self, args: &str) -> Self {
        self.args.extend(args.split_whitespace().map(str::to_owned));
        self
    }
}

/// A daemon; killed on drop.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Option<Child>,
    host: File,
    paths: Paths,
}

impl Daemon {
    /// Starts the daemon and does not wait for it.
    pub(crate) fn start(host: &Netns, paths: &Paths, options: Options) -> Self {
        if binaries::reference().is_some() {
            let host = File::open(host.path()).expect("the host's namespace");
            return Self { child: None, host, paths: paths.clone() };
        }
        let mut command = command(host, paths, &options.args);
        command.envs(options.vars);
        Self::spawn(command, host, paths)
    }

    /// Starts it by any command line.
    pub(crate) fn spawn(mut command: Command, host: &Netns, paths: &Paths) -> Self {
        let host = File::open(host.path()).expect("the host's namespace");
        let log = OpenOptions::new().create(true).append(true).open(&paths.log).expect("a log");
        command.stdout(log.try_clone().expect("a second descriptor")).stderr(log);
        let child = command.spawn().expect("the daemon");
        Self { child: Some(child), host, paths: paths.clone() }
    }

    /// Waits until STATUS says that an ADD would be served.
    #[track_caller]
    pub(crate) fn wait_ready(&mut self) {
        let socket = self.paths.socket.clone();
        eventually("the daemon to be ready", || {
            let Some(child) = &mut self.child else { return Some(()) };
            if let Some(status) = child.try_wait().expect("its state") {
                panic!("the daemon ended instead of serving: {status}\n{}", self.log_tail());
            }
            wire::ready(&socket).then_some(())
        });
    }

    /// Waits until it answers at all, or has ended; true if it answers.
    #[track_caller]
    pub(crate) fn serves_or_ended(&mut self) -> bool {
        eventually("the daemon to open or to end", || {
            if !self.is_running() {
                return Some(false);
            }
            let page = self.try_get("/readyz").map(|(_, body)| body)?;
            let starting = page.contains("is starting") || page.contains("being rebuilt");
            (!starting).then_some(true)
        })
    }

    /// Waits until it is ready, or has ended; true if it is ready.
    #[track_caller]
    pub(crate) fn ready_or_ended(&mut self) -> bool {
        let socket = self.paths.socket.clone();
        eventually("the daemon to be ready or to end", || {
            if self.is_running() { wire::ready(&socket).then_some(true) } else { Some(false) }
        })
    }

    pub(crate) fn pid(&self) -> Pid {
        let id = self.child.as_ref().expect("a running daemon").id();
        Pid::from_raw(i32::try_from(id).expect("a pid"))
    }

    /// Is it still there?
    pub(crate) fn is_running(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|c| c.try_wait().expect("its state").is_none())
    }

    /// SIGKILL, as the kernel's OOM killer or an operator would; returns when it is gone.
    pub(crate) fn kill(mut self) {
        if self.child.is_some() {
            self.signal(Signal::SIGKILL);
            let status = self.wait();
            assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "ended before it was killed");
        }
    }

    /// SIGTERM, as systemd stops it; returns how it ended.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// SIGHUP: `config_dir` is read again.
    pub(crate) fn reload(&self) {
        self.signal(Signal::SIGHUP);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the signal was sent");
    }

    /// Waits, within the bound, until it has ended by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("a running daemon");
        let status = eventually("the daemon to end", || child.try_wait().expect("its state"));
        self.child = None;
        status
    }

    /// `GET path` on its HTTP address: status and body.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.try_get(path).unwrap_or_else(|| panic!("nobody serves HTTP on {HTTP}"))
    }

    /// The same; nothing if nobody listens there.
    #[track_caller]
    pub(crate) fn try_get(&self, path: &str) -> Option<(u16, String)> {
        let connected = std::thread::scope(|scope| {
            let connect = || {
                nix::sched::setns(&self.host, nix::sched::CloneFlags::CLONE_NEWNET).expect("setns");
                TcpStream::connect_timeout(&HTTP.parse().expect("an address"), BOUND)
            };
            scope.spawn(connect).join().expect("a thread")
        });
        let mut stream = connected.ok()?;
        stream.set_read_timeout(Some(BOUND)).expect("a bound");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split_whitespace().nth(1).and_then(|s| s.parse().ok());
        Some((status.expect("a status line"), body.to_owned()))
    }

    /// The log records so far, of all daemons of this world. Every line must be one JSON object.
    #[track_caller]
    pub(crate) fn log(&self) -> Vec<Value> {
        log(&self.paths)
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.paths.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// The log records of a world so far.
#[track_caller]
pub(crate) fn log(paths: &Paths) -> Vec<Value> {
    let text = std::fs::read_to_string(&paths.log).unwrap_or_default();
    let parse = |line: &str| {
        serde_json::from_str(line).unwrap_or_else(|e| panic!("not a JSON record: {e}: {line}"))
    };
    // The last line may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(parse).collect()
}

/// The daemon without any flag, not yet started.
pub(crate) fn without_flags(host: &Netns) -> Command {
    host.command(binaries::daemon())
}

/// The daemon with a world's paths and these flags, which overrule what else it would get; not yet
/// started.
pub(crate) fn command(host: &Netns, paths: &Paths, args: &[String]) -> Command {
    let mut command = without_flags(host);
    let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    for (flag, value) in [
        ("--socket-path", text(&paths.socket)),
        ("--config-dir", text(&paths.config_dir)),
        ("--state-dir", text(&paths.state_dir)),
        ("--spool-dir", text(&paths.spool_dir)),
        ("--http-listen", HTTP.to_owned()),
        ("--log-format", "json".to_owned()),
        ("--log-level", "debug".to_owned()),
    ] {
        if !args.iter().any(|arg| arg == flag) {
            command.args([flag, &value]);
        }
    }
    command.args(args);
    command
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the daemon's log ends with\n{}", self.log_tail());
        }
    }
}
