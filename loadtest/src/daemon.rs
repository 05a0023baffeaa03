//! The daemon of the run: started in the run's folder, waited for until it is ready, stopped at the
//! end.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::driver::{Subject, Verb, status_kib};
use crate::failure::{Doing, Failure, Result};
use crate::world::{Container, WorkDir};

/// How long it may take to be ready, and to stop.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// In a network namespace of our own, so the port is free.
const HTTP: &str = "127.0.0.1:9641";
/// How many lines of its log are shown when it fails.
const LOG_LINES: usize = 20;

/// A running daemon. Killed when dropped without [`Daemon::stop`].
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

/// The variables by which a plugin finds the daemon of this run.
pub(crate) fn variables(work: &WorkDir) -> Vec<(&'static str, OsString)> {
    vec![
        ("QUANTUM_CNI_SOCKET", socket(work).into()),
        ("QUANTUM_CNI_SPOOL_DIR", work.join("spool").into()),
    ]
}

/// Where policies are put that are to be read at a start.
pub(crate) fn policies(work: &WorkDir) -> PathBuf {
    work.join("policy.d")
}

fn socket(work: &WorkDir) -> PathBuf {
    work.join("cni.sock")
}

impl Daemon {
    /// Starts `binary` with everything it writes in the run's folder.
    pub(crate) fn start(binary: &Path, work: &WorkDir) -> Result<Self> {
        let log = work.join("daemon.log");
        let output = File::create(&log).doing(|| format!("creating {}", log.display()))?;
        let errors = output.try_clone().doing(|| format!("opening {}", log.display()))?;
        let mut command = Command::new(binary);
        command.args(["--log-level", "error", "--http-listen", HTTP]);
        command.arg("--socket-path").arg(socket(work));
        for (flag, name) in
            [("--config-dir", "net.d"), ("--state-dir", "state"), ("--spool-dir", "spool")]
        {
            let folder = work.join(name);
            fs::create_dir_all(&folder).doing(|| format!("creating {}", folder.display()))?;
            command.arg(flag).arg(folder);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .doing(|| format!("starting {}", binary.display()))?;
        Ok(Self { child, log })
    }

    /// Asks by STATUS, as a runtime does, until an ADD could succeed.
    pub(crate) fn wait_until_ready(
        &mut self,
        subject: &Subject,
        container: &Container,
    ) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Err(why) = subject.call(Verb::Status, container, None).outcome else {
                return Ok(());
            };
            if let Some(status) = self.child.try_wait().doing(|| "asking for the daemon's exit")? {
                return Err(
                    self.failure("waiting for the daemon", &format!("it ended with {status}"))
                );
            }
            if Instant::now() > deadline {
                return Err(
                    self.failure("waiting for the daemon", &format!("STATUS still says {why}"))
                );
            }
            sleep(POLL);
        }
    }

    /// A memory field of `/proc/PID/status`, in KiB.
    pub(crate) fn memory_kib(&self, field: &str) -> Result<u64> {
        status_kib(self.child.id(), field)
    }

    /// Stops it as an init system does, by SIGTERM.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().try_into().doing(|| "reading a process id")?);
        kill(pid, Signal::SIGTERM).doing(|| "stopping the daemon")?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.child.try_wait().doing(|| "waiting for the daemon's exit")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(self.failure("stopping the daemon", &status.to_string()));
                }
                None => sleep(POLL),
            }
        }
        Err(self.failure("stopping the daemon", "it did not end after SIGTERM and was killed"))
    }

    /// The last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
    }

    fn failure(&self, doing: &str, why: &str) -> Failure {
        Failure::new(doing, format!("{why}; its log ends with:\n{}", self.last_words()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nothing can be done about a process that can be neither killed nor waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
