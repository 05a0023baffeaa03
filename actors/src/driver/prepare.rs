//! Preparing a network: how it stands towards others, and its bridge.

use std::sync::Arc;

use actix::{ActorFutureExt, Context, Handler, ResponseActFuture, ResponseFuture, WrapFuture, fut};
use quantum_cni::attach::{
    BridgeEnd, BridgeWanted, Element, Families, Harm, PortWanted, WayToRules, bridge_element,
    naming, network_elements, network_remains, overlaps, serves_loopback, way_to_rules,
};
use quantum_cni::kernel::nft::{NftError, Table};
use quantum_cni::kernel::route::bridge::{self, BridgeError, BridgePlan, BridgeState};
use quantum_cni::kernel::route::{Host, StepError, VlanGateway, has_br_netfilter};
use quantum_cni::kernel::{KernelError, fault, identity, loopback};
use quantum_config::cni::{Definition, Posture, Vlans};
use quantum_config::ids::IfName;
use slog::{Logger, warn};

use super::apply::unfilter;
use super::vacate::vacate;
use super::{Driver, Lanes, forwarding};
use crate::messages::driver::{Prepare, Restore};
use crate::meters::Meters;

impl Handler<Prepare> for Driver {
    type Result = ResponseActFuture<Self, Result<BridgeEnd, KernelError>>;

    fn handle(&mut self, Prepare(network): Prepare, _: &mut Context<Self>) -> Self::Result {
        let (lanes, meters, log) = (self.lanes.clone(), self.meters.clone(), self.log.clone());
        if let Some(same) = self.stances.same_addresses(&network) {
            return Box::pin(fut::ready(Err(BridgeError::from(same).into())));
        }
        let (force, beside) = (network.force_address, self.stances.enter(&network));
        let (one_by_one, stances) = (self.one_by_one.clone(), self.stances.clone());
        let (mut left, awaited) = (Vec::new(), self.awaited.clone());
        let work = async move {
            let gateways = network.gateway_addresses();
            if gateways.is_empty() {
                give_name_back(&lanes, &network).await?;
                return Ok((prepare(&lanes, &network, beside, force, &meters, &log).await?, left));
            }
            let _turn = one_by_one.lock().await;
            // Before it is looked what overlaps: the bridge would be somebody else's.
            give_name_back(&lanes, &network).await?;
            let told = loop {
                let subnets = gateways.clone();
                let host = lanes.inspect(move |host| host.surroundings(&subnets)).await??;
                let overlap = match overlaps(&network, &host, &stances) {
                    Ok(told) => break told,
                    Err(overlap) => overlap,
                };
                let networks = overlap.of.address_of().map(|link| stances.on(link));
                let networks = networks.unwrap_or_default();
                if !vacate(&lanes, &overlap, &host, &networks, &awaited, &log).await? {
                    return Err(BridgeError::from(overlap).into());
                }
                left.extend(networks);
            };
            let end = prepare(&lanes, &network, beside, force, &meters, &log).await?;
            for overlap in told {
                warn!(log, "a network takes a part of what the host sent elsewhere";
                    "network_name" => network.name.as_str(), "gateway" => %overlap.gateway,
                    "overlaps" => %overlap.of);
            }
            awaited.prepared(&network.bridge);
            Ok((end, left))
        };
        Box::pin(work.into_actor(self).map(|prepared: Result<_, KernelError>, driver, _| {
            let (end, left) = prepared?;
            for network in left {
                driver.stances.leave(&network);
            }
            Ok(end)
        }))
    }
}

impl Handler<Restore> for Driver {
    type Result = ResponseFuture<Result<BridgeEnd, KernelError>>;

    fn handle(&mut self, Restore(network): Restore, _: &mut Context<Self>) -> Self::Result {
        let (lanes, meters, log) = (self.lanes.clone(), self.meters.clone(), self.log.clone());
        let beside = self.stances.enter(&network);
        let one_by_one = self.one_by_one.clone();
        Box::pin(async move {
            fault::reach("mending")?;
            // Another network of the bridge may have it put right already.
            let _turn = one_by_one.lock().await;
            let (wrongs, is_robbed) = harm(&lanes, &network).await?;
            let restored = match give_name_back(&lanes, &network).await {
                Ok(()) => prepare(&lanes, &network, beside, false, &meters, &log).await,
                Err(error) => Err(error),
            };
            let why_not = restored.as_ref().err().map(ToString::to_string);
            lanes.mended(&network.bridge, why_not);
            let end = restored?;
            if is_robbed || !wrongs.is_empty() {
                let what = if wrongs.is_empty() { "address" } else { "link" };
                meters.repairs.with_label_values(&[what]).inc();
                let robbed = is_robbed.then(|| "without a gateway's address".to_owned());
                let wrongs: Vec<String> = wrongs.into_iter().chain(robbed).collect();
                warn!(log, "the bridge was changed and is put right";
                    "network_name" => network.name.as_str(), "bridge" => network.bridge.as_str(),
                    "was" => wrongs.join(", "));
            }
            Ok(end)
        })
    }
}

