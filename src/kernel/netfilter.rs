//! The socket to the kernel's netfilter, which nftables and conntrack share. The kernel carries a request
//! out within `send`, and the answer is there when it returns (of a dump its first part, and the next when
//! one has been read); so reading never waits, and an answer that is not there never comes.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};

/// Room for a transaction of some 50,000 elements; the kernel takes memory only for what is sent.
const SEND_BUFFER: usize = 8 << 20;
/// The largest datagram the kernel makes of a dump.
const DATAGRAM: usize = 64 << 10;

/// The length of `struct nlmsghdr`.
pub(super) const NLMSG_HEADER: usize = 16;
/// The version of netfilter's messages.
pub(super) const NFNETLINK_V0: u8 = 0;

#[derive(Debug)]
pub(super) struct NetfilterSocket {
    socket: Socket,
    received: Vec<u8>,
    sequence: u32,
}

/// What was being done to the socket, and why it failed.
#[derive(Debug)]
pub(super) struct SocketError {
    pub(super) doing: &'static str,
    pub(super) source: io::Error,
}

impl NetfilterSocket {
    pub(super) fn open() -> Result<Self, SocketError> {
        let failed = |doing| move |source| SocketError { doing, source };
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed("open"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed("connect"))?;
        // Errors in words, without our own request in them. When the buffer overflows (a refused
        // transaction has an error for each element) the first ones are enough.
        let options = socket
            .set_ext_ack(true)
            .and_then(|()| socket.set_cap_ack(true))
            .and_then(|()| socket.set_no_enobufs(true));
        options.map_err(failed("configure"))?;
        // Best effort: in a user namespace the default must do, and does for small transactions.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER);
        Ok(Self { socket, received: Vec::with_capacity(DATAGRAM), sequence: 0 })
    }

    /// The first of `count` numbers that no request of this socket has had.
    pub(super) fn numbers(&mut self, count: usize) -> u32 {
        let count = count as u32;
        // Begins anew long before it could overflow; nothing is under way then.
        if self.sequence > u32::MAX / 2 {
            self.sequence = 0;
        }
        let first = self.sequence + 1;
        self.sequence += count;
        first
    }

    /// Sends a request and hands each datagram of the answer to `take`.
    pub(super) fn ask<E: From<SocketError>>(
        &mut self,
        request: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        // What is left of an answer that could not be read.
        while self.receive()?.is_some() {}
        let sent = self.socket.send(request, 0);
        sent.map_err(|source| SocketError { doing: "write to", source })?;
        while let Some(datagram) = self.receive()? {
            take(datagram)?;
        }
        Ok(())
    }

    /// The next datagram, if there is one.
    fn receive(&mut self) -> Result<Option<&[u8]>, SocketError> {
        loop {
            self.received.clear();
            match self.socket.recv(&mut self.received, MsgFlags::MSG_DONTWAIT.bits()) {
                Ok(_) => return Ok(Some(&self.received)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.raw_os_error() == Some(Errno::EINTR as i32) => {}
                Err(source) => return Err(SocketError { doing: "read from", source }),
            }
        }
    }
}

/// The attributes of a message, as far as they can be read: kind and value.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (header, _) = rest.split_first_chunk::<4>()?;
        let length = u16::from_ne_bytes([header[0], header[1]]) as usize;
        // The upper two bits say how the value is to be read.
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a kind.
pub(super) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// One attribute, as it is written: length, kind, value, and padding to a multiple of four.
pub(super) fn written(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(usize::from(length).next_multiple_of(4));
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A message of any netlink family, as far as its header.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    /// That of the request that it answers.
    pub(super) number: u32,
    pub(super) body: &'a [u8],
}

/// The messages of a datagram, up to the first that is cut off.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (header, _) = datagram.split_first_chunk::<NLMSG_HEADER>()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let flags = u16::from_ne_bytes([header[6], header[7]]);
        let number = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        let body = datagram.get(NLMSG_HEADER..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, flags, number, body })
    })
}

/// Appends a request to others that are sent with it.
pub(super) fn append(bytes: &mut Vec<u8>, message: NetfilterMessage, number: u32, flags: u16) {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = number;
    message.finalize();
    let start = bytes.len();
    // Netlink aligns messages to 4 bytes; ours consist of attributes, which are aligned already.
    bytes.resize(start + message.buffer_len(), 0);
    message.serialize(&mut bytes[start..]);
}

/// Errors by which a kernel says that it has no such thing.
pub(super) fn is_missing(errno: Option<i32>) -> bool {
    matches!(
        errno.map(Errno::from_raw),
        Some(
            Errno::EINVAL
                | Errno::ENOENT
                | Errno::EOPNOTSUPP
                | Errno::EPROTONOSUPPORT
                | Errno::EAFNOSUPPORT
        )
    )
}
