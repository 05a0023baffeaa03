//! The rules of the house, held by tests: who may depend on whom, what may stand where, and who of
//! the actors may ask whom.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panic")]

#[path = "tidy/dependencies.rs"]
mod dependencies;
#[path = "tidy/places.rs"]
mod places;
#[path = "tidy/ranks.rs"]
mod ranks;
#[path = "tidy/sources.rs"]
mod sources;
