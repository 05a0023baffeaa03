//! One request to the daemon and its answer, within the time the verb has. A daemon that is being replaced
//! is waited for, and gets the request that the one before it has not begun with.

use std::io::{IoSlice, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use quantum_config::cni::{CniError, Code, Command};
use quantum_config::wire::{
    Call, DEFAULT_SOCKET, HEADER, Header, Reply, SOCKET_VARIABLE, WireError,
};

use crate::namespaces::Namespaces;

/// How long each verb waits. Kubernetes gives a sandbox two to four minutes, and calls STATUS from a
/// health check; a DEL that waits blocks a node drain, and has the tombstone to fall back on.
pub(crate) fn patience(command: Command) -> Duration {
    Duration::from_secs(match command {
        Command::Add | Command::Gc => 60,
        Command::Check => 10,
        Command::Del => 5,
        Command::Status | Command::Version => 2,
    })
}

/// How much sooner than we give up the daemon is to: what it then says why must still get here.
const TO_ANSWER: Duration = Duration::from_secs(1);
/// Between two tries to reach a daemon.
const STEP: Duration = Duration::from_millis(50);
/// How long a daemon is waited for that was not there since the machine booted.
const FIRST_START: Duration = Duration::from_secs(5);

/// Until when a request that no daemon has begun with is sent again. A DEL has its tombstone instead, and
/// a STATUS is an answer to somebody who comes back. Everybody else may come in the gap between two daemons;
/// the folder of the socket is there (`/run` is emptied at boot) once there has been one.
fn waits_until(command: Command, begun: Instant, was_there: bool) -> Instant {
    match command {
        Command::Del | Command::Status | Command::Version => begun,
        Command::Add | Command::Check | Command::Gc if was_there => begun + patience(command),
        Command::Add | Command::Check | Command::Gc => begun + patience(command).min(FIRST_START),
    }
}

/// Whether this may be sent again.
fn is_safe_again(command: Command, failure: &Failure) -> bool {
    match failure {
        Failure::NoAnswer { begun: Begun::No, .. } => true,
        // An ADD would find what the first has made, and fail by that. These can be repeated.
        Failure::NoAnswer { begun: Begun::Perhaps, .. } => {
            matches!(command, Command::Check | Command::Gc)
        }
        _ => false,
    }
}

/// Whether a daemon has begun with a request that it did not answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    /// None did: it did not have all of it, or said so.
    No,
    Perhaps,
}

/// Why there is no answer to print.
pub(crate) enum Failure {
    /// The daemon could not be reached, went away, or took too long.
    NoAnswer { socket: String, doing: &'static str, why: String, begun: Begun },
    /// We may not use its socket.
    Forbidden { socket: String },
    /// What came back is not an answer.
    Protocol(WireError),
}

impl Failure {
    /// True if the request may not have been heard.
    pub(crate) fn is_no_answer(&self) -> bool {
        matches!(self, Self::NoAnswer { .. })
    }

