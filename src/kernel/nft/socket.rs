//! The socket. The kernel carries a request out within `send`, and the answer is there when it returns;
//! so reading never waits, and an answer that is not there never comes.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};

use super::NftError;
use super::message::Answer;

/// Room for a transaction of some 50,000 elements; the kernel takes memory only for what is sent.
const SEND_BUFFER: usize = 8 << 20;
/// The largest datagram the kernel makes of a dump.
const DATAGRAM: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct NftSocket {
    socket: Socket,
    received: Vec<u8>,
    sequence: u32,
}

impl NftSocket {
    pub(super) fn open() -> Result<Self, NftError> {
        let failed = |doing| move |source| NftError::Socket { doing, source };
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

    /// Sends a request and reads the answer to it.
    pub(super) fn ask(
        &mut self,
        request: &[u8],
        doing: &dyn Fn() -> String,
    ) -> Result<Answer, NftError> {
        // What is left of an answer that could not be read.
        while self.receive()?.is_some() {}
        let sent = self.socket.send(request, 0);
        sent.map_err(|source| NftError::Socket { doing: "write to", source })?;
        let mut answer = Answer::default();
        while let Some(datagram) = self.receive()? {
            answer.read(datagram).map_err(|source| NftError::Decode { doing: doing(), source })?;
        }
        Ok(answer)
    }

    /// The next datagram, if there is one.
    fn receive(&mut self) -> Result<Option<&[u8]>, NftError> {
        loop {
            self.received.clear();
            match self.socket.recv(&mut self.received, MsgFlags::MSG_DONTWAIT.bits()) {
                Ok(_) => return Ok(Some(&self.received)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.raw_os_error() == Some(Errno::EINTR as i32) => {}
                Err(source) => return Err(NftError::Socket { doing: "read from", source }),
            }
        }
    }
}
