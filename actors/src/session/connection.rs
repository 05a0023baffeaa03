//! A connection: who is at its other end, what it sends, and how it ends. Whatever is read from the socket
//! is read here, because descriptors can come with any byte; and whatever a peer sent is closed on a thread
//! that does nothing else, because closing it may block for as long as the peer likes.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use quantum_cni::kernel::peer::{self, Credentials, Sent};
use quantum_config::wire::MAX_DESCRIPTORS;
use slog::{Logger, debug};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::shares::Share;

/// How long a peer has to take its answer.
const TIME_TO_TAKE: Duration = Duration::from_secs(5);
/// How long it then has to hang up.
const LINGER: Duration = Duration::from_millis(200);

/// A connection that was accepted. It has its place until all that came by it is closed.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: Credentials,
    open: Option<Open>,
    /// The peer has hung up, and all that it sent was received.
    has_ended: bool,
}

#[derive(Debug)]
struct Open {
    stream: UnixStream,
    sent: Sent,
    place: Share,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, peer: Credentials, place: Share) -> Self {
        let sent = Sent::new(peer.uid);
        Self { peer, open: Some(Open { stream, sent, place }), has_ended: false }
    }

    /// Who is at the other end.
    pub(super) fn peer(&self) -> &Credentials {
        &self.peer
    }

    fn open(&mut self) -> io::Result<&mut Open> {
        self.open.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// How many descriptors came so far.
    pub(super) fn sent(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.sent.count())
    }

    /// The descriptors that came so far.
    pub(super) fn take_sent(&mut self) -> Sent {
        let none = Sent::new(self.peer.uid);
        match &mut self.open {
            Some(open) => std::mem::replace(&mut open.sent, none),
            None => none,
        }
    }

    /// Receives bytes; 0 is the end.
    pub(super) async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Open { stream, sent, .. } = self.open()?;
        let receive = || peer::receive(stream.as_fd(), buffer, sent);
        let received = stream.async_io(Interest::READABLE, receive).await;
        self.has_ended |= matches!(received, Ok(0));
        received
    }

    /// Returns when the peer has closed its end, or sends descriptors. It has said everything, so bytes that
    /// come now are let pass.
    pub(super) async fn hung_up(&mut self) {
        // Each call has one, and hardly ever needs it.
        let mut scrap = [0; 256];
        while self.receive(&mut scrap).await.is_ok_and(|n| n > 0) && self.sent() == 0 {}
    }

    /// Sends an answer and waits a moment for the peer to take it and hang up; false if it did not. A
    /// peer that goes with the answer unread resets the connection; one that has read it only closes.
    pub(super) async fn deliver(&mut self, answer: &[u8], log: &Logger) -> bool {
        let sent = self.send(answer).await;
        let taken = self.linger().await;
        if let Err(error) = sent.and(taken) {
            debug!(log, "answer not delivered"; "error" => %error);
            return false;
        }
        true
    }

    /// Who does not read has not got it, and does not keep its place.
    async fn send(&mut self, answer: &[u8]) -> io::Result<()> {
        let stream = &mut self.open()?.stream;
        let sent = timeout(TIME_TO_TAKE, stream.write_all(answer)).await;
        sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads what the peer still sends until it hangs up, for a moment. Closing a socket with unread
    /// bytes would reset the connection, and the peer would never see why it was refused.
    async fn linger(&mut self) -> io::Result<()> {
        let _ = self.open()?.stream.shutdown().await;
        // Beside the future, which has room for it from the start of the connection.
        let mut scrap = vec![0; 4096];
        let drain = async {
            while self.receive(&mut scrap).await? > 0 && self.sent() <= usize::from(MAX_DESCRIPTORS)
            {
            }
            Ok(())
        };
        // A peer that keeps its end open has not said that it did not read the answer.
        timeout(LINGER, drain).await.unwrap_or(Ok(()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(Open { stream, sent, place }) = self.open.take() else { return };
        if self.has_ended && sent.is_empty() {
            return; // nothing can be left in the socket
        }
        if let Ok(stream) = stream.into_std() {
            sent.close(stream.into(), place);
        }
    }
}