    /// The error to print.
    pub(crate) fn into_error(self, command: Command) -> CniError {
        match self {
            Self::NoAnswer { socket, doing, why, .. } => {
                let code =
                    if command == Command::Status { Code::NotReady } else { Code::TryAgainLater };
                CniError::new(code, format!("quantum-cnid does not answer at {socket}"))
                    .with_details(format!(
                        "{doing}: {why}; is the daemon running, and is {SOCKET_VARIABLE} right?"
                    ))
            }
            Self::Forbidden { socket } => {
                CniError::new(Code::Forbidden, format!("not allowed to connect to {socket}"))
                    .with_details("the plugin must run as root; the members of the daemon's reader_group may ask for STATUS and VERSION only")
            }
            Self::Protocol(WireError::Oversized(length)) => {
                CniError::new(Code::Io, "the request is too long for the daemon")
                    .with_details(format!("it has {length} bytes"))
            }
            Self::Protocol(error) => {
                let code = match error {
                    WireError::NoCommonVersion(..) => Code::IncompatibleProtocol,
                    _ => Code::Internal,
                };
                CniError::new(code, "plugin and daemon do not understand each other")
                    .with_details(format!("{error}; install plugin and daemon of the same release"))
            }
        }
    }
}

/// Where the daemon listens.
pub(crate) fn socket_path() -> String {
    std::env::var(SOCKET_VARIABLE).unwrap_or_else(|_| DEFAULT_SOCKET.to_owned())
}

/// Sends the call and waits for its answer.
pub(crate) fn exchange(
    call: &Call,
    namespaces: &Namespaces,
    command: Command,
) -> Result<Reply, Failure> {
    let socket = socket_path();
    let begun = Instant::now();
    let deadline = begun + patience(command);
    loop {
        let failure = match attempt(&socket, call, namespaces, deadline) {
            Ok(reply) if reply.stopping => {
                let (doing, why) = ("waiting for the answer", "the daemon is stopping".to_owned());
                Failure::NoAnswer { socket: socket.clone(), doing, why, begun: Begun::No }
            }
            Err(failure) => failure,
            answered => return answered,
        };
        let was_there = Path::new(&socket).parent().is_some_and(Path::exists);
        let again = Instant::now() + STEP;
        if again >= waits_until(command, begun, was_there) || !is_safe_again(command, &failure) {
            return Err(failure);
        }
        std::thread::sleep(STEP);
    }
}

/// Sends the call to the daemon that is there now, if there is one.
fn attempt(
    socket: &str,
    call: &Call,
    namespaces: &Namespaces,
    deadline: Instant,
) -> Result<Reply, Failure> {
    let left = deadline.saturating_duration_since(Instant::now());
    let fail = |doing, why: String, begun| {
        let socket = socket.to_owned();
        Failure::NoAnswer { socket, doing, why, begun }
    };
    let told = left.saturating_sub(TO_ANSWER).max(Duration::from_millis(1));
    let frame = Call { deadline_ms: told.as_millis() as u64, ..call.clone() }.encode();
    let frame = frame.map_err(Failure::Protocol)?;
    let mut stream = open(socket, left).map_err(|errno| match errno {
        Errno::EACCES | Errno::EPERM => Failure::Forbidden { socket: socket.to_owned() },
        other => fail("connecting", other.desc().to_owned(), Begun::No),
    })?;
    // A daemon that refuses answers without having read everything and closes: then sending fails,
    // and its answer is there to be read all the same.
    let sent = send(&stream, &frame, &namespaces.descriptors());
    let mut header = [0; HEADER];
    match read(&mut stream, &mut header, deadline) {
        Ok(()) => {}
        Err(e) => {
            let (doing, why, begun) = match sent {
                Err(errno) => ("sending the request", errno.desc().to_owned(), Begun::No),
                // The kernel says so if there was something left that the daemon had not read.
                Ok(()) if e.kind() == std::io::ErrorKind::ConnectionReset => {
                    ("sending the request", e.to_string(), Begun::No)
                }
                Ok(()) => ("waiting for the answer", e.to_string(), Begun::Perhaps),
            };
            return Err(fail(doing, why, begun));
        }
    }
    let header = Header::decode(&header).map_err(Failure::Protocol)?;
    let mut body = vec![0; header.length as usize];
    read(&mut stream, &mut body, deadline)
        .map_err(|e| fail("reading the answer", e.to_string(), Begun::Perhaps))?;
    Reply::decode(&header, &body).map_err(Failure::Protocol)
}

/// Connects. The time limit is set before: a daemon that does not accept would block us for ever.
fn open(path: &str, patience: Duration) -> Result<UnixStream, Errno> {
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::milliseconds(patience.as_millis() as i64))?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

/// Sends the frame; the descriptors travel with its first byte.
fn send(stream: &UnixStream, frame: &[u8], descriptors: &[i32]) -> Result<(), Errno> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let mut messages: &[ControlMessage<'_>] = if descriptors.is_empty() { &[] } else { &rights };
    let mut rest = frame;
    while !rest.is_empty() {
        let slices = [IoSlice::new(rest)];
        match sendmsg::<()>(stream.as_raw_fd(), &slices, messages, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
        }
        messages = &[];
    }
    Ok(())
}

/// Fills `buffer`, or fails at the deadline.
fn read(stream: &mut UnixStream, mut buffer: &mut [u8], deadline: Instant) -> std::io::Result<()> {
    use std::io::{Error, ErrorKind};
    while !buffer.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(ErrorKind::TimedOut, "the time for this verb is over"));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(buffer) {
            Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "the daemon hung up")),
            Ok(n) => buffer = buffer.get_mut(n..).unwrap_or_default(),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
