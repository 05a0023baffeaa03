//! The protocol between plugin and daemon, over a Unix stream socket. One request, one reply, one
//! connection. docs/protocol.md describes it for other implementers.
//!
//! ```text
//! frame  = header body
//! header = "QCNI"  oldest:u8  newest:u8  kind:u8  descriptors:u8  length:u32      (12 bytes)
//! body   = field*
//! field  = tag:u16  length:u32  value                       (numbers are little-endian)
//! ```
//!
//! - **Versions.** A request says the oldest and the newest version its sender speaks; the daemon
//!   answers in the newest that both know and writes it into both places of its header. Where there
//!   is none, it answers with a [`Kind::Refusal`] whose header holds the daemon's own range.
//! - **Fields** may come in any order; unknown tags are let pass; the last of two equal tags wins.
//! - **Descriptors** travel with the first byte of the header (`SCM_RIGHTS`), as many as the header
//!   says and in the order of the field [`Tag::Descriptors`].

mod fields;
mod frame;
mod reply;
mod request;

pub use fields::Tag;
pub use frame::{Header, Kind, WireError};
pub use reply::Reply;
pub use request::{Call, Control, Descriptor, Request};

/// The newest version spoken here.
pub const NEWEST: u8 = 1;
/// The oldest version still spoken here.
pub const OLDEST: u8 = 1;
/// Length of a header, in bytes.
pub const HEADER: usize = 12;
/// The longest body accepted, in bytes. A network configuration with its `prevResult` is a few
/// kilobytes; pod annotations, which may ride along, are limited to 256 KiB by Kubernetes.
pub const MAX_BODY: u32 = 1 << 20;
/// The most descriptors a frame may carry.
pub const MAX_DESCRIPTORS: u8 = 2;
/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/quantum/cni.sock";
/// The environment variable that tells the plugin another socket.
pub const SOCKET_VARIABLE: &str = "QUANTUM_CNI_SOCKET";
