//! The socket: made so that nobody unauthorised can ever connect, and accepted from only while there
//! are places, so that a burst of root's waits in the kernel instead of in our memory. Other users have
//! shares of their own, and who has used its share up is refused, so that no user waits for another.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use actix::Actor;
use quantum_cni::kernel::closing;
use quantum_cni::kernel::peer;
use quantum_config::cni::{CniError, Code};
use slog::{Logger, debug, warn};
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};

use super::shares::{Limits, Shares};
use super::{Connection, House, Session, refuse};

/// How many connections are served at a time.
const PLACES: Limits = Limits { root: 1536, each: 64, others: 512 };
/// After an error such as "too many open files", before the next try.
const PAUSE: Duration = Duration::from_millis(50);

/// Why the socket could not be made.
#[derive(Debug, Error)]
#[error("{doing} {}: {source}", path.display())]
pub(crate) struct ListenError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The daemon's socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Makes the socket: 0660 and the group's if there is one, else 0600. It gets its owner and mode
    /// under another name and is then renamed: there is no moment in which it is open to all, nor
    /// one without a socket when a daemon replaces another. The caller holds the lock of the network
    /// namespace, so a socket that is there already is nobody's.
    pub(crate) fn bind(path: &Path, group: Option<u32>) -> Result<Self, ListenError> {
        let fail = |doing| move |source| ListenError { doing, path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(fail("making the directory of"))?;
        }
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                let why = io::Error::new(io::ErrorKind::AlreadyExists, "it is not a socket");
                return Err(fail("replacing")(why));
            }
            _ => {}
        }
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        let _ = fs::remove_file(&unfinished);
        let socket = UnixListener::bind(&unfinished).map_err(fail("binding the socket"))?;
        // In a user namespace the group may be there and not be ours to give.
        let shared = group.is_some() && chown(&unfinished, None, group).is_ok();
        let mode = if shared { 0o660 } else { 0o600 };
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(mode))
            .map_err(fail("setting the mode of"))?;
        fs::rename(&unfinished, path).map_err(fail("naming the socket"))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Accepts connections until `stop` is told.
    pub(crate) async fn run(self, house: Rc<House>, stop: tokio::sync::oneshot::Receiver<()>) {
        let log = house.log.clone();
        tokio::select! {
            () = accept(&self.socket, house, &log) => {}
            _ = stop => {}
        }
        let _ = fs::remove_file(&self.path);
    }
}

async fn accept(socket: &UnixListener, house: Rc<House>, log: &Logger) {
    let places = Shares::new(PLACES);
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
            peer.uid, PLACES.each, PLACES.others
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
