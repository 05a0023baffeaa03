//! A client of the daemon's socket that need not behave: what the plugin says, and what it never
//! would.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use quantum_config::cni::Environment;
use quantum_config::wire::{self, Descriptor, HEADER, Header, Reply};
use serde_json::json;

use super::eventually::BOUND;
use super::netns::Netns;
use super::plugin::Call;

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Client(UnixStream);

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A reply to a call.
    Reply(Reply),
    /// The daemon's range of versions: oldest and newest.
    Refusal(u8, u8),
    /// The connection was closed without a word.
    Closed,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(BOUND))?;
        stream.set_write_timeout(Some(BOUND))?;
        Ok(Self(stream))
    }

    /// Sends bytes as they are. An error (the daemon closed) is for the caller to judge.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Sends bytes with descriptors on the first.
    pub(crate) fn send_with(&mut self, bytes: &[u8], files: &[RawFd]) -> std::io::Result<()> {
        let rights = [ControlMessage::ScmRights(files)];
        let sent = sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(bytes)],
            if files.is_empty() { &[] } else { &rights },
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        self.send(&bytes[sent..])
    }

    /// Sends a call as the plugin on `host` would, with the descriptors of `host` and, if there is
    /// one, of the container.
    pub(crate) fn call(&mut self, call: &Call, host: &Netns, container: Option<&Netns>) {
        let (bytes, files) = frame(call, host, container);
        let raw: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        self.send_with(&bytes, &raw).expect("the call was sent");
    }

    /// Says that nothing more will come.
    pub(crate) fn finish(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }

    /// Has the daemon closed its end? Bytes that it sent may still be there.
    pub(crate) fn is_closed(&self) -> bool {
        self.is(PollFlags::POLLHUP)
    }

    /// Has the daemon answered, or closed?
    pub(crate) fn has_answer(&self) -> bool {
        self.is(PollFlags::POLLIN)
    }

    fn is(&self, event: PollFlags) -> bool {
        let mut of = [PollFd::new(self.0.as_fd(), event)];
        poll(&mut of, PollTimeout::ZERO).expect("polled");
        of[0].revents().is_some_and(|events| events.contains(event))
    }

    /// Reads the answer, within the bound.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        let mut head = [0; HEADER];
        match self.0.read_exact(&mut head) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("neither an answer nor a close within {BOUND:?}")
            }
            Err(_) => return Answer::Closed,
        }
        let header = Header::decode(&head).expect("a header of the daemon");
        if header.kind == wire::Kind::Refusal {
            return Answer::Refusal(header.oldest, header.newest);
        }
        let mut body = vec![0; header.length as usize];
        self.0.read_exact(&mut body).expect("the whole body");
        Answer::Reply(Reply::decode(&header, &body).expect("a reply"))
    }

    /// The answer, which must be a reply.
    #[track_caller]
    pub(crate) fn reply(&mut self) -> Reply {
        match self.answer() {
            Answer::Reply(reply) => reply,
            other => panic!("a reply was expected: {other:?}"),
        }
    }
}

/// The frame the plugin would send, and the files whose descriptors go with it.
pub(crate) fn frame(call: &Call, host: &Netns, container: Option<&Netns>) -> (Vec<u8>, Vec<File>) {
    let mut descriptors = vec![Descriptor::Host];
    let mut files = vec![File::open(host.path()).expect("the host's namespace")];
    if let Some(container) = container {
        descriptors.push(Descriptor::Container);
        files.push(File::open(container.path()).expect("the container's namespace"));
    }
    let request = wire::Call {
        request_id: "test".to_owned(),
        deadline_ms: 30_000,
        env: Environment::from_vars(|name| Some(call.get(name).into())),
        stdin: call.input().to_vec(),
        descriptors,
        ..wire::Call::default()
    };
    (request.encode().expect("a frame"), files)
}

/// Does the daemon at this socket say that an ADD would be served?
pub(crate) fn ready(socket: &Path) -> bool {
    let conf =
        json!({ "cniVersion": "1.1.0", "name": "any", "type": "quantum-cni", "bridge": "any0" });
    let request = wire::Call {
        request_id: "ready".to_owned(),
        deadline_ms: 5_000,
        env: Environment { command: "STATUS".to_owned(), ..Environment::default() },
        stdin: conf.to_string().into_bytes(),
        ..wire::Call::default()
    };
    let Ok(mut client) = Client::connect(socket) else { return false };
    if client.send(&request.encode().expect("a frame")).is_err() {
        return false;
    }
    matches!(client.answer(), Answer::Reply(Reply { exit: 0, .. }))
}
