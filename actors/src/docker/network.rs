//! Networks: kept in the book, made with their first container like those of CNI, and removed.

use std::sync::Arc;

use quantum_cni::attach::Class;
use quantum_config::docker::{CreateNetwork, DeleteNetwork, Network};
use slog::info;

use super::{Desk, Done, Refused, nothing};
use crate::messages::ask;
use crate::messages::cache::List;
use crate::messages::manager::Retire;
use crate::messages::network::{Detach, Only, Open};

pub(super) async fn create(desk: &Desk, body: &[u8]) -> Done {
    let request = CreateNetwork::read(body)?;
    let network = Network::new(&request)?;
    let id = request.network_id.clone();
    let definition = match network.joins {
        true => None,
        false => Some(Arc::new(network.itself()?.definition()?)),
    };
    if !network.joins && desk.admit(&network.name, Class::Setup, None).await.is_ok() {
        return Err(Refused::Because(format!(
            "network {0} is defined in config_dir; join it with -o network={0}, or choose another name",
            network.name
        )));
    }
    // One that is to be joined is there, or it is said now.
    let (admitted, _) = desk.admit(&network.name, Class::Setup, definition.clone()).await?;
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
    Ok(nothing())
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
