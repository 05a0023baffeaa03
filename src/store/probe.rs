//! Whether a store that could not be written can be written again.

use nix::sys::statvfs::statvfs;

use super::{Store, StoreError};
use crate::kernel::fault;

/// The least room that the disk must have, in bytes: a little more than the pages of one commit of an ADD. A smaller
/// write may fit where that does not.
const ROOM: u64 = 64 << 10;

impl Store {
    /// Writes what is there already, and brings it to the disk.
    pub fn probe(&mut self) -> Result<(), StoreError> {
        let doing = || "see whether it can be written again".to_owned();
        let folder = self.path.parent().unwrap_or(&self.path);
        let room = statvfs(folder).map(|disk| disk.blocks_available() * disk.fragment_size());
        if room.is_ok_and(|room| room < ROOM) {
            return Err(StoreError::DiskFull { doing: doing(), path: self.path.clone() });
        }
        fault::reach("store-commit")?;
        let written = self.connection.execute("UPDATE boot SET id = id", []);
        written.map_err(|e| self.failed(doing(), e))?;
        self.checkpoint()
    }

    /// Whether the mark of a DEL is beside the store: it is as good as one in it.
    pub fn is_marked(&self, key: &quantum_config::ids::AttachmentKey) -> bool {
        self.witness.is_leaving(key)
    }
}
