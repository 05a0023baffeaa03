//! Who has which port of the host. There is one book for all networks, as there is one host. It is made
//! from the records at every start, so it is in no file of its own.

mod book;
mod listener;

pub use book::{Book, PortError};
pub use listener::{Listener, Process, listed, listener};
