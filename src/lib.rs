//! The CNI manager: the decisions of a container network, and the hands that carry them out.
//!
//! | module   | kind  | what it is                                                                  |
//! |----------|-------|-----------------------------------------------------------------------------|
//! | `access` | pure  | who may ask what of the daemon                                              |
//! | `attach` | pure  | from a request to a plan, a record and a result; what may happen in which order |
//! | `ipam`   | pure  | which address a container gets, and when it may be handed out again          |
//! | `docker` | pure  | what Docker's networks are, and who has which address of our IPAM driver's pools |
//! | `policy` | pure  | who may speak to whom, and which rule of which document says so             |
//! | `publish` | pure | who has which port of the host                                              |
//! | `kernel` | hands | netlink, nftables, namespaces, the sockets' credentials: all that is `unsafe` |
//! | `store`  | hands | what must survive the daemon: a SQLite file                                  |
//! | `printable` | pure | text that others chose, as it is shown to people                              |
//! | `errors` | pure  | the one place where our errors become CNI errors                             |
//!
//! Pure modules touch no file, socket, clock or thread; `tests/tidy.rs` holds them to it.

pub mod access;
pub mod attach;
pub mod docker;
pub mod errors;
pub mod ipam;
pub mod kernel;
pub mod places;
pub mod policy;
pub mod printable;
pub mod publish;
pub mod store;
