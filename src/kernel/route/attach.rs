//! Makes a container's link as planned, or leaves nothing.
//!
//! ```text
//! host       1  NEWLINK pair, peer in the container, port of the bridge, up
//!            2  NEWLINK shaper                   (where what the container sends is limited)
//!            3  NEWLINK alias and port flags, limits
//!                                     (only after 1 and 2: the index may be somebody else's)
//! container  4  visit: open a socket, write settings
//!            5  link set up, lo up, link up, addresses, routes                      (one datagram)
//! host       6  see that the port forwards
//! container  7  announce the addresses
//! ```
//!
//! Where the container's end waits on the host for somebody else (`InsidePlan::waits`), 3 is the last step.
//!
//! Whatever fails after 1, the host's end is deleted, and with it the peer and all that hangs on it,
//! and the shaper.

use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use nix::libc;
use quantum_config::cni::Route;
use quantum_config::ids::IfName;

use super::batch::first_error;
use super::{
    Batch, Cause, RouteSocket, Step, StepError, forward, look, message, routed, shape, vlan,
};
use crate::attach::{InsidePlan, LinkPlan};
use crate::kernel::fault;
use crate::kernel::netns::{self, Netns};
use crate::kernel::sysctl::{self, Setting};

/// The host's side of the work, on one thread. It belongs to the network namespace it was opened in
/// and must be used by a thread that is there.
#[derive(Debug)]
pub struct Host {
    socket: RouteSocket,
}

