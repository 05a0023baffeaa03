//! Connections that the kernel remembers. An entry of an address that has gone would be in force for the
//! next container that gets it: what was translated to the old one would be sent to the new one, and what
//! was allowed to the old one to the new one. So the entries go before the address is free.
//!
//! ```text
//!   how many entries are there?    none: done
//!   does the list in /proc name one of our addresses?    no, as in every burst without traffic: done
//!   dump ──► those of our addresses ──► delete each, by tuple, zone and number
//! ```
//!
//! Nothing here flushes: kernels before 6.12 take a flush with a filter for one without. A kernel without
//! conntrack has nothing to remove, and that is no error. The namespace is that of the thread which opens
//! a [`Conntrack`] and calls it.

mod error;
mod flows;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod held;
mod local;
mod message;
mod sought;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;

pub use self::error::ConntrackError;
use self::local::Local;
use self::message::{Answered, Entry};
pub use self::sought::HostPort;
use self::sought::{Look, Sought};
use super::fault;
use super::netfilter::{NetfilterSocket, SocketError, is_missing};

/// How many entries there are in the namespace of the thread that opens it.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// The entries of that namespace as text. The kernel goes through its table for this without the locks
/// that a dump takes, in a fortieth of the time; but what names an entry for good is not in it.
const LIST: &str = "/proc/thread-self/net/nf_conntrack";
/// The most entries for which the text is read first, and the longest text that is believed. The kernel
/// gives a page at a time, and goes on with the next one by counting: what changes in between may push an
/// entry over the edge, unseen.
const LISTED: u64 = 16;
const PAGE: usize = 4096;
/// How often a dump is repeated that a change of the table has torn.
const DUMPS: usize = 8;
/// Entries deleted by one datagram: the refusals must fit into the socket's queue.
const AT_ONCE: usize = 128;

/// The door to the connections of one network namespace. Blocks, but for no longer than the kernel needs.
#[derive(Debug)]
pub struct Conntrack {
    /// None where the kernel has no netfilter at all.
    socket: Option<NetfilterSocket>,
    count: Option<File>,
    /// The kernel does not say how many entries there are, nor does it list them. Asking again would have
    /// it look for the module every time.
    absent: bool,
}

impl Conntrack {
    /// Opens the door in the calling thread's network namespace.
    pub fn open() -> Result<Self, ConntrackError> {
        let socket = match NetfilterSocket::open() {
            Ok(socket) => Some(socket),
            Err(SocketError { source, .. }) if is_missing(source.raw_os_error()) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { socket, count: None, absent: false })
    }

    /// Removes every entry of a connection that one of these addresses began, or that one of them
    /// answers, translated or not. Gives how many there were.
    pub fn purge(&mut self, addresses: &[IpAddr]) -> Result<usize, ConntrackError> {
        if addresses.is_empty() {
            return Ok(0);
        }
        fault::reach("del-purging")?;
        self.remove(&Sought::of_addresses(addresses))
    }

    /// Removes the entries of UDP flows to these ports of the host. They outlive the rule that made them:
    /// after a port was published, a flow from before still goes to nobody, and after it was withdrawn
    /// a flow still goes to the container that had it. Flows to the same port of others stay. Gives how
    /// many there were.
    pub fn flush_udp_ports(&mut self, ports: &[HostPort]) -> Result<usize, ConntrackError> {
        self.remove(&Sought::of_ports(ports))
    }

    fn remove(&mut self, sought: &Sought) -> Result<usize, ConntrackError> {
        let count = self.count();
        if sought.is_empty() || count == Some(0) || (count.is_none() && self.absent) {
            return Ok(0);
        }
        let listed = count.filter(|n| *n <= LISTED).and_then(|_| fs::read_to_string(LIST).ok());
        if listed.is_some_and(|list| list.len() < PAGE && !sought.may_be_in(&list)) {
            return Ok(0);
        }
        let mut found = Vec::new();
        for look in sought.looks(count.unwrap_or_default()) {
            match self.find(look, sought) {
                Ok(entries) => found.extend(entries),
                // Conntrack without its door: nobody could remove anything.
                Err(ConntrackError::Refused { errno, .. }) if is_missing(Some(errno as i32)) => {
                    self.absent = true;
                    return Ok(0);
                }
                Err(error) => return Err(error),
            }
        }
        let mut local = Local::default();
        found.retain(|entry| {
            sought.names(entry) || entry.original.destination.is_some_and(|a| local.has(a))
        });
        self.delete(&found, sought)
    }

