//! Hearing of denied packets: our rules log what they deny, or would deny, to a group of nfnetlink_log, and
//! here its records are read.
//!
//! ```text
//!   rule: log prefix "quantum egress " group N ──► kernel gathers ──► socket ──► Heard { denials, lost }
//! ```
//!
//! Who began a connection, and whom it was really for, is conntrack's to say. Where the kernel puts that
//! into the record (`CONFIG_NETFILTER_NETLINK_GLUE_CT`) it is taken from there. Where it does not, the packet
//! is read as it is where the rules see it: behind the translation of its destination, before that of its
//! source. A packet of the other direction is then known by the rule alone, which matches `ct direction
//! reply` and has `reply` at the end of its prefix.
//!
//! A group has one listener in a namespace, and who listens is in the namespace of the thread that opened
//! it. What is lost, because more is denied than can be heard, is counted and costs nothing else.

mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod message;
mod packet;
#[cfg(test)]
mod tests;

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};

pub use self::error::NflogError;
use self::message::{CONNECTIONS, NUMBERED, PACKET, Record, What};
use super::netfilter::{Message, SocketError, messages};
use crate::policy::Denial;

/// The group that our rules log to (`config/nft/skeleton.nft`).
pub const GROUP: u16 = 20821;

/// Room for what comes while we are not looking: some thousand records.
const RECEIVE_BUFFER: usize = 1 << 20;
const DATAGRAM: usize = 64 << 10;
/// The most datagrams that are read before what they say is handed on.
const AT_ONCE: usize = 64;
/// The numbers of our requests; what is refused of the second is asked again by the third.
const BIND: u32 = 1;
const WITH_CONNECTIONS: u32 = 2;
const WITHOUT: u32 = 3;

// include/uapi/linux/netlink.h
const NLMSG_ERROR: u16 = 2;

/// What was heard.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The packets, in the order in which they came.
    pub denials: Vec<Denial>,
    /// So many records were lost, or tell nothing.
    pub lost: u64,
}

/// The door to the records of one group in one network namespace.
#[derive(Debug)]
pub struct Denials {
    group: u16,
    socket: Socket,
    heard: Heard,
    losses: Losses,
    knows_connections: bool,
}

/// The thread that hears. It ends when this is dropped.
#[derive(Debug)]
pub struct Hearing {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Denials {
    /// Begins to listen to a group, in the calling thread's network namespace.
    pub fn open(group: u16) -> Result<Self, NflogError> {
        let socket = socket().map_err(|e| NflogError::of_socket(group, e))?;
        // Best effort: with less, more is lost.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        let (heard, losses) = (Heard::default(), Losses::default());
        let mut denials = Self { group, socket, heard, losses, knows_connections: false };
        let of_answer = |errno| NflogError::of_answer(group, errno);
        denials.ask(&message::bind(group, BIND), BIND)?.map_err(of_answer)?;
        let with = message::with(NUMBERED | CONNECTIONS, group, WITH_CONNECTIONS);
        denials.knows_connections = denials.ask(&with, WITH_CONNECTIONS)?.is_ok();
        if !denials.knows_connections {
            let with = message::with(NUMBERED, group, WITHOUT);
            // Without numbers fewer losses are known.
            let _ = denials.ask(&with, WITHOUT)?;
        }
        Ok(denials)
    }

    /// The kernel tells the connection of each packet, so that replies are turned whichever rule they met.
    pub fn knows_connections(&self) -> bool {
        self.knows_connections
    }

    /// Waits until something is heard, or for so long, and gives what there is.
    pub fn next(&mut self, patience: Duration) -> Result<Heard, NflogError> {
        if self.heard == Heard::default() {
            let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
            self.wait(None, timeout);
        }
        self.drain()?;
        Ok(std::mem::take(&mut self.heard))
    }

