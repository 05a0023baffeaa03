//! A blocking route-netlink socket, used by one thread.
//!
//! The kernel works inside `send`, so an answer is there when `send` returns; the time limit on
//! `recv` is for the day that this is not so, because a lane must never hang. After a lost or
//! unreadable answer the socket is *spent*: it refuses everything, and its owner opens another
//! **in the right namespace**, which the socket itself cannot know.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NlasIterator,
    Parseable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::{Batch, Step, StepError};

/// How long an answer may take: far beyond any honest one, well below a runtime's patience.
const PATIENCE: TimeVal = TimeVal::new(10, 0);

/// Room for one datagram from the kernel, which makes listings of at most 32 KiB each.
const DATAGRAM: usize = 64 << 10;

/// Room in the kernel for answers not yet read. An acknowledgement takes about 800 bytes of it.
const QUEUE: usize = 1 << 20;

/// How often a listing is begun again when objects came or went meanwhile.
const LISTINGS: u32 = 8;

// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSG_HDRLEN: usize = 16;

/// A route-netlink socket in the namespace it was opened in.
#[derive(Debug)]
pub struct RouteSocket {
    socket: Socket,
    next: u32,
    received: Vec<u8>,
    spent: bool,
}

impl AsFd for RouteSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Why an exchange came to no answer: an error number and what else is known.
pub(super) type Failure = (i32, String);

impl RouteSocket {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_ext_ack(true)?; // explain errors in words
        socket.set_cap_ack(true)?; // but do not send the request back
        socket.set_netlink_get_strict_chk(true)?; // honour the filters of a listing
        setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE)?;
        // Best effort: without CAP_NET_ADMIN the default must do, and does for small batches.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &QUEUE);
        Ok(Self { socket, next: 1, received: Vec::with_capacity(DATAGRAM), spent: false })
    }

    /// An answer was lost or could not be read: open another socket.
    pub fn is_spent(&self) -> bool {
        self.spent
    }

    /// Sends a batch and collects the outcome of each step, in order.
    pub fn send(&mut self, mut batch: Batch) -> Vec<Result<(), StepError>> {
        let first = self.number(batch.len());
        let datagram = batch.encode(first);
        let mut answers = batch.answers();
        if answers.complete() {
            return Vec::new();
        }
        if let Err((errno, detail)) = self.post(&datagram) {
            return answers.close(errno, &detail);
        }
        while !answers.complete() {
            let received = self.receive(|header, payload| {
                if header.message_type == NLMSG_ERROR {
                    let position = header.sequence_number.wrapping_sub(first) as usize;
                    let (errno, detail) = read_error(header, payload);
                    answers.note(position, errno, detail);
                }
            });
            if let Err((errno, detail)) = received {
                return answers.close(errno, &detail);
            }
        }
        answers.close(libc::EIO, "")
    }

    /// Asks for one object; the kernel answers with one message or an error.
    pub(super) fn ask(
        &mut self,
        step: Step,
        object: &str,
        question: RouteNetlinkMessage,
    ) -> Result<RouteNetlinkMessage, StepError> {
        let failed = |(errno, detail)| StepError::new(step, object, errno, detail);
        let sequence = self.request(question, 0).map_err(failed)?;
        let mut answer = None;
        while answer.is_none() {
            let read = |header: &NetlinkHeader, payload: &[u8]| {
                if header.sequence_number == sequence {
                    answer = Some(match header.message_type {
                        NLMSG_ERROR => Err(read_error(header, payload)),
                        _ => RouteNetlinkMessage::deserialize(header, payload)
                            .map_err(|e| (libc::EBADMSG, e.to_string())),
                    });
                }
            };
            self.receive(read).map_err(failed)?;
        }
        answer.unwrap_or_else(|| Err((libc::EIO, String::new()))).map_err(failed)
    }

    /// Lists objects. Messages that the codec cannot read are left out: what it cannot read is some
    /// exotic device of somebody else, and must not blind us to our own.
    pub(super) fn list(
        &mut self,
        object: &str,
        question: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, StepError> {
        match self.list_about(object, question)? {
            (found, true) => Ok(found),
            (_, false) => {
                let why = "it kept changing while it was read".to_owned();
                Err(StepError::new(Step::List, object, libc::EAGAIN, why))
            }
        }
    }

    /// Lists objects that may never hold still. False if what changed meanwhile may be in it, or not.
    pub(super) fn list_about(
        &mut self,
        object: &str,
        question: &RouteNetlinkMessage,
    ) -> Result<(Vec<RouteNetlinkMessage>, bool), StepError> {
        self.list_some(object, question, &|_| true)
    }

    /// The same of those that are wanted; the others are not kept while it lasts.
    pub(super) fn list_some(
        &mut self,
        object: &str,
        question: &RouteNetlinkMessage,
        wanted: &dyn Fn(&RouteNetlinkMessage) -> bool,
    ) -> Result<(Vec<RouteNetlinkMessage>, bool), StepError> {
        let failed = |(errno, detail)| StepError::new(Step::List, object, errno, detail);
        let mut last = (Vec::new(), false);
        for _ in 0..LISTINGS {
            last = self.list_once(question, wanted).map_err(failed)?;
            if last.1 {
                break;
            }
        }
        Ok(last)
    }

    /// One listing, and whether nothing changed meanwhile, by which it may be incomplete.
    fn list_once(
        &mut self,
        question: &RouteNetlinkMessage,
        wanted: &dyn Fn(&RouteNetlinkMessage) -> bool,
    ) -> Result<(Vec<RouteNetlinkMessage>, bool), Failure> {
        let sequence = self.request(question.clone(), NLM_F_DUMP)?;
        let (mut found, mut whole, mut end) = (Vec::new(), true, None);
        while end.is_none() {
            self.receive(|header, payload| {
                if header.sequence_number != sequence {
                    return;
                }
                whole &= header.flags & NLM_F_DUMP_INTR == 0;
                match header.message_type {
                    NLMSG_ERROR | NLMSG_DONE => end = Some(read_error(header, payload)),
                    _ => {
                        let read = RouteNetlinkMessage::deserialize(header, payload);
                        found.extend(read.ok().filter(|message| wanted(message)));
                    }
                }
            })?;
        }
        match end {
            Some((errno, detail)) if errno != 0 => Err((errno, detail)),
            _ => Ok((found, whole)),
        }
    }

    fn request(&mut self, question: RouteNetlinkMessage, flags: u16) -> Result<u32, Failure> {
        let mut message = netlink_packet_core::NetlinkMessage::from(question);
        let sequence = self.number(1);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = sequence;
        message.finalize();
        let mut datagram = vec![0; message.buffer_len()];
        message.serialize(&mut datagram);
        self.post(&datagram)?;
        Ok(sequence)
    }

    /// Takes `count` sequence numbers and returns the first. 0 is the kernel's own.
    fn number(&mut self, count: usize) -> u32 {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if self.next.checked_add(count).is_none() {
            self.next = 1;
        }
        let first = self.next;
        self.next = first.saturating_add(count);
        first
    }

    fn post(&mut self, datagram: &[u8]) -> Result<(), Failure> {
        if self.spent {
            return Err((libc::EBADF, "the socket lost an answer before".to_owned()));
        }
        // An error here means that the kernel took none of it.
        let sent = retry(|| self.socket.send_to(datagram, &SocketAddr::new(0, 0), 0));
        sent.map(drop).map_err(|e| (errno_of(&e), "nothing was sent".to_owned()))
    }

    /// Receives one datagram and shows each message in it. Any failure spends the socket.
    fn receive(&mut self, mut each: impl FnMut(&NetlinkHeader, &[u8])) -> Result<(), Failure> {
        let received = self.receive_datagram();
        let result = received.and_then(|()| show_each(&self.received, &mut each));
        self.spent |= result.is_err();
        result
    }

    fn receive_datagram(&mut self) -> Result<(), Failure> {
        self.received.clear();
        self.received.reserve(DATAGRAM);
        // With MSG_TRUNC the length is that of the datagram, even if there was no room for it.
        let length = retry(|| self.socket.recv(&mut self.received, libc::MSG_TRUNC));
        match length {
            Ok(length) if length > self.received.len() => {
                Err((libc::EMSGSIZE, "an answer was too long".to_owned()))
            }
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                Err((libc::ETIMEDOUT, "no answer within 10 seconds".to_owned()))
            }
            Err(e) => Err((errno_of(&e), "an answer was lost".to_owned())),
        }
    }
}

