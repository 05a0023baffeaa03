//! The kernel's door: the only module that talks to it, and the only one that may hold `unsafe`.
#![allow(unsafe_code)] // each use says why

pub mod clock;
pub mod inspect;
pub mod lane;
pub mod netns;
pub mod peer;
pub mod route;
pub mod sysctl;
#[cfg(test)]
mod testing;