/// In what the bridge is not as it should be, and whether a gateway's address is missing.
async fn harm(lanes: &Lanes, network: &Definition) -> Result<(Vec<String>, bool), KernelError> {
    let bridges = vec![network.bridge.clone()];
    let holder = network.vlan_gateway().unwrap_or_else(|| network.bridge.clone());
    let gateways: Vec<_> =
        network.gateway_addresses().iter().map(|g| (holder.clone(), g.ip())).collect();
    let look =
        move |host: &mut Host| Ok::<_, StepError>((host.seen(&bridges)?, host.without(&gateways)?));
    let (seen, robbed) = lanes.inspect(look).await??;
    let wrongs =
        lanes.book.with(|links| links.harms(&seen)).into_iter().find_map(|harm| match harm {
            Harm::Bridge(bridge, wrongs) if bridge == network.bridge => Some(wrongs),
            _ => None,
        });
    Ok((wrongs.unwrap_or_default(), !robbed.is_empty()))
}

/// Somebody may have renamed the bridge, also while there was no daemon.
async fn give_name_back(lanes: &Lanes, network: &Definition) -> Result<(), KernelError> {
    let name = network.bridge.clone();
    let mac = naming::bridge_mac(&identity::host_id(), &name);
    let was = lanes.book.with(|links| links.bridge(&name).map(|bridge| bridge.index));
    lanes.route(move |host: &mut Host| host.give_name_back(&name, mac, was)).await?
}

async fn prepare(
    lanes: &Lanes,
    network: &Arc<Definition>,
    beside: Vec<Posture>,
    force_address: bool,
    meters: &Meters,
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
        was: lanes.book.with(|links| links.bridge(&network.bridge).map(|b| (b.index, b.mac))),
    };
    let (gateway, wanted) = (plan.holder().clone(), Families::of(&plan.addresses));
    let asked = plan.clone();
    let made = match lanes.slow(async move { bridge::prepare(&plan).await }).await? {
        Ok(made) => made,
        Err(error) => {
            unfilter(lanes, new).await?;
            return Err(error.into());
        }
    };
    forwarding::hold(lanes, gateway.clone(), wanted, log).await?;
    let BridgeState { index, mac, mtu, vlan_gateway } = made;
    let bridge = BridgeWanted {
        name: network.bridge.clone(),
        index,
        mac,
        promisc: network.promisc,
        way,
        is_grouped: asked.is_grouped(Some(mac)),
        holder: (gateway, vlan_gateway.map_or(index, |end| end.index)),
        forwards: wanted,
    };
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
    let plugged = plug_in(lanes, bridge).await?;
    if plugged > 0 {
        meters.repairs.with_label_values(&["link"]).inc_by(plugged);
        warn!(log, "ports of ours were not plugged into the bridge as they should be, and are";
            "bridge" => network.bridge.as_str(), "ports" => plugged);
    }
    Ok(BridgeEnd { index, mac, mtu, vlan_gateway, way })
}

/// Gives a bridge what goes with it when it is deleted or set down: its ports, the addresses that the host
/// answers for, and that ports are published at 127.0.0.0/8. One that fails does not stop the others; the watch
/// tries them again. How many ports were not as they should be.
async fn plug_in(lanes: &Lanes, bridge: BridgeWanted) -> Result<u64, KernelError> {
    let (name, index, holder) = (bridge.name.clone(), bridge.index, bridge.holder.0.clone());
    let is_routed = bridge.way == WayToRules::Routed;
    let ports: Vec<PortWanted> = lanes.book.with(|links| {
        links.prepared(bridge);
        links.ports_of(&name).cloned().collect()
    });
    if ports.is_empty() {
        return Ok(0);
    }
    let plugged = lanes.route(move |host: &mut Host| {
        let plugged: Vec<Result<bool, StepError>> =
            ports.iter().map(|port| host.replug(port, index)).collect();
        let answers = if is_routed { host.answer_for(index, &ports) } else { Ok(()) };
        let plugged: Result<Vec<bool>, StepError> = plugged.into_iter().collect();
        answers.and(plugged)
    });
    let plugged = plugged.await?;
    let serve = move |table: &mut Table| match table.look(|kept| serves_loopback(kept, &holder)) {
        true => loopback::serve(&holder),
        false => Ok(()),
    };
    lanes.netfilter(serve).await??;
    Ok(plugged?.into_iter().filter(|plugged| *plugged).count() as u64)
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
