//! The watch: a thread that learns from the kernel, as it happens, that somebody else changed the rules
//! of the host, took an address from one of its links, did something to a link of ours, or turned forwarding
//! off, and has it looked at.
//!
//! ```text
//!   NFNLGRP_NFTABLES ──► filter: commits of others ────┐
//!   RTNLGRP_*_IFADDR ──► filter: deleted addresses ────┤
//!   RTNLGRP_LINK     ──► ours, and not as wanted? ─────┼─► poll ──► look(what happened) ──► rest
//!   RTNLGRP_*_NETCONF ─► off for all, or for ours? ────┘
//!                                       30 s without a look at all ─────►
//! ```
//!
//! It looks at once, and then rests: at least `REST`, and longer where looking took long. Somebody who
//! commits five hundred times a second costs five looks. What comes meanwhile waits in the sockets, and
//! what is lost there counts as anything.

mod filter;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod links;

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
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};

pub use self::links::{LinkBook, LinksHeard};
use super::netfilter::{attributes, messages};

/// How long it rests after a look, at least.
const REST: Duration = Duration::from_millis(200);
/// And at most: what happens meanwhile is to be right within a second.
const LONG_REST: Duration = Duration::from_millis(700);
/// How long what concerns nobody may wait to be read: containers that come and go do not wake it each.
const NAP: Duration = Duration::from_millis(20);
/// Room for what is told of links meanwhile: a thousand containers that go at once have some 5 KiB each.
const QUEUE: usize = 8 << 20;
/// How often it looks at all, although nothing was heard.
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
    /// Of links and forwarding.
    pub links: LinksHeard,
    /// Messages about addresses or links were lost, or may have been: it may be any of them.
    pub lost: bool,
    /// Commits were lost, or do not say whose they are.
    pub unread: bool,
}

/// What a look came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    /// All is as it should be.
    pub is_well: bool,
    /// How long the look did nothing but wait: that is no reason to rest.
    pub waited: Duration,
}

/// The thread's sockets.
struct Ears {
    rules: Socket,
    addresses: Socket,
    links: Socket,
    book: LinkBook,
}

/// Starts the thread, in the network namespace of the caller. It calls `look` once at the start, and
/// whenever something was heard that the thread `own` (see [`thread_id`]) did not do itself, or that is
/// against what `book` says of our links. `look` returns when all has been looked at.
///
/// Where the kernel does not let us listen, `cannot` hears why, and the slow look is all there is.
pub fn start(
    own: u32,
    book: LinkBook,
    cannot: impl FnOnce(io::Error) + Send + 'static,
    mut look: impl FnMut(Heard) -> Done + Send + 'static,
) -> io::Result<()> {
    let watch = move || {
        let ears = match Ears::open(own, book) {
            Ok(ears) => Some(ears),
            Err(error) => {
                cannot(error);
                None
            }
        };
        let mut heard = Heard { lost: true, ..Heard::default() };
        let mut looked_at_all = Instant::now();
        loop {
            let began = Instant::now();
            if heard.lost {
                looked_at_all = began;
            }
            let Done { is_well, waited } = look(std::mem::take(&mut heard));
            let took = began.elapsed().saturating_sub(waited);
            thread::sleep((took * 4).clamp(REST, LONG_REST));
            let patience = SLOW.saturating_sub(looked_at_all.elapsed());
            let patience = if is_well { patience } else { patience.min(WORRIED) };
            match &ears {
                Some(ears) => ears.listen(patience, &mut heard),
                None => thread::sleep(patience),
            }
            heard.lost |= looked_at_all.elapsed() >= SLOW;
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
    fn open(own: u32, book: LinkBook) -> io::Result<Self> {
        let rules = Socket::new(NETLINK_NETFILTER)?;
        filter::attach(&rules, &mut filter::commits(NEWGEN, own))?;
        let addresses = Socket::new(NETLINK_ROUTE)?;
        filter::attach(&addresses, &mut filter::lost_addresses(RTM_DELADDR, RT_SCOPE_LINK))?;
        let links = Socket::new(NETLINK_ROUTE)?;
        filter::attach(
            &links,
            &mut filter::links([links::RTM_NEWLINK, links::RTM_DELLINK, links::RTM_NEWNETCONF]),
        )?;
        // Best effort: without the right to it, what is lost has all links looked at.
        let _ = setsockopt(&links, sockopt::RcvBufForce, &QUEUE);
        let mut ears = Self { rules, addresses, links, book };
        // The filters first, so that nothing comes in by a socket that has none yet.
        ears.rules.bind_auto()?;
        ears.rules.add_membership(NFNLGRP_NFTABLES)?;
        ears.addresses.bind_auto()?;
        ears.addresses.add_membership(RTNLGRP_IPV4_IFADDR)?;
        ears.addresses.add_membership(RTNLGRP_IPV6_IFADDR)?;
        ears.links.bind_auto()?;
        for group in [links::RTNLGRP_LINK, links::RTNLGRP_IPV4_NETCONF, links::RTNLGRP_IPV6_NETCONF]
        {
            ears.links.add_membership(group)?;
        }
        Ok(ears)
    }

    /// Waits until something comes that we did not do, or the time is over, and takes all that is there.
    fn listen(&self, patience: Duration, heard: &mut Heard) {
        let began = Instant::now();
        loop {
            let left = patience.saturating_sub(began.elapsed());
            let mut ready = [&self.rules, &self.addresses, &self.links]
                .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            // Whatever it says, what is there is taken.
            let is_over = matches!(poll(&mut ready, timeout), Ok(0)) || left.is_zero();
            heard.unread |= self.drain(&self.rules, heard);
            heard.lost |= self.drain(&self.addresses, heard);
            heard.lost |= self.drain(&self.links, heard);
            if is_over || *heard != Heard::default() {
                return;
            }
            thread::sleep(NAP);
        }
    }

    /// Takes what is there; true if something was lost.
    fn drain(&self, socket: &Socket, heard: &mut Heard) -> bool {
        let mut datagram = Vec::with_capacity(DATAGRAM);
        let mut lost = false;
        loop {
            datagram.clear();
            match socket.recv(&mut datagram, MsgFlags::MSG_DONTWAIT.bits()) {
                Ok(_) => read(&datagram, &self.book, heard),
                Err(e) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => lost = true,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return lost,
            }
        }
    }
}

/// Reads what the filters let through. What cannot be read is passed over: that something came is
/// enough to look.
fn read(datagram: &[u8], book: &LinkBook, heard: &mut Heard) {
    for message in messages(datagram) {
        match message.kind {
            NEWGEN => match committer(message.body) {
                Some((name, number)) => heard.committer = Some(format!("{name} ({number})")),
                None => heard.unread = true,
            },
            RTM_DELADDR => heard.addresses.extend(address(message.body)),
            _ => heard.links.take(&message, book),
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
mod tests;
