//! The kernel's door: the only module that talks to it, and the only one that may hold `unsafe`.
#![allow(unsafe_code)] // each use says why

pub mod activation;
pub mod clock;
pub mod closing;
pub mod conntrack;
pub mod descriptors;
mod error;
pub mod fault;
pub mod features;
pub mod forwarding;
pub mod identity;
pub mod inspect;
pub mod lane;
pub mod listening;
pub mod lock;
pub mod loopback;
pub mod memory;
pub mod namespaces;
pub mod needs;
mod netfilter;
pub mod netns;
pub mod nflog;
pub mod nft;
pub mod peer;
mod program;
pub mod renames;
pub mod route;
pub mod socket_file;
pub mod supervisor;
pub mod sysctl;
#[cfg(test)]
pub(crate) mod testing;
pub mod watch;

pub use error::KernelError;
