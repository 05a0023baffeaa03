//! The figures: what was promised, and how ours compares with the floor and the peers.

use super::Rounds;
use super::floor::Phases;
use super::memory::Memory;
use crate::report::{Asked, Figure, Unit};

/// An ADD may cost so many times what the kernel asks for it.
const ADD_BESIDE_FLOOR: Asked = Asked::AtMost(2.5);
/// Together, deletions must be so many times faster than one after the other.
const DEL_TOGETHER: Asked = Asked::AtLeast(8.0);
/// One call of the plugin must need less, in MiB.
const PLUGIN_MEMORY: Asked = Asked::Below(3.0);
/// The daemon must need less, in MiB.
const DAEMON_MEMORY: Asked = Asked::Below(32.0);

/// The promised figures. `count` containers were attached together, `hold` while the daemon's
/// memory was read.
pub(super) fn promised(
    count: usize,
    hold: usize,
    floor: &Phases,
    ours: Option<&Rounds>,
    memory: &Memory,
) -> Vec<Figure> {
    let singly = ours.map(|rounds| &rounds.singly);
    let together = ours.map(|rounds| &rounds.together);
    let attached = together.map(|r| r.add.calls as f64).ok_or("no call succeeded".to_owned());
    vec![
        Figure::ratio(
            "ADD p50 / floor",
            ADD_BESIDE_FLOOR,
            singly.and_then(|r| r.add.p50()),
            floor.add(),
        ),
        Figure::new(
            format!("ADDs of {count} together that got an address of their own"),
            Unit::Calls,
            Asked::AtLeast(count as f64),
            attached,
        ),
        Figure::ratio(
            format!("DEL of {count}, one after the other / together"),
            DEL_TOGETHER,
            singly.and_then(|r| r.del.all_done()),
            together.and_then(|r| r.del.all_done()),
        ),
        Figure::new(
            "peak memory of one plugin call",
            Unit::MebiBytes,
            PLUGIN_MEMORY,
            memory.plugin.clone(),
        ),
        Figure::new(
            format!("memory of the daemon with {hold} attachments"),
            Unit::MebiBytes,
            DAEMON_MEMORY,
            memory.daemon.clone(),
        ),
    ]
}

/// Figures beside the promised ones, for the reader.
pub(super) fn beside(floor: &Phases, ours: Option<&Rounds>, memory: &Memory) -> Vec<Figure> {
    let del = ours.and_then(|rounds| rounds.singly.del.p50());
    let peak = memory.daemon_peak.clone();
    vec![
        Figure::ratio("DEL p50 / floor", Asked::Nothing, del, floor.del()),
        Figure::new("peak memory of the daemon", Unit::MebiBytes, Asked::Nothing, peak),
    ]
}

/// How many times faster ours is than a peer.
pub(super) fn beside_a_peer(name: &str, peer: &Rounds, ours: Option<&Rounds>) -> Vec<Figure> {
    let Some(ours) = ours else { return Vec::new() };
    let latency = |verb, peer: Option<f64>, ours: Option<f64>| {
        let name = format!("{name}: {verb} p50, one at a time, its / ours");
        Figure::ratio(name, Asked::Nothing, peer, ours)
    };
    let throughput = |verb, ours: Option<f64>, peer: Option<f64>| {
        let name = format!("{name}: {verb} per second, together, ours / its");
        Figure::ratio(name, Asked::Nothing, ours, peer)
    };
    vec![
        latency("ADD", peer.singly.add.p50(), ours.singly.add.p50()),
        latency("DEL", peer.singly.del.p50(), ours.singly.del.p50()),
        throughput("ADD", ours.together.add.throughput(), peer.together.add.throughput()),
        throughput("DEL", ours.together.del.throughput(), peer.together.del.throughput()),
    ]
}
