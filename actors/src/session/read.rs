//! Reading a request: who is it, what version, how long, which descriptors; and every way in which
//! it can be wrong, each with an answer. Memory is taken as bytes come, after the header was found good and
//! there is as much as it announces, and the time for the whole is short.

use std::fmt;
use std::io;
use std::time::{Duration, Instant as Moment};

use quantum_cni::access::{self, Asked, Forbidden};
use quantum_config::cni::{CniError, Code};
use quantum_config::wire::{HEADER, Header, MAX_DESCRIPTORS, Reply, Request, WireError};
use tokio::time::{Instant, timeout, timeout_at};

use super::memory::{Room, TOGETHER};
use super::{Connection, Memory, refuse};

/// A plugin sends its request in one piece; who takes longer holds up a place for others.
const TIME_TO_SEND: Duration = Duration::from_secs(5);
/// As long as the plugin waits for an ADD.
const TIME_FOR_ROOM: Duration = Duration::from_secs(60);
/// What is taken at first for a body, in bytes. Most are shorter.
const FIRST: usize = 16 * 1024;

/// Why there is no request.
pub(super) enum ReadError {
    /// The peer hung up before it had said everything.
    HungUp,
    /// It took too long.
    Slow,
    /// Others are sending too much.
    Busy,
    /// The descriptors that came with it could not be taken.
    NoDescriptors(io::Error),
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
            Self::Busy => write!(
                f,
                "others are sending it requests, and it keeps no more than {} MiB of those that are \
                 not complete; try again",
                TOGETHER >> 20
            ),
            Self::NoDescriptors(error) => {
                write!(
                    f,
                    "{error} (too many open files); try again, or raise its limit, LimitNOFILE"
                )
            }
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
            Self::Busy | Self::NoDescriptors(_) => Code::TryAgainLater,
            Self::Wire(_) => Code::IncompatibleProtocol,
            Self::Forbidden(_) => Code::Forbidden,
        };
        let error = CniError::new(code, "the daemon cannot take this request")
            .with_details(self.to_string());
        Some(refuse(&error, None).encode())
    }
}

/// A request that was read.
pub(super) struct Received {
    pub(super) request: Request,
    /// When its header was there: its deadline counts from then.
    pub(super) since: Moment,
    /// What it takes, while all of it is kept.
    pub(super) room: Room,
}

/// Reads the one request of a connection. The descriptors that came with it are as many as it says.
pub(super) async fn request(
    connection: &mut Connection,
    readers: Option<u32>,
    memory: &Memory,
) -> Result<Received, ReadError> {
    let peer = connection.peer();
    access::decide(peer, readers, Asked::Connection).map_err(ReadError::Forbidden)?;
    let uid = peer.uid;
    let deadline = Instant::now() + TIME_TO_SEND;
    let mut header = [0; HEADER];
    timeout_at(deadline, fill(connection, &mut header)).await.map_err(|_| ReadError::Slow)??;
    let header = Header::decode(&header).map_err(ReadError::Wire)?;
    let since = Moment::now();
    let room = memory.take(uid, header.length);
    // Root's requests wait in the kernel until there is room.
    let patience = if uid == 0 { TIME_FOR_ROOM } else { TIME_TO_SEND };
    let room = timeout(patience, room).await.ok().flatten().ok_or(ReadError::Busy)?;
    let deadline = Instant::now() + TIME_TO_SEND;
    let body = timeout_at(deadline, body(connection, header.length as usize)).await;
    let body = body.map_err(|_| ReadError::Slow)??;
    let sent = connection.sent();
    if sent != usize::from(header.descriptors) {
        let found = u8::try_from(sent).unwrap_or(u8::MAX);
        return Err(ReadError::Wire(WireError::Descriptors(found)));
    }
    let request = Request::decode(&header, &body).map_err(ReadError::Wire)?;
    Ok(Received { request, since, room })
}

/// As many bytes as the header announced, in memory that grows with what comes.
async fn body(connection: &mut Connection, length: usize) -> Result<Vec<u8>, ReadError> {
    let mut body = Vec::new();
    while body.len() < length {
        let begin = body.len();
        body.resize(length.min(begin + begin.max(FIRST)), 0);
        fill(connection, body.get_mut(begin..).unwrap_or_default()).await?;
    }
    Ok(body)
}

/// Fills the buffer.
async fn fill(connection: &mut Connection, mut buffer: &mut [u8]) -> Result<(), ReadError> {
    while !buffer.is_empty() {
        let n = connection.receive(buffer).await.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => ReadError::NoDescriptors(error),
            _ => ReadError::Io(error),
        })?;
        if n == 0 {
            return Err(ReadError::HungUp);
        }
        // Refused as soon as it is known: they are open files of ours.
        if connection.sent() > usize::from(MAX_DESCRIPTORS) {
            let found = u8::try_from(connection.sent()).unwrap_or(u8::MAX);
            return Err(ReadError::Wire(WireError::Descriptors(found)));
        }
        buffer = buffer.get_mut(n..).unwrap_or_default();
    }
    Ok(())
}
