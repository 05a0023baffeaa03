//! Route netlink by hand: a blocking socket, several steps in one datagram.
//!
//! This is the floor: nothing that configures a Linux network can be cheaper than these messages.

mod look;
mod steps;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::failure::{Doing, Failure, Result};

pub(crate) use look::{addresses, link_index, link_names, received_packets};
pub(crate) use steps::{
    Veth, address, bridge, default_route, delete, delete_group, down, regroup, up, veth,
};

/// More than the kernel ever puts in one datagram of a dump (32 KiB).
const RECEIVE_BUFFER: usize = 64 * 1024;
/// Netlink messages begin at multiples of this.
const ALIGNMENT: usize = 4;

/// One change, and its name for when the kernel refuses it.
#[derive(Debug)]
pub(crate) struct Step {
    what: &'static str,
    flags: u16,
    message: RouteNetlinkMessage,
}

/// A route socket. It stays bound to the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Route {
    socket: Socket,
    sequence: u32,
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl Route {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self> {
        let connect = || {
            let socket = Socket::new(NETLINK_ROUTE)?;
            // Acknowledgements need not bring the request back.
            socket.set_cap_ack(true)?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok::<_, std::io::Error>(socket)
        };
        let socket = connect().doing(|| "opening a route netlink socket")?;
        Ok(Self {
            socket,
            sequence: 0,
            sent: Vec::new(),
            received: Vec::with_capacity(RECEIVE_BUFFER),
        })
    }

    /// Sends all steps in one datagram and waits until the kernel has taken the last of them.
    ///
    /// Only the last asks for an acknowledgement. A step that fails is answered all the same,
    /// before the steps after it, and does not stop these: the first refusal is what is returned.
    pub(crate) fn commit(&mut self, steps: impl IntoIterator<Item = Step>) -> Result<()> {
        let first = self.sequence.wrapping_add(1);
        let mut names = Vec::new();
        self.sent.clear();
        let mut steps = steps.into_iter().peekable();
        while let Some(step) = steps.next() {
            let acknowledge = if steps.peek().is_none() { NLM_F_ACK } else { 0 };
            names.push(step.what);
            self.push(step.message, NLM_F_REQUEST | acknowledge | step.flags);
        }
        if names.is_empty() {
            return Ok(());
        }
        self.send()?;

        let last = self.sequence;
        let mut refused = None;
        let mut done = false;
        while !done {
            self.receive(|message| {
                if let NetlinkPayload::Error(answer) = message.payload {
                    let sequence = message.header.sequence_number;
                    done |= sequence == last;
                    if answer.code.is_some() && refused.is_none() {
                        let step = names.get(sequence.wrapping_sub(first) as usize).copied();
                        refused =
                            Some(Failure::new(step.unwrap_or("an unknown step"), answer.to_io()));
                    }
                }
                Ok(())
            })?;
        }
        refused.map_or(Ok(()), Err)
    }

    /// Asks for a table and hands every entry to `each`.
    fn dump(
        &mut self,
        ask: RouteNetlinkMessage,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> Result<()> {
        self.sent.clear();
        self.push(ask, NLM_F_REQUEST | NLM_F_DUMP);
        self.send()?;
        let mut done = false;
        while !done {
            self.receive(|message| {
                match message.payload {
                    NetlinkPayload::InnerMessage(entry) => each(entry),
                    NetlinkPayload::Done(_) => done = true,
                    NetlinkPayload::Error(answer) => {
                        return Err(Failure::new("reading a route netlink table", answer.to_io()));
                    }
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn push(&mut self, message: RouteNetlinkMessage, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let start = self.sent.len();
        self.sent.resize((start + message.buffer_len()).next_multiple_of(ALIGNMENT), 0);
        if let Some(room) = self.sent.get_mut(start..) {
            message.serialize(room);
        }
    }

    fn send(&mut self) -> Result<()> {
        self.socket.send(&self.sent, 0).map(|_| ()).doing(|| "sending to route netlink")
    }

    /// Waits for one datagram and hands its messages to `each`.
    fn receive(
        &mut self,
        mut each: impl FnMut(NetlinkMessage<RouteNetlinkMessage>) -> Result<()>,
    ) -> Result<()> {
        self.received.clear();
        self.socket.recv(&mut self.received, 0).doing(|| "receiving from route netlink")?;
        let mut rest = self.received.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::deserialize(rest).doing(|| "decoding route netlink")?;
            let length = (message.header.length as usize).max(ALIGNMENT);
            rest = rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
            each(message)?;
        }
        Ok(())
    }
}
