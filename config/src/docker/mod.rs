//! Docker's plugin protocol: what dockerd says to a network driver and to an IPAM driver, what it hears
//! back, and what that means in the words of CNI. dockerd does not speak CNI; it posts JSON to
//! `/NetworkDriver.CreateEndpoint` and the like (libnetwork's remote driver).
//!
//! A network of Docker's becomes a network configuration ([`Network`]) and an endpoint a call with it, so
//! that from there on both are attached by the same code.

mod messages;
mod network;
mod ports;

pub use messages::{
    CreateEndpoint, CreateNetwork, DeleteNetwork, Interface, InterfaceName, IpamData, Join, Joined,
    OfEndpoint, Options, ReleaseAddress, ReleasePool, RequestAddress, RequestPool, StaticRoute,
};
pub use network::{ADDRESS_SPACE, Network, joined};
pub use ports::ports;

/// What we are, as dockerd asks first of all.
pub const IMPLEMENTS: &str = r#"{"Implements":["NetworkDriver","IpamDriver"]}"#;
/// What the network driver can: its networks are of one host.
pub const DRIVER: &str = r#"{"Scope":"local","ConnectivityScope":"local"}"#;
/// What the IPAM driver wants: the hardware address with a request, by which a repeated one is known, and
/// to be told again what is in use when dockerd starts.
pub const IPAM: &str = r#"{"RequiresMACAddress":true,"RequiresRequestReplay":true}"#;
