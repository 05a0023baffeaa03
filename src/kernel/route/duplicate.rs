//! Duplicate address detection: waits until the kernel has looked for others with a link's IPv6
//! addresses, and says whether it found any.
//!
//! The kernel tells about every change of an address. Its word is waited for, not read: what it says
//! is only the reason to look again, so a message that is lost among many costs nothing but time.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use quantum_config::ids::{IfName, LinkIndex};

use super::look::read_address;
use super::{RouteSocket, Step, StepError, message};
use crate::kernel::netns::{self, Netns};

/// How long the kernel may take. It asks once and waits a second, after up to a second of chance.
const PATIENCE: Duration = Duration::from_secs(5);
/// linux/rtnetlink.h: `RTNLGRP_IPV6_IFADDR`
const IPV6_ADDRESSES: u32 = 9;

/// Waits until no address of a container's link is tentative. An error names an address that
/// somebody else on the link has, or one that is not decided in time. Blocks for some seconds:
/// run it where nobody else waits.
pub fn detect(netns: &Netns, name: &IfName, index: LinkIndex) -> Result<(), StepError> {
    let failed = |e: &io::Error| StepError::io(Step::DetectDuplicates, name.as_str(), e);
    let opened = netns::inside(netns, || Ok((listen()?, RouteSocket::open()?)));
    let (events, mut socket) = opened
        .map_err(|e| StepError::new(Step::EnterNamespace, name.as_str(), e.errno(), e.to_string()))?
        .map_err(|e| failed(&e))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // In this order: what changes after the look is told.
        let undecided = look(&mut socket, name, index)?;
        let Some(undecided) = undecided else { return Ok(()) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let detail = "the kernel has not decided within 5 seconds whether it is in use";
            return Err(StepError::new(
                Step::DetectDuplicates,
                format!("{undecided} on {name}"),
                libc::ETIMEDOUT,
                detail,
            ));
        }
        wait(&events, left).map_err(|e| failed(&e))?;
    }
}

/// An address that is still looked for; an error if one was found to be somebody else's.
fn look(
    socket: &mut RouteSocket,
    name: &IfName,
    index: LinkIndex,
) -> Result<Option<String>, StepError> {
    let mut undecided = None;
    for answer in socket.list("addresses", &message::list_addresses(index))? {
        let RouteNetlinkMessage::NewAddress(answer) = answer else { continue };
        let flags = answer.attributes.iter().find_map(|a| match a {
            AddressAttribute::Flags(flags) => Some(*flags),
            _ => None,
        });
        let Some(address) = read_address(&answer).filter(|_| answer.header.index == index.0) else {
            continue;
        };
        let flags = flags.unwrap_or(AddressFlags::empty());
        if flags.contains(AddressFlags::Dadfailed) {
            return Err(StepError::new(
                Step::DetectDuplicates,
                format!("{address} on {name}"),
                libc::EADDRINUSE,
                "somebody else on the link has this address; find out who with 'ip -6 neigh'",
            ));
        }
        if flags.contains(AddressFlags::Tentative) {
            undecided = Some(address.to_string());
        }
    }
    Ok(undecided)
}

fn listen() -> io::Result<Socket> {
    let mut events = Socket::new(NETLINK_ROUTE)?;
    events.bind(&SocketAddr::new(0, 0))?;
    events.add_membership(IPV6_ADDRESSES)?;
    events.set_non_blocking(true)?;
    Ok(events)
}

/// Waits for an event, and takes all that have come.
fn wait(events: &Socket, left: Duration) -> io::Result<()> {
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut buffer = [0_u8; 8192];
    loop {
        match nix::unistd::read(events, &mut buffer) {
            Ok(_) | Err(Errno::ENOBUFS) => {}
            Err(_) => return Ok(()),
        }
    }
}
