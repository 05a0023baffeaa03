//! Networks: kept in the book, made with their first container like those of CNI, and removed.

use std::sync::Arc;

use quantum_cni::attach::Class;
use quantum_cni::kernel::fault;
use quantum_config::docker::{CreateNetwork, DeleteNetwork, Network};
use slog::{info, warn};

use super::{Desk, Done, Refused, nothing};
use crate::messages::ask;
use crate::messages::cache::List;
use crate::messages::manager::Retire;
use crate::messages::network::{Detach, Only, Open};

pub(super) async fn create(desk: &Desk, body: &[u8]) -> Done {
    let request = CreateNetwork::read(body)?;
    let network = Network::new(&request)?;
    forget_unheard(desk).await;
    let id = request.network_id.clone();
    let definition = match network.joins {
        true => None,
        false => Some(Arc::new(network.itself()?.definition()?)),
    };
    // One that is to be joined is there, or it is said now. When the door is open, config_dir has been read.
    let (admitted, _) = desk.admit(&network.name, Class::Setup, definition.clone()).await?;
    if !network.joins && desk.board.borrow().defined.contains_key(&network.name) {
        return Err(Refused::Because(format!(
            "network {0} is defined in config_dir; join it with -o network={0}, or choose another name",
            network.name
        )));
    }
    let known = desk.book.borrow().network(&id) == Some(&network);
    if !known {
        desk.book.borrow_mut().define(&id, network.clone())?;
        if let Err(error) = desk.save().await {
            desk.book.borrow_mut().remove(&id);
            return Err(error);
        }
        info!(desk.log, "Docker's network made";
            "network_name" => network.name.as_str(), "docker_id" => &id);
    }
    // Its bridge is there from now on, so that dockerd sees that the subnet is taken.
    if let (Some(mailbox), Some(definition)) = (&admitted.network, definition)
        && let Err(error) = ask(&mailbox.open, Open(definition.clone())).await?
    {
        // dockerd has no network then, and will not have it removed.
        desk.book.borrow_mut().remove(&id);
        desk.save().await?;
        ask(&desk.hands.retire, Retire(definition)).await??;
        return Err(error.into());
    }
    fault::reach("docker-network-made").map_err(|e| e.to_string())?;
    if desk.book.borrow_mut().made(&id) {
        desk.save().await?;
    }
    Ok(nothing())
}

/// Takes down what a daemon began that was killed before dockerd heard of it: dockerd gave the network up, and
/// nobody would ever remove its bridge, which is in the way of the next network of that subnet.
pub(super) async fn forget_unheard(desk: &Desk) {
    loop {
        let Some((id, network)) = desk.book.borrow().unheard() else { return };
        let listed = ask(&desk.hands.list, List(network.name.clone())).await;
        if listed.is_ok_and(|listed| !network.joins && !listed.keys.is_empty()) {
            desk.book.borrow_mut().made(&id); // who has endpoints in it has heard of it
            continue;
        }
        let taken_down = if network.joins { Ok(()) } else { take_down(desk, &network).await };
        if let Err(Refused::Because(why)) = taken_down {
            warn!(desk.log, "removing a network that Docker never heard of";
                "network_name" => network.name.as_str(), "error" => why);
            return; // the next look tries again
        }
        desk.book.borrow_mut().remove(&id);
        let _ = desk.save().await; // the next daemon would do it again
        info!(desk.log, "removed a network that Docker never heard of";
            "network_name" => network.name.as_str(), "docker_id" => &id);
    }
}

pub(super) async fn delete(desk: &Desk, body: &[u8]) -> Done {
    let request = DeleteNetwork::read(body)?;
    let Some(network) = desk.book.borrow().network(&request.network_id).cloned() else {
        return Ok(nothing());
    };
    if !network.joins {
        take_down(desk, &network).await?;
    }
    desk.book.borrow_mut().remove(&request.network_id);
    desk.save().await?;
    info!(desk.log, "Docker's network removed";
        "network_name" => network.name.as_str(), "docker_id" => &request.network_id);
    Ok(nothing())
}

/// What is left of its endpoints, then its bridge.
async fn take_down(desk: &Desk, network: &Network) -> Result<(), Refused> {
    let listed = ask(&desk.hands.list, List(network.name.clone())).await?;
    if !listed.keys.is_empty() {
        let (admitted, _) = desk.admit(&network.name, Class::Teardown, None).await?;
        for key in listed.keys {
            let Some(mailbox) = &admitted.network else { break };
            let detach = Detach { key, made_before: None, netns: None, only: Only::Handed };
            ask(&mailbox.detach, detach).await??;
        }
    }
    let definition = Arc::new(network.itself()?.definition()?);
    ask(&desk.hands.retire, Retire(definition)).await??;
    Ok(())
}