/// Shows each message of a datagram.
pub(super) fn show_each(
    datagram: &[u8],
    mut each: impl FnMut(&NetlinkHeader, &[u8]),
) -> Result<(), Failure> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let unreadable = |e| (libc::EBADMSG, format!("unreadable answer: {e}"));
        let message = NetlinkBuffer::new_checked(rest).map_err(unreadable)?;
        let header = NetlinkHeader::parse(&message).map_err(unreadable)?;
        each(&header, message.payload());
        let length = (header.length as usize).next_multiple_of(4).min(rest.len());
        rest = &rest[length..];
    }
    Ok(())
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Reads an `NLMSG_ERROR` or `NLMSG_DONE`: the error number, positive, and the kernel's words.
///
/// The payload is the negative error number, for `NLMSG_ERROR` the header of the request (which is
/// all of the request that a capped answer repeats), and then attributes: one is a string.
pub(super) fn read_error(header: &NetlinkHeader, payload: &[u8]) -> (i32, String) {
    let Some((code, rest)) = payload.split_first_chunk::<4>() else {
        return (0, String::new()); // an old NLMSG_DONE has no payload
    };
    let errno = i32::from_ne_bytes(*code).saturating_neg();
    if header.flags & NLM_F_ACK_TLVS == 0 {
        return (errno, String::new());
    }
    let request = if header.message_type == NLMSG_ERROR { NLMSG_HDRLEN } else { 0 };
    let words = NlasIterator::new(rest.get(request..).unwrap_or_default())
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .map(|text| String::from_utf8_lossy(text.value()).trim_end_matches('\0').to_owned());
    (errno, words.unwrap_or_default())
}
