//! The daemon's side of its socket: who is at the other end, and the descriptors they send.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Group;

use super::closing;
use super::netns::{Netns, NetnsError};

/// How many descriptors can come with one message (`SCM_MAX_FD` of the kernel). There is room for all of
/// them: the kernel itself closes what there is no room for, on the thread that receives.
const MOST: usize = 253;

// SAFETY: CMSG_SPACE only computes a length.
const CONTROL: usize = unsafe { libc::CMSG_SPACE((MOST * size_of::<RawFd>()) as u32) } as usize;

/// Control messages begin with a `cmsghdr`, so their buffer is aligned like one.
#[repr(C)]
union Control {
    bytes: [u8; CONTROL],
    header: libc::cmsghdr,
}

/// Descriptors that a peer sent, each closed on exec. Only network namespaces can be taken out; the others
/// are never closed by the thread that drops them, because that may block (see [`closing`]).
#[derive(Debug)]
pub struct Sent {
    uid: u32,
    descriptors: VecDeque<OwnedFd>,
    refused: Vec<OwnedFd>,
}

impl Sent {
    /// None yet, of a peer of this user.
    pub fn new(uid: u32) -> Self {
        Self { uid, descriptors: VecDeque::new(), refused: Vec::new() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.descriptors.len()
    }

    /// The next one, in their order.
    pub fn next_netns(&mut self) -> Option<Result<Netns, NetnsError>> {
        let fd = self.descriptors.pop_front()?;
        Some(match Netns::examine(fd.as_fd()) {
            Ok(id) => Ok(Netns::examined(fd, id)),
            Err(error) => {
                self.refused.push(fd);
                Err(error)
            }
        })
    }

    /// Has `connection` closed elsewhere, then all that are left, and drops `after` when they are. What came
    /// with bytes that nobody received is closed with the connection, and may block as well; the peer sees
    /// before that it is closed.
    pub fn close(mut self, connection: OwnedFd, after: impl Send + 'static) {
        let left = std::iter::once(connection).chain(self.left()).collect();
        closing::close(self.uid, left, Some(Box::new(after)));
    }

    /// Nothing would have to be closed.
    pub fn is_empty(&self) -> bool {
        self.descriptors.is_empty() && self.refused.is_empty()
    }

    fn left(&mut self) -> impl Iterator<Item = OwnedFd> {
        self.descriptors.drain(..).chain(self.refused.drain(..))
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if !self.is_empty() {
            let left = self.left().collect();
            closing::close(self.uid, left, None);
        }
    }
}

/// Receives bytes, and the descriptors that came with them.
///
/// 0 bytes are the end of the stream. On a non-blocking socket with nothing to read the error is
/// `WouldBlock`, as `tokio`'s `try_io` wants it. Where the process cannot have another descriptor the error
/// is `InvalidData`, and the kernel has closed what was left.
pub fn receive(fd: BorrowedFd<'_>, buf: &mut [u8], sent: &mut Sent) -> io::Result<usize> {
    let mut into = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let mut control = Control { bytes: [0; CONTROL] };
    // SAFETY: `msghdr` is plain data for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut into;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL;
    let received = loop {
        // SAFETY: the descriptor is open, and `message` points to `buf` and `control`, which live
        // and are not touched otherwise until the call returns, with their true lengths.
        let n = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match usize::try_from(n) {
            Ok(n) => break n,
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            },
        }
    };
    // Taken into ownership before anything can fail, so that none leaks.
    take_descriptors(&message, &mut sent.descriptors);
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        let why = "the daemon has too many descriptors open to take those that came";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(received)
}

fn take_descriptors(message: &libc::msghdr, descriptors: &mut VecDeque<OwnedFd>) {
    // SAFETY: the kernel has filled the control buffer and set its length; the macros walk it
    // within that length, and the buffer is alive (`message` borrows nothing shorter).
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: `header` is null or points to a whole `cmsghdr` in the aligned buffer.
    while let Some(control) = unsafe { header.as_ref() } {
        if control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: these only compute an address in the buffer and a length.
            let (data, empty) = unsafe { (libc::CMSG_DATA(header), libc::CMSG_LEN(0)) };
            let bytes = control.cmsg_len.saturating_sub(empty as usize);
            for i in 0..bytes / size_of::<RawFd>() {
                // SAFETY: the kernel put that many descriptors there. Each is open, new, and known
                // to nobody but us.
                let fd = unsafe {
                    let raw = ptr::read_unaligned(data.cast::<RawFd>().add(i));
                    OwnedFd::from_raw_fd(raw)
                };
                descriptors.push_back(fd);
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
}

/// The user of a peer that the kernel does not name (`overflowuid`).
pub const NOBODY: u32 = 65534;

/// Who opened a connection, as the kernel noted when they did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The process. It may be gone, and its number in use again.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
}

/// Asks who is at the other end of a unix socket.
///
/// The groups are those the process really has (`SO_PEERGROUPS`, Linux 4.13), the same that the
/// kernel compares with the socket file's mode, and not what a user database says of the user:
/// that would have to be asked, perhaps over a network, on the path of every request.
pub fn credentials(fd: BorrowedFd<'_>) -> io::Result<Credentials> {
    let peer = getsockopt(&fd, sockopt::PeerCredentials)?;
    Ok(Credentials { pid: peer.pid(), uid: peer.uid(), gid: peer.gid(), groups: groups(fd)? })
}

fn groups(fd: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 32];
    loop {
        let mut length = size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: the descriptor is open; the kernel writes at most `length` bytes to `groups`,
        // which has as many, and the length to `length`.
        let result = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<libc::gid_t>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        match io::Error::last_os_error() {
            // There are more, and `length` says how many.
            e if e.raw_os_error() == Some(libc::ERANGE) && count > groups.len() => {
                groups.resize(count, 0);
            }
            e => return Err(e),
        }
    }
}

