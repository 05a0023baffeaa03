//! What is run, in which order, and which figures come of it.

mod floor;
mod memory;
mod networks;
mod round;

use std::fs;
use std::path::PathBuf;

use crate::daemon::{self, Daemon};
use crate::driver::Subject;
use crate::failure::{Failure, Result};
use crate::options::Bench;
use crate::report::{Asked, Figure, Report, Unit};
use crate::world::{Container, World, isolation, remove_link};

use floor::{Floor, Phases, find_noop, is_static};
use round::{Round, round, warm_up};

/// A Linux bridge holds 1023 ports, one of them is spent on caution.
const MOST_CONTAINERS: usize = 1022;
/// So many calls are held for a moment to read their memory.
const MEMORY_CALLS: usize = 5;

/// The two rounds of a subject: they differ in nothing but how many calls run at the same time.
#[derive(Debug, Clone)]
struct Rounds {
    singly: Round,
    together: Round,
}

/// Runs everything that `bench` promises. The process is in namespaces of its own already.
pub(crate) fn bench(options: &Bench) -> Result<Report> {
    let count = options.count.get();
    let hold = if options.daemon.is_some() { options.hold } else { 0 };
    let most = count.max(hold).max(options.peer_count);
    if most > MOST_CONTAINERS {
        return Err(Failure::new(format!("preparing {most} containers"), "a Linux bridge holds 1023 ports")
            .with_remedy("lower --count, --hold or --peer-count"));
    }
    isolation::allow_open_files(options.at_once(most))?;
    let parent = options.work_dir.clone().unwrap_or_else(std::env::temp_dir);
    let world = World::build(&parent, most)?;
    let mut report = Report::default();

    let (floor, ours) = ours_beside_the_floor(options, &world, hold, &mut report)?;
    let peers = peers(options, &world, &mut report)?;

    let mut figures = promised(count, &floor, ours.as_ref());
    figures.append(&mut report.figures);
    figures.extend(beside_the_floor(&floor, ours.as_ref()));
    figures.extend(peers.iter().flat_map(|(name, peer)| beside_a_peer(name, peer, ours.as_ref())));
    report.figures = figures;
    Ok(report)
}

/// Ours between two runs of the floor, so that a machine that gets slower or faster does not decide.
fn ours_beside_the_floor(
    options: &Bench,
    world: &World,
    hold: usize,
    report: &mut Report,
) -> Result<(Phases, Option<Rounds>)> {
    let containers = world.some(options.count.get());
    let noop = noop(options, report);
    let mut floor = Floor::default();
    floor.run(noop.as_deref(), containers, options.call_limit())?;

    let mut subject = networks::ours(options, &world.work)?;
    let mut running = None;
    if let (Some(binary), Some(container)) = (&options.daemon, containers.first()) {
        subject.variables = daemon::variables(&world.work);
        running.insert(Daemon::start(binary, &world.work)?).wait_until_ready(&subject, container)?;
    }
    let mut measured = Report::default();
    let ours = rounds(&subject, containers, options, &mut measured)?;
    floor.run(noop.as_deref(), containers, options.call_limit())?;

    if ours.is_some() {
        memory::plugin(&subject, world.some(MEMORY_CALLS), &mut measured);
    }
    if let (Some(daemon), Some(_), 1..) = (&running, &ours, hold) {
        memory::daemon(daemon, &subject, world.some(hold), options.at_once(hold), &mut measured)?;
    }
    if let Some(daemon) = running {
        if !measured.sound() {
            report.notes.push(format!("the daemon's log ends with:\n{}", daemon.last_words()));
        }
        daemon.stop()?;
    }
    remove_link(&subject.bridge)?;

    let floor = floor.phases();
    report.phases.extend(floor.list());
    report.absorb(measured);
    Ok((floor, ours))
}

