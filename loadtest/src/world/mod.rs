//! The world of one run: a host with an uplink, and containers with nothing but a namespace.
//!
//! ```text
//!   upstream netns         host netns (the process's own)           container netns, many
//!   198.51.100.1 ── veth ── uplink0 198.51.100.2, default route     lo, and what the plugins add
//! ```

pub(crate) mod isolation;
mod netns;
mod workdir;

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;

use crate::failure::{Failure, Result};
use crate::netlink::{Route, Veth, address, default_route, delete, down, link_index, up, veth};

pub(crate) use isolation::LOOPBACK;
pub(crate) use netns::{Netns, Visitor, visiting};
pub(crate) use workdir::WorkDir;

// Addresses that are for documentation only (RFC 5737), so never a network under test.
const UPSTREAM: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const UPLINK: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const UPLINK_PREFIX: u8 = 24;
const UPLINK_INDEX: u32 = 1000;

/// `CNI_IFNAME`: the interface every container gets.
pub(crate) const IFNAME: &str = "eth0";

/// A container as far as a network plugin can see it.
#[derive(Debug)]
pub(crate) struct Container {
    /// `CNI_CONTAINERID`
    pub(crate) id: String,
    /// Its number in this run, from 0.
    pub(crate) number: u16,
    /// Its network namespace.
    pub(crate) netns: Netns,
}

impl Container {
    /// The first digits of its id, as people are shown it.
    pub(crate) fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// Everything that must be there before the first call.
#[derive(Debug)]
pub(crate) struct World {
    /// All containers of the run; every scenario takes as many as it needs.
    pub(crate) containers: Vec<Container>,
    /// The folder of the run. Dropped after the containers.
    pub(crate) work: WorkDir,
    _upstream: Netns,
}

impl World {
    /// Builds the world around the process's own network namespace.
    pub(crate) fn build(parent: &Path, containers: usize) -> Result<Self> {
        let work = WorkDir::create(parent)?;
        let upstream = netns::create(work.namespaces(), &["upstream".to_owned()])?
            .pop()
            .ok_or_else(|| Failure::new("making the upstream namespace", "none came back"))?;
        visiting(|visitor| connect_uplink(visitor, &upstream))?;

        let ids: Vec<String> = (0..containers).map(container_id).collect();
        let containers = netns::create(work.namespaces(), &ids)?
            .into_iter()
            .zip(ids)
            .zip(0..)
            .map(|((netns, id), number)| Container { id, number, netns })
            .collect();
        Ok(Self { containers, work, _upstream: upstream })
    }

    /// The first `count` containers.
    pub(crate) fn some(&self, count: usize) -> &[Container] {
        self.containers.get(..count).unwrap_or(&self.containers)
    }
}

/// As long as the ids of the runtimes: 64 hexadecimal digits, different within the first twelve.
fn container_id(number: usize) -> String {
    format!("{number:012x}{:052x}", u64::MAX ^ number as u64)
}

fn connect_uplink(visitor: &Visitor, upstream: &Netns) -> Result<()> {
    let uplink = Veth {
        name: "uplink0",
        index: UPLINK_INDEX,
        bridge: None,
        group: 0,
        peer_name: "down0",
        peer_index: UPLINK_INDEX,
        peer_mac: [0x02, 0, 0, 0, 0, 1],
        netns: upstream.as_fd(),
    };
    let mut host = Route::open()?;
    host.commit([veth(&uplink), address(UPLINK_INDEX, UPLINK, UPLINK_PREFIX)])?;
    visitor.route_in(upstream)?.commit([
        up(LOOPBACK),
        address(UPLINK_INDEX, UPSTREAM, UPLINK_PREFIX),
        up(UPLINK_INDEX),
    ])?;
    host.commit([default_route(UPLINK_INDEX, UPSTREAM)])
}

/// Brings the namespaces of containers back to what a runtime hands over: `lo` down, and nothing of
/// what a failed DEL may have left there. Otherwise one failure would spoil all that comes after
/// it.
pub(crate) fn as_handed_over(visitor: &Visitor, containers: &[Container]) -> Result<()> {
    for container in containers {
        let mut inside = visitor.route_in(&container.netns)?;
        let left = link_index(&mut inside, IFNAME)?;
        inside.commit(left.map(delete).into_iter().chain([down(LOOPBACK)]))?;
    }
    Ok(())
}

/// Deletes an interface of the host, if it is there: a bridge that a network left behind.
pub(crate) fn remove_link(name: &str) -> Result<()> {
    let mut host = Route::open()?;
    match link_index(&mut host, name)? {
        Some(index) => host.commit([delete(index)]),
        None => Ok(()),
    }
}
