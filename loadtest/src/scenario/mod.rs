//! What is run, in which order, and which figures come of it.

mod figures;
mod floor;
mod memory;
mod networks;
mod noop;
mod plane;
mod policy;
mod round;
mod turns;
mod upgrade;

use crate::daemon::{self, Daemon};
use crate::driver::Subject;
use crate::failure::{Failure, Result};
use crate::options::Bench;
use crate::report::Report;
use crate::world::{Container, World, isolation, remove_link};

use floor::{Floor, Phases};
use memory::Memory;
use networks::Backend;
use round::{Round, round, warm_up};

/// A Linux bridge holds so many ports (`BR_MAX_PORTS` less the unused 0).
const MOST_CONTAINERS: usize = 1023;
/// So many calls are held for a moment to read their memory.
const MEMORY_CALLS: usize = 5;

/// The two rounds of a subject: they differ in nothing but how many calls run at the same time.
#[derive(Debug, Clone)]
struct Rounds {
    singly: Round,
    together: Round,
}

/// What was measured of the plugin under test.
#[derive(Debug)]
struct Measured {
    floor: Phases,
    /// None when not even a single call succeeded.
    rounds: Option<Rounds>,
    memory: Memory,
}

/// Runs everything that `bench` promises. The process is in namespaces of its own already.
pub(crate) fn bench(options: &Bench) -> Result<Report> {
    let count = options.count.get();
    let hold = if options.daemon.is_some() { options.hold } else { 0 };
    let most = count
        .max(hold)
        .max(options.peer_count)
        .max(plane::containers(options))
        .max(policy::containers(options));
    if most > MOST_CONTAINERS {
        return Err(Failure::new(
            format!("preparing {most} containers"),
            "a Linux bridge holds 1023 ports",
        )
        .with_remedy("lower --count, --hold, --peer-count, --turns or --endpoints"));
    }
    isolation::allow_open_files(options.at_once(count.max(hold).max(options.peer_count)))?;
    let parent = options.work_dir.clone().unwrap_or_else(std::env::temp_dir);
    let world = World::build(&parent, most)?;
    let mut report = Report::default();

    if options.only_policy {
        let figures = policy::measure(options, &world, &mut report)?;
        report.figures.extend(figures);
        return Ok(report);
    }
    let Measured { floor, rounds, memory } = ours(options, &world, hold, &mut report)?;
    let peers = peers(options, &world, &mut report)?;
    let plane = plane::measure(options, &world, &mut report)?;
    let policy = policy::measure(options, &world, &mut report)?;

    let ours = rounds.as_ref();
    report.figures.extend(figures::promised(count, options.hold, &floor, ours, &memory));
    report.figures.extend(plane);
    report.figures.extend(policy);
    report.figures.extend(figures::beside(&floor, ours, &memory));
    let comparisons =
        peers.iter().flat_map(|(name, peer)| figures::beside_a_peer(name, peer, ours));
    report.figures.extend(comparisons);
    Ok(report)
}

/// Ours between two runs of the floor, so that a machine that gets slower or faster does not
/// decide. The floor has the kernel to itself: a daemon that watches links would raise it.
fn ours(options: &Bench, world: &World, hold: usize, report: &mut Report) -> Result<Measured> {
    let containers = world.some(options.count.get());
    let noop = noop::choose(options, report);
    let mut floor = Floor::default();
    floor.run(noop.as_deref(), containers, options.call_limit())?;

    let mut subject = networks::ours(options, &world.work)?;
    let mut running = None;
    if let (Some(binary), Some(container)) = (&options.daemon, containers.first()) {
        subject.variables = daemon::variables(&world.work);
        let daemon = running.insert(Daemon::start(binary, &world.work)?);
        daemon.wait_until_ready(&subject, container)?;
    }
    let mut measured = Report::default();
    let rounds = rounds(&subject, containers, options, &mut measured)?;
    let mut memory = Memory::unknown(match rounds {
        Some(_) => "it needs --daemon and --hold",
        None => "no call succeeded",
    });
    if rounds.is_some() {
        memory.read_plugin(&subject, world.some(MEMORY_CALLS))?;
        if let (Some(daemon), 1..) = (&running, hold) {
            let at_once = options.at_once(containers.len());
            memory.read_daemon(daemon, &subject, world.some(hold), at_once, &mut measured)?;
        }
    }
    if let (Some(_), Some(binary), 1..) = (&rounds, &options.daemon, options.restarts)
        && let Some(daemon) = running.take()
    {
        let (last, figure) = upgrade::measure(
            daemon,
            options.restarts,
            binary,
            &world.work,
            &subject,
            containers,
            &mut measured,
        )?;
        measured.figures.push(figure);
        running = Some(last);
    }
    if let Some(daemon) = running {
        if !measured.sound() {
            report.notes.push(format!("the daemon's log ends with:\n{}", daemon.last_words()));
        }
        measured.wrong.extend(daemon.stop().err().map(|failure| failure.to_string()));
    }
    remove_link(&subject.bridge)?;
    floor.run(noop.as_deref(), containers, options.call_limit())?;

    let floor = floor.phases();
    report.phases.extend(floor.list());
    report.absorb(measured);
    Ok(Measured { floor, rounds, memory })
}

/// One at a time, then all together. None when not even a single call succeeds.
fn rounds(
    subject: &Subject,
    containers: &[Container],
    options: &Bench,
    report: &mut Report,
) -> Result<Option<Rounds>> {
    let Some(first) = containers.first() else { return Ok(None) };
    if !warm_up(subject, first, report)? {
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
        let backend = Backend::Iptables;
        subjects.push(networks::chain(folder, &world.work, options.call_limit(), backend)?);
    }
    let mut all = Vec::new();
    for subject in subjects {
        let mut measured = Report::default();
        let rounds = rounds(&subject, world.some(options.peer_count), options, &mut measured)?;
        remove_link(&subject.bridge)?;
        measured.forgive();
        report.absorb(measured);
        all.extend(rounds.map(|rounds| (subject.name, rounds)));
    }
    Ok(all)
}
