//! One question to the daemon and its answer.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use quantum_cni::printable::printable_document;
use quantum_config::ask::Ask;
use quantum_config::wire::{
    Control, DEFAULT_SOCKET, HEADER, Header, Reply, SOCKET_VARIABLE, WireError,
};
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The daemon answers from memory; who waits longer waits for nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// What changes rules waits for the kernel, and a simulation for a processor.
const LONG_PATIENCE: Duration = Duration::from_secs(60);

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
    /// We may not use its socket.
    #[error(
        "not allowed to connect to {socket}: run quantumctl as root; a member of the daemon's reader_group may ask what changes nothing"
    )]
    Forbidden {
        /// Which.
        socket: String,
    },
    /// It said something else.
    #[error("{0}; quantumctl and quantum-cnid are of different releases")]
    Protocol(#[from] WireError),
    /// It said no.
    #[error("quantum-cnid answered: {0}")]
    Refused(String),
    /// The question could not be put.
    #[error("{0}")]
    Question(String),
}

/// Asks what needs no more than its name; the answer is a JSON document.
pub(crate) fn ask(question: &str) -> Result<String, AskError> {
    put(&Control { question: question.to_owned(), ..Control::default() }, PATIENCE)
}

/// An answer as it is shown to people: names in it are chosen by others.
pub(crate) fn read<T: DeserializeOwned>(answer: &str) -> Result<T, AskError> {
    let document = serde_json::from_str(answer).map(printable_document);
    document.and_then(serde_json::from_value).map_err(|e| AskError::Refused(e.to_string()))
}

/// Asks about policy. Gives the answer as it came, and as what it says.
pub(crate) fn ask_policy<T: DeserializeOwned>(asked: &Ask) -> Result<(String, T), AskError> {
    let control = asked.control().map_err(|error| AskError::Question(error.to_string()))?;
    let text = put(&control, LONG_PATIENCE)?;
    let answer = read(&text)?;
    Ok((text, answer))
}

fn put(control: &Control, patience: Duration) -> Result<String, AskError> {
    let socket = std::env::var(SOCKET_VARIABLE).unwrap_or_else(|_| DEFAULT_SOCKET.to_owned());
    let frame = control.encode()?;
    let (header, body) =
        exchange(&socket, &frame, patience).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => AskError::Forbidden { socket },
            _ => AskError::NoAnswer { socket, source },
        })?;
    let header = Header::decode(&header)?;
    let reply = Reply::decode(&header, &body)?;
    if reply.exit == 0 { Ok(reply.stdout) } else { Err(AskError::Refused(refusal(&reply.stdout))) }
}

/// What an error object of CNI says, or the text itself if it is none.
fn refusal(text: &str) -> String {
    let error: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    match (error["msg"].as_str(), error["details"].as_str()) {
        (Some(msg), Some(details)) if !details.is_empty() => format!("{msg}: {details}"),
        (Some(msg), _) => msg.to_owned(),
        _ => text.to_owned(),
    }
}

/// The header as bytes and the body it announces; a header that is none has no body.
fn exchange(socket: &str, frame: &[u8], patience: Duration) -> io::Result<([u8; HEADER], Vec<u8>)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(frame)?;
    let mut header = [0; HEADER];
    stream.read_exact(&mut header)?;
    let length = Header::decode(&header).map_or(0, |h| h.length as usize);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((header, body))
}