impl Host {
    /// Opens the socket in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: RouteSocket::open()? })
    }

    /// The socket, opened again if the last one lost an answer.
    pub(super) fn socket(&mut self) -> Result<&mut RouteSocket, StepError> {
        if self.socket.is_spent() {
            self.socket =
                RouteSocket::open().map_err(|e| StepError::io(Step::OpenSocket, "the host", &e))?;
        }
        Ok(&mut self.socket)
    }

    /// Makes the pair, configures the container's end and announces its addresses. When this
    /// returns, the bridge forwards what the container sends.
    ///
    /// On failure nothing is left of it and the error is that of the first step that failed. Its
    /// [`Cause`] tells whether another index, another name or the bridge is to blame.
    pub fn attach(
        &mut self,
        link: &LinkPlan,
        inside: &InsidePlan,
        netns: &Netns,
    ) -> Result<(), StepError> {
        self.create(link, inside, netns).map_err(|error| match self.is_unfinished(link) {
            true => self.undo(link, error),
            false => error,
        })?;
        let reached = fault::reach("add-link-made").map_err(|fault| {
            StepError::new(Step::SetPort, link.host.as_str(), libc::EIO, fault.to_string())
        });
        reached
            .and_then(|()| self.configure(link, inside, netns))
            .map_err(|error| self.undo(link, error))
    }

    pub(super) fn create(
        &mut self,
        link: &LinkPlan,
        inside: &InsidePlan,
        netns: &Netns,
    ) -> Result<(), StepError> {
        let socket = self.socket()?;
        let object = format!("{} (in the container: {})", link.host, inside.ifname);
        let request = message::create_pair(link, inside, netns.as_fd());
        let mut batch = Batch::new();
        batch.push(Step::CreateLink, object, NLM_F_CREATE | NLM_F_EXCL, request);
        first_error(socket.send(batch)).map_err(|error| {
            let cause = find_cause(socket, &error, link, inside, netns);
            let bridge = match cause {
                Some(Cause::BridgeFull) => look::link_by_index(socket, link.bridge),
                _ => Ok(None),
            };
            let mut error = error.because(cause);
            if let Ok(Some(bridge)) = bridge {
                error.detail = format!("the bridge is {}", bridge.name);
            }
            error
        })
    }

    pub(super) fn configure(
        &mut self,
        link: &LinkPlan,
        inside: &InsidePlan,
        netns: &Netns,
    ) -> Result<(), StepError> {
        let host = self.socket()?;
        if let Some(shaper) = &link.shape.egress {
            shape::create(host, &link.into(), shaper)?;
            fault::reach("add-shaper-made").map_err(|fault| {
                StepError::new(Step::SetShaper, shaper.name.as_str(), libc::EIO, fault.to_string())
            })?;
        }
        let mut batch = Batch::new();
        // Somebody may have taken it down; if not, this does nothing.
        batch.push(Step::SetPort, link.host.as_str(), 0, message::link_up(link.bridge));
        batch.push(Step::SetPort, link.host.as_str(), 0, message::set_port(link));
        for ip in &link.answered {
            let request = routed::proxy(link.bridge, *ip, true);
            batch.push(Step::AnswerFor, ip.to_string(), NLM_F_CREATE, request);
        }
        for request in vlan::join(link.index, &link.vlans) {
            batch.push(Step::JoinVlans, link.host.as_str(), 0, request);
        }
        shape::limit(&mut batch, &link.into());
        first_error(host.send(batch))?;

        if inside.waits {
            return Ok(());
        }
        let mut container = visit(inside, netns)?;
        first_error(container.send(inside_batch(inside)))?;

        if inside.stays_down {
            return Ok(()); // no carrier, so nothing is forwarded or announced
        }
        forward::settle(host, link)?;
        if !inside.addresses.is_empty() {
            // Setting the address that it has makes the kernel announce the link's addresses: a
            // gratuitous ARP or an unsolicited neighbour advertisement each. A packet socket would
            // do as well, but closing one waits for RCU.
            let mut batch = Batch::new();
            let again = message::set_mac(inside.index, inside.mac);
            batch.push(Step::Announce, inside.ifname.as_str(), 0, again);
            first_error(container.send(batch))?;
        }
        Ok(())
    }

    /// The answer to the creation was lost, and the link was made all the same: it has the name and
    /// the index of the plan, and no alias yet, which tells it from an older one of ours.
    fn is_unfinished(&mut self, link: &LinkPlan) -> bool {
        self.socket.is_spent()
            && self.socket().and_then(|socket| look::link_by_index(socket, link.index)).is_ok_and(
                |found| found.is_some_and(|l| l.name == link.host.as_str() && l.alias.is_empty()),
            )
    }

    /// Deletes the link that this very call has made, so its index is enough to know it by; and the
    /// shaper, if it came to that: the index may be somebody else's.
    fn undo(&mut self, link: &LinkPlan, mut error: StepError) -> StepError {
        let mut batch = Batch::new();
        batch.push(Step::DeleteLinks, link.host.as_str(), 0, message::delete_link(link.index));
        let mut undone = Vec::new();
        if let Some(shaper) = &link.shape.egress {
            match self.is_there(&shaper.name, shaper.index) {
                Ok(true) => {
                    let request = message::delete_link(shaper.index);
                    batch.push(Step::DeleteLinks, shaper.name.as_str(), 0, request);
                }
                Ok(false) => {}
                Err(unseen) => undone.push(Err(unseen)),
            }
        }
        match self.socket() {
            Ok(socket) => undone.extend(socket.send(batch)),
            Err(closed) => undone.push(Err(closed)),
        }
        for undo in undone.into_iter().filter_map(Result::err).filter(|undo| !undo.is_absent()) {
            if !error.detail.is_empty() {
                error.detail.push_str("; ");
            }
            error.detail.push_str(&undo.to_string());
        }
        error
    }
}

/// All that is done inside in one datagram. The order matters: the link is up before it has
/// addresses, so that they are not announced before the port forwards; routes come last, as a next
/// hop must be reachable.
fn inside_batch(inside: &InsidePlan) -> Batch {
    let name = &inside.ifname;
    let mut batch = Batch::new();
    if inside.tuning.changes_link() {
        let request = message::tune_link(inside.index, &inside.tuning);
        batch.push(Step::TuneLink, name.as_str(), 0, request);
    }
    batch.push(Step::LoopbackUp, name.as_str(), 0, message::link_up(message::LOOPBACK));
    if !inside.stays_down {
        let request = match decides_on_announcements(inside) {
            true => message::link_up(inside.index),
            false => message::announcing_link_up(inside.index),
        };
        batch.push(Step::LinkUp, name.as_str(), 0, request);
    }
    for &address in &inside.addresses {
        let object = format!("{address} on {name}");
        let request = match inside.detects_duplicates && address.is_ipv6() {
            true => message::add_address_after_detection(inside.index, address),
            false => message::add_address(inside.index, address),
        };
        batch.push(Step::AddAddress, object, NLM_F_CREATE | NLM_F_EXCL, request);
    }
    for (position, route) in inside.routes.iter().enumerate() {
        let object = match route.gw {
            Some(hop) => format!("{} via {hop} on {name}", route.dst),
            None => format!("{} on {name}", route.dst),
        };
        // Without NLM_F_EXCL, as another interface of the container may have a route to the same
        // destination by another next hop; that is what the reference plugins do.
        // One of our own comes after the earlier one: the order of the configuration is theirs.
        let is_same =
            |r: &Route| (r.dst, r.table, r.priority) == (route.dst, route.table, route.priority);
        let again = inside.routes[..position].iter().any(is_same);
        let flags = NLM_F_CREATE | if again { NLM_F_APPEND } else { 0 };
        batch.push(Step::AddRoute, object, flags, message::add_route(inside.index, route));
    }
    batch
}

