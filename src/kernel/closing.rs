//! Closing what somebody else gave us, on threads that do nothing else.
//!
//! `close` may block for as long as whoever made the object likes: a TCP socket with SO_LINGER waits for
//! its unsent data, a file of FUSE or NFS for its server. So does closing a unix socket in which messages
//! with descriptors still wait. Each user has threads of its own, and as many as there are connections of
//! that user at most: nobody waits for what another user's descriptors do.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

/// More threads than this one user does not get. What waits then is closed when one of them is free.
const MOST_THREADS: usize = 64;
/// A thread that closes needs next to nothing.
const STACK: usize = 64 * 1024;

/// Descriptors of one connection.
struct Batch {
    descriptors: Vec<OwnedFd>,
    /// Dropped when they are closed.
    _after: Option<Box<dyn Send>>,
}

#[derive(Default)]
struct User {
    waiting: VecDeque<Batch>,
    threads: usize,
}

static USERS: LazyLock<Mutex<HashMap<u32, User>>> = LazyLock::new(Mutex::default);

fn users() -> MutexGuard<'static, HashMap<u32, User>> {
    USERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has descriptors that this user sent closed elsewhere, and drops `after` when they are.
pub fn close(uid: u32, descriptors: Vec<OwnedFd>, after: Option<Box<dyn Send>>) {
    let mut users = users();
    let user = users.entry(uid).or_default();
    user.waiting.push_back(Batch { descriptors, _after: after });
    if user.threads >= MOST_THREADS {
        return;
    }
    user.threads += 1;
    drop(users);
    let spawned = Builder::new().name("close".into()).stack_size(STACK).spawn(move || work(uid));
    if spawned.is_err() {
        // Without a thread they stay open until the next one of this user takes them along.
        let mut users = self::users();
        if let Some(user) = users.get_mut(&uid) {
            user.threads -= 1;
        }
    }
}

fn work(uid: u32) {
    loop {
        let mut users = users();
        let Some(user) = users.get_mut(&uid) else { return };
        let Some(batch) = user.waiting.pop_front() else {
            user.threads -= 1;
            if user.threads == 0 {
                users.remove(&uid);
            }
            return;
        };
        drop(users);
        // The order of the fields is the order in which they go.
        drop(batch);
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("descriptors", &self.descriptors).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::sync::mpsc::{self, Sender};
    use std::time::Duration;

    use nix::sys::socket::{setsockopt, sockopt};

    use super::*;

    /// Says that it was dropped.
    struct Says(Sender<u32>, u32);

    impl Drop for Says {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }

    /// A socket whose close waits until its peer reads, and that peer.
    fn lingering() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        while ours.write(&[0; 65536]).is_ok() {}
        // Else close would not wait.
        ours.set_nonblocking(false).unwrap();
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 3600 };
        setsockopt(&ours.as_fd(), sockopt::Linger, &linger).unwrap();
        (ours.into(), theirs)
    }

    #[test]
    fn one_that_blocks_holds_up_neither_its_user_nor_others() {
        let (tell, told) = mpsc::channel();
        let says = |n| -> Option<Box<dyn Send>> { Some(Box::new(Says(tell.clone(), n))) };
        let (ours, mut theirs) = lingering();
        let (reader, writer) = std::io::pipe().unwrap();
        close(4_000_001, vec![ours], says(1));
        close(4_000_001, vec![reader.into()], says(2));
        close(4_000_002, vec![writer.into()], says(3));
        let mut first = [told.recv().unwrap(), told.recv().unwrap()];
        first.sort_unstable();
        assert_eq!(first, [2, 3]);
        assert!(told.try_recv().is_err(), "it waits for its peer");
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        theirs.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(told.recv().unwrap(), 1);
    }
}
