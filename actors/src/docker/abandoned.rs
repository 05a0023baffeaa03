//! Endpoints that dockerd has forgotten: it was killed, and their containers with it; or we were, before it heard
//! of the endpoint.

use std::collections::HashSet;
use std::net::IpAddr;

use quantum_cni::attach::{Class, Record, naming};
use quantum_cni::docker;
use quantum_config::cni::CniError;
use quantum_config::docker::CreateEndpoint;
use quantum_config::ids::AttachmentKey;
use slog::{info, warn};

use super::Desk;
use crate::messages::ask;
use crate::messages::cache::All;
use crate::messages::driver::Links;
use crate::messages::network::{Detach, Only};

/// Looks once, and says how many there were. What cannot be looked at now is looked at the next time.
pub(super) async fn look(desk: &Desk) -> usize {
    remove(desk, Only::Abandoned, |_| true).await
}

/// Removes the endpoints that have an address which dockerd gives to this one, and whose end waits on the host:
/// dockerd gives an address away when it knows of nobody who has it. Says how many there were.
pub(super) async fn replace(desk: &Desk, request: &CreateEndpoint) -> usize {
    let Ok(network) = desk.network(&request.network_id) else { return 0 };
    let Ok(own) = docker::key(&network, &request.endpoint_id) else { return 0 };
    let addresses = request.interface.addresses().filter_map(|address| address.split('/').next());
    let addresses: Vec<IpAddr> = addresses.filter_map(|address| address.parse().ok()).collect();
    free(desk, &own, &addresses).await
}

/// The same for the addresses of a network that are asked for, for an endpoint other than `own`.
pub(super) async fn free(desk: &Desk, own: &AttachmentKey, addresses: &[IpAddr]) -> usize {
    let has_one = |record: &Record| {
        record.key.network == own.network
            && record.key != *own
            && record.addresses.iter().any(|given| addresses.contains(&given.address.ip()))
    };
    remove(desk, Only::Waiting, has_one).await
}

/// The endpoints whose end waits on the host for dockerd to take it.
pub(super) async fn waiting(desk: &Desk) -> Vec<Record> {
    let Ok(Ok(links)) = ask(&desk.hands.links, Links).await else { return Vec::new() };
    let waits =
        |record: &Record| naming::peer_name(&record.key).is_ok_and(|name| links.has(name.as_str()));
    handed(desk).await.into_iter().filter(waits).collect()
}

/// The addresses of all endpoints.
pub(super) async fn addresses(desk: &Desk) -> HashSet<IpAddr> {
    let records = handed(desk).await;
    records.iter().flat_map(|record| &record.addresses).map(|given| given.address.ip()).collect()
}

/// All endpoints that are not being removed.
async fn handed(desk: &Desk) -> Vec<Record> {
    let Ok(Ok(records)) = ask(&desk.hands.all, All).await else { return Vec::new() };
    let handed = records.into_iter().filter(|stored| stored.record.handed && !stored.is_leaving());
    handed.map(|stored| stored.record).collect()
}

async fn remove(desk: &Desk, only: Only, is_meant: impl Fn(&Record) -> bool) -> usize {
    let mut removed = 0;
    for record in handed(desk).await.into_iter().filter(is_meant) {
        let key = record.key;
        match detach(desk, &key, only).await {
            Ok(false) => {}
            Ok(true) => {
                removed += 1;
                desk.book.borrow_mut().interfaces().remove(key.container.as_str());
                info!(desk.log, "removed an endpoint that Docker has forgotten";
                    "container_id" => key.container.as_str(), "network_name" => key.network.as_str());
            }
            Err(error) => warn!(desk.log, "looking for endpoints that Docker has forgotten";
                "container_id" => key.container.as_str(), "error" => %error),
        }
    }
    removed
}

/// True if it was, and is gone now.
async fn detach(desk: &Desk, key: &AttachmentKey, only: Only) -> Result<bool, CniError> {
    let (admitted, _) = desk.admit(&key.network, Class::Teardown, None).await?;
    let Some(mailbox) = &admitted.network else { return Ok(false) };
    let key = key.clone();
    let detach = Detach { key, made_before: None, netns: None, only };
    ask(&mailbox.detach, detach).await?.map(|detached| detached.found)
}
