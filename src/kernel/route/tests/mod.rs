//! Tests of the hands against the real kernel, each in a network namespace of its own.

mod attach;
mod bridge;
mod detach;
mod gone;
mod shape;
mod socket;
mod tune;

use quantum_config::cni::{
    CniResult, Identity, PortOptions, Posture, Route, Shaping, Tuning, Vlans,
};
use quantum_config::ids::{IfName, LinkIndex, Mac};

use super::{Host, StepError};
use crate::attach::naming::GROUP;
use crate::attach::{InsidePlan, LinkPlan, Record, ShapePlan};
use crate::kernel::netns::Netns;
use crate::kernel::testing::{ip, ip_json};

pub(crate) fn name(text: &str) -> IfName {
    IfName::new(text).unwrap()
}

/// A bridge `br0` with a gateway of each family, and what works on it.
pub(crate) struct Bridge {
    pub(crate) index: LinkIndex,
    pub(crate) host: Host,
}

impl Bridge {
    pub(crate) fn new() -> Self {
        ip("link add br0 address 02:00:00:00:00:01 type bridge");
        ip("address add 10.9.0.1/24 dev br0");
        ip("address add fd09::1/64 dev br0 nodad");
        ip("link set br0 up");
        let index = ip_json("link show br0")[0]["ifindex"].as_u64().unwrap();
        Self { index: LinkIndex(index as u32), host: Host::open().unwrap() }
    }

    /// A plan for the `number`-th container of the bridge: address 10.9.0.`number`.
    pub(crate) fn plan(&self, number: u8) -> (LinkPlan, InsidePlan) {
        let link = LinkPlan {
            host: name(&format!("qc{number:03}")),
            index: LinkIndex(10_000 + u32::from(number)),
            mac: Mac([2, 0, 0, 0, 1, number]),
            bridge: self.index,
            mtu: Some(1400),
            group: GROUP,
            alias: format!("quantum net/c{number}/eth0 10.9.0.{number}/24"),
            hairpin: false,
            isolated: false,
            answered: Vec::new(),
            vlans: Vlans::default(),
            shape: ShapePlan::default(),
        };
        let inside = InsidePlan {
            ifname: name("eth0"),
            index: link.index,
            mac: Mac([2, 0, 0, 0, 2, number]),
            addresses: vec![format!("10.9.0.{number}/24").parse().unwrap()],
            routes: vec![route("0.0.0.0/0", Some("10.9.0.1"))],
            stays_down: false,
            detects_duplicates: false,
            tuning: Tuning::default(),
            waits: false,
        };
        (link, inside)
    }

    /// What is kept of that container.
    pub(crate) fn record(&self, number: u8, netns: &Netns) -> Record {
        let (link, plan) = self.plan(number);
        Record {
            key: format!("net/c{number}/eth0").parse().unwrap(),
            identity: Identity::unknown(),
            netns: netns.id(),
            sandbox: String::new(),
            host: link.host,
            index: link.index,
            mac: plan.mac,
            host_mac: link.mac,
            bridge: name("br0"),
            gateway: true,
            vlan_gateway: None,
            hairpin: link.hairpin,
            promisc: false,
            port: PortOptions::default(),
            posture: Posture::default(),
            ports: Vec::new(),
            mtu: link.mtu,
            shaping: Shaping::default(),
            tuning: plan.tuning,
            addresses: Vec::new(),
            routes: Vec::new(),
            masquerade: false,
            result: CniResult::default(),
            handed: false,
            delegated: false,
            host_netns: None,
            created: 0,
        }
    }

    pub(crate) fn attach(&mut self, number: u8, netns: &Netns) -> Result<(), StepError> {
        let (link, inside) = self.plan(number);
        self.host.attach(&link, &inside, netns)
    }
}

pub(crate) fn route(destination: &str, next_hop: Option<&str>) -> Route {
    Route::new(destination.parse().unwrap(), next_hop.map(|hop| hop.parse().unwrap()))
}

/// The names of the links of this thread's namespace.
pub(crate) fn link_names() -> Vec<String> {
    let links = ip_json("link show");
    links.as_array().unwrap().iter().map(|l| l["ifname"].as_str().unwrap().to_owned()).collect()
}