    /// How many entries there are; nothing if the kernel does not say, as it has no conntrack (yet), or
    /// does not tell an unprivileged namespace.
    fn count(&mut self) -> Option<u64> {
        if self.count.is_none() {
            self.count = File::open(COUNT).ok();
        }
        let mut text = [0; 24];
        let read = self.count.as_ref()?.read_at(&mut text, 0).ok();
        let count = read.and_then(|n| std::str::from_utf8(&text[..n]).ok()?.trim().parse().ok());
        if count.is_none() {
            // The module went, and its file with it.
            self.count = None;
        }
        count
    }

    /// The entries that are meant, as far as one look finds them. Two looks may find the same one.
    fn find(&mut self, look: Look, sought: &Sought) -> Result<Vec<Entry>, ConntrackError> {
        let doing = || format!("list the connections of {sought}");
        let chosen = |entry: Entry| sought.matches(&entry).then_some(entry);
        match self.list(look, doing, chosen) {
            Err(ConntrackError::Refused { errno, .. })
                if look.only.is_some() && is_missing(Some(errno as i32)) =>
            {
                // It knows no such filter.
                self.find(Look { only: None, ..look }, sought)
            }
            listed => listed,
        }
    }

    /// What `choose` makes of the entries that one look finds.
    fn list<T>(
        &mut self,
        look: Look,
        doing: impl Fn() -> String,
        mut choose: impl FnMut(Entry) -> Option<T>,
    ) -> Result<Vec<T>, ConntrackError> {
        let Some(socket) = &mut self.socket else { return Ok(Vec::new()) };
        for _ in 0..DUMPS {
            let number = socket.numbers(1);
            let (mut found, mut torn, mut ended) = (Vec::new(), false, None);
            socket.ask(&message::dump(look, number), |datagram| {
                let read = message::read(datagram, |answered| match answered {
                    Answered::Entry(entry) => found.extend(choose(entry)),
                    Answered::Ended { result, .. } => ended = Some(result),
                });
                let read =
                    read.map_err(|e| ConntrackError::Decode { doing: doing(), why: e.to_string() });
                torn |= read?;
                Ok::<_, ConntrackError>(())
            })?;
            match ended {
                Some(Ok(())) if torn => {}
                Some(Ok(())) => return Ok(found),
                Some(Err(errno)) => return Err(ConntrackError::Refused { doing: doing(), errno }),
                None => return Err(ConntrackError::NoAnswer { doing: doing() }),
            }
        }
        Err(ConntrackError::Torn { doing: doing() })
    }

    /// Deletes entries. One that has gone by itself is no error, and not counted.
    fn delete(&mut self, entries: &[Entry], sought: &Sought) -> Result<usize, ConntrackError> {
        let doing = || format!("remove {} connections of {sought}", entries.len());
        let Some(socket) = &mut self.socket else { return Ok(0) };
        let mut deleted = 0;
        for chunk in entries.chunks(AT_ONCE) {
            let first = socket.numbers(chunk.len());
            let last = first + chunk.len() as u32 - 1;
            let (mut gone, mut refused, mut ended) = (0, None, false);
            socket.ask(&message::delete(chunk, first), |datagram| {
                let read = message::read(datagram, |answered| {
                    let Answered::Ended { number, result } = answered else { return };
                    ended |= number == last;
                    match result {
                        Ok(()) => {}
                        Err(Errno::ENOENT) => gone += 1,
                        Err(errno) => refused = Some(errno),
                    }
                });
                let read =
                    read.map_err(|e| ConntrackError::Decode { doing: doing(), why: e.to_string() });
                read.map(drop)
            })?;
            if let Some(errno) = refused {
                return Err(ConntrackError::Refused { doing: doing(), errno });
            }
            if !ended {
                return Err(ConntrackError::NoAnswer { doing: doing() });
            }
            deleted += chunk.len() - gone;
        }
        Ok(deleted)
    }
}
