//! The record of an attachment: what the daemon did, and all it needs to undo it. A DEL is served
//! from this alone, never from the request's configuration, namespace or previous result.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use quantum_config::cni::{
    CniResult, Identity, PortMapping, PortOptions, Posture, Route, Shaping, Tuning,
};
use quantum_config::ids::{AttachmentKey, IfName, LinkIndex, Mac};
use serde::{Deserialize, Serialize};

use super::{Families, naming};

/// Which network namespace: device and inode of its file in nsfs. A path may name another namespace
/// tomorrow; this pair does not, as long as the namespace lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetnsId {
    /// `st_dev`
    pub dev: u64,
    /// `st_ino`
    pub ino: u64,
}

/// An address that an attachment has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The range set it was taken from, counted from 0; 0 if from none.
    pub set: usize,
    /// The address with the prefix length of its subnet.
    pub address: IpNetwork,
    /// The gateway of the subnet. A static address may have none.
    pub gateway: Option<IpAddr>,
}

/// One attachment as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whose it is.
    pub key: AttachmentKey,
    /// Who it is, for policy.
    #[serde(default)]
    pub identity: Identity,
    /// The container's namespace.
    pub netns: NetnsId,
    /// `CNI_NETNS` as it was given; only for the result, never opened.
    pub sandbox: String,
    /// The end of the veth pair on the host.
    pub host: IfName,
    /// Index of both ends, each in its own namespace ([`Record::inside_index`]).
    pub index: LinkIndex,
    /// Hardware address of the container's end.
    pub mac: Mac,
    /// Hardware address of the host's end.
    pub host_mac: Mac,
    /// The bridge the host's end is a port of.
    pub bridge: IfName,
    /// The bridge carries the gateways' addresses.
    pub gateway: bool,
    /// The link that carries them instead, if the container is in a VLAN.
    #[serde(default)]
    pub vlan_gateway: Option<IfName>,
    /// Frames may leave by the port they came in.
    pub hairpin: bool,
    /// The bridge takes every frame, whoever it is for.
    #[serde(default)]
    pub promisc: bool,
    /// What the port is beyond the usual.
    #[serde(default)]
    pub port: PortOptions,
    /// How its network stood towards others when it was made.
    #[serde(default)]
    pub posture: Posture,
    /// The host's ports that lead to it.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
    /// MTU of both ends, if one was asked for.
    pub mtu: Option<u32>,
    /// What the container's traffic is held to.
    #[serde(default)]
    pub shaping: Shaping,
    /// How the container's end is set up, under its own name.
    #[serde(default)]
    pub tuning: Tuning,
    /// The leased addresses.
    pub addresses: Vec<Assigned>,
    /// The routes inside.
    pub routes: Vec<Route>,
    /// The addresses are masqueraded when they leave the bridge.
    pub masquerade: bool,
    /// What ADD answered.
    pub result: CniResult,
    /// The container's end was handed over to somebody who set it up himself, as Docker does.
    #[serde(default)]
    pub handed: bool,
    /// Another program gave its addresses, and has to be run to have them back.
    #[serde(default)]
    pub delegated: bool,
    /// The network namespace of the host that its link was made in; none if that is not known.
    #[serde(default)]
    pub host_netns: Option<NetnsId>,
    /// When, in milliseconds since the machine booted (`CLOCK_BOOTTIME`).
    pub created: u64,
}

impl Record {
    /// What the host has to forward for it.
    pub fn forwards(&self) -> Families {
        let gateways = self.addresses.iter().filter(|a| self.gateway && a.gateway.is_some());
        Families::of(&gateways.map(|a| a.address).collect::<Vec<_>>())
    }

    /// The link that the host reaches the container by.
    pub fn home(&self) -> &IfName {
        self.vlan_gateway.as_ref().unwrap_or(&self.bridge)
    }

    /// The index of the container's end: that of the host's end, unless both are in the host's own namespace.
    pub fn inside_index(&self) -> LinkIndex {
        match self.host_netns == Some(self.netns) && !self.handed {
            true => naming::index_beside(self.index),
            false => self.index,
        }
    }

    /// Its addresses, each with the link that the host reaches it by.
    pub fn reached(&self) -> Vec<(IfName, IpAddr)> {
        self.addresses.iter().map(|a| (self.home().clone(), a.address.ip())).collect()
    }

    /// The links of the host that go with the attachment, by name and index. One that was rebuilt from
    /// the kernel does not know whether it has a shaper, so it may have.
    pub fn links(&self) -> Vec<(IfName, LinkIndex)> {
        let mut links = vec![(self.host.clone(), self.index)];
        if self.shaping.egress.is_some() || self.created == 0 {
            links.extend(naming::shaper(&self.host, self.index));
        }
        links
    }
}
