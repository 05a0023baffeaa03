//! The daemon's side of its socket: who is at the other end, and the descriptors they send.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Group;

/// How many descriptors come with one message: the container's namespace and the caller's own.
const DESCRIPTORS: usize = 2;

// SAFETY: CMSG_SPACE only computes a length.
const CONTROL: usize =
    unsafe { libc::CMSG_SPACE((DESCRIPTORS * size_of::<RawFd>()) as u32) } as usize;

/// Control messages begin with a `cmsghdr`, so their buffer is aligned like one.
#[repr(C)]
union Control {
    bytes: [u8; CONTROL],
    header: libc::cmsghdr,
}

/// Receives bytes and the descriptors that came with them, at most two, each closed on exec.
///
/// 0 bytes are the end of the stream. On a non-blocking socket with nothing to read the error is
/// `WouldBlock`, as `tokio`'s `try_io` wants it. A message with more descriptors is an error
/// (`InvalidData`) and all of its descriptors are closed.
pub fn receive(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
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
    let descriptors = take_descriptors(&message);
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        let why = "the peer sent more than two descriptors, or there was no room for one more";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok((received, descriptors))
}

fn take_descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
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
                descriptors.push(fd);
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    descriptors
}

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
    use std::io::IoSlice;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

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

    /// The inodes of open pipes among our descriptors tell whether one is still open.
    fn is_open(inode: u64) -> bool {
        std::fs::read_dir("/proc/self/fd").unwrap().any(|entry| {
            let target = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
            target.to_string_lossy() == format!("pipe:[{inode}]")
        })
    }

    #[test]
    fn descriptors_arrive_with_their_bytes_and_close_on_exec() {
        let (client, server) = UnixStream::pair().unwrap();
        let (net, pid) =
            (File::open("/proc/self/ns/net").unwrap(), File::open("/proc/self/ns/pid").unwrap());
        send(&client, b"hello", &[&net, &pid]);
        send(&client, b"bare", &[]);
        let mut buf = [0; 64];
        let (n, fds) = receive(server.as_fd(), &mut buf).unwrap();
        assert_eq!((&buf[..n], fds.len()), (&b"hello"[..], 2));
        for (fd, file) in fds.iter().zip([&net, &pid]) {
            assert_eq!(fstat(fd).unwrap().st_ino, fstat(file).unwrap().st_ino);
            assert_eq!(fcntl(fd, FcntlArg::F_GETFD).unwrap(), libc::FD_CLOEXEC);
        }
        let (n, fds) = receive(server.as_fd(), &mut buf).unwrap();
        assert_eq!((&buf[..n], fds.len()), (&b"bare"[..], 0));
        drop(client);
        assert_eq!(receive(server.as_fd(), &mut buf).unwrap().0, 0, "the end");
    }

    #[test]
    fn a_surplus_is_refused_and_nothing_of_it_stays_open() {
        let (client, server) = UnixStream::pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let inode = fstat(&reader).unwrap().st_ino;
        let file = File::from(OwnedFd::from(reader));
        send(&client, b"hello", &[&file, &file, &file]);
        drop((file, writer));
        assert!(is_open_in_flight(&server), "the message is there");
        let error = receive(server.as_fd(), &mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(!is_open(inode));
    }

    fn is_open_in_flight(server: &UnixStream) -> bool {
        use nix::sys::socket::recv;
        recv(server.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_PEEK).unwrap() == 1
    }

    #[test]
    fn nothing_to_read_is_would_block() {
        let (_client, server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        let error = receive(server.as_fd(), &mut [0; 8]).unwrap_err();
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
