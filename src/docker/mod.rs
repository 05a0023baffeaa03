//! What is kept of Docker: its networks, which dockerd never tells us of again, and the pools of our IPAM
//! driver. Endpoints are attachments like any other, and in the store.

mod book;
mod pools;

pub use book::{Book, Unreadable, gateways, key};
pub use pools::{Asked, PoolError, Pools};
