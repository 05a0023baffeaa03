//! The socket: handed over by a supervisor that keeps it when the daemon stops, or made so that nobody unauthorised can ever connect, and accepted from only while there
//! are places, so that a burst of root's waits in the kernel instead of in our memory. Other users have
//! shares of their own, and who has used its share up is refused, so that no user waits for another.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use actix::Actor;
use quantum_cni::kernel::{activation, closing, descriptors, peer, socket_file};
use quantum_cni::places::Places;
use quantum_config::cni::{CniError, Code};
use slog::{Logger, debug, warn};
use tokio::net::{UnixListener, UnixStream};

use super::shares::{Limits, Shares};
use super::{Connection, House, Session, refuse};
use crate::lifecycle::Failure;

/// After an error such as "too many open files", before the next try.
const PAUSE: Duration = Duration::from_millis(50);

/// The daemon's socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    /// Where it is, if it is ours.
    own: Option<PathBuf>,
    places: Limits,
}

/// How many connections there are places for, and what is to be said if those are few.
pub(crate) fn places(log: &Logger) -> Result<(Places, Vec<String>), Failure> {
    let descriptors =
        descriptors::raise().map_err(|e| format!("reading RLIMIT_NOFILE: {}", e.desc()))?;
    let places = Places::within(descriptors);
    let short = places.short(descriptors);
    if let Some(short) = &short {
        warn!(log, "there are few descriptors"; "error" => short);
    }
    Ok((places, short.into_iter().collect()))
}

/// The number of `reader_group`. A daemon that did without it would leave its members wondering.
pub(crate) fn readers(named: &str) -> Result<u32, Failure> {
    let found =
        peer::group(named).map_err(|e| format!("reader_group: looking up {named:?}: {e}"))?;
    found.ok_or_else(|| {
        format!("reader_group: there is no group {named:?} on this host: make it, or leave reader_group out")
            .into()
    })
}

impl Listener {
    /// The socket: root's alone, or also the group's if there is one. One that was not handed over is made.
    /// The caller holds the lock of the network namespace, so a socket that is there already is nobody's.
    pub(crate) fn bind(
        path: &Path,
        readers: Option<u32>,
        places: &Places,
    ) -> Result<Self, Failure> {
        let (socket, own) = match activation::take(path, readers)? {
            Some(kept) => (kept, None),
            None => (socket_file::listen(path, readers)?, Some(path.to_owned())),
        };
        socket.set_nonblocking(true)?;
        let places = Limits { root: places.root, each: places.each, others: places.others };
        Ok(Self { socket: UnixListener::from_std(socket)?, own, places })
    }

    /// Accepts connections until `stop` is told. Those that were not accepted wait for the next daemon, or are
    /// told by the kernel that nobody has read what they sent.
    pub(crate) async fn run(self, house: Rc<House>, stop: tokio::sync::oneshot::Receiver<()>) {
        let log = house.log.clone();
        tokio::select! {
            () = accept(&self.socket, self.places, house, &log) => {}
            _ = stop => {}
        }
        if let Some(own) = &self.own {
            let _ = fs::remove_file(own);
        }
    }
}

async fn accept(socket: &UnixListener, limits: Limits, house: Rc<House>, log: &Logger) {
    let places = Shares::new(limits);
    loop {
        match socket.accept().await {
            Ok((stream, _)) => {
                if let Some(connection) = admit(stream, &places, log).await {
                    Session::new(house.clone(), connection).start();
                }
            }
            Err(error) => {
                warn!(log, "accepting a connection"; "error" => %error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Gives a connection its place. Nobody but root is waited for.
async fn admit(stream: UnixStream, places: &Shares, log: &Logger) -> Option<Connection> {
    let peer = match peer::credentials(stream.as_fd()) {
        Ok(peer) => peer,
        Err(error) => {
            warn!(log, "asking the kernel who connected"; "error" => %error);
            turn_away(stream, peer::NOBODY);
            return None;
        }
    };
    let place = match peer.uid {
        0 => places.take(0, 1).await,
        uid => places.try_take(uid, 1),
    };
    let Some(place) = place else {
        debug!(log, "a user has too many connections"; "uid" => peer.uid);
        let why = format!(
            "user {} has {} connections, or all users but root together {}: close some and try again",
            peer.uid,
            places.limits().each,
            places.limits().others
        );
        let error = CniError::new(Code::TryAgainLater, "the daemon takes no more connections")
            .with_details(why);
        // It fits into a socket that nothing was written to.
        let _ = stream.try_write(&refuse(&error, None).encode());
        turn_away(stream, peer.uid);
        return None;
    };
    Some(Connection::new(stream, peer, place))
}

/// Closes a connection of which nothing was read.
fn turn_away(stream: UnixStream, uid: u32) {
    if let Ok(stream) = stream.into_std() {
        closing::close(uid, vec![stream.into()], None);
    }
}
