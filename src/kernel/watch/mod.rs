//! The watch: a thread that learns from the kernel, as it happens, that somebody else changed the rules
//! of the host or took an address from one of its links, and has it looked at.
//!
//! ```text
//!   NFNLGRP_NFTABLES ──► filter: commits of others ──┐
//!   RTNLGRP_*_IFADDR ──► filter: deleted addresses ──┴─► poll ──► look(what happened) ──► rest
//!                                       nothing for 30 s ─────────────►
//! ```
//!
//! It looks at once, and then rests: at least `REST`, and longer where looking took long. Somebody who
//! commits five hundred times a second costs five looks. What comes meanwhile waits in the sockets, and
//! what is lost there counts as anything.

mod filter;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::MsgFlags;

use super::netfilter::{Message, attributes, messages};

/// How long it rests after a look, at least.
const REST: Duration = Duration::from_millis(200);
/// And at most: what happens meanwhile is to be right within a second.
const LONG_REST: Duration = Duration::from_millis(700);
/// How often it looks although nothing was heard.
const SLOW: Duration = Duration::from_secs(30);
/// The same while something is wrong that could not be repaired.
const WORRIED: Duration = Duration::from_secs(2);
const DATAGRAM: usize = 16 << 10;

// include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h
const NFNLGRP_NFTABLES: u32 = 7;
const NEWGEN: u16 = (10 << 8) | 15;
const NFTA_GEN_PROC_PID: u16 = 2;
const NFTA_GEN_PROC_NAME: u16 = 3;
// include/uapi/linux/rtnetlink.h
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RTM_DELADDR: u16 = 21;
const RT_SCOPE_LINK: u8 = 253;
// include/uapi/linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// What has happened since the last look.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Who committed last: the name and number of the program.
    pub committer: Option<String>,
    /// The addresses that were deleted, from whichever link.
    pub addresses: HashSet<IpAddr>,
    /// Messages about addresses were lost, or may have been: it may be any of them.
    pub lost: bool,
    /// Commits were lost, or do not say whose they are.
    pub unread: bool,
}

/// The thread's sockets.
struct Ears {
    rules: Socket,
    addresses: Socket,
}

/// Starts the thread, in the network namespace of the caller. It calls `look` once at the start, and
/// whenever something was heard that the thread `own` (see [`thread_id`]) did not do itself. `look`
/// returns when all has been looked at, and tells whether all is well.
///
/// Where the kernel does not let us listen, `cannot` hears why, and the slow look is all there is.
pub fn start(
    own: u32,
    cannot: impl FnOnce(io::Error) + Send + 'static,
    mut look: impl FnMut(Heard) -> bool + Send + 'static,
) -> io::Result<()> {
    let watch = move || {
        let ears = match Ears::open(own) {
            Ok(ears) => Some(ears),
            Err(error) => {
                cannot(error);
                None
            }
        };
        let mut heard = Heard { lost: true, ..Heard::default() };
        loop {
            let began = Instant::now();
            let is_well = look(std::mem::take(&mut heard));
            thread::sleep((began.elapsed() * 4).clamp(REST, LONG_REST));
            let patience = if is_well { SLOW } else { WORRIED };
            match &ears {
                Some(ears) => ears.listen(patience, &mut heard),
                None => thread::sleep(patience),
            }
        }
    };
    thread::Builder::new().name("watch".to_owned()).spawn(watch).map(drop)
}

/// The number of the calling thread, as commits are known by. In a PID namespace the kernel tells
/// another one: then our own commits are looked at like those of others.
pub fn thread_id() -> u32 {
    nix::unistd::gettid().as_raw().unsigned_abs()
}

impl Ears {
    fn open(own: u32) -> io::Result<Self> {
        let rules = Socket::new(NETLINK_NETFILTER)?;
        filter::attach(&rules, &mut filter::commits(NEWGEN, own))?;
        let addresses = Socket::new(NETLINK_ROUTE)?;
        filter::attach(&addresses, &mut filter::lost_addresses(RTM_DELADDR, RT_SCOPE_LINK))?;
        let mut ears = Self { rules, addresses };
        // The filters first, so that nothing comes in by a socket that has none yet.
        ears.rules.bind_auto()?;
        ears.rules.add_membership(NFNLGRP_NFTABLES)?;
        ears.addresses.bind_auto()?;
        ears.addresses.add_membership(RTNLGRP_IPV4_IFADDR)?;
        ears.addresses.add_membership(RTNLGRP_IPV6_IFADDR)?;
        Ok(ears)
    }

