//! Sees that the bridge forwards what a new port sends.
//!
//! A port whose carrier comes on forwards only after the kernel's link watch has run, which is work
//! for later (net/core/link_watch.c). Until then what the container sends is dropped: its first
//! packets, and the announcement of its addresses. Asking a driver whether it has a link makes the
//! kernel do that work at once, before it answers (`linkwatch_sync_dev` in `ethtool_op_get_link`).

use std::mem;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;
use quantum_config::ids::IfName;

use super::{RouteSocket, Step, StepError};
use crate::attach::LinkPlan;

/// linux/ethtool.h
const ETHTOOL_GLINK: u32 = 0x0000_000a;

nix::ioctl_readwrite_bad!(ethtool, libc::SIOCETHTOOL, libc::ifreq);

/// `struct ethtool_value`
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Brings the state of the host's end up to date. With spanning tree off, as it is on our bridges,
/// the port forwards from then on.
pub(super) fn settle(host: &RouteSocket, link: &LinkPlan) -> Result<(), StepError> {
    if refresh(host, &link.host)? {
        return Ok(());
    }
    // Both ends were brought up, so somebody has taken one down.
    let detail = "the pair has no carrier; was one end brought down?";
    Err(StepError::new(Step::Forward, link.host.as_str(), libc::ENETDOWN, detail))
}

/// The same for a port whose container may have its end down. True if the pair has a carrier.
pub(super) fn refresh(host: &RouteSocket, port: &IfName) -> Result<bool, StepError> {
    ask_for_link(host, port).map_err(|e| StepError::io(Step::Forward, port.as_str(), &e))
}

fn ask_for_link(socket: &RouteSocket, name: &IfName) -> std::io::Result<bool> {
    let mut value = EthtoolValue { command: ETHTOOL_GLINK, data: 0 };
    // SAFETY: `ifreq` is plain data for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *to = from as libc::c_char; // at most 15 bytes, so a NUL remains
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the descriptor is open; `request` and the `ethtool_value` it points to live until
    // the call returns, and ETHTOOL_GLINK reads and writes exactly that value.
    unsafe { ethtool(socket.as_fd().as_raw_fd(), &raw mut request) }?;
    Ok(value.data != 0)
}
