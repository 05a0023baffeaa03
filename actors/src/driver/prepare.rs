//! Preparing a network: its bridge, and our tables if it masquerades.

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::attach::{BridgeEnd, naming};
use quantum_cni::kernel::nft::skeleton;
use quantum_cni::kernel::route::bridge::{self, BridgePlan};
use quantum_cni::kernel::{KernelError, identity};

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
            let plan = BridgePlan {
                name: network.bridge.clone(),
                mac: naming::bridge_mac(&identity::host_id(), &network.bridge),
                mtu: network.mtu,
                addresses: network.gateway_addresses(),
                force_address: network.force_address,
                promisc: network.promisc,
                filters_vlans: network.port.vlans.is_used(),
            };
            let made = lanes.slow(async move { bridge::prepare(&plan).await }).await??;
            Ok(BridgeEnd { index: made.index, mac: made.mac, mtu: made.mtu })
        })
    }
}
