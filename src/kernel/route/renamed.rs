//! Gives a bridge its name back that somebody has renamed.

use nix::libc;
use quantum_config::ids::{IfName, LinkIndex, Mac};

use super::batch::first_error;
use super::bridge::BridgeError;
use super::{Batch, Host, Step, StepError, look, message};
use crate::attach::naming;
use crate::kernel::KernelError;

impl Host {
    /// If the bridge `name` is there under another name, it gets its own back. One that was prepared is known by its
    /// index, one that an earlier daemon made by its hardware address and our link group.
    pub fn give_name_back(
        &mut self,
        name: &IfName,
        mac: Mac,
        was: Option<LinkIndex>,
    ) -> Result<(), KernelError> {
        let socket = self.socket()?;
        let named = look::link_by_name(socket, name)?;
        if named.as_ref().is_some_and(|link| was.is_none_or(|index| index == link.index)) {
            return Ok(());
        }
        let renamed = match was {
            Some(index) => look::link_by_index(socket, index)?.filter(|link| link.is_bridge()),
            None => look::links_about(socket)?.into_iter().find(|link| {
                link.is_bridge() && link.mac == Some(mac) && link.group == naming::GROUP
            }),
        };
        match (renamed, named) {
            (None, _) => Ok(()),
            (Some(bridge), Some(_)) => {
                let (bridge, now) = (name.clone(), bridge.name);
                Err(BridgeError::NameTaken { bridge, now }.into())
            }
            (Some(bridge), None) => Ok(self.rename(bridge.index, name)?),
        }
    }

    fn rename(&mut self, index: LinkIndex, name: &IfName) -> Result<(), StepError> {
        let socket = self.socket()?;
        let mut batch = Batch::new();
        batch.push(Step::Rename, name.as_str(), 0, message::rename(index, name));
        match first_error(socket.send(batch)) {
            Err(error) if error.errno == libc::EBUSY => {}
            other => return other,
        }
        // Before Linux 6.2 only what is down can be renamed. It is brought up afterwards.
        let mut batch = Batch::new();
        batch.push(Step::Rename, name.as_str(), 0, message::link_down(index));
        batch.push(Step::Rename, name.as_str(), 0, message::rename(index, name));
        first_error(socket.send(batch))
    }
}
