//! Filters that the kernel runs on every message before it is queued for us: whoever is not meant does
//! not wake us. They are classic BPF, which every kernel has and needs no right to load.
//!
//! BPF reads in network order. A netlink header is in the host's order, the attributes of nftables are
//! in network order.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

// include/uapi/linux/bpf_common.h
const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// The whole message.
const ALL: u32 = u32::MAX;
const NOTHING: u32 = 0;

// struct nlmsghdr
const TYPE: u32 = 4;
/// Of a message that tells of a commit: header, `struct nfgenmsg`, `NFTA_GEN_ID`, and the header of
/// `NFTA_GEN_PROC_PID`. The kernel always writes them in this order.
const COMMITTER: u32 = 16 + 4 + 8 + 4;
/// Of a message about an address: `ifa_scope`.
const SCOPE: u32 = 16 + 3;

/// Of a message about a link's settings: header, `struct netconfmsg`, the header of `NETCONFA_IFINDEX`,
/// which the kernel writes first, and the highest byte of the index.
const INDEX_HIGHEST: u32 = 16 + 4 + 4 + if cfg!(target_endian = "little") { 3 } else { 0 };

const fn step(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

/// Goes on if it is `k`, and skips so many steps otherwise.
const fn unless(k: u32, skip: u8) -> libc::sock_filter {
    libc::sock_filter { code: JUMP_EQUAL, jt: 0, jf: skip, k }
}

/// A message's type as BPF reads it.
fn kind(number: u16) -> u32 {
    u16::from_be_bytes(number.to_ne_bytes()).into()
}

/// Commits of nftables, but for those of the thread `own`.
pub(super) fn commits(newgen: u16, own: u32) -> [libc::sock_filter; 6] {
    [
        step(LOAD_HALF, TYPE),
        unless(kind(newgen), 3),
        step(LOAD_WORD, COMMITTER),
        libc::sock_filter { code: JUMP_EQUAL, jt: 1, jf: 0, k: own },
        step(RETURN, ALL),
        step(RETURN, NOTHING),
    ]
}

/// Addresses that were deleted, but for those of the link alone: containers come and go with these.
pub(super) fn lost_addresses(deladdr: u16, link_scope: u8) -> [libc::sock_filter; 6] {
    [
        step(LOAD_HALF, TYPE),
        unless(kind(deladdr), 3),
        step(LOAD_BYTE, SCOPE),
        libc::sock_filter { code: JUMP_EQUAL, jt: 1, jf: 0, k: link_scope as u32 },
        step(RETURN, ALL),
        step(RETURN, NOTHING),
    ]
}

/// What is told of links, and whether the host forwards: not what a new link has by itself, as each container's
/// has. Those that we make have indexes that no other link has.
pub(super) fn links([newlink, dellink, newnetconf]: [u16; 3]) -> [libc::sock_filter; 9] {
    [
        step(LOAD_HALF, TYPE),
        libc::sock_filter { code: JUMP_EQUAL, jt: 5, jf: 0, k: kind(newlink) },
        libc::sock_filter { code: JUMP_EQUAL, jt: 4, jf: 0, k: kind(dellink) },
        unless(kind(newnetconf), 4),
        step(LOAD_BYTE, INDEX_HIGHEST),
        libc::sock_filter { code: JUMP_SET, jt: 1, jf: 0, k: 0x80 }, // all links, or new ones
        libc::sock_filter { code: JUMP_SET, jt: 1, jf: 0, k: 0x40 }, // of ours
        step(RETURN, ALL),
        step(RETURN, NOTHING),
    ]
}

/// Has the kernel run `program` on every message of the socket from now on.
pub(super) fn attach(socket: &impl AsFd, program: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the kernel reads the structure and the steps it points to, both of which live until the
    // call returns, and keeps a copy of its own.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            length,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
