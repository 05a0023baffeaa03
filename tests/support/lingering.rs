//! Descriptors whose last close blocks, for as long as the test likes.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::thread::JoinHandle;

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::Mode;

use super::daemon::Daemon;
use super::netns::Netns;

/// Longer than any test waits.
const LINGER: i32 = 3600;

/// The other ends of TCP sockets with SO_LINGER and data that nobody reads. Who closes such a socket last
/// waits until this is dropped.
#[derive(Debug)]
pub(crate) struct Lingering {
    peers: Vec<TcpStream>,
}

/// The sockets.
#[derive(Debug)]
pub(crate) struct Sockets(Vec<OwnedFd>);

impl Lingering {
    /// Makes so many on this host's loopback, and has them sent. That is done on a thread with a table of
    /// descriptors of its own: a program that another test starts meanwhile would have them too, until its
    /// `exec` closes them, and would wait there.
    pub(crate) fn give<T: Send>(
        host: &Netns,
        count: usize,
        send: impl FnOnce(&mut Sockets) -> T + Send,
    ) -> (Self, T) {
        let listener = host.run(|| TcpListener::bind("127.0.0.1:0").expect("a listener"));
        // Inherited by what is accepted. A little is enough.
        setsockopt(&listener.as_fd(), sockopt::RcvBuf, &4096).expect("a small buffer");
        let address = listener.local_addr().expect("its address");
        std::thread::scope(|scope| {
            let make = || {
                unshare(CloneFlags::CLONE_FILES).expect("a table of its own");
                let sockets = host.run(|| (0..count).map(|_| lingering(address)).collect());
                send(&mut Sockets(sockets))
            };
            let made = scope.spawn(make);
            let accept = |_| listener.accept().expect("accepted").0;
            let peers = (0..count).map(accept).collect();
            (Self { peers }, made.join().expect("a thread"))
        })
    }
}

fn lingering(address: SocketAddr) -> OwnedFd {
    let mut socket = TcpStream::connect(address).expect("connected");
    setsockopt(&socket.as_fd(), sockopt::SndBuf, &4096).expect("a small buffer");
    socket.set_nonblocking(true).expect("set");
    while socket.write(&[0; 4096]).is_ok() {}
    // A close does not wait otherwise.
    socket.set_nonblocking(false).expect("set");
    let linger = nix::libc::linger { l_onoff: 1, l_linger: LINGER };
    setsockopt(&socket.as_fd(), sockopt::Linger, &linger).expect("set");
    socket.into()
}

impl Sockets {
    pub(crate) fn raw(&self) -> Vec<RawFd> {
        self.0.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// Lets go of them: whoever was sent them has the last descriptors now. Should that be nobody, it is the
    /// thread that waits.
    pub(crate) fn leave(&mut self) -> JoinHandle<()> {
        let sockets = std::mem::take(&mut self.0);
        std::thread::spawn(move || drop(sockets))
    }
}

impl Drop for Lingering {
    /// Resets the connections, whoever else may have a descriptor of these ends.
    fn drop(&mut self) {
        // SAFETY: plain data, for which all zeros is a valid value: the family is AF_UNSPEC.
        let nowhere: nix::libc::sockaddr = unsafe { std::mem::zeroed() };
        let length = size_of_val(&nowhere) as u32;
        for peer in &self.peers {
            // SAFETY: the descriptor is open, and the address lives and has this length.
            unsafe { nix::libc::connect(peer.as_raw_fd(), &raw const nowhere, length) };
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = self.leave();
    }
}

/// A file system whose server never answers: whoever asks it waits.
#[derive(Debug)]
pub(crate) struct Unanswered<'p> {
    at: &'p Path,
    _server: OwnedFd,
}

impl<'p> Unanswered<'p> {
    /// Mounts it, or says why it cannot be.
    pub(crate) fn mount(at: &'p Path) -> Result<Self, String> {
        let opened = nix::fcntl::open("/dev/fuse", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty());
        let server = opened.map_err(|e| format!("/dev/fuse cannot be opened: {e}"))?;
        std::fs::create_dir(at).expect("a folder");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        mount(Some("none"), at, Some("fuse"), MsFlags::empty(), Some(options.as_str()))
            .map_err(|e| format!("FUSE cannot be mounted: {e}"))?;
        Ok(Self { at, _server: server })
    }

    /// A descriptor of it, which can be had without asking the server.
    pub(crate) fn descriptor(&self) -> OwnedFd {
        nix::fcntl::open(self.at, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).expect("opened")
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let _ = umount2(self.at, MntFlags::MNT_DETACH);
    }
}

/// How many threads of a daemon wait in `close`.
pub(crate) fn closing(daemon: &Daemon) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("its threads");
    let named = tasks.flatten().filter(|task| {
        // One that has just ended has no name any more.
        let name = File::open(task.path().join("comm")).and_then(std::io::read_to_string);
        name.is_ok_and(|name| name.trim() == "close")
    });
    named.count()
}
