//! How much memory one call of a plugin needs at most.
//!
//! Not by `getrusage`: its maximum for a child begins at what the parent had at exec, and the
//! parent, this program, is the bigger of the two. Instead the plugin is traced, just enough to be
//! held for a moment when it exits, when `VmHWM` in its own `/proc/PID/status` has the peak and
//! nothing but it.

use std::fs;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::process::{feed, spawn};
use crate::failure::{Doing, Failure, Result};

const POLL: Duration = Duration::from_micros(200);

/// Runs `command` and returns its peak resident memory in KiB.
///
/// There is no race with a plugin that is quick: it waits for its input until it is being traced.
pub(crate) fn of_one_call(command: &mut Command, input: &[u8], limit: Duration) -> Result<u64> {
    let mut child = spawn(command)?;
    let peak = watch(&mut child, input, Instant::now() + limit);
    if peak.is_err() {
        // Killing fails only for a process that was waited for, and this one was not.
        let _ = child.kill();
    }
    let status = child.wait().doing(|| "waiting for the plugin")?;
    match peak {
        Ok(_) if !status.success() => {
            Err(Failure::new("running a plugin to read its peak memory", status))
        }
        other => other,
    }
}

fn watch(child: &mut Child, input: &[u8], deadline: Instant) -> Result<u64> {
    let pid = Pid::from_raw(child.id().try_into().doing(|| "reading a process id")?);
    ptrace::seize(pid, Options::PTRACE_O_TRACEEXIT).doing(|| "tracing the plugin").map_err(
        |e| e.with_remedy("ptrace must be allowed, and the plugin must wait for its input"),
    )?;
    feed(child, input)?;
    while Instant::now() < deadline {
        let event = waitpid(pid, Some(WaitPidFlag::WNOHANG)).doing(|| "waiting for the plugin")?;
        match event {
            WaitStatus::PtraceEvent(_, _, event) if event == nix::libc::PTRACE_EVENT_EXIT => {
                let peak = status_kib(child.id(), "VmHWM");
                ptrace::cont(pid, None).doing(|| "letting the plugin exit")?;
                return peak;
            }
            WaitStatus::PtraceEvent(..) => {
                ptrace::cont(pid, None).doing(|| "tracing the plugin")?
            }
            WaitStatus::Stopped(_, signal) => {
                ptrace::cont(pid, signal).doing(|| "tracing the plugin")?
            }
            WaitStatus::StillAlive => sleep(POLL),
            other => {
                return Err(Failure::new(
                    "tracing the plugin",
                    format!("it ended unseen: {other:?}"),
                ));
            }
        }
    }
    Err(Failure::new("tracing the plugin", "it did not end in time and was killed"))
}

/// A memory field of `/proc/PID/status`, in KiB.
pub(crate) fn status_kib(pid: u32, field: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).doing(|| format!("reading {path}"))?;
    parse_kib(&text, field)
        .ok_or_else(|| Failure::new(format!("reading {path}"), format!("no {field}")))
}

fn parse_kib(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t     900 kB\nThreads:\t1\n";
        assert_eq!(parse_kib(status, "VmRSS"), Some(900));
        assert_eq!(parse_kib(status, "VmHWM"), Some(1234));
        assert_eq!(parse_kib(status, "VmRS"), None);
        assert_eq!(parse_kib(status, "Threads"), None);
    }

    #[test]
    fn the_peak_is_that_of_the_program_not_of_its_parent() {
        let ballast = vec![1_u8; 64 << 20];
        let mut command = Command::new("/bin/cat");
        let peak = of_one_call(&mut command, b"in", Duration::from_secs(10)).expect("peak");
        assert!(
            peak > 0 && peak < 32 << 10,
            "{peak} KiB beside a parent with {} bytes",
            ballast.len()
        );
    }
}
