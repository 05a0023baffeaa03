//! Who is at the other end of the daemon's socket, and the descriptors he sends along.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, getsockopt, recvmsg, sockopt::PeerCredentials,
};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// Room for this many descriptors in one message. A sender who has more loses the rest, and the
/// message is refused.
const DESCRIPTORS: usize = 4;

/// Who connected, as the kernel saw it at that moment (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Process.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// The credentials of a connection's other end.
pub fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let peer = getsockopt(&socket, PeerCredentials)?;
    Ok(Credentials { pid: peer.pid(), uid: peer.uid(), gid: peer.gid() })
}

/// The number of a group of this host; none if there is no such group.
pub fn group(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

/// True for root, and for members of `group`, be it their primary group or another one.
pub fn may_connect(peer: &Credentials, group: Option<u32>) -> bool {
    if peer.uid == 0 {
        return true;
    }
    let Some(group) = group else { return false };
    peer.gid == group || supplementary(peer).contains(&group)
}

fn supplementary(peer: &Credentials) -> Vec<u32> {
    let user = User::from_uid(Uid::from_raw(peer.uid)).ok().flatten();
    let name = user.and_then(|user| std::ffi::CString::new(user.name).ok());
    let groups = name.and_then(|name| getgrouplist(&name, Gid::from_raw(peer.gid)).ok());
    groups.unwrap_or_default().into_iter().map(Gid::as_raw).collect()
}

/// Receives bytes and the descriptors that came with them. Returns at once on a socket that does not
/// block (`WouldBlock`). Nothing received means that the other end has closed.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; DESCRIPTORS]);
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the kernel has just made these descriptors for this process, and nobody else
            // knows their numbers.
            descriptors.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::other(format!("the peer sent more than {DESCRIPTORS} descriptors")));
    }
    Ok((message.bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSlice, Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use nix::sys::socket::{ControlMessage, sendmsg};

    use super::*;

    fn send(stream: &UnixStream, descriptors: &[i32]) {
        let rights = [ControlMessage::ScmRights(descriptors)];
        let sent = sendmsg::<()>(
            stream.as_raw_fd(),
            &[IoSlice::new(b"hello")],
            &rights,
            MsgFlags::empty(),
            None,
        );
        assert_eq!(sent, Ok(5));
    }

    #[test]
    fn bytes_and_descriptors_arrive() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"x").expect("written");
        send(&theirs, &[file.as_raw_fd(), file.as_raw_fd()]);
        let mut buffer = [0; 16];
        let (n, mut descriptors) = receive(ours.as_fd(), &mut buffer).expect("received");
        assert_eq!((&buffer[..n], descriptors.len()), (&b"hello"[..], 2));
        let mut copy = File::from(descriptors.remove(0));
        std::io::Seek::rewind(&mut copy).expect("rewound");
        let mut text = String::new();
        copy.read_to_string(&mut text).expect("read");
        assert_eq!(text, "x", "it is the same file");
        drop(theirs);
        assert_eq!(receive(ours.as_fd(), &mut buffer).expect("the end").0, 0);
    }

    #[test]
    fn too_many_descriptors_are_refused() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let file = tempfile::tempfile().expect("a file");
        send(&theirs, &[file.as_raw_fd(); DESCRIPTORS + 3]);
        assert!(receive(ours.as_fd(), &mut [0; 16]).is_err());
    }

    #[test]
    fn who_may_connect() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let me = credentials(ours.as_fd()).expect("credentials");
        assert_eq!(me.uid, nix::unistd::geteuid().as_raw());
        let root = Credentials { pid: 1, uid: 0, gid: 0 };
        let nobody = Credentials { pid: 1, uid: 65534, gid: 65534 };
        assert!(may_connect(&root, None));
        assert!(!may_connect(&nobody, None));
        assert!(!may_connect(&nobody, Some(0)));
        assert!(may_connect(&nobody, Some(65534)), "its primary group");
    }
}
