//! Preparing a network: its bridge, and our tables if it masquerades.

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::attach::{BridgeEnd, naming};
use quantum_cni::kernel::nft::skeleton;
use quantum_cni::kernel::route::VlanGateway;
use quantum_cni::kernel::route::bridge::{self, BridgePlan, BridgeState};
use quantum_cni::kernel::{KernelError, identity};

use quantum_config::cni::{Definition, Vlans};
use quantum_config::ids::IfName;

use super::Driver;
use crate::messages::driver::Prepare;

impl Handler<Prepare> for Driver {
    type Result = ResponseFuture<Result<BridgeEnd, KernelError>>;

    fn handle(&mut self, Prepare(network): Prepare, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move {
            if network.masquerade {
                lanes.netfilter(|_| skeleton::apply()).await??;
            }
            if network.port.guarded {
                lanes.netfilter(|_| skeleton::apply_guard()).await??;
            }
            let host = identity::host_id();
            let plan = BridgePlan {
                name: network.bridge.clone(),
                mac: naming::bridge_mac(&host, &network.bridge),
                mtu: network.mtu,
                addresses: network.gateway_addresses(),
                force_address: network.force_address,
                promisc: network.promisc,
                filters_vlans: network.port.vlans.is_used(),
                vlan_gateway: network
                    .vlan_gateway()
                    .and_then(|name| vlan_gateway(&host, name, &network)),
            };
            let made = lanes.slow(async move { bridge::prepare(&plan).await }).await??;
            let BridgeState { index, mac, mtu, vlan_gateway } = made;
            Ok(BridgeEnd { index, mac, mtu, vlan_gateway })
        })
    }
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