/// One at a time, then all together. None when not even a single call succeeds.
fn rounds(
    subject: &Subject,
    containers: &[Container],
    options: &Bench,
    report: &mut Report,
) -> Result<Option<Rounds>> {
    let Some(first) = containers.first() else { return Ok(None) };
    if !warm_up(subject, first, report) {
        return Ok(None);
    }
    let singly = round(subject, containers, 1, report, |_| {})?;
    let together = round(subject, containers, options.at_once(containers.len()), report, |_| {})?;
    Ok(Some(Rounds { singly, together }))
}

/// The reference plugins, where they are installed.
fn peers(options: &Bench, world: &World, report: &mut Report) -> Result<Vec<(String, Rounds)>> {
    let folder = &options.peer_dir;
    if options.peer_count == 0 {
        return Ok(Vec::new());
    }
    if !folder.join("bridge").exists() {
        let note = format!("no peer was measured: {} has no bridge plugin", folder.display());
        report.notes.push(note);
        return Ok(Vec::new());
    }
    let mut subjects = vec![networks::bridge(folder, &world.work, options.call_limit())?];
    if options.chain {
        subjects.push(networks::chain(folder, &world.work, options.call_limit())?);
    }
    let mut measured = Vec::new();
    for subject in subjects {
        let rounds = rounds(&subject, world.some(options.peer_count), options, report)?;
        remove_link(&subject.bridge)?;
        measured.extend(rounds.map(|rounds| (subject.name, rounds)));
    }
    Ok(measured)
}

/// The no-op, with a note when it is missing or would flatter.
fn noop(options: &Bench, report: &mut Report) -> Option<PathBuf> {
    let noop = find_noop(options.noop.as_deref());
    match &noop {
        None => report.notes.push("the floor has no exec: build quantum-noop or give --noop".to_owned()),
        Some(path) if !fs::read(path).is_ok_and(|elf| is_static(&elf)) => report.notes.push(format!(
            "{} is not a static program: its exec is slower than the floor, and so every figure beside \
             the floor looks better than it is",
            path.display()
        )),
        Some(_) => {}
    }
    noop
}

/// The figures that were promised for calls.
fn promised(count: usize, floor: &Phases, ours: Option<&Rounds>) -> Vec<Figure> {
    let singly = ours.map(|rounds| &rounds.singly);
    let together = ours.map(|rounds| &rounds.together);
    let attached = together.map(|round| round.add.calls as f64).ok_or("no call succeeded".to_owned());
    vec![
        Figure::ratio("ADD p50 / floor", Asked::AtMost(2.5), singly.and_then(|r| r.add.p50()), floor.add()),
        Figure::new(
            format!("ADDs that succeeded of {count} together"),
            Unit::Calls,
            Asked::AtLeast(count as f64),
            attached,
        ),
        Figure::ratio(
            format!("DEL of {count}, one after the other / together"),
            Asked::AtLeast(8.0),
            singly.and_then(|r| r.del.all_done()),
            together.and_then(|r| r.del.all_done()),
        ),
    ]
}

fn beside_the_floor(floor: &Phases, ours: Option<&Rounds>) -> Vec<Figure> {
    let del = ours.and_then(|rounds| rounds.singly.del.p50());
    vec![Figure::ratio("DEL p50 / floor", Asked::Nothing, del, floor.del())]
}

/// How many times faster ours is.
fn beside_a_peer(name: &str, peer: &Rounds, ours: Option<&Rounds>) -> Vec<Figure> {
    let Some(ours) = ours else { return Vec::new() };
    let latency = |verb, peer: Option<f64>, ours: Option<f64>| {
        Figure::ratio(format!("{name}: {verb} p50, one at a time, its / ours"), Asked::Nothing, peer, ours)
    };
    let throughput = |verb, ours: Option<f64>, peer: Option<f64>| {
        Figure::ratio(format!("{name}: {verb} per second, together, ours / its"), Asked::Nothing, ours, peer)
    };
    vec![
        latency("ADD", peer.singly.add.p50(), ours.singly.add.p50()),
        latency("DEL", peer.singly.del.p50(), ours.singly.del.p50()),
        throughput("ADD", ours.together.add.throughput(), peer.together.add.throughput()),
        throughput("DEL", ours.together.del.throughput(), peer.together.del.throughput()),
    ]
}
