//! One exec of a plugin: document in, document out, and the time between.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::failure::{Doing, Failure, Result};

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Runs `command` to its end: spawned with three pipes, fed with `input`, drained, waited for.
/// After `limit` it is killed, and that is an error.
pub(crate) fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Finished> {
    let deadline = Instant::now() + limit;
    let mut child = spawn(command)?;
    let drained = feed(&mut child, input).and_then(|()| drain(&mut child, deadline));
    if drained.is_err() {
        // Killing fails only for a process that was waited for, and this one was not.
        let _ = child.kill();
    }
    let status = child.wait().doing(|| "waiting for the plugin")?;
    let (stdout, stderr) = drained?;
    Ok(Finished { status, stdout, stderr })
}

/// Spawns with three pipes. Nothing is set that would keep the standard library from `posix_spawn`,
/// which does not copy the page tables of this process.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .doing(|| format!("running {}", command.get_program().to_string_lossy()))
}

/// Writes all input, which fits a pipe, and closes it. A plugin that ends without reading is no
/// error.
pub(crate) fn feed(child: &mut Child, input: &[u8]) -> Result<()> {
    match child.stdin.take().map(|mut pipe| pipe.write_all(input)) {
        Some(Err(error)) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new("writing to the plugin", error))
        }
        _ => Ok(()),
    }
}

/// Reads both outputs to their end.
fn drain(child: &mut Child, deadline: Instant) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut stdout, mut stderr) =
        (Output::new(child.stdout.take()), Output::new(child.stderr.take()));
    while stdout.pipe.is_some() || stderr.pipe.is_some() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::new(
                "waiting for the plugin",
                "it did not end in time and was killed",
            ));
        }
        let (out, err) = ready(&stdout, &stderr, left)?;
        if out {
            stdout.read()?;
        }
        if err {
            stderr.read()?;
        }
    }
    Ok((stdout.bytes, stderr.bytes))
}

/// Waits until one of the outputs has something to read, or has ended.
fn ready<A: AsFd, B: AsFd>(a: &Output<A>, b: &Output<B>, left: Duration) -> Result<(bool, bool)> {
    let open = [a.pipe.as_ref().map(AsFd::as_fd), b.pipe.as_ref().map(AsFd::as_fd)];
    let mut waiting: Vec<PollFd<'_>> =
        open.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match poll(&mut waiting, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
        Err(Errno::EINTR) | Ok(_) => {}
        Err(error) => return Err(Failure::new("waiting for the plugin's output", error)),
    }
    let mut answers = waiting.iter().map(|fd| fd.any().unwrap_or(false));
    let mut answer = |fd: &Option<_>| fd.is_some() && answers.next().unwrap_or(false);
    Ok((answer(&open[0]), answer(&open[1])))
}

/// One output of the plugin: open until it has been read to its end.
struct Output<P> {
    pipe: Option<P>,
    bytes: Vec<u8>,
}

impl<P> Output<P> {
    fn new(pipe: Option<P>) -> Self {
        Self { pipe, bytes: Vec::new() }
    }
}

impl<P: Read> Output<P> {
    fn read(&mut self) -> Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut chunk = [0; 4096];
        match pipe.read(&mut chunk) {
            Ok(0) => self.pipe = None,
            Ok(length) => self.bytes.extend_from_slice(chunk.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::new("reading from the plugin", error)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_outputs_and_the_exit_code_come_back() {
        let done = run(&mut shell("cat; echo no >&2; exit 3"), b"in", Duration::from_secs(10))
            .expect("run");
        assert_eq!((done.stdout.as_slice(), done.stderr.as_slice()), (&b"in"[..], &b"no\n"[..]));
        assert_eq!(done.status.code(), Some(3));
    }

    #[test]
    fn a_plugin_that_does_not_end_is_killed() {
        let error =
            run(&mut shell("exec sleep 100"), b"", Duration::from_millis(50)).expect_err("killed");
        assert!(error.to_string().contains("did not end in time"), "{error}");
    }

    #[test]
    fn a_plugin_need_not_read_its_input() {
        assert!(run(&mut shell("exit 0"), &[b' '; 60_000], Duration::from_secs(10)).is_ok());
    }
}