    /// Waits until something comes that we did not do, or the time is over, and takes all that is there.
    fn listen(&self, patience: Duration, heard: &mut Heard) {
        let began = Instant::now();
        loop {
            let left = patience.saturating_sub(began.elapsed());
            let mut ready = [&self.rules, &self.addresses]
                .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            // Whatever it says, what is there is taken. After a long silence all is looked at.
            let is_over = matches!(poll(&mut ready, timeout), Ok(0)) || left.is_zero();
            heard.lost |= is_over && patience >= SLOW;
            heard.unread |= drain(&self.rules, heard);
            heard.lost |= drain(&self.addresses, heard);
            if is_over || *heard != Heard::default() {
                return;
            }
        }
    }
}

/// Takes what is there; true if something was lost.
fn drain(socket: &Socket, heard: &mut Heard) -> bool {
    let mut datagram = Vec::with_capacity(DATAGRAM);
    let mut lost = false;
    loop {
        datagram.clear();
        match socket.recv(&mut datagram, MsgFlags::MSG_DONTWAIT.bits()) {
            Ok(_) => read(&datagram, heard),
            Err(e) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => lost = true,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return lost,
        }
    }
}

/// Reads what the filters let through. What cannot be read is passed over: that something came is
/// enough to look.
fn read(datagram: &[u8], heard: &mut Heard) {
    for Message { kind, body, .. } in messages(datagram) {
        match kind {
            NEWGEN => match committer(body) {
                Some((name, number)) => heard.committer = Some(format!("{name} ({number})")),
                None => heard.unread = true,
            },
            RTM_DELADDR => heard.addresses.extend(address(body)),
            _ => {}
        }
    }
}

/// The name and number of a program that committed.
fn committer(body: &[u8]) -> Option<(String, u32)> {
    let (mut name, mut number) = (None, None);
    for nla in attributes(body.get(4..)?) {
        match nla {
            (NFTA_GEN_PROC_NAME, value) => {
                name = Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
            }
            (NFTA_GEN_PROC_PID, value) => number = value.try_into().ok().map(u32::from_be_bytes),
            _ => {}
        }
    }
    Some((name?, number?))
}

fn address(body: &[u8]) -> Option<IpAddr> {
    let ip = |value: &[u8]| match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    };
    let (mut local, mut peer) = (None, None);
    for nla in attributes(body.get(8..)?) {
        match nla {
            (IFA_LOCAL, value) => local = ip(value),
            (IFA_ADDRESS, value) => peer = ip(value),
            _ => {}
        }
    }
    local.or(peer)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::kernel::testing::{in_namespace, ip, run};

    /// More than any event takes to come, and no more than a test may take.
    const SOON: Duration = Duration::from_secs(5);

    fn heard(ears: &Ears) -> Heard {
        let mut heard = Heard::default();
        ears.listen(SOON, &mut heard);
        heard
    }

    fn silent(ears: &Ears) -> bool {
        let mut heard = Heard::default();
        ears.listen(Duration::ZERO, &mut heard);
        heard == Heard::default()
    }

    #[test]
    fn commits_of_others_are_heard_and_our_own_are_not() {
        in_namespace(&["nft"], || {
            let ears = Ears::open(thread_id()).unwrap();
            run("nft add table inet somebody");
            let who = heard(&ears).committer.unwrap();
            assert!(who.starts_with("nft ("), "{who}");
            let mut table = crate::kernel::nft::Table::open(Default::default()).unwrap();
            table.heal().unwrap();
            assert!(silent(&ears), "nft runs in another namespace");
            let element =
                crate::attach::Element::Masquerade { address: "10.0.0.2".parse().unwrap() };
            table.add(&[element]).unwrap();
            assert!(silent(&ears), "our own transaction");
        });
    }

    #[test]
    fn a_deleted_address_is_heard_and_a_container_is_not() {
        in_namespace(&["ip"], || {
            let ears = Ears::open(0).unwrap();
            ip("link add br0 type bridge");
            ip("link set br0 up");
            for address in ["10.0.0.1/24", "fd00::1/64"] {
                ip(&format!("address add {address} dev br0 nodad"));
                ip("link add veth0 type veth peer name veth1");
                ip("link set veth0 up");
                ip("link del veth0");
                assert!(silent(&ears));
                ip(&format!("address del {address} dev br0"));
                let found = heard(&ears).addresses;
                let ip: IpAddr = address.split('/').next().unwrap().parse().unwrap();
                assert_eq!(found, HashSet::from([ip]));
            }
        });
    }

    #[test]
    fn it_looks_at_once_and_when_something_happens() {
        in_namespace(&["nft"], || {
            let (tell, told) = channel();
            start(0, |e| panic!("{e}"), move |heard| tell.send(heard).is_ok()).unwrap();
            let first = told.recv_timeout(SOON).unwrap();
            assert!(first.lost && first.committer.is_none(), "{first:?}");
            run("nft add table inet somebody");
            let next = told.recv_timeout(SOON).unwrap();
            assert!(next.committer.is_some() && !next.lost, "{next:?}");
        });
    }
}
