//! Removes the bridge of a network that is no more.

use quantum_config::ids::{IfName, Mac};

use super::{Batch, Host, Step, StepError, look, message};

impl Host {
    /// Removes a bridge that we made, which its hardware address tells, and that has no port. False if it
    /// is somebody else's or in use; one that is gone is gone.
    pub fn remove_bridge(&mut self, name: &IfName, mac: Mac) -> Result<bool, StepError> {
        let socket = self.socket()?;
        let Some(bridge) = look::link_by_name(socket, name)? else { return Ok(true) };
        if !bridge.is_bridge()
            || bridge.mac != Some(mac)
            || !look::ports(socket, bridge.index)?.is_empty()
        {
            return Ok(false);
        }
        let mut batch = Batch::new();
        batch.push(Step::DeleteLinks, name.as_str(), 0, message::delete_link(bridge.index));
        match super::batch::first_error(socket.send(batch)) {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(true),
        }
    }
}
