//! What can go wrong: one step, on one object, and what the kernel said about it.

use std::fmt;
use std::io;

use nix::errno::Errno;
use nix::libc;

/// The things that are done to the kernel, each the subject of one acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Open a netlink socket.
    OpenSocket,
    /// Go into the container's network namespace.
    EnterNamespace,
    /// Make the veth pair, the peer in the container's namespace.
    CreateLink,
    /// Set the alias of the host's end and its flags as a bridge port.
    SetPort,
    /// Give a link the name back that it was made with.
    Rename,
    /// Put the host's end into its VLANs.
    JoinVlans,
    /// Make the link through which goes what the container sends.
    CreateShaper,
    /// Set the alias of that link.
    SetShaper,
    /// Give a link its bucket.
    Limit,
    /// Lead what comes in by the port to the shaper.
    Redirect,
    /// Write a file below `/proc/sys/net`.
    SetSysctl,
    /// Have the host answer neighbour discovery for an address.
    AnswerFor,
    /// Set up the container's end: its flags and its queue.
    TuneLink,
    /// Set the MTU of an end of the pair.
    SetMtu,
    /// Give the container's end another hardware address.
    SetMac,
    /// Bring up `lo` in the container.
    LoopbackUp,
    /// Add an address in the container.
    AddAddress,
    /// Bring up the container's end.
    LinkUp,
    /// Add a route in the container.
    AddRoute,
    /// Wait until nobody else was found to have an address.
    DetectDuplicates,
    /// See that the bridge forwards what the port sends.
    Forward,
    /// Tell the neighbours who has the addresses now.
    Announce,
    /// Move a link to the group that is about to be deleted.
    MarkLink,
    /// Delete links.
    DeleteLinks,
    /// Forget the hardware address of a neighbour.
    ForgetNeighbour,
    /// Look at a link.
    FindLink,
    /// List links, addresses, routes, limits or filters.
    List,
}

impl Step {
    fn verb(self) -> &'static str {
        match self {
            Self::OpenSocket => "open a netlink socket for",
            Self::EnterNamespace => "enter the network namespace of",
            Self::CreateLink => "create the link",
            Self::SetPort => "set up the bridge port",
            Self::Rename => "give the name back to",
            Self::JoinVlans => "set the VLANs of",
            Self::CreateShaper => "create the link",
            Self::SetShaper => "mark the link",
            Self::Limit => "limit the traffic of",
            Self::Redirect => "take what comes in by",
            Self::SetSysctl => "set",
            Self::AnswerFor => "answer neighbour discovery for",
            Self::TuneLink => "set promisc, allmulti or txQLen of",
            Self::SetMtu => "set the mtu of",
            Self::SetMac => "set the hardware address of",
            Self::LoopbackUp => "bring up the loopback of",
            Self::AddAddress => "add the address",
            Self::LinkUp => "bring up the link",
            Self::AddRoute => "add the route",
            Self::DetectDuplicates => "use",
            Self::Forward => "wait for the bridge to forward for",
            Self::Announce => "announce the addresses of",
            Self::MarkLink => "mark for deletion the link",
            Self::DeleteLinks => "delete",
            Self::ForgetNeighbour => "forget the neighbour",
            Self::FindLink => "look at the link",
            Self::List => "list",
        }
    }
}

/// What an error number means in its place. The kernel says `EEXIST` or `EBUSY` for several things;
/// which of them it was is found by looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A link with the host's name is there already.
    HostNameTaken,
    /// The chosen index belongs to another link, on the host or in the container: choose another.
    IndexTaken,
    /// The container has an interface of that name already.
    ContainerNameTaken,
    /// The bridge is gone, or what has its index now is not a bridge.
    BridgeMissing,
    /// The bridge has 1023 ports, which is as many as a bridge can have.
    BridgeFull,
}

impl Cause {
    fn explain(self) -> &'static str {
        match self {
            Self::HostNameTaken => "a link of that name exists on the host",
            Self::IndexTaken => "its index is in use by another link",
            Self::ContainerNameTaken => {
                "the container has an interface of that name already; remove it or choose another name"
            }
            Self::BridgeMissing => "its bridge does not exist",
            Self::BridgeFull => "its bridge has 1023 ports, which is the most a bridge can have",
        }
    }
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepError {
    /// What was being done.
    pub step: Step,
    /// To what: a link, an address, a route, a file.
    pub object: String,
    /// The error number, positive.
    pub errno: i32,
    /// What else is known, most often the kernel's own explanation (ext-ack). May be empty.
    pub detail: String,
    /// What the error number means here, if that was found out.
    pub cause: Option<Cause>,
}

impl StepError {
    /// A step that failed with an error number and what else is known.
    pub fn new(
        step: Step,
        object: impl Into<String>,
        errno: i32,
        detail: impl Into<String>,
    ) -> Self {
        Self { step, object: object.into(), errno, detail: detail.into(), cause: None }
    }

    /// A step that failed in a system call.
    pub fn io(step: Step, object: impl Into<String>, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::new(step, object, errno, ""),
            None => Self::new(step, object, libc::EIO, error.to_string()),
        }
    }

    /// The object was not there: no such link, address, route or namespace.
    pub fn is_absent(&self) -> bool {
        matches!(self.errno, libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL)
    }

    pub(super) fn because(mut self, cause: Option<Cause>) -> Self {
        self.cause = cause;
        self
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = Errno::from_raw(self.errno);
        write!(f, "cannot {} {}: {errno:?}", self.step.verb(), self.object)?;
        match self.cause {
            Some(cause) => write!(f, ": {}", cause.explain())?,
            None => write!(f, ": {}", errno.desc().to_lowercase())?,
        }
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for StepError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_to_which_why_and_what_else() {
        let error = StepError::new(
            Step::AddRoute,
            "10.0.0.0/8 via 10.9.9.9 on eth0",
            libc::ENETUNREACH,
            "Nexthop has invalid gateway",
        );
        assert_eq!(
            error.to_string(),
            "cannot add the route 10.0.0.0/8 via 10.9.9.9 on eth0: ENETUNREACH: \
             network is unreachable (Nexthop has invalid gateway)"
        );
        let error = StepError::new(Step::CreateLink, "qc01", libc::EBUSY, "");
        assert_eq!(
            error.because(Some(Cause::IndexTaken)).to_string(),
            "cannot create the link qc01: EBUSY: its index is in use by another link"
        );
    }
}
