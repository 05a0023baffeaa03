//! Bridges of ours that nobody is on any more: where a network's subnet moved to another bridge, the one that it
//! was on gives it up, or the host would go on sending there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use quantum_cni::attach::{
    Element, HostNetworks, Overlap, Trait, bridge_element, naming, network_elements,
};
use quantum_cni::kernel::{KernelError, identity};
use quantum_config::cni::Definition;
use quantum_config::ids::IfName;
use slog::{Logger, info};

use super::Lanes;

/// How the names of bridges begin that are made for Docker's networks: dockerd says when one goes.
const OF_DOCKER: &str = "qd-";

/// How long a bridge that was prepared waits for its first port before it is taken for one that nobody is on.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bridges that were prepared for an ADD which has not come to its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Awaited(Rc<RefCell<HashMap<IfName, Instant>>>);

impl Awaited {
    /// Somebody is about to attach to it.
    pub(super) fn prepared(&self, bridge: &IfName) {
        self.0.borrow_mut().insert(bridge.clone(), Instant::now());
    }

    /// Somebody has.
    pub(super) fn attached(&self, bridge: &IfName) {
        self.0.borrow_mut().remove(bridge);
    }

    fn is(&self, bridge: &IfName) -> bool {
        self.0.borrow().get(bridge).is_some_and(|since| since.elapsed() < PATIENCE)
    }
}

/// Removes the bridge that has the address which `overlap` is about, if we made it and nothing is plugged into
/// it. `networks` are those that were prepared on it. True if it is gone.
pub(super) async fn vacate(
    lanes: &Lanes,
    overlap: &Overlap,
    host: &HostNetworks,
    networks: &[Definition],
    awaited: &Awaited,
    log: &Logger,
) -> Result<bool, KernelError> {
    let Some(link) = overlap.of.address_of() else { return Ok(false) };
    let Ok(bridge) = IfName::new(link) else { return Ok(false) };
    if link.starts_with(OF_DOCKER) || awaited.is(&bridge) {
        return Ok(false);
    }
    let mac = naming::bridge_mac(&identity::host_id(), &bridge);
    let name = bridge.clone();
    if !lanes.inspect(move |host| host.remove_bridge(&name, mac)).await?? {
        return Ok(false);
    }
    lanes.book.with(|links| links.dismantled(&bridge));
    let addresses = host.addresses.iter().filter(|address| address.on.name == link);
    let gateways = addresses.map(|address| address.address.ip());
    let mut going = left(&bridge, gateways);
    for network in networks {
        going.extend(network_elements(network, &[]));
        going.push(bridge_element(network, &[], mac).0);
    }
    lanes.netfilter(move |table| table.remove(&going)).await??;
    info!(log, "removed a bridge that nobody is on: its subnet is another one's now";
        "bridge" => bridge.as_str(), "network_name" => overlap.network.as_str(),
        "gateway" => %overlap.gateway);
    Ok(true)
}

/// What a bridge may have in our sets whose networks are not known any more.
fn left(bridge: &IfName, gateways: impl Iterator<Item = IpAddr>) -> Vec<Element> {
    let traits = Trait::ALL.into_iter();
    let traits = traits.map(|trait_| Element::Network { bridge: bridge.clone(), trait_ });
    let gateway = |address, strict| Element::Gateway { address, bridge: bridge.clone(), strict };
    let gateways = gateways.flat_map(|ip| [true, false].map(|strict| gateway(ip, strict)));
    traits.chain(gateways).collect()
}