    /// Has a thread of its own listen, which calls `heard` whenever there is something. With an error, which
    /// is the last that it hears, it ends.
    pub fn start(
        mut self,
        mut heard: impl FnMut(Result<Heard, NflogError>) + Send + 'static,
    ) -> io::Result<Hearing> {
        let (stopped, stop) = io::pipe()?;
        let listen = move || {
            loop {
                let drained = self.drain();
                let what = std::mem::take(&mut self.heard);
                if what != Heard::default() {
                    heard(Ok(what));
                }
                if let Err(error) = drained {
                    return heard(Err(error));
                }
                if self.wait(Some(&stopped), PollTimeout::NONE) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("denials".to_owned()).spawn(listen)?;
        Ok(Hearing { stop: Some(stop), thread: Some(thread) })
    }

    /// Waits until something comes or the time is over. True if it is to stop.
    fn wait(&self, stopped: Option<&PipeReader>, timeout: PollTimeout) -> bool {
        let socket = PollFd::new(self.socket.as_fd(), PollFlags::POLLIN);
        let Some(stopped) = stopped else {
            // Whatever it says, what is there is taken.
            let _ = poll(&mut [socket], timeout);
            return false;
        };
        let mut ready = [socket, PollFd::new(stopped.as_fd(), PollFlags::empty())];
        let found = poll(&mut ready, timeout);
        found.is_ok() && ready[1].any() == Some(true)
    }

    /// Sends a request and gives its answer, which is there when it has been sent. What is logged meanwhile
    /// is kept.
    fn ask(&mut self, request: &[u8], number: u32) -> Result<Result<(), Errno>, NflogError> {
        let group = self.group;
        let failed =
            |doing| move |source| NflogError::of_socket(group, SocketError { doing, source });
        self.socket.send(request, 0).map_err(failed("write to"))?;
        let mut answer = None;
        while answer.is_none()
            && self.receive(|n, errno| {
                if n == number {
                    answer = Some(errno);
                }
            })?
        {}
        match answer {
            Some(None) => Ok(Ok(())),
            Some(Some(errno)) => Ok(Err(errno)),
            None => Err(NflogError::NoAnswer { group }),
        }
    }

    /// Takes what is there.
    fn drain(&mut self) -> Result<(), NflogError> {
        for _ in 0..AT_ONCE {
            if !self.receive(|_, _| {})? {
                break;
            }
        }
        Ok(())
    }

    /// Takes the next datagram; false if there is none. Hands the answers to requests to `answered`.
    fn receive(
        &mut self,
        mut answered: impl FnMut(u32, Option<Errno>),
    ) -> Result<bool, NflogError> {
        let mut datagram = Vec::with_capacity(DATAGRAM);
        let received = self.socket.recv(&mut datagram, MsgFlags::MSG_DONTWAIT.bits());
        if let Err(source) = received {
            return match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOBUFS) => {
                    self.heard.lost += self.losses.overrun();
                    Ok(true)
                }
                Some(Errno::EINTR) => Ok(true),
                Some(Errno::EAGAIN) => Ok(false),
                _ => Err(NflogError::of_socket(
                    self.group,
                    SocketError { doing: "read from", source },
                )),
            };
        }
        for Message { kind, body, .. } in messages(&datagram) {
            match kind {
                PACKET => self.take(message::record(body)),
                NLMSG_ERROR => {
                    if let Some((number, errno)) = answer(body) {
                        answered(number, errno);
                    }
                }
                _ => {}
            }
        }
        Ok(true)
    }

    fn take(&mut self, record: Record) {
        self.heard.lost += record.number.map_or(0, |number| self.losses.numbered(number));
        match record.what {
            What::Denied(denial) => self.heard.denials.push(denial),
            What::Unreadable => self.heard.lost += 1,
            What::NotOurs => {}
        }
    }
}

impl Drop for Hearing {
    /// Stops the thread and waits for it; `heard` must not do this.
    fn drop(&mut self) {
        // The thread sees that the pipe has no other end any more.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics only where `heard` does, and that has been said by then.
            let _ = thread.join();
        }
    }
}

/// Whether the kernel has nfnetlink_log. It is asked for nothing: one that has it says that nobody listens
/// to that group, or somebody else.
pub fn is_missing(group: u16) -> bool {
    let Ok(socket) = socket() else { return true };
    let (heard, losses) = (Heard::default(), Losses::default());
    let mut denials = Denials { group, socket, heard, losses, knows_connections: false };
    match denials.ask(&message::nothing(group, BIND), BIND) {
        Ok(Err(errno)) => NflogError::of_answer(group, errno) == NflogError::Missing,
        Ok(Ok(())) | Err(_) => false,
    }
}

fn socket() -> Result<Socket, SocketError> {
    let failed = |doing| move |source| SocketError { doing, source };
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed("open"))?;
    socket.bind_auto().map_err(failed("bind"))?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(failed("connect"))?;
    Ok(socket)
}

/// The number of the request that is answered, and its error if there was one.
fn answer(body: &[u8]) -> Option<(u32, Option<Errno>)> {
    // struct nlmsgerr: the error, and the header of the request.
    let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    let number = u32::from_ne_bytes(body.get(12..16)?.try_into().ok()?);
    Some((number, (code != 0).then(|| Errno::from_raw(code.saturating_neg()))))
}

/// What was lost, by the gaps in the records' numbers. When the socket runs over it says so once, before the
/// record that shows how much it was: then it is at least one.
#[derive(Debug, Default)]
struct Losses {
    next: u32,
    said: u64,
}

impl Losses {
    fn overrun(&mut self) -> u64 {
        self.said += 1;
        1
    }

    fn numbered(&mut self, number: u32) -> u64 {
        let gap = u64::from(number.wrapping_sub(self.next));
        self.next = number.wrapping_add(1);
        if gap == 0 {
            return 0;
        }
        gap.saturating_sub(std::mem::take(&mut self.said))
    }
}
