//! Endpoints: attachments whose end is handed over to dockerd.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use quantum_cni::attach::{Class, Record, Target, naming};
use quantum_cni::docker::{gateways, key};
use quantum_cni::errors;
use quantum_config::cni::{CniError, Code, Definition, Environment, Tuning};
use quantum_config::docker::{CreateEndpoint, Interface, Join, Network, OfEndpoint, joined, ports};
use quantum_config::ids::AttachmentKey;
use serde_json::json;
use slog::{info, warn};

use super::{Desk, Done, Refused, abandoned, ipam, nothing};
use crate::messages::ask;
use crate::messages::cache::Lookup;
use crate::messages::network::{Attach, Detach, Expose, Only, Unreserve};
use crate::reclaim::insist;

/// An ADD. What there is already is told again.
pub(super) async fn create(desk: &Desk, body: &[u8]) -> Done {
    let request = CreateEndpoint::read(body)?;
    let begun = Instant::now();
    if let Some(name) = request.ifname()? {
        // Before the endpoint is there, so that a Join finds it whatever happens in between.
        desk.book.borrow_mut().interfaces().insert(request.endpoint_id.clone(), name);
        desk.save().await?;
    }
    let mut attached = attach(desk, &request).await;
    // A dockerd that was killed gives its containers the addresses that they had, and does not say that
    // they have died meanwhile.
    if attached.is_err()
        && abandoned::look(desk).await + abandoned::replace(desk, &request).await > 0
    {
        attached = attach(desk, &request).await;
    }
    let failed = attached.as_ref().err().map(|error| error.code);
    desk.meters.operation("ADD", begun.elapsed(), failed);
    let record = attached?;
    info!(desk.log, "endpoint made"; "container_id" => record.key.container.as_str(),
        "network_name" => record.key.network.as_str(),
        "ip_address" => said(&record), "took_us" => begun.elapsed().as_micros() as u64);
    let open = answer(&request.interface, &record);
    Ok(if open == Interface::default() { nothing() } else { json!({ "Interface": open }) })
}

fn said(record: &Record) -> String {
    record.addresses.iter().map(|a| a.address.to_string()).collect::<Vec<_>>().join(",")
}

/// What dockerd left open.
fn answer(asked: &Interface, record: &Record) -> Interface {
    let address = |open: bool, v4: bool| {
        let own = record.addresses.iter().find(|a| a.address.is_ipv4() == v4);
        own.filter(|_| open).map(|a| a.address.to_string()).unwrap_or_default()
    };
    let mac = if asked.mac_address.is_empty() { record.mac.to_string() } else { String::new() };
    // Nothing of one family is open where dockerd said something of the other.
    let open = asked.addresses().next().is_none();
    Interface { address: address(open, true), address_ipv6: address(open, false), mac_address: mac }
}

async fn attach(desk: &Desk, request: &CreateEndpoint) -> Result<Record, CniError> {
    let network = desk.network(&request.network_id).map_err(unknown)?;
    let key = key(&network, &request.endpoint_id)
        .map_err(|e| CniError::new(Code::InvalidEnvironment, e.to_string()))?;
    let call = network.call(&request.interface)?;
    let env = Environment {
        container: request.endpoint_id.clone(),
        ifname: naming::HANDED.to_owned(),
        ..Environment::default()
    };
    let own = if call.is_thin() { None } else { Some(Arc::new(call.definition()?)) };
    let (admitted, caller) = desk.admit(&network.name, Class::Setup, own).await?;
    let (Some(definition), Some(mailbox)) = (admitted.definition.clone(), &admitted.network) else {
        return Err(CniError::new(Code::Internal, "an endpoint without a network"));
    };
    is_ours_to_set_up(&definition)?;
    let target = Target {
        key: key.clone(),
        identity: call.identity(&definition, &env)?,
        netns: desk.host.id(),
        sandbox: String::new(),
        mac: call.requested_mac(&env)?,
        shaping: call.shaping(&definition)?,
        // They come when the container is there.
        ports: Vec::new(),
        handed: true,
        delegated: false,
        host_netns: desk.host.id(),
    };
    let meant = call.meant(&definition, &env)?;
    let changed = match meant.network {
        Cow::Borrowed(_) => definition.clone(),
        Cow::Owned(changed) => Arc::new(changed),
    };
    if network.joins {
        for address in request.interface.addresses() {
            ask(&mailbox.unreserve, Unreserve(ipam::keeper(&network.name, address)?)).await?;
        }
    }
    let netns = desk.host.clone();
    let attach = Attach { target, netns, definition: changed, wanted: meant.wanted, caller };
    match insist(&desk.hands.reclaim, &mailbox.attach, attach).await {
        Ok(_) => {}
        // Asked twice, because an answer was lost.
        Err(error) if error.code == Code::Exists => {
            let record = record_of(desk, &key).await?;
            return record.filter(|record| is_same(&request.interface, record)).ok_or(error);
        }
        Err(error) => return Err(error),
    }
    record_of(desk, &key).await?.ok_or_else(|| gone(&key))
}

fn unknown(refused: Refused) -> CniError {
    let why = match refused {
        Refused::Because(why) => why,
        Refused::NoSuchMethod => String::new(),
    };
    CniError::new(Code::InvalidNetworkConfig, why)
}

fn gone(key: &AttachmentKey) -> CniError {
    CniError::new(Code::UnknownContainer, format!("attachment {key} is not known"))
}

/// What is set inside a container is dockerd's business here.
fn is_ours_to_set_up(definition: &Definition) -> Result<(), CniError> {
    let ours = Tuning { mac: definition.tuning.mac, ..Tuning::default() };
    if definition.tuning == ours {
        return Ok(());
    }
    Err(CniError::new(
        Code::UnsupportedField,
        format!("network {:?} sets up interfaces in containers", definition.name.as_str()),
    )
    .with_details(
        "Docker sets them up itself; leave out sysctl, promisc, allmulti and txQLen for it, and give \
         sysctls with docker run --sysctl",
    ))
}

