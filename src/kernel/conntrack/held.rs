//! Who holds how many of the connections that the kernel tracks.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;

use quantum_config::cni::Family;

use super::sought::Look;
use super::{Conntrack, ConntrackError, is_missing};
use crate::attach::ConnectionTable;

/// How many there can be. In a namespace of its own it is the host's, and cannot be set.
const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

impl Conntrack {
    /// How full the table is; nothing where the kernel does not say.
    pub fn table(&mut self) -> Option<ConnectionTable> {
        let entries = self.count()?;
        let max = fs::read_to_string(MAX).ok()?.trim().parse().ok()?;
        Some(ConnectionTable { entries, max })
    }

    /// How many connections each address has begun that are tracked. It takes about a second for a million.
    pub fn held(&mut self) -> Result<HashMap<IpAddr, u64>, ConntrackError> {
        let mut held = HashMap::new();
        for family in [Family::V4, Family::V6] {
            let doing = || "count all connections".to_owned();
            let look = Look { family, only: None };
            match self.list(look, doing, |entry| entry.original.source) {
                Ok(found) => found.into_iter().for_each(|from| *held.entry(from).or_insert(0) += 1),
                Err(ConntrackError::Refused { errno, .. }) if is_missing(Some(errno as i32)) => {
                    self.absent = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(held)
    }
}
