//! One call of the plugin, made as a runtime makes it, and what came of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{ChildStdin, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::netns::Netns;

/// No call may take longer, whatever happens.
const BOUND: Duration = Duration::from_secs(60);

/// A call: the CNI variables and standard input.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    vars: BTreeMap<String, String>,
    stdin: Vec<u8>,
}

impl Call {
    /// A call of `command` with no attachment: GC, STATUS, VERSION. As libcni does, all six
    /// variables are set, some of them empty.
    pub(crate) fn new(command: &str) -> Self {
        let mut vars = BTreeMap::new();
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
            vars.insert(name.to_owned(), String::new());
        }
        vars.insert("CNI_COMMAND".to_owned(), command.to_owned());
        vars.insert("CNI_PATH".to_owned(), "/opt/cni/bin".to_owned());
        Self { vars, stdin: Vec::new() }
    }

    /// A call about the interface `eth0` of a container.
    pub(crate) fn attachment(command: &str, container: &str, netns: &Netns) -> Self {
        Self::new(command)
            .var("CNI_CONTAINERID", container)
            .var("CNI_NETNS", netns.text())
            .var("CNI_IFNAME", "eth0")
    }

    pub(crate) fn add(container: &str, netns: &Netns) -> Self {
        Self::attachment("ADD", container, netns)
    }

    pub(crate) fn del(container: &str, netns: &Netns) -> Self {
        Self::attachment("DEL", container, netns)
    }

    pub(crate) fn check(container: &str, netns: &Netns) -> Self {
        Self::attachment("CHECK", container, netns)
    }

    /// Sets a variable.
    #[must_use]
    pub(crate) fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Leaves a variable out.
    #[must_use]
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.vars.remove(name);
        self
    }

    /// Another interface than `eth0`.
    #[must_use]
    pub(crate) fn ifname(self, name: &str) -> Self {
        self.var("CNI_IFNAME", name)
    }

    /// The network configuration.
    #[must_use]
    pub(crate) fn conf(self, conf: &Value) -> Self {
        self.stdin(conf.to_string())
    }

    /// Standard input as it is.
    #[must_use]
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// The value of a variable, empty if it is not set.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.vars.get(name).map_or("", String::as_str)
    }

    /// Standard input.
    pub(crate) fn input(&self) -> &[u8] {
        &self.stdin
    }

    /// Runs `command` with these variables, and no others, and this input.
    pub(crate) fn run(&self, mut command: Command) -> Outcome {
        self.dress(&mut command);
        let started = Instant::now();
        let mut child = command.spawn().expect("the plugin");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        feed(child.stdin.take(), &self.stdin);
        let (done, waiting) = mpsc::channel();
        std::thread::spawn(move || done.send(child.wait_with_output()));
        let Ok(output) = waiting.recv_timeout(BOUND) else {
            let _ = kill(pid, Signal::SIGKILL);
            panic!("{} did not end within {BOUND:?}", self.get("CNI_COMMAND"));
        };
        Outcome::new(self.get("CNI_COMMAND"), &output.expect("its output"), started.elapsed())
    }

    /// Prepares `command` for this call without running it.
    pub(crate) fn dress(&self, command: &mut Command) {
        command.envs(&self.vars);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }
}

/// Writes a plugin's input; one that does not read it closes the pipe, which is no failure.
pub(crate) fn feed(stdin: Option<ChildStdin>, bytes: &[u8]) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(bytes);
    }
}

/// How a call ended.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    command: String,
    /// The exit status; nothing if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

/// A CNI error as it was printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: u64,
    pub(crate) msg: String,
    pub(crate) details: String,
    pub(crate) cni_version: String,
}

impl Outcome {
    pub(crate) fn new(command: &str, output: &Output, took: Duration) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8 output");
        Self {
            command: command.to_owned(),
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            took,
        }
    }

    /// The call must have succeeded: its document, or null where nothing is to be printed.
    #[track_caller]
    pub(crate) fn succeeded(&self) -> Value {
        assert_eq!(self.code, Some(0), "{} should succeed: {self:?}", self.command);
        if matches!(self.command.as_str(), "ADD" | "VERSION") {
            serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
        } else {
            assert_eq!(self.stdout.trim(), "", "{} prints nothing on success", self.command);
            Value::Null
        }
    }

    /// The call must have failed with exit status 1 and a well-formed CNI error on stdout.
    #[track_caller]
    pub(crate) fn failed(&self) -> Failure {
        assert_eq!(self.code, Some(1), "{} should fail with 1: {self:?}", self.command);
        let error: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        let object = error.as_object().unwrap_or_else(|| panic!("no object: {self:?}"));
        for key in object.keys() {
            assert!(
                ["cniVersion", "code", "msg", "details"].contains(&key.as_str()),
                "an error has no {key:?}: {self:?}"
            );
        }
        let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
        Failure {
            code: error["code"].as_u64().unwrap_or_else(|| panic!("no code: {self:?}")),
            msg: text("msg").filter(|m| !m.is_empty()).unwrap_or_else(|| panic!("{self:?}")),
            details: text("details").unwrap_or_default(),
            cni_version: text("cniVersion").unwrap_or_default(),
        }
    }

    /// The call must have failed with this code; gives msg and details as one text.
    #[track_caller]
    pub(crate) fn failed_with(&self, code: u64) -> String {
        let failure = self.failed();
        assert_eq!(failure.code, code, "{}: {failure:?}", self.command);
        format!("{}; {}", failure.msg, failure.details)
    }
}
