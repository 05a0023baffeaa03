//! What must hold of files that others put into our folders, whatever they are.

use std::collections::BTreeSet;

use quantum_config::cni::Call;
use quantum_config::wire::WireError;

use super::{leases, spool};
use crate::ipam::{KnownState, LARGE_POOL};

/// Reads a tombstone. One that was read is written as one that is read the same.
pub fn tombstone(bytes: &[u8]) {
    let Ok(call) = spool::decode(bytes) else { return };
    assert!(call.written.is_some(), "a request is no tombstone");
    match call.encode() {
        Ok(written) => assert_eq!(spool::decode(&written).ok(), Some(call)),
        Err(error) => assert!(matches!(error, WireError::Oversized(_)), "{error}"),
    }
}

/// Takes over leases: the first line is a network configuration, and each of the others a file, its name and
/// what is in it with `|` between them and for line ends.
pub fn leases(text: &str) {
    let mut lines = text.lines();
    let conf = lines.next().unwrap_or_default();
    let Ok(network) = Call::parse(conf.as_bytes()).and_then(|call| call.definition()) else {
        return;
    };
    let files: Vec<(String, String)> = lines
        .map(|line| {
            let (name, text) = line.split_once('|').unwrap_or((line, ""));
            (name.to_owned(), text.replace('|', "\r\n"))
        })
        .collect();
    let Ok(known) = leases::taken_over(&files, &network.name, network.sets()) else { return };
    let held = |known: &&crate::ipam::Known| matches!(known.state, KnownState::Held(_));
    let (holders, resting): (Vec<_>, Vec<_>) = known.iter().partition(held);
    assert!(holders.len() <= files.len());
    assert!(resting.len() <= LARGE_POOL * network.sets().len());
    let owned: BTreeSet<_> = holders.iter().map(|known| known.address).collect();
    for known in resting {
        assert!(!owned.contains(&known.address), "{} rests and is held", known.address);
        let mut sets = network.sets().iter();
        assert!(sets.any(|set| set.range_of(known.address).is_some()), "{}", known.address);
    }
}