/// The number of a group of this host, which is named by its name or by its number; none if there is no
/// group of that name.
pub fn group(named: &str) -> io::Result<Option<u32>> {
    match named.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Ok(Group::from_name(named)?.map(|group| group.gid.as_raw())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSlice, Read};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use nix::sys::stat::fstat;

    use super::*;

    fn send(to: &UnixStream, bytes: &[u8], files: &[&File]) {
        let raw: Vec<RawFd> = files.iter().map(|file| file.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[] } else { &rights[..] };
        let bytes = [IoSlice::new(bytes)];
        sendmsg::<()>(to.as_raw_fd(), &bytes, control, MsgFlags::empty(), None).unwrap();
    }

    fn sent() -> Sent {
        Sent::new(nix::unistd::geteuid().as_raw())
    }

    #[test]
    fn descriptors_arrive_with_their_bytes_and_close_on_exec() {
        let (client, server) = UnixStream::pair().unwrap();
        let (net, pid) =
            (File::open("/proc/self/ns/net").unwrap(), File::open("/proc/self/ns/pid").unwrap());
        send(&client, b"hello", &[&net, &pid]);
        send(&client, b"bare", &[]);
        let (mut buf, mut sent) = ([0; 64], sent());
        let n = receive(server.as_fd(), &mut buf, &mut sent).unwrap();
        assert_eq!((&buf[..n], sent.count()), (&b"hello"[..], 2));
        for (fd, file) in sent.descriptors.iter().zip([&net, &pid]) {
            assert_eq!(fstat(fd).unwrap().st_ino, fstat(file).unwrap().st_ino);
            assert_eq!(fcntl(fd, FcntlArg::F_GETFD).unwrap(), libc::FD_CLOEXEC);
        }
        let n = receive(server.as_fd(), &mut buf, &mut sent).unwrap();
        assert_eq!((&buf[..n], sent.count()), (&b"bare"[..], 2));
        drop(client);
        assert_eq!(receive(server.as_fd(), &mut buf, &mut sent).unwrap(), 0, "the end");
        let ino = fstat(&net).unwrap().st_ino;
        assert_eq!(sent.next_netns().unwrap().unwrap().id().ino, ino);
        assert!(matches!(sent.next_netns(), Some(Err(NetnsError::OtherType("PID")))));
        assert!(sent.next_netns().is_none() && !sent.is_empty());
    }

    #[test]
    fn all_that_one_message_can_carry_is_received_and_closed_elsewhere() {
        let (client, server) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let file = File::from(OwnedFd::from(writer));
        send(&client, b"hello", &[&file; MOST]);
        drop(file);
        assert!(is_open_in_flight(&server), "the message is there");
        let mut sent = sent();
        assert_eq!(receive(server.as_fd(), &mut [0; 64], &mut sent).unwrap(), 5);
        assert_eq!(sent.count(), MOST);
        assert!(matches!(sent.next_netns(), Some(Err(NetnsError::NotANamespace))));
        let (tell, told) = mpsc::channel::<()>();
        sent.close(server.into(), tell);
        assert!(told.recv().is_err(), "dropped when all are closed");
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "no end for writing is open");
    }

    fn is_open_in_flight(server: &UnixStream) -> bool {
        use nix::sys::socket::recv;
        recv(server.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_PEEK).unwrap() == 1
    }

    #[test]
    fn nothing_to_read_is_would_block() {
        let (_client, server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        let error = receive(server.as_fd(), &mut [0; 8], &mut sent()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_peer_is_this_process() {
        let (_client, server) = UnixStream::pair().unwrap();
        let peer = credentials(server.as_fd()).unwrap();
        assert_eq!(u32::try_from(peer.pid).unwrap(), std::process::id());
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        let groups: Vec<u32> =
            nix::unistd::getgroups().unwrap().into_iter().map(|group| group.as_raw()).collect();
        assert_eq!(peer.groups, groups);
    }

    #[test]
    fn a_group_is_named_or_numbered() {
        assert_eq!(group("0").unwrap(), Some(0));
        assert_eq!(group("root").unwrap(), Some(0));
        assert_eq!(group("65531").unwrap(), Some(65531), "a number needs no name");
        assert_eq!(group("no such group").unwrap(), None);
    }
}
