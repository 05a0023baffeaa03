//! What must survive the daemon.

pub mod net_d;
pub mod spool;
