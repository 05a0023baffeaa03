//! What must hold of the messages about changes of others, whatever they are.

use super::{Heard, LinkBook, read as heard_of};

/// Reads a datagram.
pub fn read(datagram: &[u8]) {
    let (book, mut heard) = (LinkBook::default(), Heard::default());
    heard_of(datagram, &book, &mut heard);
    assert!(heard.addresses.len() <= datagram.len() / 16, "each has a message of its own");
    let mut again = heard.clone();
    heard_of(datagram, &book, &mut again);
    assert_eq!(again, heard, "read twice it says nothing new");
}
