//! The shapes that cross the border of the system: identifiers, the CNI protocol (environment,
//! network configuration, results, errors), documents of network policy, the daemon's settings and
//! the wire frames between plugin and daemon. Nothing here does I/O; everything here can be tested
//! with a literal.
//!
//! The plugin uses this crate without its default features: the environment, the wire frames, the
//! tombstones and the error object, and nothing that parses a network configuration.
#![forbid(unsafe_code)]

#[cfg(feature = "policy")]
pub mod ask;
pub mod boottime;
pub mod cni;
#[cfg(feature = "netconf")]
pub mod docker;
pub mod ids;
#[cfg(feature = "netconf")]
pub mod labels;
#[cfg(feature = "policy")]
pub mod policy;
#[cfg(any(feature = "netconf", feature = "settings"))]
pub mod prefixes;
#[cfg(feature = "settings")]
pub mod settings;
pub mod spool;
#[cfg(any(feature = "netconf", feature = "settings"))]
pub mod sysctl;
pub mod wire;