/// Whether what is there is what is asked for.
fn is_same(asked: &Interface, record: &Record) -> bool {
    let has = |address: &str| record.addresses.iter().any(|a| a.address.to_string() == address);
    let mac = &asked.mac_address;
    asked.addresses().all(has)
        && (mac.is_empty() || record.mac.to_string().eq_ignore_ascii_case(mac))
}

async fn record_of(desk: &Desk, key: &AttachmentKey) -> Result<Option<Record>, CniError> {
    let stored = ask(&desk.hands.lookup, Lookup(key.clone())).await?.map_err(errors::store)?;
    Ok(stored.filter(|stored| !stored.is_leaving()).map(|stored| stored.record.clone()))
}

/// A DEL. One that is not there is gone.
pub(super) async fn delete(desk: &Desk, body: &[u8]) -> Done {
    let request = OfEndpoint::read(body)?;
    let Some((_, key)) = known(desk, &request) else { return Ok(nothing()) };
    let begun = Instant::now();
    let detached = detach(desk, &key).await;
    let failed = detached.as_ref().err().map(|error| error.code);
    desk.meters.operation("DEL", begun.elapsed(), failed);
    detached?;
    if desk.book.borrow_mut().interfaces().remove(key.container.as_str()).is_some() {
        desk.save().await?;
    }
    info!(desk.log, "endpoint removed"; "container_id" => key.container.as_str(),
        "network_name" => key.network.as_str(), "took_us" => begun.elapsed().as_micros() as u64);
    Ok(nothing())
}

async fn detach(desk: &Desk, key: &AttachmentKey) -> Result<(), CniError> {
    let (admitted, _) = desk.admit(&key.network, Class::Teardown, None).await?;
    let Some(mailbox) = &admitted.network else { return Ok(()) };
    let key = key.clone();
    let detach = Detach { key, made_before: None, netns: None, only: Only::Handed };
    ask(&mailbox.detach, detach).await?.map(drop)
}

/// The network and the attachment that are meant, if there can be any.
fn known(desk: &Desk, request: &OfEndpoint) -> Option<(Network, AttachmentKey)> {
    let network = desk.network(&request.network_id).ok()?;
    let key = key(&network, &request.endpoint_id).ok()?;
    Some((network, key))
}

/// Says which link dockerd is to move into the container, and what leads out.
pub(super) async fn join(desk: &Desk, body: &[u8]) -> Done {
    let request = Join::read(body)?;
    let network = desk.network(&request.network_id)?;
    let key = key(&network, &request.endpoint_id).map_err(|e| e.to_string())?;
    let record = record_of(desk, &key).await?.ok_or_else(|| gone(&key))?;
    tell(desk, &network, &record)
}

/// What a Join is told of an endpoint.
pub(super) fn tell(desk: &Desk, network: &Network, record: &Record) -> Done {
    let peer = naming::peer_name(&record.key).map_err(|e| e.to_string())?;
    let mut said =
        joined(network, peer.as_str(), naming::HANDED, &gateways(record), &record.routes);
    let chosen = desk.book.borrow_mut().interfaces().get(record.key.container.as_str()).cloned();
    said.interface_name.dst_name = chosen.map(String::from);
    serde_json::to_value(said).map_err(|e| Refused::Because(e.to_string()))
}

/// No port leads to it any more. dockerd does not ask again, so it cannot fail: DeleteEndpoint follows.
pub(super) async fn leave(desk: &Desk, body: &[u8]) -> Done {
    let request = OfEndpoint::read(body)?;
    if let Some((_, key)) = known(desk, &request)
        && let Err(error) = expose(desk, &key, Vec::new()).await
    {
        warn!(desk.log, "ports stay published until the endpoint is deleted";
            "container_id" => key.container.as_str(), "error" => %error);
    }
    Ok(nothing())
}

/// The ports that are published lead to it. Of a range it is the first that is free.
pub(super) async fn program(desk: &Desk, body: &[u8]) -> Done {
    let request = OfEndpoint::read(body)?;
    let network = desk.network(&request.network_id)?;
    let key = key(&network, &request.endpoint_id).map_err(|e| e.to_string())?;
    let mut refused = publish(desk, &key, &request).await?;
    if refused.is_some() && abandoned::look(desk).await > 0 {
        refused = publish(desk, &key, &request).await?;
    }
    refused.map_or_else(|| Ok(nothing()), |error| Err(error.into()))
}

/// Tries what there is to choose from; gives why the first choice is somebody else's if all are.
async fn publish(
    desk: &Desk,
    key: &AttachmentKey,
    request: &OfEndpoint,
) -> Result<Option<CniError>, Refused> {
    let mut refused = None;
    for choice in 0..=u16::MAX {
        let Some(ports) = ports(&request.options, choice)? else { break };
        match expose(desk, key, ports).await {
            Ok(()) => return Ok(None),
            Err(error) if error.code == Code::Exists => _ = refused.get_or_insert(error),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(refused)
}

async fn expose(
    desk: &Desk,
    key: &AttachmentKey,
    ports: Vec<quantum_config::cni::PortMapping>,
) -> Result<(), CniError> {
    let (admitted, _) = desk.admit(&key.network, Class::Teardown, None).await?;
    let Some(mailbox) = &admitted.network else {
        return if ports.is_empty() { Ok(()) } else { Err(gone(key)) };
    };
    insist(&desk.hands.reclaim, &mailbox.expose, Expose { key: key.clone(), ports }).await
}
