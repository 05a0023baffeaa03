//! Running a program of the host: within a time, and in a process group of its own. One that does not end in
//! its time is killed with all that it has started; none is left as a zombie.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How often it is looked for the end of a program that has closed its output already.
const STEP: Duration = Duration::from_millis(1);
/// How long the end of one that was killed is waited for. It comes at once, unless the kernel itself hangs.
const GRACE: Duration = Duration::from_secs(1);
/// No more of what a program prints is kept, in bytes.
const LONGEST: usize = 1 << 20;

/// How a program ended, and what it printed.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// Why it is not known what became of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgramError {
    /// It could not be started, or not be talked to.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It did not end in its time, and was killed.
    #[error("it did not end in its time and was killed")]
    Hung,
}

/// Runs the program in the namespaces of the calling thread, gives it `input` and waits for its end. What it
/// leaves of `input` unread is no error.
pub(super) fn run(
    command: &mut Command,
    input: &[u8],
    patience: Duration,
) -> Result<Ended, ProgramError> {
    let deadline = Instant::now() + patience;
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(Some(piped.process_group(0).spawn()?));
    let printed = running.child().map(|child| talk(child, input, deadline));
    let [stdout, stderr] = printed.unwrap_or_else(|| Ok(Default::default()))?;
    let status = running.wait_until(deadline)?.ok_or(ProgramError::Hung)?;
    Ok(Ended { status, stdout, stderr })
}

/// A program that is killed, and its end waited for, when this is dropped before it has ended.
struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> Option<&mut Child> {
        self.0.as_mut()
    }

    /// Waits for its end; none if it has not come by then.
    fn wait_until(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.0 else { return Ok(None) };
        loop {
            if let Some(status) = child.try_wait()? {
                self.0 = None;
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(STEP);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(child) = &self.0 else { return };
        if let Ok(group) = i32::try_from(child.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.wait_until(Instant::now() + GRACE);
        if let Some(mut child) = self.0.take() {
            // It waits in the kernel, where no signal reaches it. Whenever that ends, somebody takes note.
            let wait = move || _ = child.wait();
            let _ = thread::Builder::new().name("program".to_owned()).spawn(wait);
        }
    }
}

/// Gives it the input and takes what it prints, until it has closed both of its outputs.
fn talk(child: &mut Child, input: &[u8], deadline: Instant) -> Result<[Vec<u8>; 2], ProgramError> {
    let (mut stdin, mut stdout, mut stderr) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let all = [
        stdin.as_ref().map(AsFd::as_fd),
        stdout.as_ref().map(AsFd::as_fd),
        stderr.as_ref().map(AsFd::as_fd),
    ];
    all.into_iter().flatten().try_for_each(never_block)?;
    let (mut rest, mut printed) = (input, [Vec::new(), Vec::new()]);
    let mut buffer = [0; 8192];
    while stdout.is_some() || stderr.is_some() {
        let writable = stdin.as_ref().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLOUT));
        let readable = [stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)];
        let readable = readable.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let mut waited: Vec<PollFd<'_>> = writable.into_iter().chain(readable).collect();
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ProgramError::Hung);
        }
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        // Interrupted, or somebody is ready: all are tried, and none of them blocks.
        let _ = poll(&mut waited, left);
        let done = stdin.as_mut().is_some_and(|stdin| give(stdin, &mut rest));
        if done {
            stdin = None; // closed, it knows that this was all
        }
        let [out, err] = &mut printed;
        if stdout.as_mut().is_some_and(|stdout| take(stdout, &mut buffer, out)) {
            stdout = None;
        }
        if stderr.as_mut().is_some_and(|stderr| take(stderr, &mut buffer, err)) {
            stderr = None;
        }
    }
    Ok(printed)
}

fn never_block(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Writes what it takes; true when there is no more to give. A program that has stopped reading says why on
/// its standard error, and by how it ends.
fn give(stdin: &mut impl Write, rest: &mut &[u8]) -> bool {
    while !rest.is_empty() {
        match stdin.write(rest) {
            Ok(n) => *rest = rest.get(n..).unwrap_or_default(),
            Err(e) if is_for_now(&e) => return false,
            Err(_) => return true,
        }
    }
    true
}

/// Reads what is there; true at the end.
fn take(output: &mut impl Read, buffer: &mut [u8], printed: &mut Vec<u8>) -> bool {
    loop {
        match output.read(buffer) {
            Ok(0) => return true,
            Ok(n) => {
                let room = LONGEST.saturating_sub(printed.len());
                printed.extend(buffer.iter().take(n.min(room)));
            }
            Err(e) if is_for_now(&e) => return false,
            Err(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str, input: &[u8], patience: Duration) -> Result<Ended, ProgramError> {
        run(Command::new("/bin/sh").args(["-c", script]), input, patience)
    }

    /// How many processes have this text in their command line, zombies included.
    fn named(text: &str) -> usize {
        let of = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
        let all = std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(of);
        all.filter(|line| String::from_utf8_lossy(line).replace('\0', " ").contains(text)).count()
    }

    #[test]
    fn what_it_reads_and_prints_may_be_longer_than_a_pipe() {
        let input = vec![b'x'; 300_000];
        let ended = shell("cat; echo said >&2; exit 3", &input, LONG).expect("it ended");
        assert_eq!((ended.stdout.len(), ended.stderr.as_slice()), (300_000, &b"said\n"[..]));
        assert_eq!(ended.status.code(), Some(3));
    }

    #[test]
    fn who_does_not_read_is_waited_for_all_the_same() {
        let input = vec![b'x'; 300_000];
        let ended = shell("exec <&-; echo no >&2; exit 1", &input, LONG).expect("it ended");
        assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(1), &b"no\n"[..]));
    }

    #[test]
    fn what_hangs_is_killed_with_all_that_it_started() {
        let short = Duration::from_millis(300);
        for script in ["sleep 98761 & sleep 98761", "exec >&- 2>&-; sleep 98761"] {
            let hung = shell(script, b"", short).expect_err("it hangs");
            assert!(matches!(hung, ProgramError::Hung), "{hung}");
            // What it started is for init to take note of; that may take a moment.
            let began = Instant::now();
            while named("sleep 98761") > 0 && began.elapsed() < LONG {
                thread::sleep(STEP);
            }
            assert_eq!(named("sleep 98761"), 0, "{script}");
        }
        let none = run(&mut Command::new("/nowhere/program"), b"", LONG).expect_err("not there");
        assert!(matches!(none, ProgramError::Io(_)), "{none}");
    }
}
