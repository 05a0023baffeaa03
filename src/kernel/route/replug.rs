//! Puts the host's end of a pair back that somebody has set down, unplugged, moved, renamed or set up
//! otherwise. The container's end is not touched.

use std::net::IpAddr;

use netlink_packet_core::NLM_F_CREATE;
use quantum_config::ids::{IfName, LinkIndex};

use super::batch::first_error;
use super::bridge::BridgeError;
use super::{Batch, Host, Link, Step, StepError, forward, look, message, routed, vlan};
use crate::attach::{BridgeWanted, LinkSeen, PortWanted, WayToRules, naming};
use crate::kernel::sysctl::{Setting, has_ipv6};

impl From<Link> for LinkSeen {
    fn from(link: Link) -> Self {
        let Link { index, name, alias, group, master, mac, mtu, up, kind, .. } = link;
        let Link { is_veth, promisc, filters, hairpin, isolated, .. } = link;
        Self {
            index,
            name,
            alias,
            group,
            master,
            mac,
            mtu,
            up,
            kind,
            is_veth,
            promisc,
            filters,
            hairpin,
            isolated,
        }
    }
}

/// Puts the settings of a bridge back, in the network namespace of this thread. Which were others.
pub fn put_settings_back(bridge: &BridgeWanted) -> Result<Vec<String>, BridgeError> {
    let holder = &bridge.holder.0;
    let mut wanted = vec![];
    if has_ipv6() {
        wanted.push((Setting::AcceptRa(holder), false));
    }
    if bridge.forwards.ipv6 {
        wanted.push((Setting::DisableIpv6(holder), false));
    }
    if bridge.way == WayToRules::Routed {
        wanted.extend(routed::settings(&bridge.name));
    }
    let mut found = Vec::new();
    for (setting, value) in wanted {
        // One that is not there went with its link, or with IPv6.
        let Ok(is) = setting.read() else { continue };
        if is == if value { "1" } else { "0" } {
            continue;
        }
        let path = || setting.path().display().to_string();
        setting.write(value).map_err(|source| BridgeError::Setting { path: path(), source })?;
        found.push(path());
    }
    Ok(found)
}

impl Host {
    /// All links, as far as it matters for those that are ours. Of what comes and goes meanwhile something may be
    /// missing, but none of these.
    pub fn seen(&mut self, needed: &[IfName]) -> Result<Vec<LinkSeen>, StepError> {
        let mut seen: Vec<LinkSeen> =
            look::links_about(self.socket()?)?.into_iter().map(LinkSeen::from).collect();
        seen.sort_unstable_by_key(|link| link.index);
        seen.dedup_by_key(|link| link.index);
        for name in needed {
            if !seen.iter().any(|link| link.name == name.as_str()) {
                let link = look::link_by_name(self.socket()?, name)?;
                seen.extend(link.map(LinkSeen::from));
            }
        }
        Ok(seen)
    }

    /// Makes a port what it is to be, on the bridge of this index. One that is gone, or that is as it should be, is
    /// left alone; false then.
    pub fn replug(&mut self, port: &PortWanted, bridge: LinkIndex) -> Result<bool, StepError> {
        let socket = self.socket()?;
        let Some(link) = look::link_by_index(socket, port.index)? else { return Ok(false) };
        let seen = LinkSeen::from(link);
        if port.wrongs(&seen, Some(bridge)).is_empty() {
            return Ok(false);
        }
        let name = seen.name.as_str();
        let moves = seen.master != Some(bridge);
        let renames = name != port.name.as_str();
        let mut batch = Batch::new();
        // Not before its flags are set may it speak there; and older kernels rename what is down only.
        if moves || renames {
            batch.push(Step::SetPort, name, 0, message::link_down(port.index));
        }
        if renames {
            batch.push(Step::Rename, name, 0, message::rename(port.index, &port.name));
        }
        let name = port.name.as_str();
        batch.push(Step::SetPort, name, 0, message::set_group(port.index, naming::GROUP));
        if moves {
            batch.push(Step::SetPort, name, 0, message::plug(port.index, bridge));
        }
        if let Some((hairpin, isolated)) = port.flags {
            let request = message::set_port_flags(port.index, hairpin, isolated);
            batch.push(Step::SetPort, name, 0, request);
        }
        if let Some(mtu) = port.mtu {
            batch.push(Step::SetMtu, name, 0, message::set_mtu(port.index, mtu));
        }
        if moves {
            for request in vlan::join(port.index, &port.vlans) {
                batch.push(Step::JoinVlans, name, 0, request);
            }
        }
        first_error(socket.send(batch))?;
        let mut batch = Batch::new();
        batch.push(Step::SetPort, name, 0, message::link_up(port.index));
        first_error(socket.send(batch))?;
        forward::refresh(socket, &port.name).map(|_| true)
    }

    /// Has the host answer neighbour discovery on a bridge for these ports' addresses. What a bridge answers for goes
    /// when it is set down.
    pub fn answer_for<'p>(
        &mut self,
        bridge: LinkIndex,
        ports: impl IntoIterator<Item = &'p PortWanted>,
    ) -> Result<(), StepError> {
        let mut batch = Batch::new();
        for address in ports.into_iter().flat_map(|port| &port.addresses) {
            if let IpAddr::V6(ip) = address {
                let request = routed::proxy(bridge, *ip, true);
                batch.push(Step::AnswerFor, ip.to_string(), NLM_F_CREATE, request);
            }
        }
        if batch.is_empty() { Ok(()) } else { first_error(self.socket()?.send(batch)) }
    }
}
