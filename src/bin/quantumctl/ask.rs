//! One question to the daemon and its answer.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use quantum_config::wire::{
    Control, DEFAULT_SOCKET, HEADER, Header, Reply, SOCKET_VARIABLE, WireError,
};
use thiserror::Error;

/// The daemon answers from memory; who waits longer waits for nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum AskError {
    /// It could not be reached.
    #[error(
        "quantum-cnid does not answer at {socket}: {source}; is it running, and is {SOCKET_VARIABLE} right?"
    )]
    NoAnswer {
        /// Where.
        socket: String,
        /// Why.
        source: io::Error,
    },
    /// It said something else.
    #[error("{0}; quantumctl and quantum-cnid are of different releases")]
    Protocol(#[from] WireError),
    /// It said no.
    #[error("quantum-cnid answered: {0}")]
    Refused(String),
}

/// Asks; the answer is a JSON document.
pub(crate) fn ask(question: &str) -> Result<String, AskError> {
    let socket = std::env::var(SOCKET_VARIABLE).unwrap_or_else(|_| DEFAULT_SOCKET.to_owned());
    let frame = Control { question: question.to_owned(), ..Control::default() }.encode()?;
    let (header, body) =
        exchange(&socket, &frame).map_err(|source| AskError::NoAnswer { socket, source })?;
    let header = Header::decode(&header)?;
    let reply = Reply::decode(&header, &body)?;
    if reply.exit == 0 { Ok(reply.stdout) } else { Err(AskError::Refused(reply.stdout)) }
}

/// The header as bytes and the body it announces; a header that is none has no body.
fn exchange(socket: &str, frame: &[u8]) -> io::Result<([u8; HEADER], Vec<u8>)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(frame)?;
    let mut header = [0; HEADER];
    stream.read_exact(&mut header)?;
    let length = Header::decode(&header).map_or(0, |h| h.length as usize);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((header, body))
}
