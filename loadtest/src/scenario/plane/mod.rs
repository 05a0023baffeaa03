//! The data plane: what masquerade, isolation, anti-spoofing and published ports cost an ADD, a DEL and
//! a stream, beside the same plugin with none of them and the reference plugins that have some.

pub(super) mod streams;

use std::fs;

use super::networks::{self, Backend};
use super::turns::{Turn, in_turns};
use crate::daemon::{self, Daemon};
use crate::driver::Subject;
use crate::failure::Result;
use crate::options::Bench;
use crate::report::{Asked, Figure, Report};
use crate::world::{World, remove_link};

/// An ADD with everything on may cost so many times what it costs with nothing on.
const ADD_ON_BESIDE_OFF: Asked = Asked::AtMost(1.3);

/// Whether the bridges of a namespace give their packets to the rules for packets unless they say
/// otherwise themselves. A namespace begins with yes, and a host that did not ask for it has no.
const BRIDGES_ASK: [&str; 2] = [
    "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
];

/// How many containers this needs.
pub(super) fn containers(options: &Bench) -> usize {
    if options.daemon.is_none() {
        return 0;
    }
    let in_turns = 2 * options.turns + Backend::ALL.len() * options.peer_count.min(options.turns);
    in_turns.max(streams::containers(options))
}

/// Measures all of it, with a daemon of its own.
pub(super) fn measure(options: &Bench, world: &World, report: &mut Report) -> Result<Vec<Figure>> {
    let Some(binary) = &options.daemon else { return Ok(Vec::new()) };
    if options.turns == 0 && options.endpoints == 0 {
        return Ok(Vec::new());
    }
    for path in BRIDGES_ASK.iter().filter(|path| fs::exists(path).unwrap_or(false)) {
        if let Err(why) = fs::write(path, "0") {
            report.notes.push(format!(
                "{path} could not be cleared ({why}): with nothing on, packets of a bridge still \
                 come before all rules"
            ));
        }
    }
    let mut on = networks::everything_on(options, &world.work)?;
    let mut off = networks::nothing_on(options, &world.work)?;
    for subject in [&mut on, &mut off] {
        subject.variables = daemon::variables(&world.work);
    }
    let mut daemon = Daemon::start(binary, &world.work)?;
    if let Some(container) = world.containers.first() {
        daemon.wait_until_ready(&on, container)?;
    }
    let mut measured = Report::default();
    let mut figures = turns(options, world, (&on, &off), &mut measured)?;
    figures.extend(streams::measure(options, world, (&on, &off), &mut measured)?);
    if !measured.sound() {
        report.notes.push(format!("the daemon's log ends with:\n{}", daemon.last_words()));
    }
    measured.wrong.extend(daemon.stop().err().map(|failure| failure.to_string()));
    report.absorb(measured);
    remove_link(&on.bridge)?;
    remove_link(&off.bridge)?;
    Ok(figures)
}

/// ADD and DEL: everything on, nothing on and the chains of peers, in turns.
fn turns(
    options: &Bench,
    world: &World,
    (on, off): (&Subject, &Subject),
    report: &mut Report,
) -> Result<Vec<Figure>> {
    if options.turns == 0 {
        return Ok(Vec::new());
    }
    let (chains, missing) = chains(options, world)?;
    let mut rest = world.containers.as_slice();
    let mut some = |count: usize| {
        let (some, others) = rest.split_at(count.min(rest.len()));
        rest = others;
        some
    };
    let mut all = vec![Turn::new(on, some(options.turns)), Turn::new(off, some(options.turns))];
    for (_, chain) in &chains {
        all.push(Turn::new(chain, some(options.peer_count.min(options.turns))));
    }
    in_turns(&mut all)?;
    for (_, chain) in &chains {
        remove_link(&chain.bridge)?;
    }

    let p50 = |at: usize| {
        let round = all.get(at).and_then(|turn| turn.round.as_ref());
        (round.and_then(|r| r.add.p50()), round.and_then(|r| r.del.p50()))
    };
    let (ours, bare) = (p50(0), p50(1));
    let mut figures = vec![
        Figure::ratio("ADD p50, everything on / off", ADD_ON_BESIDE_OFF, ours.0, bare.0),
        Figure::ratio("DEL p50, everything on / off", Asked::Nothing, ours.1, bare.1),
    ];
    for ((backend, _), at) in chains.iter().zip(2..) {
        let name = |verb| {
            format!(
                "bridge, masq + portmap + firewall, {}: {verb} p50, its / ours",
                backend.as_str()
            )
        };
        let its = p50(at);
        figures.push(Figure::ratio(name("ADD"), Asked::Nothing, its.0, ours.0));
        figures.push(Figure::ratio(name("DEL"), Asked::Nothing, its.1, ours.1));
    }
    for (number, turn) in all.into_iter().enumerate() {
        let mut found = turn.report;
        if number >= 2 {
            found.forgive();
        }
        report.absorb(found);
    }
    report.notes.extend(missing);
    Ok(figures)
}

/// The chains of peers that there are, and why the others are not.
type Chains = (Vec<(Backend, Subject)>, Vec<String>);

fn chains(options: &Bench, world: &World) -> Result<Chains> {
    let (mut chains, mut missing) = (Vec::new(), Vec::new());
    if options.peer_count == 0 {
        return Ok((chains, missing));
    }
    for backend in Backend::ALL {
        match backend.missing(&options.peer_dir) {
            Some(why) => missing
                .push(format!("skipped: bridge + portmap + firewall, {}: {why}", backend.as_str())),
            None => {
                let limit = options.call_limit();
                let chain = networks::chain(&options.peer_dir, &world.work, limit, backend)?;
                chains.push((backend, chain));
            }
        }
    }
    Ok((chains, missing))
}