/// The network has a word of its own on whether IPv4 addresses are announced.
fn decides_on_announcements(inside: &InsidePlan) -> bool {
    let setting = format!("net/ipv4/conf/{}/arp_notify", inside.ifname);
    inside.tuning.sysctls.iter().any(|sysctl| sysctl.name.path() == setting)
}

/// Goes into the container for as long as it takes to open a socket and write the settings that
/// netlink cannot reach. The socket works from outside afterwards.
pub(super) fn visit(inside: &InsidePlan, netns: &Netns) -> Result<RouteSocket, StepError> {
    let name = &inside.ifname;
    netns::inside(netns, || {
        for (setting, value) in settings(inside) {
            setting
                .ensure(value)
                .map_err(|e| StepError::io(Step::SetSysctl, setting.to_string(), &e))?;
        }
        // After ours: what a network says of its own counts.
        for named in &inside.tuning.sysctls {
            sysctl::ensure(named).map_err(|e| {
                let file = sysctl::file(&named.name).display().to_string();
                let mut error = StepError::io(Step::SetSysctl, file, &e);
                error.detail = format!("to {:?}, as the network's sysctl says", named.value);
                error
            })?;
        }
        RouteSocket::open().map_err(|e| StepError::io(Step::OpenSocket, name.as_str(), &e))
    })
    .map_err(|e| StepError::new(Step::EnterNamespace, name.as_str(), e.errno(), e.to_string()))?
}

/// The settings that the addresses of a plan need.
fn settings(inside: &InsidePlan) -> Vec<(Setting<'_>, bool)> {
    let name = &inside.ifname;
    let mut settings = Vec::new();
    if inside.addresses.iter().any(|address| address.is_ipv6()) {
        settings.extend([
            (Setting::LoopbackDisableIpv6, false),
            (Setting::DisableIpv6(name), false),
            (Setting::KeepAddrOnDown(name), true),
            (Setting::NdiscNotify(name), true),
        ]);
        if inside.detects_duplicates {
            settings.extend([(Setting::AcceptDad(name), true), (Setting::EnhancedDad(name), true)]);
        }
    }
    settings
}

/// Finds out what an error of the creating request means, by looking at what there is.
fn find_cause(
    host: &mut RouteSocket,
    error: &StepError,
    link: &LinkPlan,
    inside: &InsidePlan,
    netns: &Netns,
) -> Option<Cause> {
    match error.errno {
        libc::EEXIST | libc::EBUSY => {
            let taken = |socket: &mut RouteSocket, name: &IfName| {
                matches!(look::link_by_name(socket, name), Ok(Some(_)))
            };
            let mut container = netns::inside(netns, RouteSocket::open).ok()?.ok()?;
            if taken(host, &link.host) {
                Some(Cause::HostNameTaken)
            } else if taken(&mut container, &inside.ifname) {
                Some(Cause::ContainerNameTaken)
            } else {
                // Nothing else is unique. It may be free again by now: that is no reason to look.
                Some(Cause::IndexTaken)
            }
        }
        libc::EXFULL => Some(Cause::BridgeFull),
        libc::EINVAL | libc::ENODEV | libc::EOPNOTSUPP => {
            match look::link_by_index(host, link.bridge) {
                Ok(Some(bridge)) if bridge.is_bridge() => None,
                Ok(_) => Some(Cause::BridgeMissing),
                Err(_) => None,
            }
        }
        _ => None,
    }
}
