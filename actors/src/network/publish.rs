//! The host's ports that an attachment asks for, taken before anything is made. Runtimes as podman ask for
//! the ports of a container at each of its networks, and do not mean that the second is to be refused: one
//! attachment has them, and where none can is said in the log.

use quantum_cni::attach::Refusal;
use quantum_cni::errors;
use quantum_cni::publish::listed;
use quantum_config::cni::PortMapping;
use quantum_config::ids::AttachmentKey;
use slog::{Logger, info, warn};

use super::Hands;
use crate::messages::ask;
use crate::messages::driver::Vacant;
use crate::messages::publisher::Publish;

/// How the host is to the containers of a network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host {
    /// It is their gateway.
    pub(super) is_gateway: bool,
    /// Their ports are published at 127.0.0.0/8, too.
    pub(super) loopback: bool,
}

/// Ports that are to be published.
#[derive(Debug)]
pub(super) struct Asked<'p> {
    pub(super) ports: &'p [PortMapping],
    /// At 127.0.0.0/8, too.
    pub(super) loopback: bool,
    /// A process of the host that listens there is a refusal, whatever the settings say.
    pub(super) strict: bool,
}

/// Takes ports for an attachment, and gives those that lead to it.
pub(super) async fn obtain(
    hands: &Hands,
    key: &AttachmentKey,
    Host { is_gateway, loopback }: Host,
    asked: Vec<PortMapping>,
    log: &Logger,
) -> Result<Vec<PortMapping>, Refusal> {
    if !is_gateway && !asked.is_empty() {
        warn!(log, "ports are not published: the host is no gateway of this network; set isGateway, or \
            leave out the ports if another network of the container has them";
            "container_id" => key.container.as_str(), "interface" => key.ifname.as_str(),
            "ports" => listed(&asked));
        return Ok(Vec::new());
    }
    let wanted = Asked { ports: &asked, loopback, strict: false };
    let has = publish(hands, key, wanted).await?;
    if has.len() < asked.len() {
        info!(log, "another interface of the container has its ports already";
            "container_id" => key.container.as_str(), "interface" => key.ifname.as_str(),
            "ports" => listed(asked.iter().filter(|port| !has.contains(port))));
    }
    Ok(has)
}

/// Takes the host's ports that are asked for. Gives them without those that another attachment of the same
/// container has.
pub(super) async fn publish(
    hands: &Hands,
    key: &AttachmentKey,
    Asked { ports, loopback, strict }: Asked<'_>,
) -> Result<Vec<PortMapping>, Refusal> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let publish = Publish { owner: key.clone(), ports: ports.to_vec() };
    let has = ask(&hands.publish, publish).await?.map_err(|e| Refusal::of_port(&e))?;
    let vacant = Vacant { owner: key.clone(), ports: has.clone(), loopback, strict };
    let vacant = ask(&hands.vacant, vacant).await?.map_err(errors::kernel)?;
    vacant.map(|()| has).map_err(|e| Refusal::of_port(&e))
}
