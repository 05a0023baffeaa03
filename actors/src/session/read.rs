//! Reading a request: who is it, what version, how long, which descriptors; and every way in which
//! it can be wrong, each with an answer. Memory is taken for what the header announces only after
//! the header was found good, and the time for the whole is short.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use quantum_cni::access::{self, Asked, Forbidden};
use quantum_cni::kernel::peer::{self, Credentials};
use quantum_config::cni::{CniError, Code};
use quantum_config::wire::{HEADER, Header, Reply, Request, WireError};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::refuse;

/// A plugin sends its request in one piece; who takes longer holds up a place for others.
const TIME_TO_SEND: Duration = Duration::from_secs(5);

/// Why there is no request.
pub(super) enum ReadError {
    /// The peer hung up before it had said everything.
    HungUp,
    /// It took too long.
    Slow,
    /// Reading failed.
    Io(io::Error),
    /// The peer may not use the socket.
    Forbidden(Forbidden),
    /// What it said is no request.
    Wire(WireError),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HungUp => f.write_str("the peer hung up in the middle of its request"),
            Self::Slow => f.write_str("the peer did not finish its request in time"),
            Self::Io(error) => write!(f, "reading the request: {error}"),
            Self::Forbidden(forbidden) => forbidden.fmt(f),
            Self::Wire(error) => error.fmt(f),
        }
    }
}

impl ReadError {
    /// What the peer is told; nothing if it is not there.
    pub(super) fn answer(&self) -> Option<Vec<u8>> {
        let code = match self {
            Self::HungUp | Self::Io(_) => return None,
            Self::Wire(WireError::NoCommonVersion(..)) => return Some(Reply::refusal()),
            Self::Wire(WireError::Oversized(_)) | Self::Slow => Code::Io,
            Self::Wire(_) => Code::IncompatibleProtocol,
            Self::Forbidden(_) => Code::Forbidden,
        };
        let error = CniError::new(code, "the daemon cannot take this request")
            .with_details(self.to_string());
        Some(refuse(&error, None).encode())
    }
}

/// Reads the one request of a connection, and who asks.
pub(super) async fn request(
    connection: &UnixStream,
    readers: Option<u32>,
) -> Result<(Credentials, Request, Vec<OwnedFd>), ReadError> {
    let peer = peer::credentials(connection.as_fd()).map_err(ReadError::Io)?;
    access::decide(&peer, readers, Asked::Connection).map_err(ReadError::Forbidden)?;
    let read = tokio::time::timeout(TIME_TO_SEND, frame(connection)).await;
    let (request, descriptors) = read.map_err(|_| ReadError::Slow)??;
    Ok((peer, request, descriptors))
}

async fn frame(connection: &UnixStream) -> Result<(Request, Vec<OwnedFd>), ReadError> {
    let mut descriptors = Vec::new();
    let mut header = [0; HEADER];
    fill(connection, &mut header, &mut descriptors).await?;
    let header = Header::decode(&header).map_err(ReadError::Wire)?;
    let mut body = vec![0; header.length as usize];
    fill(connection, &mut body, &mut descriptors).await?;
    if descriptors.len() != usize::from(header.descriptors) {
        let found = u8::try_from(descriptors.len()).unwrap_or(u8::MAX);
        return Err(ReadError::Wire(WireError::Descriptors(found)));
    }
    let request = Request::decode(&header, &body).map_err(ReadError::Wire)?;
    Ok((request, descriptors))
}

/// Fills the buffer; descriptors that come along are added to the others.
async fn fill(
    connection: &UnixStream,
    mut buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<(), ReadError> {
    while !buffer.is_empty() {
        let received = connection
            .async_io(Interest::READABLE, || peer::receive(connection.as_fd(), buffer))
            .await;
        let (n, mut more) = received.map_err(ReadError::Io)?;
        if n == 0 {
            return Err(ReadError::HungUp);
        }
        descriptors.append(&mut more);
        buffer = buffer.get_mut(n..).unwrap_or_default();
    }
    Ok(())
}
