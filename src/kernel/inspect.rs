//! What the kernel has of an attachment, as plain data. Comparing it with the record is done
//! elsewhere, by functions of values.

use std::collections::HashMap;
use std::io;

use quantum_config::sysctl::SysctlName;

use super::forwarding::Forwarding;
use super::netns::{self, Netns, NetnsError};
use super::route::{Link, RouteSocket, StepError, has_br_netfilter, look, shape};
use super::sysctl;
use crate::attach::{BridgeSeen, HostSeen, InsideSeen, Observed, Record, ShapeSeen, naming};

/// Why it could not be seen.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// No socket.
    #[error("cannot open a netlink socket to look at {of}: {source}")]
    Socket {
        /// The host or the container.
        of: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The container's namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A question was not answered.
    #[error(transparent)]
    Step(#[from] StepError),
}

/// Looks at what there is of an attachment, on the host and, if `netns` is given, in the container.
/// The calling thread must be in the host's network namespace.
pub fn observe(record: &Record, netns: Option<&Netns>) -> Result<Observed, ObserveError> {
    let failed = |of| move |source| ObserveError::Socket { of, source };
    let mut host = RouteSocket::open().map_err(failed("the host"))?;
    let inside = match netns {
        None => None,
        Some(netns) => {
            let visit = || (RouteSocket::open(), settings(record));
            let (opened, sysctls) = netns::inside(netns, visit)?;
            see_inside(&mut opened.map_err(failed("the container"))?, record, sysctls)?
        }
    };
    Ok(Observed {
        host: see_host(&mut host, record)?,
        bridge: see_bridge(&mut host, record)?,
        inside,
        // Without the namespace somebody only wants to know whether the link is there.
        shape: match netns.is_none() || record.shaping.is_none() {
            true => None,
            false => Some(see_shape(&mut host, record)?),
        },
        off: match netns {
            Some(_) => Forwarding::off(&[(record.home().clone(), record.forwards())]),
            None => Vec::new(),
        },
        waits: match naming::peer_name(&record.key) {
            Ok(name) if record.handed => look::link_by_name(&mut host, &name)?.is_some(),
            _ => false,
        },
    })
}

fn see_shape(socket: &mut RouteSocket, record: &Record) -> Result<ShapeSeen, StepError> {
    let buckets = shape::buckets(socket)?;
    let ingress = buckets.get(&record.index).copied();
    let mut seen = ShapeSeen { ingress, egress: None };
    if record.shaping.egress.is_some()
        && let Ok((name, index)) = naming::shaper(&record.host, record.index)
        && let Some(link) = look::link_by_index(socket, index)?
        && link.up
        && link.name == name.as_str()
        && shape::led_to(socket, record.index)? == Some(index)
    {
        seen.egress = buckets.get(&index).copied();
    }
    Ok(seen)
}

fn see_host(socket: &mut RouteSocket, record: &Record) -> Result<Option<HostSeen>, StepError> {
    let Some(link) = look::link_by_name(socket, &record.host)? else { return Ok(None) };
    let bridge = match link.master {
        Some(master) => look::link_by_index(socket, master)?.map(|bridge| bridge.name),
        None => None,
    };
    let Link { index, alias, mac, mtu, up, hairpin, isolated, .. } = link;
    let vlans = match record.port.vlans.is_used() {
        true => Some(look::vlans(socket, index)?),
        false => None,
    };
    Ok(Some(HostSeen { index, alias, bridge, mac, mtu, up, hairpin, isolated, vlans }))
}

fn see_bridge(socket: &mut RouteSocket, record: &Record) -> Result<Option<BridgeSeen>, StepError> {
    match look::link_by_name(socket, &record.bridge)? {
        Some(link) if link.is_bridge() => {
            let holder = match &record.vlan_gateway {
                Some(name) => look::link_by_name(socket, name)?.map(|link| link.index),
                None => Some(link.index),
            };
            let addresses =
                holder.map_or(Ok(Vec::new()), |index| look::addresses(socket, index))?;
            let Link { index, up, promisc, filters, .. } = link;
            let filters = has_br_netfilter().then_some(filters);
            Ok(Some(BridgeSeen { index, up, promisc, filters, addresses }))
        }
        _ => Ok(None),
    }
}

/// The settings that the record speaks of, in the network namespace of this thread. One that cannot
/// be read is left out, unless it is not there: then it is empty.
fn settings(record: &Record) -> HashMap<SysctlName, String> {
    let names = record.tuning.sysctls.iter().map(|sysctl| &sysctl.name);
    let shown = |name: &SysctlName| match sysctl::read(name) {
        Ok(shown) => Some((name.clone(), shown)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some((name.clone(), String::new()))
        }
        Err(_) => None,
    };
    names.filter_map(shown).collect()
}

fn see_inside(
    socket: &mut RouteSocket,
    record: &Record,
    sysctls: HashMap<SysctlName, String>,
) -> Result<Option<InsideSeen>, StepError> {
    let Some(link) = look::link_by_name(socket, &record.key.ifname)? else { return Ok(None) };
    let addresses = look::addresses(socket, link.index)?;
    let routes = look::routes(socket, link.index)?;
    let Link { index, mac, mtu, up, promisc, all_multicast, tx_queue, .. } = link;
    Ok(Some(InsideSeen {
        index,
        mac,
        mtu,
        up,
        promisc,
        all_multicast,
        tx_queue,
        sysctls,
        addresses,
        routes,
    }))
}

#[cfg(test)]
mod tests;
