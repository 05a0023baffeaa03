//! Endpoints that dockerd has forgotten: it was killed, and their containers with it.

use quantum_cni::attach::Class;
use quantum_config::cni::CniError;
use quantum_config::ids::AttachmentKey;
use slog::{info, warn};

use super::Desk;
use crate::messages::ask;
use crate::messages::cache::All;
use crate::messages::network::{Detach, Only};

/// Looks once, and says how many there were. What cannot be looked at now is looked at the next time.
pub(super) async fn look(desk: &Desk) -> usize {
    let Ok(Ok(records)) = ask(&desk.hands.all, All).await else { return 0 };
    let mut removed = 0;
    let handed = records.into_iter().filter(|stored| stored.record.handed && !stored.is_leaving());
    for stored in handed {
        let key = stored.record.key;
        match detach(desk, &key).await {
            Ok(false) => {}
            Ok(true) => {
                removed += 1;
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
async fn detach(desk: &Desk, key: &AttachmentKey) -> Result<bool, CniError> {
    let (admitted, _) = desk.admit(&key.network, Class::Teardown, None).await?;
    let Some(mailbox) = &admitted.network else { return Ok(false) };
    let key = key.clone();
    let detach = Detach { key, made_before: None, netns: None, only: Only::Abandoned };
    ask(&mailbox.detach, detach).await?.map(|detached| detached.found)
}
