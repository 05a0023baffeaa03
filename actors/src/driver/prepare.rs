//! Preparing a network: how it stands towards others, and its bridge.

use std::sync::Arc;

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::attach::{
    BridgeEnd, Element, Families, WayToRules, bridge_element, naming, network_elements,
    network_remains, overlaps, way_to_rules,
};
use quantum_cni::kernel::nft::{NftError, Table};
use quantum_cni::kernel::route::bridge::{self, BridgeError, BridgePlan, BridgeState};
use quantum_cni::kernel::route::{VlanGateway, has_br_netfilter};
use quantum_cni::kernel::{KernelError, fault, identity};
use quantum_config::cni::{Definition, Posture, Vlans};
use quantum_config::ids::IfName;
use slog::{Logger, warn};

use super::apply::unfilter;
use super::{Driver, Lanes, forwarding};
use crate::messages::driver::{Prepare, Restore};

impl Handler<Prepare> for Driver {
    type Result = ResponseFuture<Result<BridgeEnd, KernelError>>;

    fn handle(&mut self, Prepare(network): Prepare, _: &mut Context<Self>) -> Self::Result {
        let (lanes, log) = (self.lanes.clone(), self.log.clone());
        if let Some(same) = self.stances.same_addresses(&network) {
            return Box::pin(async move { Err(BridgeError::from(same).into()) });
        }
        let (force, beside) = (network.force_address, self.stances.enter(&network));
        let (one_by_one, stances) = (self.one_by_one.clone(), self.stances.clone());
        Box::pin(async move {
            let gateways = network.gateway_addresses();
            if gateways.is_empty() {
                return prepare(&lanes, &network, beside, force, &log).await;
            }
            let _turn = one_by_one.lock().await;
            let host = lanes.inspect(move |host| host.surroundings(&gateways)).await??;
            let told = overlaps(&network, &host, &stances).map_err(BridgeError::from)?;
            let end = prepare(&lanes, &network, beside, force, &log).await?;
            for overlap in told {
                warn!(log, "a network takes a part of what the host sent elsewhere";
                    "network_name" => network.name.as_str(), "gateway" => %overlap.gateway,
                    "overlaps" => %overlap.of);
            }
            Ok(end)
        })
    }
}

impl Handler<Restore> for Driver {
    type Result = ResponseFuture<Result<BridgeEnd, KernelError>>;

    fn handle(&mut self, Restore(network): Restore, _: &mut Context<Self>) -> Self::Result {
        let (lanes, meters, log) = (self.lanes.clone(), self.meters.clone(), self.log.clone());
        let beside = self.stances.enter(&network);
        Box::pin(async move {
            fault::reach("mending")?;
            let end = prepare(&lanes, &network, beside, false, &log).await?;
            meters.repairs.with_label_values(&["address"]).inc();
            Ok(end)
        })
    }
}

async fn prepare(
    lanes: &Lanes,
    network: &Arc<Definition>,
    beside: Vec<Posture>,
    force_address: bool,
    log: &Logger,
) -> Result<BridgeEnd, KernelError> {
    let way = way_to_rules(network, has_br_netfilter()).map_err(BridgeError::from)?;
    let definition = network.clone();
    let others = beside.clone();
    let new = lanes.netfilter(move |table| stand(table, &definition, &others)).await??;
    let host = identity::host_id();
    let plan = BridgePlan {
        name: network.bridge.clone(),
        mac: naming::bridge_mac(&host, &network.bridge),
        mtu: network.mtu,
        addresses: network.gateway_addresses(),
        force_address,
        promisc: network.promisc,
        filters_vlans: network.port.vlans.is_used(),
        vlan_gateway: network.vlan_gateway().and_then(|name| vlan_gateway(&host, name, network)),
        filters_packets: way == WayToRules::Bridge,
        is_routed: way == WayToRules::Routed,
    };
    let (gateway, wanted) = (plan.holder().clone(), Families::of(&plan.addresses));
    let made = match lanes.slow(async move { bridge::prepare(&plan).await }).await? {
        Ok(made) => made,
        Err(error) => {
            unfilter(lanes, new).await?;
            return Err(error.into());
        }
    };
    forwarding::hold(lanes, gateway, wanted, log).await?;
    let BridgeState { index, mac, mtu, vlan_gateway } = made;
    let (element, has) = bridge_element(network, &beside, mac);
    // Last: what a network cannot have prepared keeps apart what was.
    let remains = network_remains(network, &beside);
    let is_new = new.iter().any(is_trait);
    let stood = move |table: &mut Table| {
        match has {
            true => table.add(&[element])?,
            false => table.remove(&[element])?,
        }
        let stood_otherwise = is_new || remains.iter().any(|remain| table.keeps(remain));
        table.remove(&remains)?;
        // Who spoke to whom before is not let on for it.
        if stood_otherwise { table.judge_anew() } else { Ok(()) }
    };
    lanes.netfilter(stood).await??;
    Ok(BridgeEnd { index, mac, mtu, vlan_gateway, way })
}

/// The pair whose end `name` has the gateways' addresses. It is in the VLAN of the containers, and in
/// none of those that only pass.
fn vlan_gateway(host: &str, name: IfName, network: &Definition) -> Option<VlanGateway> {
    let port = naming::gateway_port(&name).ok()?;
    Some(VlanGateway {
        mac: naming::bridge_mac(host, &name),
        port_mac: naming::bridge_mac(host, &port),
        vlans: Vlans { trunk: Vec::new(), ..network.port.vlans.clone() },
        name,
        port,
    })
}

/// Whether it is about how a network stands.
fn is_trait(element: &Element) -> bool {
    matches!(element, Element::Network { .. })
}

/// Before there is a bridge, so that no packet passes by it unseen. Gives what was not there before. Nothing
/// is taken away yet: the bridge may be another network's, and refused.
fn stand(
    table: &mut Table,
    network: &Definition,
    beside: &[Posture],
) -> Result<Vec<Element>, NftError> {
    let elements = network_elements(network, beside);
    let new: Vec<Element> =
        elements.iter().filter(|element| !table.keeps(element)).cloned().collect();
    table.add(&elements)?;
    if network.posture.demands_genuine && !table.sees_frames() {
        table.remove(&new)?;
        return Err(NftError::NoBridgeFamily { bridge: network.bridge.clone() });
    }
    Ok(new)
}
