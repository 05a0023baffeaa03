//! One request to the daemon and its answer, within the time the verb has.

use std::io::{IoSlice, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
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

/// Why there is no answer to print.
pub(crate) enum Failure {
    /// The daemon could not be reached, went away, or took too long.
    NoAnswer { socket: String, doing: &'static str, why: String },
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
            Self::NoAnswer { socket, doing, why } => {
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

/// Sends the call and waits for its answer.
pub(crate) fn exchange(
    call: &Call,
    namespaces: &Namespaces,
    command: Command,
) -> Result<Reply, Failure> {
    let path = std::env::var(SOCKET_VARIABLE).unwrap_or_else(|_| DEFAULT_SOCKET.to_owned());
    let deadline = Instant::now() + patience(command);
    let fail = |doing, why: String| Failure::NoAnswer { socket: path.clone(), doing, why };
    let frame = call.encode().map_err(Failure::Protocol)?;
    let mut stream = open(&path, patience(command)).map_err(|errno| match errno {
        Errno::EACCES | Errno::EPERM => Failure::Forbidden { socket: path.clone() },
        other => fail("connecting", other.desc().to_owned()),
    })?;
    // A daemon that refuses answers without having read everything and closes: then sending fails,
    // and its answer is there to be read all the same.
    let sent = send(&stream, &frame, &namespaces.descriptors());
    let mut header = [0; HEADER];
    match read(&mut stream, &mut header, deadline) {
        Ok(()) => {}
        Err(e) => {
            let (doing, why) = match sent {
                Err(errno) => ("sending the request", errno.desc().to_owned()),
                Ok(()) => ("waiting for the answer", e.to_string()),
            };
            return Err(fail(doing, why));
        }
    }
    let header = Header::decode(&header).map_err(Failure::Protocol)?;
    let mut body = vec![0; header.length as usize];
    read(&mut stream, &mut body, deadline)
        .map_err(|e| fail("reading the answer", e.to_string()))?;
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
