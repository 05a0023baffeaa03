//! Changes a pair that is there, as a later plugin of the chain asks, or leaves it as it was: its
//! limits, its MTU, and how the container's end is set up. And brings up a container's loopback.

use nix::libc;
use quantum_config::cni::Tuning;

use super::attach::visit;
use super::batch::first_error;
use super::shape::Limited;
use super::{Batch, Host, RouteSocket, Step, StepError, look, message, shape};
use crate::attach::{InsidePlan, Record, Revision, naming};
use crate::kernel::netns::{self, Netns};

impl Host {
    /// Makes the pair what the revision says. What is not of its record is not touched. On failure the
    /// limits are gone again; what was set inside may stay, and goes with the pair.
    pub fn amend(&mut self, revision: &Revision, netns: &Netns) -> Result<(), StepError> {
        let (before, after) = (&revision.before, &revision.after);
        let host = self.socket()?;
        let found = look::link_by_index(host, before.index)?;
        if found.is_none_or(|link| link.name != before.host.as_str()) {
            let why = "it is not the link that was made for this container";
            return Err(StepError::new(Step::FindLink, before.host.as_str(), libc::ENODEV, why));
        }
        let mtu = after.mtu.filter(|_| after.mtu != before.mtu);
        let mut container = visit(&inside(after), netns)?;
        let batch = inside_batch(revision, mtu);
        if !batch.is_empty() {
            first_error(container.send(batch))?;
        }
        if let Some(mtu) = mtu {
            let mut batch = Batch::new();
            let request = message::set_mtu(before.index, mtu);
            batch.push(Step::SetMtu, before.host.as_str(), 0, request);
            first_error(host.send(batch))?;
        }
        self.limit(revision)
    }

    fn limit(&mut self, revision: &Revision) -> Result<(), StepError> {
        let after = &revision.after;
        let alias = naming::alias(&after.key, after.addresses.iter().map(|a| a.address));
        let limited = Limited {
            host: &after.host,
            index: after.index,
            mtu: after.mtu,
            alias: &alias,
            shape: &revision.shape,
        };
        let host = self.socket()?;
        if let Some(shaper) = &revision.shape.egress {
            shape::create(host, &limited, shaper)?;
        }
        let mut batch = Batch::new();
        shape::limit(&mut batch, &limited);
        if batch.is_empty() {
            return Ok(());
        }
        first_error(host.send(batch)).inspect_err(|_| {
            let Some(shaper) = &revision.shape.egress else { return };
            let mut undo = Batch::new();
            let request = message::delete_link(shaper.index);
            undo.push(Step::DeleteLinks, shaper.name.as_str(), 0, request);
            // The DEL that a runtime sends after a failure removes what stays.
            let _ = first_error(host.send(undo));
        })
    }
}

/// Brings up the loopback of a container.
pub fn loopback_up(netns: &Netns) -> Result<(), StepError> {
    let opened = netns::inside(netns, RouteSocket::open)
        .map_err(|e| StepError::new(Step::EnterNamespace, "lo", e.errno(), e.to_string()))?;
    let mut socket = opened.map_err(|e| StepError::io(Step::OpenSocket, "lo", &e))?;
    let mut batch = Batch::new();
    batch.push(Step::LoopbackUp, "lo", 0, message::link_up(message::LOOPBACK));
    first_error(socket.send(batch))
}

/// What is written to files inside.
fn inside(record: &Record) -> InsidePlan {
    InsidePlan {
        ifname: record.key.ifname.clone(),
        index: record.inside_index(),
        mac: record.mac,
        addresses: Vec::new(),
        routes: Vec::new(),
        stays_down: record.port.stays_down,
        detects_duplicates: false,
        tuning: record.tuning.clone(),
        waits: false,
    }
}

fn inside_batch(revision: &Revision, mtu: Option<u32>) -> Batch {
    let Revision { before, after, .. } = revision;
    let (index, name) = (after.inside_index(), after.key.ifname.as_str());
    let mut batch = Batch::new();
    let flags = |of: &Tuning| (of.promisc, of.all_multicast, of.tx_queue);
    if flags(&after.tuning) != flags(&before.tuning) {
        batch.push(Step::TuneLink, name, 0, message::tune_link(index, &after.tuning));
    }
    if let Some(mtu) = mtu {
        batch.push(Step::SetMtu, name, 0, message::set_mtu(index, mtu));
    }
    if after.mac != before.mac {
        batch.push(Step::SetMac, name, 0, message::set_mac(index, after.mac));
    }
    batch
}
