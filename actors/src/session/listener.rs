//! The socket: made so that nobody unauthorised can ever connect, and accepted from only while there
//! are places, so that a burst waits in the kernel instead of in our memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use quantum_cni::kernel::socket_file;
use slog::{Logger, warn};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use super::{House, Session};
use crate::lifecycle::Failure;

/// How many connections are served at a time.
const PLACES: usize = 2048;
/// After an error such as "too many open files", before the next try.
const PAUSE: Duration = Duration::from_millis(50);

/// The daemon's socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Makes the socket: root's alone, or also the group's if there is one. The caller holds the lock of the
    /// network namespace, so a socket that is there already is nobody's.
    pub(crate) fn bind(path: &Path, readers: Option<u32>) -> Result<Self, Failure> {
        let socket = socket_file::listen(path, readers)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixListener::from_std(socket)?, path: path.to_owned() })
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
    let places = Arc::new(Semaphore::new(PLACES));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match socket.accept().await {
            Ok((connection, _)) => {
                Session::new(house.clone(), connection, place).start();
            }
            Err(error) => {
                warn!(log, "accepting a connection"; "error" => %error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
